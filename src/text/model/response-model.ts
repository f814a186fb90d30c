/**
 * The response model as serving runs it: how likely an answer does harm, from the answer and what was asked. Stage one
 * adds up weights of hashed features, as the prompt model does, for four things that a text can be; what an exchange
 * comes to is a small sum over those of the answer and the subject of the prompt. Stage two asks a network over sentence
 * embeddings for the same four things, of exchanges about which either side is in doubt.
 *
 *   answer --features--> four logits --+--> exchange terms --> probability --sure--> verdict
 *   prompt --features--> four logits --+                       doubtful: + network(embeddings) --> probability
 */
import { FEATURES_VERSION, type Shape } from "../features.ts";
import { type Network, runNetwork } from "./network.ts";
import { Tally } from "./tally.ts";
import { readTensors, tensor } from "./tensors.ts";

/**
 * `harmful` the answer does harm · `refuses` it declines · `topic` its subject is harm, whatever it says of it ·
 * `toxic` its words are hateful or cruel
 */
export const SIDES = ["harmful", "refuses", "topic", "toxic"] as const;
export const SIDES_COUNT = SIDES.length;
const TOPIC = SIDES.indexOf("topic");

export const RESPONSE_FORMAT = "sallyport-response-1";

/** What is known of an exchange: logits in the order of SIDES; no prompt where nobody knows what was asked. */
export interface Evidence {
  readonly answer: Float32Array;
  readonly prompt: Float32Array | undefined;
}

/** Beyond it a logit says no more: one side alone must not settle what an exchange is. */
const LOGIT_MAX = 6;
const bound = (logit: number) => Math.max(-LOGIT_MAX, Math.min(LOGIT_MAX, logit));

/** What an exchange is judged by: the answer's logits, the prompt's subject, one for the offset. */
export const FIRST_TERMS = SIDES_COUNT + 2;

/** Written from `into[at]` on. A prompt that nobody knows speaks neither for nor against. */
export function exchangeTerms({ answer, prompt }: Evidence, into: Float32Array, at: number): void {
  for (let side = 0; side < SIDES_COUNT; side++) into[at + side] = bound(answer[side]!);
  into[at + SIDES_COUNT] = prompt === undefined ? 0 : bound(prompt[TOPIC]!);
  into[at + SIDES_COUNT + 1] = 1;
}

/** The terms of both stages, one offset. */
export const SECOND_TERMS = 2 * FIRST_TERMS - 1;

export function bothTerms(first: Evidence, second: Evidence, into: Float32Array): void {
  exchangeTerms(second, into, 0);
  exchangeTerms(first, into, FIRST_TERMS - 1);
}

/**
 * `flagAt`, `blockAt` of a whole answer · `sentenceFlagAt`, `sentenceBlockAt` of two judgements in a row while it
 * comes · `promptAt` the probability by a prompt's subject alone from which its exchange is doubtful
 */
export type ResponseThreshold = "flagAt" | "blockAt" | "sentenceFlagAt" | "sentenceBlockAt" | "promptAt";

export class ResponseModel {
  readonly about: Readonly<Record<string, string>>;
  readonly bits: number;
  readonly embeddingLength: number;
  /** Stage one's probability between these is in doubt, and stage two is asked. */
  readonly doubt: { readonly low: number; readonly high: number };
  readonly #tally: Tally;
  readonly #scale: Float32Array;
  readonly #bias: Float32Array;
  readonly #first: Float32Array;
  readonly #second: Float32Array;
  readonly #sentence: Float32Array;
  readonly #network: Network;
  readonly #hidden: Float32Array;
  readonly #terms = new Float32Array(SECOND_TERMS);

  /** Throws an Error that says why the file cannot be used. */
  constructor(bytes: Uint8Array) {
    const file = readTensors(bytes);
    const { about } = file;
    if (about["format"] !== RESPONSE_FORMAT) throw new Error(`its format is not ${RESPONSE_FORMAT}`);
    if (about["features"] !== String(FEATURES_VERSION)) {
      throw new Error(
        `it reads features of version ${about["features"]}, this is version ${FEATURES_VERSION}`,
      );
    }
    this.about = about;
    const table = tensor(file, "linear.table", Int32Array);
    this.bits = Math.log2(table.length);
    if (!Number.isInteger(this.bits)) throw new Error("its table's length is no power of two");
    this.#tally = new Tally(table);
    this.#scale = tensor(file, "linear.scale", Float32Array, SIDES_COUNT);
    this.#bias = tensor(file, "linear.bias", Float32Array, SIDES_COUNT);
    this.#first = tensor(file, "exchange.first", Float32Array, FIRST_TERMS);
    this.#second = tensor(file, "exchange.second", Float32Array, SECOND_TERMS);
    this.#sentence = tensor(file, "exchange.sentence", Float32Array, FIRST_TERMS);
    const [low = 0, high = 1] = tensor(file, "doubt", Float32Array, 2);
    this.doubt = { low, high };
    const firstBias = tensor(file, "network.firstBias", Float32Array);
    const hidden = firstBias.length;
    const first = tensor(file, "network.first", Float32Array);
    const width = first.length / hidden;
    if (!Number.isInteger(width)) throw new Error("its network has no sensible width");
    this.embeddingLength = width;
    const second = tensor(file, "network.second", Float32Array, hidden * SIDES_COUNT);
    const secondBias = tensor(file, "network.secondBias", Float32Array, SIDES_COUNT);
    this.#network = { width, hidden, first, firstBias, second, secondBias };
    this.#hidden = new Float32Array(hidden);
  }

  /** Sums of a folded text's features, until the next call. */
  tally(text: string, shape: Shape): Readonly<Pick<Tally, "count" | "sums">> {
    this.#tally.read(text, 0, text.length, shape);
    return this.#tally;
  }

  /** Logits of what such sums come to, in the order of SIDES. */
  logits(sums: ArrayLike<number>, count: number, into: Float32Array): void {
    const length = count === 0 ? 0 : 1 / Math.sqrt(count);
    for (let side = 0; side < SIDES_COUNT; side++) {
      into[side] = sums[side]! * this.#scale[side]! * length + this.#bias[side]!;
    }
  }

  /** How likely an answer does harm, by stage one. */
  judge(evidence: Evidence): number {
    exchangeTerms(evidence, this.#terms, 0);
    return probability(this.#terms, this.#first);
  }

  /** The same of a few sentences, which say less than a whole answer. */
  judgeSentences(evidence: Evidence): number {
    exchangeTerms(evidence, this.#terms, 0);
    return probability(this.#terms, this.#sentence);
  }

  isDoubtful(probability: number): boolean {
    return probability >= this.doubt.low && probability <= this.doubt.high;
  }

  /** The network's logits of what the encoder made of one text, in the order of SIDES. */
  readSecond(embedding: Float32Array): Float32Array {
    const out = new Float32Array(SIDES_COUNT);
    runNetwork(this.#network, embedding, this.#hidden, out);
    return out;
  }

  /** How likely an answer does harm, by both stages. */
  judgeBoth(first: Evidence, second: Evidence): number {
    bothTerms(first, second, this.#terms);
    return probability(this.#terms, this.#second);
  }

  /** The model's own: fixed on rows that it was not trained on. */
  threshold(at: ResponseThreshold): number {
    const value = Number(this.about[at] ?? Number.NaN);
    if (Number.isFinite(value)) return value;
    return at === "blockAt" || at === "sentenceBlockAt" ? 0.9 : 0.5;
  }
}

function probability(terms: Float32Array, weights: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]! * terms[i]!;
  return 1 / (1 + Math.exp(-sum));
}
