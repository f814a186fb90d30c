/**
 * Gathers the text of an answer for a seat that judges by portions (src/layer/portions.ts). Each unit is looked at once
 * for the end of a sentence; what waits is a string of at most `unitsMax` for each channel.
 *
 *   told to the seat   |--- sentence ---|--- sentence ---|
 *   came               |------------------------------------- ... 'and then' |
 *                                                        ^ waits from here
 */
import type { Channel, ChannelKind, Delta, Portions } from "../layer/index.ts";

interface Waiting {
  text: string;
  /** Offset of `text` in its channel. */
  start: number;
  /** Units of `text` in which no portion ends. */
  scanned: number;
  /** What the seat last said that it holds of what it was told. */
  heldFrom: number;
}

export class PortionReader {
  readonly #portions: Portions;
  readonly #waiting = new Map<Channel, Waiting>();

  constructor(portions: Portions) {
    this.#portions = portions;
  }

  isFor(kind: ChannelKind): boolean {
    return this.#portions.kinds.includes(kind);
  }

  /** The portions that this delta makes whole, in order; all that waited where the channel ends or rests. */
  take(delta: Delta): readonly Delta[] {
    const { channel, final } = delta;
    let waiting = this.#waiting.get(channel);
    if (waiting === undefined) {
      waiting = { text: "", start: delta.start, scanned: 0, heldFrom: Number.POSITIVE_INFINITY };
      this.#waiting.set(channel, waiting);
    }
    waiting.text += delta.text;
    const told: Delta[] = [];
    const { text } = waiting;
    let from = 0;
    for (
      let end = this.#endOf(text, from, waiting.scanned);
      end > from;
      end = this.#endOf(text, from, from)
    ) {
      told.push({ ...delta, start: waiting.start + from, text: text.slice(from, end), final: false });
      from = end;
    }
    if (final || (delta.rests === true && from < text.length)) {
      told.push({ ...delta, start: waiting.start + from, text: text.slice(from) });
      from = text.length;
    }
    waiting.start += from;
    waiting.text = text.slice(from);
    waiting.scanned = Math.max(0, waiting.text.length - LOOK_AHEAD_UNITS);
    if (final) this.#waiting.delete(channel);
    return told;
  }

  /** The seat's word on the last portion: nothing from `from` on may leave yet. */
  hold(channel: Channel, from: number): void {
    const waiting = this.#waiting.get(channel);
    if (waiting !== undefined) waiting.heldFrom = from;
  }

  /** Where the channel's text may not leave from: what is not told yet, and what the seat holds. */
  holdsFrom(channel: Channel): number {
    const waiting = this.#waiting.get(channel);
    if (waiting === undefined) return Number.POSITIVE_INFINITY;
    return waiting.text === "" ? waiting.heldFrom : Math.min(waiting.heldFrom, waiting.start);
  }

  /** Where the portion that starts at `from` ends; `from` while it has not ended. */
  #endOf(text: string, from: number, scanned: number): number {
    const { by, unitsMax } = this.#portions;
    const limit = Math.min(text.length, from + unitsMax);
    const end = by === "sentence" ? sentenceEnd(text, Math.max(from, scanned), limit) : 0;
    if (end > from) return end;
    return text.length - from >= unitsMax ? wordEnd(text, from, limit) : from;
  }
}

/** The end of a sentence is sure once so many units from its mark on are known: closing quotes, and a blank. */
const LOOK_AHEAD_UNITS = 4;
const CLOSERS_MAX = 2;

/** Ends that need no blank behind them: the scripts that use them write none. */
const FULL_WIDTH_ENDS = new Set("。！？｡।॥۔");
const ENDS = new Set(".!?…؟");
const CLOSERS = new Set("\"'”’»)]}*_`」』）");
const BLANKS = new Set(" \n\t\r");
const LF = 10;
/** No mark but the line's end lies between these: letters of most text are passed over by two comparisons. */
const QUESTION_MARK = 63;
const ARABIC_MARKS = 0x061f;

/** After the first sentence or line that ends in [from, limit), its blank included; 0 where none does. */
function sentenceEnd(text: string, from: number, limit: number): number {
  for (let at = from; at < limit; at++) {
    const code = text.charCodeAt(at);
    if (code === LF) return at + 1;
    if (code > QUESTION_MARK && code < ARABIC_MARKS) continue;
    const unit = text[at]!;
    const needsBlank = ENDS.has(unit);
    if (!needsBlank && !FULL_WIDTH_ENDS.has(unit)) continue;
    let after = at + 1;
    while (after < limit && after <= at + CLOSERS_MAX && CLOSERS.has(text[after]!)) after += 1;
    if (after >= limit) return 0;
    if (!needsBlank) return after;
    if (BLANKS.has(text[after]!)) return after + 1;
  }
  return 0;
}

/** At the last blank in the second half of [from, limit), else at `limit`, never within a surrogate pair. */
function wordEnd(text: string, from: number, limit: number): number {
  const blank = text.lastIndexOf(" ", limit - 1);
  if (blank >= from + (limit - from) / 2) return blank + 1;
  const last = text.charCodeAt(limit - 1);
  return last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit;
}
