/**
 * Gathers the text of an answer for a seat that judges by portions (src/layer/portions.ts). Where sentences end is
 * src/text/sentences.ts's to say. Each unit is looked at once; what waits is a string of less than `unitsMax` for each
 * channel.
 *
 *   told to the seat   |--- sentence ---|--- sentence ---|
 *   came               |------------------------------------- ... 'and then' |
 *                                                        ^ waits from here
 */
import {
  ALLOW,
  type Await,
  type Channel,
  type ChannelKind,
  type Delta,
  type Held,
  join,
  type Portions,
  type Verdict,
} from "../layer/index.ts";
import { SentenceCutter } from "../text/sentences.ts";

interface Waiting {
  text: string;
  /** Offset of `text` in its channel. */
  start: number;
  /** Has read `text`. */
  readonly cutter: SentenceCutter;
  /** What the seat last said that it holds of what it was told. */
  heldFrom: number;
}

export class PortionReader {
  readonly #portions: Portions;
  readonly #waiting = new Map<Channel, Waiting>();

  constructor(portions: Portions) {
    this.#portions = portions;
  }

  /** Tells the portions that this delta makes whole, one after the other, and answers what they came to. */
  tell(delta: Delta, onPortion: (portion: Delta) => Await<Held>): Await<Held> {
    if (!this.#isFor(delta.kind)) return onPortion(delta);
    return this.#tell(delta.channel, this.take(delta), 0, ALLOW, onPortion);
  }

  #tell(
    channel: Channel,
    portions: readonly Delta[],
    first: number,
    before: Verdict,
    onPortion: (portion: Delta) => Await<Held>,
  ): Await<Held> {
    let joined = before;
    for (let i = first; i < portions.length && !stops(joined); i++) {
      const held = onPortion(portions[i]!);
      if (held instanceof Promise) {
        return held.then((late) => {
          this.#hold(channel, late);
          return this.#tell(channel, portions, i + 1, join(joined, bare(late)), onPortion);
        });
      }
      this.#hold(channel, held);
      joined = join(joined, bare(held));
    }
    const holdFrom = this.holdsFrom(channel);
    return holdFrom === Number.POSITIVE_INFINITY ? joined : { ...joined, holdFrom };
  }

  /** The portions that this delta makes whole, in order; all that waited where the channel ends or rests. */
  take(delta: Delta): readonly Delta[] {
    const { channel, final } = delta;
    let waiting = this.#waiting.get(channel);
    if (waiting === undefined) {
      const cutter = new SentenceCutter();
      waiting = { text: "", start: delta.start, cutter, heldFrom: Number.POSITIVE_INFINITY };
      this.#waiting.set(channel, waiting);
    }
    let read = waiting.text.length;
    waiting.text += delta.text;
    const { text, start, cutter } = waiting;
    const told: Delta[] = [];
    let from = 0;
    for (;;) {
      const end = this.#endOf(cutter, text, from, read);
      if (end < 0) break;
      told.push({ ...delta, start: start + from, text: text.slice(from, end), final: false });
      from = end;
      read = end;
    }
    if (final || (delta.rests === true && from < text.length)) {
      told.push({ ...delta, start: start + from, text: text.slice(from) });
      from = text.length;
      cutter.restart();
    }
    waiting.start += from;
    waiting.text = text.slice(from);
    if (final) this.#waiting.delete(channel);
    return told;
  }

  /** Where the channel's text may not leave from: what is not told yet, and what the seat holds. */
  holdsFrom(channel: Channel): number {
    const waiting = this.#waiting.get(channel);
    if (waiting === undefined || this.#portions.holds === false) return Number.POSITIVE_INFINITY;
    return waiting.text === "" ? waiting.heldFrom : Math.min(waiting.heldFrom, waiting.start);
  }

  #isFor(kind: ChannelKind): boolean {
    return this.#portions.kinds?.includes(kind) ?? true;
  }

  /** The seat's word on the last portion: nothing from there on may leave yet. */
  #hold(channel: Channel, { holdFrom = Number.POSITIVE_INFINITY }: Held): void {
    const waiting = this.#waiting.get(channel);
    if (waiting !== undefined) waiting.heldFrom = holdFrom;
  }

  /** Where the portion that starts at `from` ends, of which the cutter knows what is before `read`; -1: it goes on. */
  #endOf(cutter: SentenceCutter, text: string, from: number, read: number): number {
    const { by, unitsMax } = this.#portions;
    const limit = from + unitsMax;
    if (by === "sentence") {
      const end = cutter.end(text, read, Math.min(text.length, limit));
      if (end >= 0) return end;
    }
    if (text.length < limit) return -1;
    cutter.restart();
    return wordEnd(text, from, limit);
  }
}

/** At the last blank in the second half of [from, limit), else at `limit`, never within a surrogate pair. */
function wordEnd(text: string, from: number, limit: number): number {
  const blank = text.lastIndexOf(" ", limit - 1);
  if (blank >= from + (limit - from) / 2) return blank + 1;
  const last = text.charCodeAt(limit - 1);
  return last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit;
}

/** The verdict without what it holds. */
export function bare(held: Held): Verdict {
  if (held.holdFrom === undefined) return held;
  if (held.act === "allow") return ALLOW;
  const { holdFrom: _, ...verdict } = held;
  return verdict;
}

/** Nothing after it is judged any more. */
export function stops(verdict: Verdict): boolean {
  return verdict.act === "block" || verdict.act === "throttle";
}
