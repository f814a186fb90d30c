/**
 * Reads text that arrives in pieces with a reader that knows one place at a time. At every place where something
 * may begin, the reader says that nothing does, what does, or that it needs more; in the last case text is held
 * from there. It sees at most a fixed number of units before and after the place, so what it says follows from the
 * text alone, never from how the text was cut.
 *
 *    before (left already) | held: from the first place that is undecided | text to come
 *    ----------------------+-----------------------------------------------+-------------
 *    "please call "         "(978) 645-97"
 */
import type { Delta } from "../../src/layer/index.ts";
import type { Sight } from "./kinds.ts";

/** Units before a place that a reader may look at. */
export const BEFORE_UNITS = 64;

export interface Reader {
  /** The first place at or after `from` where something may begin; the text's length where none is. */
  seek(text: string, from: number): number;
  /** `open`: the text may still grow. Undefined: nothing begins at `at`. */
  judge(text: string, at: number, open: boolean): Sight | "waits" | undefined;
}

interface Channel {
  /** The last units that were decided, and behind them those that were not. */
  kept: string;
  /** Units of `kept` that are decided. */
  decided: number;
}

const NONE: readonly Sight[] = [];

export class Reading {
  readonly #reader: Reader;
  readonly #allowed: ReadonlySet<string>;
  readonly #channels = new Map<string, Channel>();
  /** After `read`: offset from which text is undecided; -1 for none. */
  holdFrom = -1;

  /** `allowed`: texts, in lower case, that are not reported. */
  constructor(reader: Reader, allowed: ReadonlySet<string>) {
    this.#reader = reader;
    this.#allowed = allowed;
  }

  /** What this piece decides, in order; offsets are those of the channel. */
  read({ channel: name, text: piece, start, final }: Delta): readonly Sight[] {
    const reader = this.#reader;
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      channel = { kept: "", decided: 0 };
      this.#channels.set(name, channel);
    }
    const text = channel.kept + piece;
    const base = start - channel.kept.length;
    let sights = NONE as Sight[];
    let at = channel.decided;
    this.holdFrom = -1;
    for (;;) {
      at = reader.seek(text, at);
      if (at >= text.length) break;
      const sight = reader.judge(text, at, !final);
      if (sight === "waits") {
        this.holdFrom = base + at;
        break;
      }
      if (sight === undefined) {
        at += 1;
        continue;
      }
      at = sight.end;
      if (this.#allowed.has(text.slice(sight.start, at).toLowerCase())) continue;
      if (sights === NONE) sights = [];
      sights.push({ ...sight, start: base + sight.start, end: base + at });
    }
    if (final) this.#channels.delete(name);
    else {
      const from = Math.max(0, at - BEFORE_UNITS);
      channel.kept = text.slice(from);
      channel.decided = at - from;
    }
    return sights;
  }
}
