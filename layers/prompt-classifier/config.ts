/** What an operator may set of the seat. Thresholds are calibrated probabilities, so that 0.9 means nine in ten. */
import { z } from "zod";
import { modelFields } from "../../src/guard/signed-model.ts";
import { TIERS } from "../../src/layer/index.ts";
import type { Head, PromptModel } from "../../src/text/model/prompt-model.ts";

const part = (value: number, words: string) => z.number().min(0).max(1).default(value).describe(words);

const own = z.number().min(0).max(1).optional();

const thresholds = (words: string) =>
  z
    .strictObject({
      flagAt: own.describe(
        "Probability from which it is flagged. Absent: the model's own, fixed so that few benign texts reach it.",
      ),
      blockAt: own.describe(
        "Probability from which it is blocked; 1 never blocks. Absent: the model's own, which ten times fewer reach.",
      ),
    })
    .refine(({ flagAt, blockAt }) => flagAt === undefined || blockAt === undefined || blockAt >= flagAt, {
      path: ["blockAt"],
      error: "must not be below flagAt",
    })
    .prefault({})
    .describe(words);

export const promptClassifierConfig = z.strictObject({
  ...modelFields("models/prompt.safetensors", " Each request says so with prompt.classifier.unsigned."),
  any: thresholds("Any attack or harm: the head that all malicious texts train together."),
  jailbreak: thresholds("Attempts to free the model of its rules."),
  injection: thresholds("Orders in what the prompt brings along, such as tool results."),
  harmful: thresholds("Requests for harm."),
  byTier: z
    .partialRecord(z.enum(TIERS), z.number().gt(0).max(2))
    .default({})
    .describe(
      "Thresholds are multiplied by it for callers of this tier: 0.7 is stricter, 1.2 more lenient. A step-up counts as risky.",
    ),
  windowsMax: z
    .int()
    .min(16)
    .max(10_000)
    .default(96)
    .describe(
      "Windows of 2048 characters that are read of one string (and once more of what is decoded in it); a longer one is read at its head, its end, each tenth, and evenly between.",
    ),
  stageTwo: z
    .strictObject({
      enabled: z.boolean().default(true).describe("Ask the sentence encoder where stage one is in doubt."),
      leavesMax: z
        .int()
        .min(1)
        .max(32)
        .default(4)
        .describe("Strings of one request that it is asked about, the likeliest first."),
      whenUnsure: z
        .enum(["flag", "block"])
        .default("flag")
        .describe("What happens where it could not be asked: queue full, too late, broken."),
    })
    .prefault({})
    .describe("The dear half: a sentence embedding and a small network, off the event loop."),
  exemplars: z
    .strictObject({
      similarMin: part(0.86, "Cosine from which a doubtful text is taken for its nearest exemplar's kind."),
      act: z
        .enum(["off", "flag", "block"])
        .default("block")
        .describe("What it does at most to be near a bad exemplar. An exemplar in shadow only flags."),
    })
    .prefault({})
    .describe("The exemplar bank: texts that people have judged."),
  conversation: z
    .strictObject({
      retry: z
        .enum(["off", "flag", "block"])
        .default("flag")
        .describe("What it does to send a text again, reworded, that was refused shortly before."),
      retryMinutes: z.number().min(0.01).max(1_440).default(15).describe("What counts as shortly before."),
      escalation: z
        .enum(["off", "flag", "block"])
        .default("flag")
        .describe("What it does when the turns rise step by step to what is nearly flagged."),
      riseMin: part(0.3, "Probability by which the trend over the user's turns must have risen."),
    })
    .prefault({})
    .describe("What only several turns, or several requests, show."),
});

export type PromptClassifierConfig = z.infer<typeof promptClassifierConfig>;

export interface HeadThresholds {
  readonly flagAt: number;
  readonly blockAt: number;
}

/** The settings with the model's own thresholds where none are set. */
export type SetClassifier = Omit<PromptClassifierConfig, Head> & Readonly<Record<Head, HeadThresholds>>;

export function withThresholds(config: PromptClassifierConfig, model: PromptModel): SetClassifier {
  const of = (head: Head): HeadThresholds => {
    const blockAt = config[head].blockAt ?? model.threshold("block", head);
    const flagAt = config[head].flagAt ?? Math.min(model.threshold("flag", head), blockAt);
    // Flagged later than the model would block: then blocked no earlier than flagged.
    return { flagAt, blockAt: Math.max(blockAt, flagAt) };
  };
  return {
    ...config,
    any: of("any"),
    harmful: of("harmful"),
    jailbreak: of("jailbreak"),
    injection: of("injection"),
  };
}
