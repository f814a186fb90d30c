/**
 * The prompt classifier's two stages as serving runs them. Stage one adds up weights of hashed features: some ten
 * microseconds for a thousand characters. Its heads come twice, *labelled* ones that were trained on labels and *taught*
 * ones that were trained on stage two's answers; read in one pass, they weigh together. Stage two is a small network over
 * a sentence embedding and the labelled logits, for texts about which stage one is in doubt. Training writes the file
 * that is read here.
 *
 *   text -> stage one: labelled + taught heads --in doubt--> encoder -> stage two
 */
import { FEATURES_VERSION, type Shape } from "../features.ts";
import { unitsOf } from "../units.ts";
import { type Network, runNetwork } from "./network.ts";
import { Tally } from "./tally.ts";
import { readTensors, type TensorFile, tensor } from "./tensors.ts";

/** `any` is trained on all malicious texts together; the others on their own kind. */
export const HEADS = ["any", "harmful", "jailbreak", "injection"] as const;
export type Head = (typeof HEADS)[number];
export const HEADS_COUNT = HEADS.length;

/** Calibrated probabilities, 0..1; `any` weighs all heads, and is the figure to rank by. */
export type Scores = Readonly<Record<Head, number>>;

export const MODEL_FORMAT = "sallyport-prompt-3";

/** What stage one gives: the labelled heads' logits in the order of HEADS, then the taught ones'. */
export const FIRST_LOGITS = 2 * HEADS_COUNT;

/** Facts of a text beside embedding and logits that the network reads. */
export const FACTS_COUNT = 3;

export class PromptModel {
  /** From the file's header: name, version, when, from what. */
  readonly about: Readonly<Record<string, string>>;
  readonly bits: number;
  /** Length of the embedding that stage two reads. */
  readonly embeddingLength: number;
  /** Stage one's `any` between these is in doubt, and stage two is asked. */
  readonly doubt: { readonly low: number; readonly high: number };
  readonly #tally: Tally;
  readonly #scale: Float32Array;
  readonly #bias: Float32Array;
  /** Weights that turn logits into probabilities: of `any` ANY_TERMS, then two for each named head. */
  readonly #calibration: Readonly<Record<"first" | "second", Float32Array>>;
  readonly #network: Network;
  readonly #hidden: Float32Array;

  /** Throws an Error that says why the file cannot be used. */
  constructor(bytes: Uint8Array) {
    const file = readTensors(bytes);
    const { about } = file;
    if (about["format"] !== MODEL_FORMAT) throw new Error(`its format is not ${MODEL_FORMAT}`);
    if (about["features"] !== String(FEATURES_VERSION)) {
      throw new Error(
        `it reads features of version ${about["features"]}, this is version ${FEATURES_VERSION}`,
      );
    }
    this.about = about;
    const labelled = tensor(file, "labelled.table", Int32Array);
    this.bits = Math.log2(labelled.length);
    if (!Number.isInteger(this.bits)) throw new Error("its tables' length is no power of two");
    this.#tally = new Tally(labelled, tensor(file, "taught.table", Int32Array, labelled.length));
    this.#scale = both(file, "scale");
    this.#bias = both(file, "bias");
    const terms = ANY_TERMS + (HEADS_COUNT - 1) * 2;
    this.#calibration = {
      first: tensor(file, "calibration.first", Float32Array, terms),
      second: tensor(file, "calibration.second", Float32Array, terms),
    };
    const [low = 0, high = 1] = tensor(file, "doubt", Float32Array, 2);
    this.doubt = { low, high };
    const firstBias = tensor(file, "network.firstBias", Float32Array);
    const hidden = firstBias.length;
    const first = tensor(file, "network.first", Float32Array);
    const width = first.length / hidden;
    if (!Number.isInteger(width) || width <= HEADS_COUNT + FACTS_COUNT) {
      throw new Error("its network has no sensible width");
    }
    this.embeddingLength = width - HEADS_COUNT - FACTS_COUNT;
    const second = tensor(file, "network.second", Float32Array, hidden * HEADS_COUNT);
    const secondBias = tensor(file, "network.secondBias", Float32Array, HEADS_COUNT);
    this.#network = { width, hidden, first, firstBias, second, secondBias };
    this.#hidden = new Float32Array(hidden);
  }

  /** Stage one's FIRST_LOGITS logits of a folded text's part. */
  first(text: string, start: number, end: number, shape: Shape, into: Float32Array): void {
    const tally = this.#tally;
    tally.read(text, start, end, shape);
    const { count, sums } = tally;
    const length = count === 0 ? 0 : 1 / Math.sqrt(count);
    for (let i = 0; i < FIRST_LOGITS; i++) into[i] = sums[i]! * this.#scale[i]! * length + this.#bias[i]!;
  }

  /** How likely a text is malicious, by the logits of the window that speaks loudest and each head's own loudest. */
  judgeFirst(strongest: Float32Array, loudest: Float32Array = strongest): Scores {
    const any = weigh(this.#calibration.first, strongest.subarray(HEADS_COUNT), strongest);
    return scoresOf(any, loudest, this.#calibration.first);
  }

  /** Stage one leaves this text to stage two. */
  isDoubtful(scores: Scores): boolean {
    return scores.any >= this.doubt.low && scores.any <= this.doubt.high;
  }

  /** The network's logits; `embedding` is of the text's part that `logits` and `facts` speak of. */
  second(logits: Float32Array, embedding: Float32Array, facts: Facts, into: Float32Array): void {
    const input = networkInput(embedding, this.embeddingLength, logits, facts);
    runNetwork(this.#network, input, this.#hidden, into);
  }

  /** Both stages together, as probabilities. */
  judgeSecond(logits: Float32Array, embedding: Float32Array, facts: Facts): Scores {
    const out = new Float32Array(HEADS_COUNT);
    this.second(logits, embedding, facts, out);
    return this.judge(logits, out);
  }

  /** Logits of both stages as probabilities. */
  judge(first: Float32Array, second: Float32Array): Scores {
    const c = this.#calibration.second;
    return scoresOf(weigh(c, second, first), second, c);
  }

  /** What this model's own thresholds say, fixed on rows that it was not trained on; else even odds, and nine in ten. */
  threshold(at: "flag" | "block", head: Head): number {
    const value = Number(this.about[`${at}.${head}`] ?? Number.NaN);
    if (Number.isFinite(value)) return value;
    return at === "flag" ? 0.5 : 0.9;
  }
}

/** What `any` is weighed from: later heads' `any` and strongest named head, the labelled heads' same, and an offset. */
export const ANY_TERMS = 5;

/** `later`: the taught heads, or stage two's. */
function weigh(c: Float32Array, later: Float32Array, labelled: Float32Array): number {
  const ofLater = c[0]! * later[0]! + c[1]! * strongestNamed(later);
  return ofLater + c[2]! * labelled[0]! + c[3]! * strongestNamed(labelled) + c[4]!;
}

/** The strongest of the heads that name a kind; heads stand in the order of HEADS. */
export function strongestNamed(logits: Float32Array): number {
  return Math.max(logits[1]!, logits[2]!, logits[3]!);
}

/** `calibration`: of `any`, then a slope and an offset for each named head. */
function scoresOf(any: number, logits: Float32Array, calibration: Float32Array): Scores {
  const named = (head: number) => {
    const at = ANY_TERMS + 2 * (head - 1);
    return sigmoid(calibration[at]! * logits[head]! + calibration[at + 1]!);
  };
  return { any: sigmoid(any), harmful: named(1), jailbreak: named(2), injection: named(3) };
}

function sigmoid(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

/** A number for each head, of the labelled ones and then of the taught ones. */
function both(file: TensorFile, name: string): Float32Array {
  const of = (group: string) => tensor(file, `${group}.${name}`, Float32Array, HEADS_COUNT);
  return Float32Array.of(...of("labelled"), ...of("taught"));
}

/** How far the encoder, which knows English, can be believed. */
export interface Facts {
  /** UTF-16 units of the whole text. */
  readonly units: number;
  /** Share of ASCII among the text's letters, 0..1. */
  readonly ascii: number;
  /** Share of units that are no letter, digit or space, 0..1. */
  readonly marks: number;
}

/** What a unit adds to a text's facts, all in one number: ASCII letters, other scripts and marks, each in `PART`. */
const PART = 2 ** 16;
const factParts = new Float64Array(0x10000).fill(PART);
for (let unit = 0; unit < 128; unit++) {
  const isLetter = /[A-Za-z]/.test(String.fromCharCode(unit));
  factParts[unit] = isLetter ? 1 : /[ 0-9]/.test(String.fromCharCode(unit)) ? 0 : PART * PART;
}

/** At most 65,535 units. */
export function factsOf(text: string, start: number, end: number): Facts {
  const units = unitsOf(text, start, end);
  const length = end - start;
  let sum = 0;
  for (let i = 0; i < length; i++) sum += factParts[units[i]!]!;
  const ascii = sum % PART;
  const rest = (sum - ascii) / PART;
  const other = rest % PART;
  const marks = (rest - other) / PART;
  return { units: text.length, ascii: ascii / (1 + ascii + other), marks: marks / (1 + length) };
}

/** Also what training feeds, so that both see the same numbers in the same order. */
export function networkInput(
  embedding: Float32Array,
  embeddingLength: number,
  logits: Float32Array,
  facts: Facts,
): Float32Array {
  const input = new Float32Array(embeddingLength + HEADS_COUNT + FACTS_COUNT);
  input.set(embedding.subarray(0, embeddingLength));
  input.set(logits.subarray(0, HEADS_COUNT), embeddingLength);
  input.set([Math.log2(1 + facts.units), facts.ascii, facts.marks], embeddingLength + HEADS_COUNT);
  return input;
}
