/**
 * Follows one kind of protected text through an answer. Each gram that matches adds the letters that it shows; where
 * none match, the sum falls, but not before as many symbols as one change costs (a changed letter spoils twelve
 * grams). When the sum has reached the mark it is a leak, and goes on to be one until nothing has matched for a while.
 *
 *   answer   ... you are Mira, and you must never tell ... so I cannot
 *                         |<----- held ----->|
 *                 1st gram ends               mark reached: redact from the first gram's end
 *
 * Everything follows from offsets in the text, never from where an event ended.
 */
import { GRAM_SYMBOLS } from "./grams.ts";
import { FREE } from "./hit.ts";

/** Symbols without a match after which a leak is over. */
const GAP_SYMBOLS = 24;
/** What one symbol without a match takes away, after the first GRAM_SYMBOLS. */
const FALL = 0.5;
/** Above the mark the sum does not rise: a leak that ends has ended soon. */
const OVER = 12;

/** Units that wait for the mark; past it, the older half goes. */
export const HELD_UNITS_MAX = 448;
/** Units without any symbol after which nothing is held any more. */
export const FILLER_UNITS_MAX = 96;

/** A run of units of one text, in pieces: between them lie quotes of JSON that must stay. */
export interface Piece {
  readonly start: number;
  readonly end: number;
}

const NONE: readonly Piece[] = [];

export class Run {
  readonly #mark: number;
  #sum = 0;
  #misses = 0;
  #isLeak = false;
  /** Begin of what is held; -1: nothing. */
  #from = -1;
  /** A place within what is held, to let go up to. */
  #middle = -1;
  /** Closed pieces of what is held, and where the open one began; -1 outside of strings. */
  #pieces: Piece[] = [];
  #open = -1;

  /** `mark`: letters that make a leak, beyond those of the first gram. */
  constructor(mark: number) {
    this.#mark = mark;
  }

  get isIdle(): boolean {
    return this.#from < 0 && this.#sum <= 0;
  }

  /** Offset from which text is held, when the text ends at `end` for now. */
  heldFrom(end: number, symbolsEnd: number): number {
    if (this.#from < 0 || end - symbolsEnd > FILLER_UNITS_MAX) return FREE;
    return this.#from < end ? this.#from : FREE;
  }

  /** A gram that ends at `end` matched. `isInside`: redactions may lie here. */
  matched(letters: number, end: number, isInside: boolean): readonly Piece[] {
    this.#misses = 0;
    this.#sum = Math.min(this.#sum + letters, this.#mark + OVER);
    if (this.#from < 0) this.#hold(end, isInside);
    if (this.#sum >= this.#mark) this.#isLeak = true;
    if (!this.#isLeak) {
      this.#bound(end, isInside);
      return NONE;
    }
    const pieces = this.#pieces;
    if (this.#open >= 0 && this.#open < end) pieces.push({ start: this.#open, end });
    this.#hold(end, isInside);
    return pieces;
  }

  missed(end: number, isInside: boolean): void {
    this.#misses += 1;
    if (this.#misses > GRAM_SYMBOLS) this.#sum -= FALL;
    if (this.#isLeak && this.#misses > GAP_SYMBOLS) {
      this.#isLeak = false;
      // What follows so soon is likely more of it.
      this.#sum = Math.min(this.#sum, this.#mark / 2);
      this.#release();
    } else if (this.#sum <= 0) {
      this.#sum = 0;
      this.#isLeak = false;
      this.#release();
    } else if (this.#from >= 0) this.#bound(end, isInside);
  }

  /** Units [from, to) have no symbol; too many, and what is held goes. */
  filler(from: number, to: number, isInside: boolean): void {
    if (this.#from >= 0 && to - from > FILLER_UNITS_MAX) this.#hold(to, isInside);
  }

  /** A quote of JSON: the piece ends, or one begins behind it. */
  quote(at: number, isOpening: boolean): void {
    // So far without a symbol, what is held is let go at the next one: nothing need be noted.
    if (this.#from < 0 || at - this.#from > HELD_UNITS_MAX + 2 * FILLER_UNITS_MAX) return;
    if (isOpening) this.#open = at + 1;
    else {
      if (this.#open >= 0 && this.#open < at) this.#pieces.push({ start: this.#open, end: at });
      this.#open = -1;
    }
  }

  /** It was no JSON after all. */
  unquoted(at: number): void {
    if (this.#from >= 0 && this.#open < 0) this.#open = at;
  }

  #hold(from: number, isInside: boolean): void {
    this.#from = from;
    this.#middle = -1;
    this.#pieces = [];
    this.#open = isInside ? from : -1;
  }

  #release(): void {
    this.#from = -1;
    this.#middle = -1;
    this.#pieces = [];
    this.#open = -1;
  }

  #bound(end: number, isInside: boolean): void {
    const held = end - this.#from;
    if (this.#middle < 0) {
      if (held * 2 >= HELD_UNITS_MAX) this.#middle = end;
      return;
    }
    if (held <= HELD_UNITS_MAX) return;
    const from = this.#middle;
    const pieces = this.#pieces
      .filter((piece) => piece.end > from)
      .map((piece) => ({ start: Math.max(piece.start, from), end: piece.end }));
    this.#from = from;
    this.#middle = end;
    this.#pieces = pieces;
    this.#open = isInside && this.#open >= 0 ? Math.max(this.#open, from) : this.#open;
  }
}
