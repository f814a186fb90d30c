/** The layer's settings, each with its default and what it means. */
import { z } from "zod";
import hazards from "../../src/guard/hazards.json" with { type: "json" };
import { categoriesOf, checkGuard, guardFields, PATTERN } from "../../src/guard/settings.ts";

export const ROLES = ["system", "developer", "user", "assistant", "tool", "none"] as const;

export const config = z
  .strictObject({
    ...guardFields,
    policy: z
      .string()
      .min(1)
      .default("judge/policy.md")
      .describe("openai-policy: the written policy, relative to this file's folder."),
    categories: categoriesOf(hazards.categories).describe(
      "openai-policy: codes that it may answer, each explained. Default: AILuminate's and two of attacks.",
    ),
    images: z
      .int()
      .min(0)
      .max(16)
      .default(0)
      .describe(
        "openai-policy: images that a question may bring, where a `media` seat wants them judged. 0: none.",
      ),
    askWhen: z
      .enum(["doubtful", "always"])
      .default("doubtful")
      .describe("doubtful: only where a seat before found one of `doubtful` and nobody has refused yet."),
    doubtful: z
      .array(z.string().max(100).regex(PATTERN, 'a reason, or a family that ends in ".*"'))
      .min(1)
      .max(50)
      .default(["prompt.classifier.*", "prompt.exemplar.*", "prompt.conversation.*", "media.judge"])
      .describe("Reasons of seats before this one that lead to a question."),
    after: z
      .boolean()
      .default(false)
      .describe(
        "Judges beside the model's work and holds nothing up; what it finds is flagged and recorded.",
      ),
    roles: z
      .array(z.enum(ROLES))
      .min(1)
      .default(["system", "developer", "user", "assistant", "tool", "none"])
      .describe("Whose words are judged. Tool results are `tool`."),
    window: z
      .strictObject({
        units: z.int().min(200).max(200_000).default(8_000).describe("Characters of one question."),
        overlap: z
          .int()
          .min(0)
          .max(50_000)
          .default(200)
          .describe("Characters that pieces of one text share."),
        max: z
          .int()
          .min(1)
          .max(32)
          .default(3)
          .describe("Questions of one request; the rest is left out, and said."),
      })
      .refine(({ units, overlap }) => overlap <= units / 4, {
        path: ["overlap"],
        error: "must be at most a quarter of units",
      })
      .prefault({})
      .describe("Long prompts are judged in parts, the newest turn first."),
  })
  .superRefine((given, context) => {
    const report = (path: string, message: string) =>
      context.addIssue({ code: "custom", path: [path], message });
    checkGuard(given, report);
    if (given.images > 0 && given.format !== "openai-policy")
      report("images", `${given.format} takes none here`);
  })
  .readonly();

export type JudgeConfig = z.infer<typeof config>;
