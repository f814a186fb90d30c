/** What an operator may set of the seat. Thresholds are calibrated probabilities, so that 0.9 means nine in ten. */
import { z } from "zod";
import { modelFields } from "../../src/guard/signed-model.ts";

const own = z.number().min(0).max(1).optional();

const look = (sentences: number, scale: number, words: string) =>
  z
    .strictObject({
      sentences: z
        .int()
        .min(1)
        .max(200)
        .default(sentences)
        .describe("Sentences back that each new one is judged together with, itself included."),
      scale: z
        .number()
        .gt(0)
        .max(2)
        .default(scale)
        .describe("Thresholds are multiplied by it: 0.8 is stricter, 1.2 more lenient."),
    })
    .prefault({})
    .describe(words);

export const config = z.strictObject({
  ...modelFields("models/response.safetensors"),
  flagAt: own.describe("Probability from which an answer is flagged. Absent: the model's own."),
  blockAt: own.describe(
    "Probability from which an answer is ended; 1 never ends one. Absent: the model's own, which fewer benign answers reach.",
  ),
  hold: z
    .enum(["sentence", "none"])
    .default("sentence")
    .describe(
      "sentence: a sentence leaves when it is judged, and a suspicious one when the next one is. none: nothing waits, and what is found is found after the fact.",
    ),
  calm: look(6, 1, "Exchanges in which nobody found anything so far."),
  doubtful: look(
    40,
    0.9,
    "Exchanges that the prompt side found something in, or whose prompt reads like harm.",
  ),
  doubtfulReasons: z
    .array(z.string().min(1).max(80))
    .max(64)
    .default(["prompt.*"])
    .describe('Findings of the seats before that make an exchange doubtful; "prompt.*" is a family.'),
  stageTwo: z
    .strictObject({
      enabled: z.boolean().default(true).describe("Ask the sentence encoder about doubtful exchanges."),
      questionsMax: z
        .int()
        .min(1)
        .max(64)
        .default(12)
        .describe("Times that it is asked about one channel; then stage one's word holds, and it is said."),
      everyUnits: z
        .int()
        .min(64)
        .max(8_192)
        .default(512)
        .describe(
          "Text from its first question to its second, UTF-16 units; to each further one twice as much.",
        ),
      whenUnsure: z
        .enum(["flag", "block"])
        .default("flag")
        .describe("What happens where it could not be asked: queue full, too late, broken."),
    })
    .prefault({})
    .describe("The dear half: a sentence embedding and a small network, off the event loop."),
});

export type OutputClassifierConfig = z.infer<typeof config>;
