/** The layer's settings, each with its default and what it means. */
import { z } from "zod";
import { GRAM_SYMBOLS } from "./grams.ts";
import { symbolsOf } from "./symbols.ts";

const ACTS = ["off", "flag", "redact", "block"] as const;
const act = (fallback: (typeof ACTS)[number]) => z.enum(ACTS).default(fallback);

const HOST = /^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/;

const acts = z
  .strictObject({
    "system-prompt": act("redact").describe("Text of system and developer turns comes back."),
    "tool-schema": act("flag").describe("What tools and response formats say of themselves comes back."),
    canary: act("block").describe("A canary token comes back."),
    image: act("redact").describe("An address that is fetched by itself carries data out."),
    link: act("flag").describe("An address that waits for a click carries data out."),
    terminal: act("redact").describe("Escape sequences and control characters of terminals."),
    hidden: act("redact").describe("Tag characters and runs of characters that nobody sees."),
    bidi: act("redact").describe("Bidirectional overrides, and the embedding from right to left."),
  })
  .prefault({});

export const config = z.strictObject({
  acts: acts.describe("What each kind of leak leads to; off: it is not looked for."),
  runLetters: z
    .int()
    .min(24)
    .max(400)
    .default(60)
    .describe(
      "Letters and digits of protected text in a row that make a leak; of changed text it takes more. A prompt with fewer is not protected.",
    ),
  publicMarks: z
    .tuple([z.string().min(3).max(64), z.string().min(3).max(64)])
    .optional()
    .describe(
      'What stands between these two in a system prompt may be told, such as ["<public>", "</public>"] around opening hours. Default: nothing may.',
    ),
  hosts: z
    .array(z.string().max(253).regex(HOST, 'must be a host such as docs.example.com or "*.example.com"'))
    .max(200)
    .default([])
    .describe('Hosts whose addresses are not looked at. "*.example.com" is example.com and all below it.'),
  canaries: z
    .array(
      z
        .string()
        .max(128)
        .refine(
          (token) => symbolsOf(token).symbols.length >= GRAM_SYMBOLS + 4,
          "must have at least 16 letters and digits",
        ),
    )
    .max(64)
    .default([])
    .describe("Tokens that stand in prompts and nowhere else."),
  canaryKey: z
    .string()
    .max(200)
    .optional()
    .describe(
      "File with a key from which each organisation's token follows; relative to the policy's folder. Default: there is none.",
    ),
});

export type OutputLeakConfig = z.infer<typeof config>;
export type LeakKind = keyof OutputLeakConfig["acts"];
export type LeakAct = Exclude<OutputLeakConfig["acts"][LeakKind], "off">;
