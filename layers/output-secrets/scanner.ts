/**
 * Finds secrets in text that arrives in pieces. One automaton over all literals opens candidates; a
 * candidate walks its shape as far as the text goes and waits there for more. What it finds follows from
 * the text alone, never from how the text was cut.
 *
 *    released | held: an undecided candidate, or the beginning of a literal
 *    ---------+----------------------------------------------------------------
 *    "my key " "sk-proj-a8f..."                       <- carry, until decided
 *
 * Once a secret is sure but goes on, the candidate swallows: each piece gives a span that abuts the last,
 * and nothing is held. Candidates of one channel are bounded: each lives no longer than its shape.
 */
import type { Delta, Span } from "../../src/layer/index.ts";
import type { Cursor } from "../../src/text/literals.ts";
import type { Automaton, Kind } from "./kinds.ts";
import { has, SETS_MAX, type UnitSet } from "./shape.ts";

export interface Hit {
  readonly kind: Kind;
  readonly where: Span;
}

/** A candidate on its way through the shape. All offsets are in the channel's whole text. */
interface Candidate {
  readonly kind: Kind;
  /** Begin of the secret; -1 until its first part is reached. */
  from: number;
  /** End of the secret; -1 until its last part is passed. */
  to: number;
  at: number;
  part: number;
  /** Units taken in `part`. */
  taken: number;
  /** Set once the secret is sure: `from` moves along with what was reported. */
  sure: boolean;
  /** The secret so far is the beginning of an allowed example. */
  maybeAllowed: boolean;
  until: Cursor | undefined;
}

interface Channel {
  readonly cursor: Cursor;
  /** Held text: what was not decided when the last piece ended. */
  carry: string;
  open: Candidate[];
  /** By kind, the last secret: one that begins inside it is a part of it. */
  last: Map<Kind, { start: number; end: number }> | undefined;
}

const NO_HITS: readonly Hit[] = [];

export class Scanner {
  readonly #automaton: Automaton;
  readonly #allow: readonly string[];
  /** Channels that get more text: as many as the runner lets an answer have. */
  readonly #channels = new Map<string, Channel>();
  /** The channel of the piece before, which is nearly always the channel of this one. */
  #name = "";
  #channel: Channel | undefined;
  /** After `read`: offset from which text must be held; -1 for none. */
  holdFrom = -1;

  constructor(automaton: Automaton, allow: readonly string[]) {
    this.#automaton = automaton;
    this.#allow = allow;
  }

  /** Secrets that this piece decides or goes on with. */
  read(delta: Delta): readonly Hit[] {
    const channel =
      delta.channel === this.#name && this.#channel ? this.#channel : this.#openChannel(delta.channel);
    const { literals } = this.#automaton;
    const { cursor } = channel;
    this.holdFrom = -1;
    cursor.at = channel.carry.length;
    const text = channel.carry === "" ? delta.text : channel.carry + delta.text;
    if (channel.open.length === 0 && !delta.final && !literals.advance(text, cursor)) {
      const depth = literals.depth(cursor.state);
      if (depth > 0) this.holdFrom = delta.start + delta.text.length - depth;
      else if (channel.carry === "") return NO_HITS;
      channel.carry = depth > 0 ? text.slice(-depth) : "";
      return NO_HITS;
    }
    return this.#readOn(channel, delta, text);
  }

  /** The path with candidates. The cursor may stand at the end of a literal already. */
  #readOn(channel: Channel, delta: Delta, text: string): readonly Hit[] {
    const { literals, kinds, kindOf, lengthOf } = this.#automaton;
    const { cursor } = channel;
    const piece = new Piece(text, delta.start - channel.carry.length, delta.final);
    const hits: Hit[] = [];
    const waiting = channel.open;
    channel.open = [];
    for (const candidate of waiting) this.#step(channel, candidate, piece, delta, hits);

    let ended = cursor.at > channel.carry.length ? literals.ended(cursor.state).length > 0 : false;
    while (ended || literals.advance(text, cursor)) {
      ended = false;
      const ids = literals.ended(cursor.state);
      for (const id of ids) {
        const kind = kinds[kindOf[id]!];
        // Longest first: a name inside of a longer name ("secret_key" in "aws_secret_key") leads where that one does.
        if (kind === undefined || (kind.yields && id !== ids[0])) continue;
        const at = piece.base + cursor.at;
        const from = kind.shape.hideFrom < 0 ? at - lengthOf[id]! : kind.shape.hideFrom === 0 ? at : -1;
        const candidate: Candidate = {
          kind,
          from,
          to: -1,
          at,
          part: 0,
          taken: 0,
          sure: false,
          maybeAllowed: false,
          until: undefined,
        };
        this.#step(channel, candidate, piece, delta, hits);
      }
    }
    this.#hold(channel, piece, literals.depth(cursor.state));
    return hits;
  }

  #openChannel(name: string): Channel {
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      channel = { cursor: { state: 0, at: 0 }, carry: "", open: [], last: undefined };
      this.#channels.set(name, channel);
    }
    this.#name = name;
    this.#channel = channel;
    return channel;
  }

  #hold(channel: Channel, piece: Piece, depth: number): void {
    if (piece.final) {
      this.#channels.delete(this.#name);
      this.#channel = undefined;
      return;
    }
    let holdFrom = piece.end - depth;
    for (const { from, at, sure, maybeAllowed } of channel.open) {
      if (sure && !maybeAllowed) holdFrom = Math.min(holdFrom, at);
      else if (from >= 0) holdFrom = Math.min(holdFrom, from);
    }
    channel.carry = piece.text.slice(holdFrom - piece.base);
    if (holdFrom < piece.end) this.holdFrom = holdFrom;
  }

  /** Takes a candidate as far as the text goes; keeps it open where it needs more. */
  #step(channel: Channel, candidate: Candidate, piece: Piece, delta: Delta, hits: Hit[]): void {
    if (!candidate.sure) {
      const walked = walk(candidate, piece);
      if (walked === "fails") return;
      if (walked === "waits") {
        channel.open.push(candidate);
        return;
      }
      const secret = piece.slice(candidate.from, candidate.to);
      if (!candidate.kind.accepts(secret)) return;
      candidate.sure = true;
      candidate.maybeAllowed = this.#allow.some((example) => example.startsWith(secret));
    }
    const goesOn = swallow(candidate, piece);
    if (candidate.maybeAllowed) {
      const secret = piece.slice(candidate.from, candidate.to);
      if (goesOn && this.#allow.some((example) => example.startsWith(secret))) {
        channel.open.push(candidate);
        return;
      }
      if (!goesOn && this.#allow.includes(secret)) return;
      candidate.maybeAllowed = false;
    }
    const where = this.#unreported(channel, candidate, delta.channel);
    if (where !== undefined) hits.push({ kind: candidate.kind, where });
    candidate.from = candidate.to;
    if (goesOn && !channel.open.some((other) => goesWith(other, candidate))) channel.open.push(candidate);
  }

  /** The part of the secret that no hit of its kind has named yet. */
  #unreported(channel: Channel, { kind, from, to }: Candidate, name: string): Span | undefined {
    channel.last ??= new Map();
    const last = channel.last.get(kind);
    const start = last !== undefined && from >= last.start ? Math.max(from, last.end) : from;
    if (start >= to) return undefined;
    channel.last.set(kind, { start: last?.end === start ? last.start : start, end: to });
    return { channel: name, start, end: to };
  }
}

/** By set, the run found last in the piece at hand: one table for all, because reading is synchronous. */
const RUN_FROM = new Int32Array(SETS_MAX);
const RUN_TO = new Int32Array(SETS_MAX);

/** The text at hand, and how far runs of units go in it, so that each unit is looked at once for each set. */
class Piece {
  readonly text: string;
  readonly base: number;
  readonly end: number;
  readonly final: boolean;
  constructor(text: string, base: number, final: boolean) {
    this.text = text;
    this.base = base;
    this.end = base + text.length;
    this.final = final;
    RUN_TO.fill(0);
  }

  unit(at: number): number {
    return this.text.charCodeAt(at - this.base);
  }

  slice(from: number, to: number): string {
    return this.text.slice(from - this.base, to - this.base);
  }

  /** Where the run of units of this set that covers `at` ends. */
  runEnd(set: UnitSet, setId: number, at: number): number {
    const offset = at - this.base;
    if (offset >= RUN_FROM[setId]! && offset < RUN_TO[setId]!) return this.base + RUN_TO[setId]!;
    let to = offset;
    while (to < this.text.length && has(set, this.text.charCodeAt(to))) to++;
    RUN_FROM[setId] = offset;
    RUN_TO[setId] = to;
    return this.base + to;
  }
}

/** Two sure secrets of a kind that have come equally far will end alike: one is enough. */
function goesWith(other: Candidate, candidate: Candidate): boolean {
  return other.kind === candidate.kind && other.sure && !other.maybeAllowed && other.at === candidate.at;
}

/** Goes through the parts of the shape. `ends`: the secret is [from, to). */
function walk(candidate: Candidate, piece: Piece): "fails" | "waits" | "ends" {
  const { parts, hideFrom, hideTo } = candidate.kind.shape;
  for (; candidate.part < parts.length; candidate.part++, candidate.taken = 0) {
    const part = parts[candidate.part]!;
    const open = part.max === Number.POSITIVE_INFINITY;
    const wanted = (open ? part.min : part.max) - candidate.taken;
    const got = Math.min(wanted, piece.runEnd(part.set, part.setId, candidate.at) - candidate.at);
    candidate.taken += got;
    candidate.at += got;
    if (got < wanted && candidate.at === piece.end && !piece.final) return "waits";
    if (candidate.taken < part.min) return "fails";
    const last = candidate.part === parts.length - 1;
    if (last && !open && part.max > 1 && candidate.taken === part.max) {
      if (candidate.at === piece.end && !piece.final) return "waits";
      if (candidate.at < piece.end && has(part.set, piece.unit(candidate.at))) return "fails";
    }
    if (candidate.part + 1 === hideFrom) candidate.from = candidate.at;
    if (candidate.part + 1 === hideTo) candidate.to = candidate.at;
  }
  return "ends";
}

/** A sure secret goes on over the units of its last set. True while it may go on in the next piece. */
function swallow(candidate: Candidate, piece: Piece): boolean {
  const { shape, joiner, until } = candidate.kind;
  const part = shape.parts[shape.parts.length - 1]!;
  if (part.max !== Number.POSITIVE_INFINITY) return false;
  let to = piece.runEnd(part.set, part.setId, candidate.at);
  while (joiner >= 0 && to < piece.end && piece.unit(to) === joiner) {
    if (to + 1 === piece.end) {
      candidate.at = to;
      candidate.to = to;
      return !piece.final;
    }
    if (!has(part.set, piece.unit(to + 1))) break;
    to = piece.runEnd(part.set, part.setId, to + 1);
  }
  if (until !== undefined) {
    const begin = candidate.until === undefined ? candidate.at - part.min : candidate.at;
    candidate.until ??= { state: 0, at: 0 };
    candidate.until.at = 0;
    if (until.advance(piece.slice(begin, to), candidate.until)) {
      candidate.to = begin + candidate.until.at;
      return false;
    }
  }
  candidate.at = to;
  candidate.to = to;
  return to === piece.end && !piece.final;
}
