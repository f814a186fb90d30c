/**
 * An exchange judged by the response model: how the prompt reads, how an answer's window reads with it, and, where
 * stage one is in doubt, what the sentence encoder makes of both. The seat does this along a stream; `sallyport score
 * --responses`, `eval` and training do it to whole answers.
 */
import { type TextWindow, windowsOf } from "./answer-reading.ts";
import { factsOf } from "./prompt-model.ts";
import { type Evidence, type ResponseModel, SIDES, SIDES_COUNT } from "./response-model.ts";
import { ENCODER_UNITS, type EncodeTexts, encoderParts } from "./scoring.ts";

const TOPIC = SIDES.indexOf("topic");

export interface PromptEvidence {
  readonly logits: Float32Array;
  /** The window that reads most like harm: what stage two is asked about. */
  readonly part: string;
  /** By its subject alone. */
  readonly isDoubtful: boolean;
}

/** Undefined where there is nothing to read. */
export function promptEvidence(model: ResponseModel, prompt: string): PromptEvidence | undefined {
  if (prompt.trim() === "") return undefined;
  const window = windowsOf(model, prompt).reduce((most, next) =>
    next.logits[TOPIC]! > most.logits[TOPIC]! ? next : most,
  );
  const topic = 1 / (1 + Math.exp(-window.logits[TOPIC]!));
  return {
    logits: window.logits,
    part: prompt.slice(window.start, window.end),
    isDoubtful: topic >= model.threshold("promptAt"),
  };
}

/** The network's logits of a text's parts as the encoder gave them: the mean of an answer's, the most of a prompt's. */
function secondLogits(
  model: ResponseModel,
  embeddings: readonly Float32Array[],
  of: "answer" | "prompt",
): Float32Array {
  const read = embeddings.map((embedding) => model.readSecond(embedding));
  return Float32Array.from({ length: SIDES_COUNT }, (_, side) =>
    of === "answer"
      ? read.reduce((sum, one) => sum + one[side]!, 0) / read.length
      : Math.max(...read.map((one) => one[side]!)),
  );
}

/** Share of ASCII among a text's letters from which the encoder, which knows English, has something to say. */
const ASCII_MIN = 0.6;

export function isEncoded(text: string): boolean {
  return factsOf(text, 0, Math.min(text.length, ENCODER_UNITS)).ascii >= ASCII_MIN;
}

/** Both stages of an answer's part; throws where the encoder does not answer. */
export async function secondEvidence(
  model: ResponseModel,
  first: Evidence,
  texts: { readonly answer: string; readonly prompt: string },
  encode: EncodeTexts,
): Promise<Evidence> {
  const ofAnswer = encoderParts(texts.answer);
  const ofPrompt = first.prompt === undefined ? [] : encoderParts(texts.prompt);
  const embeddings = await encode([...ofAnswer, ...ofPrompt]);
  const answered = embeddings.slice(0, ofAnswer.length);
  return {
    answer: secondLogits(model, answered, "answer"),
    prompt:
      first.prompt === undefined
        ? undefined
        : secondLogits(model, embeddings.slice(ofAnswer.length), "prompt"),
  };
}

export interface ExchangeScore {
  /** How likely the answer does harm, 0..1. */
  readonly score: number;
  /** The stage that had the last word. */
  readonly stage: 1 | 2;
}

/** A whole answer: the likeliest of its windows, asked about where either side is in doubt. */
export async function scoreExchange(
  model: ResponseModel,
  { prompt, text }: { readonly prompt: string; readonly text: string },
  encode: EncodeTexts,
): Promise<ExchangeScore> {
  const asked = promptEvidence(model, prompt);
  let score = 0;
  let window: TextWindow | undefined;
  for (const one of windowsOf(model, text)) {
    const next = model.judge({ answer: one.logits, prompt: asked?.logits });
    if (window !== undefined && next <= score) continue;
    score = next;
    window = one;
  }
  if (window === undefined || text.trim() === "") return { score: 0, stage: 1 };
  const answer = text.slice(window.start, window.end);
  if (!(asked?.isDoubtful === true || model.isDoubtful(score)) || !isEncoded(answer)) {
    return { score, stage: 1 };
  }
  const first = { answer: window.logits, prompt: asked?.logits };
  const second = await secondEvidence(model, first, { answer, prompt: asked?.part ?? "" }, encode);
  return { score: model.judgeBoth(first, second), stage: 2 };
}
