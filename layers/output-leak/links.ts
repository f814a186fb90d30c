/**
 * Finds addresses that carry data out, in Markdown, in HTML and bare. An address waits until it has ended, or is so
 * long that it is judged by its length; all other text passes through one automaton and waits for nothing but the
 * beginning of "https:". One that was judged bad goes on to be so until it ends.
 */
import type { Delta } from "../../src/layer/index.ts";
import { type Cursor, compileLiterals } from "../../src/text/literals.ts";
import { FREE, type Hit } from "./hit.ts";
import { type Conversation, carries, isListed, readAddress } from "./payload.ts";

/** Longest address that is read whole. */
export const URL_UNITS_MAX = 512;
/** What is embedded has its address this near. */
const MARKER_UNITS_MAX = 256;

/** Where an address begins, and how many of a literal's last units belong to it. */
const STARTS: readonly (readonly [literal: string, units: number])[] = [
  ["http:", 5],
  ["https:", 6],
  ...["](//", "](<//", '="//', "='//", '=\\"//', "=//", "(//", "]: //"].map(
    (literal) => [literal, 2] as const,
  ),
];
/** What is fetched as soon as it is shown. */
const MARKERS = [
  "![",
  "<img",
  "src=",
  "srcset=",
  "url(",
  "poster=",
  "background=",
  "<link",
  "<iframe",
  "<embed",
  "<object",
  "<script",
  "<image",
  "@import",
  "]: ",
  "]:<",
];
const automaton = compileLiterals([...STARTS.map(([literal]) => literal), ...MARKERS], {
  ignoreCase: true,
  held: (id) => id < STARTS.length,
});

/** What ends an address. Beside it: the quote or bracket that it stands in. */
const ENDS = new Uint8Array(0x10000);
ENDS.fill(1, 0, 0x21);
for (const unit of '"<>`') ENDS[unit.charCodeAt(0)] = 1;
for (const unit of "\u0085\u00a0\u2028\u2029\u3000") ENDS[unit.charCodeAt(0)] = 1;

/** Letters that follow a backslash of JSON and are no part of an address. */
const ENDS_ESCAPED: ReadonlySet<number> = new Set([..."nrt\"'"].map((unit) => unit.charCodeAt(0)));
const BACKSLASH = 0x5c;
/** A name without a dot leads nowhere outside; a number without one is an address. */
const LOCAL = /^(?:[a-z][a-z0-9_-]*)?$/;

export interface LinkOptions {
  readonly hosts: readonly string[];
  readonly conversation: Conversation;
}

/** An address under way: `reads` it is held and not judged yet, then it passes or is swallowed to its end. */
interface Reading {
  state: "reads" | "passes" | "swallows";
  readonly isEmbedded: boolean;
  /** A unit that ends it beside ENDS; 0 for none. */
  readonly closer: number;
  /** It stands in quotes of HTML or in angle brackets: white space does not end it. */
  readonly isEnclosed: boolean;
  /** Open round brackets. */
  depth: number;
  /** The last unit was a backslash: the next one says whether it belongs to the address. */
  isEscaped: boolean;
}

export class Links {
  readonly #options: LinkOptions;
  readonly #delta: Pick<Delta, "channel" | "kind">;
  readonly #cursor: Cursor = { state: 0, at: 0 };
  /** What waits: the beginning of a literal, or of an address. */
  #carry = "";
  /** The last units before `carry`. */
  #before = "";
  #markerAt = Number.NEGATIVE_INFINITY;
  #reading: Reading | undefined;

  constructor(options: LinkOptions, delta: Pick<Delta, "channel" | "kind">) {
    this.#options = options;
    this.#delta = delta;
  }

  /** Adds to `hits`; answers from where text must be held. */
  read({ text: piece, start, final }: Delta, hits: Hit[]): number {
    const text = this.#carry === "" ? piece : this.#carry + piece;
    const base = start - this.#carry.length;
    let at = this.#carry.length;
    /** Where the address under way, or what is left of it to report, begins. */
    let from = 0;
    for (;;) {
      const reading = this.#reading;
      if (reading === undefined) {
        this.#cursor.at = at;
        if (!automaton.advance(text, this.#cursor)) break;
        at = this.#cursor.at;
        from = this.#literal(text, base, at);
        continue;
      }
      const limit = reading.state === "reads" ? Math.min(text.length, from + URL_UNITS_MAX) : text.length;
      const end = endOf(reading, text, at, limit, this.#delta.kind === "tool");
      const isLong = end < 0 && limit === from + URL_UNITS_MAX && reading.state === "reads";
      if (end < 0 && !isLong && !final) {
        at = text.length;
        break;
      }
      // A backslash is not parted from what follows it.
      const to = end >= 0 ? end : isLong && reading.isEscaped ? limit - 1 : limit;
      if (reading.state === "reads")
        reading.state = this.#isBad(text.slice(from, to), isLong, reading) ? "swallows" : "passes";
      if (reading.state === "swallows") this.#hit(reading, base + from, base + to, hits);
      from = to;
      if (end < 0) {
        at = limit;
        if (at === text.length) break;
        continue;
      }
      at = end;
      this.#reading = undefined;
      this.#cursor.state = 0;
    }
    const kept = this.#keep(text, base, from, hits);
    this.#carry = kept === 0 ? "" : text.slice(-kept);
    const released = text.length - kept;
    this.#before = (this.#before + text.slice(Math.max(0, released - 2), released)).slice(-2);
    return kept === 0 ? FREE : base + text.length - kept;
  }

  /** Units at the end of the text that wait. A part of a bad address does not: it is reported. */
  #keep(text: string, base: number, from: number, hits: Hit[]): number {
    const reading = this.#reading;
    if (reading === undefined) return automaton.depth(this.#cursor.state);
    if (reading.state === "reads") return text.length - from;
    if (reading.state === "passes") return 0;
    const kept = reading.isEscaped ? 1 : 0;
    this.#hit(reading, base + from, base + text.length - kept, hits);
    return kept;
  }

  /** A literal ended at `at`. Answers where an address begins, if it is one. */
  #literal(text: string, base: number, at: number): number {
    let units = 0;
    for (const id of automaton.ended(this.#cursor.state)) {
      if (id < STARTS.length) units = Math.max(units, STARTS[id]![1]);
      else this.#markerAt = base + at;
    }
    const from = at - units;
    if (units === 0) return 0;
    const around = this.#before + text.slice(Math.max(0, from - 2), from);
    this.#reading = {
      state: "reads",
      isEmbedded: base + from - this.#markerAt <= MARKER_UNITS_MAX,
      ...enclosure(around),
      depth: 0,
      isEscaped: false,
    };
    // The next address has a marker of its own.
    this.#markerAt = Number.NEGATIVE_INFINITY;
    return from;
  }

  #isBad(url: string, isLong: boolean, { isEmbedded }: Reading): boolean {
    const { hosts, conversation } = this.#options;
    const address = readAddress(url.replaceAll("\\/", "/"));
    if (LOCAL.test(address.host)) return false;
    if (isListed(address.host, hosts) || conversation.holds(url)) return false;
    return isLong || carries(address, isEmbedded, conversation) !== undefined;
  }

  #hit({ isEmbedded }: Reading, start: number, end: number, hits: Hit[]): void {
    if (start >= end) return;
    const where = { channel: this.#delta.channel, start, end };
    hits.push({ kind: isEmbedded ? "image" : "link", score: isEmbedded ? 0.9 : 0.6, where });
  }
}

/** What an address stands in, by the units before it. */
function enclosure(before: string): Pick<Reading, "closer" | "isEnclosed"> {
  const last = before.at(-1) ?? "";
  const isAttribute = (last === '"' || last === "'") && /[=\\]/.test(before.at(-2) ?? "");
  if (isAttribute) return { closer: last.charCodeAt(0), isEnclosed: true };
  if (last === "<") return { closer: 0x3e, isEnclosed: true };
  return { closer: last === "'" ? 0x27 : 0, isEnclosed: false };
}

/** Where the address ends, reading on from `at`; -1 where it goes on to `limit`. */
function endOf(reading: Reading, text: string, at: number, limit: number, isTool: boolean): number {
  const { closer, isEnclosed } = reading;
  for (let i = at; i < limit; i++) {
    const unit = text.charCodeAt(i);
    if (reading.isEscaped) {
      reading.isEscaped = false;
      if (ENDS_ESCAPED.has(unit)) return i - 1;
      if (unit === BACKSLASH) continue;
    }
    if (unit === closer) return i;
    if (ENDS[unit] === 1 && !(isEnclosed && unit === 0x20)) return i;
    if (unit === 0x28) reading.depth += 1;
    else if (unit === 0x29 && --reading.depth < 0) return i;
    else if (unit === BACKSLASH && isTool) reading.isEscaped = true;
  }
  return -1;
}
