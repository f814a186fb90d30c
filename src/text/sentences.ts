/**
 * Cuts text into sentences as it comes, so that an answer can be judged while it streams: what a seat is told as one, and
 * what the response model is trained on. Where a sentence ends follows from the text alone, never from where its pieces
 * were cut, and none is longer than SENTENCE_UNITS_MAX.
 *
 *   "1. Mix the flour. Then wait.\n"  ->  "1. Mix the flour. " | "Then wait.\n"
 */

/** Longest sentence, UTF-16 units: what has no end by then ends there, one unit later where that parts a surrogate pair. */
export const SENTENCE_UNITS_MAX = 320;
/** What is shorter goes on: "1." and "Dr." are no sentences. */
const UNITS_MIN = 12;
/** The same where each unit is a word or nearly one. */
const DENSE_UNITS_MIN = 6;

/** Ends a sentence when white space follows. */
const STOP = 1;
/** May stand between the two: quotes and brackets. */
const CLOSING = 2;
const SPACE = 3;
const LINE = 4;
/** Ends one by itself. */
const DENSE_STOP = 5;

const kinds = new Uint8Array(0x10000);
for (const unit of ".!?…؟") kinds[unit.charCodeAt(0)] = STOP;
for (const unit of `"')]}*_”’»」』）`) kinds[unit.charCodeAt(0)] = CLOSING;
for (const unit of " \t\u00a0") kinds[unit.charCodeAt(0)] = SPACE;
for (const unit of "\n\r\u2028\u2029") kinds[unit.charCodeAt(0)] = LINE;
for (const unit of "。！？｡।॥۔") kinds[unit.charCodeAt(0)] = DENSE_STOP;

export class SentenceCutter {
  /** Units of the sentence under way. */
  #length = 0;
  #stopped = false;

  /** Units of the sentence under way that were read. */
  get open(): number {
    return this.#length;
  }

  /** What comes next begins a sentence. */
  restart(): void {
    this.#length = 0;
    this.#stopped = false;
  }

  /** Reads `text` from `from` up to `to` and answers where the sentence under way ends in it; -1: it goes on. */
  end(text: string, from: number, to = text.length): number {
    let length = this.#length;
    let stopped = this.#stopped;
    for (let i = from; i < to; i++) {
      const unit = text.charCodeAt(i);
      const kind = kinds[unit]!;
      length += 1;
      const isEnd =
        (kind === SPACE && stopped && length >= UNITS_MIN) ||
        (kind === LINE && length >= UNITS_MIN) ||
        (kind === DENSE_STOP && length >= DENSE_UNITS_MIN) ||
        // Half of a surrogate pair is no place to end.
        length > SENTENCE_UNITS_MAX - (unit >= 0xd800 && unit <= 0xdbff ? 0 : 1);
      if (isEnd) {
        this.restart();
        return i + 1;
      }
      stopped = kind === STOP || (stopped && kind === CLOSING);
    }
    this.#length = length;
    this.#stopped = stopped;
    return -1;
  }
}

/** All sentences of a text, in order; together they are the text. */
export function sentencesOf(text: string): string[] {
  const cutter = new SentenceCutter();
  const sentences: string[] = [];
  for (let from = 0; from < text.length; ) {
    const end = cutter.end(text, from);
    sentences.push(text.slice(from, end < 0 ? text.length : end));
    if (end < 0) break;
    from = end;
  }
  return sentences;
}
