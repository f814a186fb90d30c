/** The layer's settings, each with its default and what it means. */
import { z } from "zod";
import hazards from "../../src/guard/hazards.json" with { type: "json" };
import { categoriesOf, checkGuard, guardFields, PATTERN } from "../../src/guard/settings.ts";

const { jailbreak: _, ...categories } = hazards.categories;

export const config = z
  .strictObject({
    ...guardFields,
    policy: z
      .string()
      .min(1)
      .default("judge/answers.md")
      .describe("openai-policy: the written policy on answers, relative to this file's folder."),
    categories: categoriesOf(categories).describe(
      "openai-policy: codes that it may answer, each explained. Default: AILuminate's and injection.",
    ),
    askWhen: z
      .enum(["doubtful", "always"])
      .default("doubtful")
      .describe(
        "doubtful: from where a seat before found one of `doubtful`, in the prompt or in the answer.",
      ),
    doubtful: z
      .array(z.string().max(100).regex(PATTERN, 'a reason, or a family that ends in ".*"'))
      .min(1)
      .max(50)
      .default([
        "prompt.rule.*",
        "prompt.classifier.*",
        "prompt.exemplar.*",
        "prompt.conversation.*",
        "prompt.judge.*",
        "output.classifier.*",
      ])
      .describe("Reasons of seats before this one that lead to questions."),
    after: z
      .boolean()
      .default(false)
      .describe(
        "Asks when the answer has ended and holds no text; what it finds is flagged, recorded and fed to reputation.",
      ),
    channels: z
      .array(z.enum(["answer", "thinking", "refusal", "tool", "transcript", "other"]))
      .min(1)
      .default(["answer", "thinking", "refusal", "tool", "transcript", "other"])
      .describe("Which text of an answer is judged. Of `other`, only what reads like sentences."),
    window: z
      .strictObject({
        units: z
          .int()
          .min(100)
          .max(50_000)
          .default(2_000)
          .describe(
            "Characters that lead to a question; it takes what its last event has beyond, less than twice as many. Inline, at most twice as many are held.",
          ),
        context: z
          .int()
          .min(0)
          .max(10_000)
          .default(500)
          .describe("Characters of the channel before a window that are shown with it."),
        max: z
          .int()
          .min(1)
          .max(128)
          .default(16)
          .describe("Questions about one answer; what is beyond has no verdict, and is told as `partial`."),
      })
      .prefault({})
      .describe("Answers are judged in parts, channel by channel."),
    promptUnits: z
      .int()
      .min(0)
      .max(100_000)
      .default(4_000)
      .describe("Characters of the prompt that a question shows, the newest turn first. 0: none of it."),
  })
  .superRefine((given, context) => {
    const report = (path: string, message: string) =>
      context.addIssue({ code: "custom", path: [path], message });
    checkGuard(given, report);
  })
  .readonly();

export type OutputJudgeConfig = z.infer<typeof config>;
