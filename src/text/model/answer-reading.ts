/**
 * Stage one of the response model along an answer: what each sentence adds is summed up once, and any run of the last
 * sentences is judged from those sums, so that a long look back costs no more than a short one.
 *
 *   sentences   s1  s2  s3  s4  s5  s6
 *   the last 3              [---------]   sums of s4, s5, s6 / sqrt of their features
 *   the window  [---------------------]   up to WINDOW_UNITS
 */
import { canonical } from "../canonical.ts";
import { shapeOf } from "../features.ts";
import { SentenceCutter } from "../sentences.ts";
import { disguisesOf } from "./disguises.ts";
import { type ResponseModel, SIDES_COUNT } from "./response-model.ts";

/** Text that is judged together, UTF-16 units; of a longer one each window, half over the one before. */
export const WINDOW_UNITS = 2048;
const STEP_UNITS = WINDOW_UNITS / 2;
/** Sentences that are remembered, more than a window of the shortest has. */
const RING = 256;
/** Sums of one sentence: four sides, features, units. */
const CELL = SIDES_COUNT + 2;
const COUNT = SIDES_COUNT;
const UNITS = SIDES_COUNT + 1;

export class AnswerReading {
  readonly #model: ResponseModel;
  readonly #ring = new Float64Array(RING * CELL);
  readonly #window = new Float64Array(CELL);
  /** Sentences read, and the first that is still in the window. */
  #read = 0;
  #first = 0;
  /** Units read since a full window was judged. */
  #sinceJudged = 0;

  constructor(model: ResponseModel) {
    this.#model = model;
  }

  get sentences(): number {
    return this.#read;
  }

  /** Reads the next sentence. True: the window is full, and half of it was not judged yet. */
  add(sentence: string): boolean {
    const seen = canonical(sentence);
    const text = seen.views[0]?.text ?? "";
    const tally = this.#model.tally(text, shapeOf(sentence, 0, sentence.length, disguisesOf(seen.marks)));
    const at = (this.#read % RING) * CELL;
    for (let side = 0; side < SIDES_COUNT; side++) this.#ring[at + side] = tally.sums[side]!;
    this.#ring[at + COUNT] = tally.count;
    this.#ring[at + UNITS] = sentence.length;
    this.#read += 1;
    for (let i = 0; i < CELL; i++) this.#window[i] = this.#window[i]! + this.#ring[at + i]!;
    let isFull = false;
    while (this.#window[UNITS]! > WINDOW_UNITS || this.#read - this.#first > RING - 1) {
      isFull = true;
      const oldest = (this.#first % RING) * CELL;
      for (let i = 0; i < CELL; i++) this.#window[i] = this.#window[i]! - this.#ring[oldest + i]!;
      this.#first += 1;
    }
    this.#sinceJudged += sentence.length;
    if (!isFull || this.#sinceJudged < STEP_UNITS) return false;
    this.#sinceJudged = 0;
    return true;
  }

  /** Logits of the window, in the order of SIDES. */
  window(into: Float32Array): void {
    this.#model.logits(this.#window, this.#window[COUNT]!, into);
  }

  /** Logits of the last `count` sentences, of those in the window. */
  last(count: number, into: Float32Array): void {
    const sums = new Float64Array(CELL);
    for (let n = Math.max(this.#first, this.#read - count); n < this.#read; n++) {
      const at = (n % RING) * CELL;
      for (let i = 0; i < CELL; i++) sums[i] = sums[i]! + this.#ring[at + i]!;
    }
    this.#model.logits(sums, sums[COUNT]!, into);
  }
}

/** The window of a text that `pick` makes most of: its logits and where it ends. */
export interface TextWindow {
  readonly logits: Float32Array;
  readonly start: number;
  readonly end: number;
}

/** Every window of a whole text that is judged: full ones, and the one at its end. */
export function windowsOf(model: ResponseModel, text: string): readonly TextWindow[] {
  const reading = new AnswerReading(model);
  const cutter = new SentenceCutter();
  const windows: TextWindow[] = [];
  const note = (end: number) => {
    const logits = new Float32Array(SIDES_COUNT);
    reading.window(logits);
    windows.push({ logits, start: Math.max(0, end - WINDOW_UNITS), end });
  };
  for (let from = 0; from < text.length; ) {
    const end = cutter.end(text, from);
    const to = end < 0 ? text.length : end;
    if (reading.add(text.slice(from, to))) note(to);
    from = to;
  }
  if (windows.length === 0 || windows.at(-1)!.end < text.length) note(text.length);
  return windows;
}
