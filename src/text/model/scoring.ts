/**
 * The whole classifier over one text, as the gateway's seat runs it: stage one over every view and window, stage two
 * where stage one is in doubt. Used where no gateway runs: `sallyport score`, `eval`, and the calibration in training.
 */
import { canonical } from "../canonical.ts";
import { readableText } from "./disguises.ts";
import type { PromptModel, Scores } from "./prompt-model.ts";
import { readText } from "./reading.ts";

/** One embedding for each text, in order. */
export type EncodeTexts = (texts: readonly string[]) => Promise<readonly Float32Array[]>;

export interface TextScore {
  readonly scores: Scores;
  /** The stage that had the last word. */
  readonly stage: 1 | 2;
}

/** UTF-16 units that the encoder reads of a part's front, and of its end where it is longer than `TAIL_FROM`. */
export const ENCODER_UNITS = 512;
const TAIL_FROM = 700;
/** As a seat of the shipped policy is set. */
export const WINDOWS_MAX = 96;

const NOTHING: Scores = { any: 0, harmful: 0, jailbreak: 0, injection: 0 };

/** What the encoder is asked about a part that stage one doubts: its front and, where it is long, its end. */
export function encoderParts(part: string): readonly string[] {
  const shown = readableText(part, canonical(part));
  return shown.length <= TAIL_FROM
    ? [shown.slice(0, ENCODER_UNITS)]
    : [shown.slice(0, ENCODER_UNITS), shown.slice(-ENCODER_UNITS)];
}

export async function scoreText(model: PromptModel, text: string, encode: EncodeTexts): Promise<TextScore> {
  const reading = readText(model, text, canonical(text), { windowsMax: WINDOWS_MAX });
  if (reading === undefined) return { scores: NOTHING, stage: 1 };
  if (!model.isDoubtful(reading.scores)) return { scores: reading.scores, stage: 1 };
  const { logits, facts, part } = reading.strongest;
  const embeddings = await encode(encoderParts(part));
  const judged = embeddings.map((embedding) => model.judgeSecond(logits, embedding, facts));
  return { scores: judged.reduce((most, next) => (next.any > most.any ? next : most)), stage: 2 };
}
