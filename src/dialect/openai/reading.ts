/**
 * What was read of one event or answer, and how to write it back with other text. A reading keeps the parsed
 * JSON and, per segment, the place of its text; `rewrite` edits in place, prints, and puts everything back,
 * so that it may be called again and costs nothing when it is not.
 */
import type { Channel, ChannelKind, Usage } from "../../layer/index.ts";
import { parseJson } from "../../wire/json-text.ts";
import type { EventReading, Json, JsonObject, Segment, SseEvent } from "../dialect.ts";
import type { Run, Stranger, Unmodelled } from "../unmodelled.ts";

/** An object or list that holds a string; a list's keys are its indices as text. */
export type Holder = { [key: string]: Json | undefined };

/** Changes made to a parsed body, undone after printing. A member set to undefined is left out by JSON.stringify. */
export class Edits {
  private readonly done: [Holder, string, Json | undefined][] = [];
  /** Set when the change cannot be expressed: the event is then dropped. */
  impossible = false;

  set(holder: Holder, key: string, value: Json | undefined): void {
    this.done.push([holder, key, holder[key]]);
    holder[key] = value;
  }

  undo(): void {
    for (let i = this.done.length - 1; i >= 0; i--) {
      const [holder, key, value] = this.done[i]!;
      holder[key] = value;
    }
  }
}

export interface PlacedSegment extends Segment {
  put(text: string, edits: Edits): void;
}

/** A channel of a stream. Text that comes after it was closed opens a channel with the next number. */
export class Lane {
  readonly base: Channel;
  readonly kind: ChannelKind;
  readonly choice: number;
  channel: Channel;
  open = false;
  /** Ordinal of the last event with text here: a channel occurs at most once in an event. */
  event = -1;
  private generation = 1;

  constructor(base: Channel, kind: ChannelKind, choice: number) {
    this.base = base;
    this.channel = base;
    this.kind = kind;
    this.choice = choice;
  }

  /** Text stood here before, and its channel was closed. */
  get resumes(): boolean {
    return this.generation > 1;
  }

  close(): Channel {
    const closed = this.channel;
    this.open = false;
    this.generation += 1;
    this.channel = `${this.base}~${this.generation}`;
    return closed;
  }
}

/** Text that is exactly one JSON string. Tokens listed beside it go when it changes. */
export class Spot implements PlacedSegment {
  readonly channel: Channel;
  readonly kind: ChannelKind;
  readonly choice: number;
  readonly text: string;
  readonly holder: Holder;
  readonly key: string;
  /** Object whose `logprobs` spell the same text. */
  readonly beside: Holder | undefined;

  constructor(
    channel: Channel,
    kind: ChannelKind,
    choice: number,
    text: string,
    holder: Holder,
    key: string,
    beside: Holder | undefined,
  ) {
    this.channel = channel;
    this.kind = kind;
    this.choice = choice;
    this.text = text;
    this.holder = holder;
    this.key = key;
    this.beside = beside;
  }

  put(text: string, edits: Edits): void {
    edits.set(this.holder, this.key, text);
    if (this.beside !== undefined) dropLogprobs(this.beside, edits);
  }
}

/** Tokens spell text that is judged elsewhere; changed ones cannot be told apart again, so all of them go. */
export class TokensSpot implements PlacedSegment {
  readonly channel: Channel;
  readonly kind = "logprobs";
  readonly choice: number;
  readonly text: string;
  readonly holder: Holder;

  constructor(channel: Channel, choice: number, text: string, holder: Holder) {
    this.channel = channel;
    this.choice = choice;
    this.text = text;
    this.holder = holder;
  }

  put(_text: string, edits: Edits): void {
    dropLogprobs(this.holder, edits);
  }
}

function dropLogprobs(holder: Holder, edits: Edits): void {
  const logprobs = holder["logprobs"];
  if (logprobs !== undefined && logprobs !== null)
    edits.set(holder, "logprobs", Array.isArray(logprobs) ? [] : null);
}

/** A value that every event repeats (an id, the model): its text ends with a line break, so that nothing waits for more. */
export class HeadSpot implements PlacedSegment {
  readonly channel: Channel;
  readonly kind = "other";
  readonly choice = 0;
  readonly text: string;
  readonly holder: Holder | undefined;
  readonly key: string;

  constructor(channel: Channel, value: string, holder: Holder | undefined, key: string) {
    this.channel = channel;
    this.text = `${value}\n`;
    this.holder = holder;
    this.key = key;
  }

  put(text: string, edits: Edits): void {
    if (this.holder === undefined) edits.impossible = true;
    else edits.set(this.holder, this.key, text.endsWith("\n") ? text.slice(0, -1) : text);
  }
}

/** Values remembered to tell changes only, and the longest that is; what is not remembered is told each time. */
const REMEMBERED_MAX = 256;
const REMEMBERED_CHARS_MAX = 1_024;

/** The values that the events of one stream say again and again. */
export class Memory {
  private readonly last = new Map<string, string>();

  knows(name: string): boolean {
    return this.last.has(name);
  }

  /** True when `value` is not what `name` was last time. */
  differs(name: string, value: string): boolean {
    const last = this.last.get(name);
    if (last === value) return false;
    if (value.length <= REMEMBERED_CHARS_MAX && (last !== undefined || this.last.size < REMEMBERED_MAX))
      this.last.set(name, value);
    else if (last !== undefined) this.last.delete(name);
    return true;
  }

  clear(): void {
    this.last.clear();
  }
}

interface Entry {
  readonly holder: Holder;
  readonly key: string;
  /** A string of the body, or the name of the member `key` itself. */
  readonly text: string;
  readonly isName: boolean;
}

/**
 * Strings and member names without a channel of their own, one after another, each ended by a line break.
 * Changed text is laid over them again: entries that still stand at the front and at the back stay; of what
 * lies between, lines go back to their entries, or, when a change ran across entries, those members go.
 */
export class Bundle implements PlacedSegment {
  readonly channel: Channel;
  readonly kind: ChannelKind;
  readonly choice: number;
  text = "";
  readonly entries: Entry[] = [];

  constructor(channel: Channel, kind: ChannelKind, choice: number) {
    this.channel = channel;
    this.kind = kind;
    this.choice = choice;
  }

  add(holder: Holder, key: string, text: string, isName: boolean): void {
    this.entries.push({ holder, key, text, isName });
    this.text += `${text}\n`;
  }

  put(text: string, edits: Edits): void {
    const entries = this.entries;
    let from = 0;
    let start = 0;
    while (from < entries.length && text.startsWith(`${entries[from]!.text}\n`, start)) {
      start += entries[from]!.text.length + 1;
      from += 1;
    }
    let to = entries.length;
    let end = text.length;
    while (to > from) {
      const last = `${entries[to - 1]!.text}\n`;
      if (end - last.length < start || !text.endsWith(last, end)) break;
      end -= last.length;
      to -= 1;
    }
    const middle = text.slice(start, end);
    const lines = (middle.endsWith("\n") ? middle.slice(0, -1) : middle).split("\n");
    let wanted = 0;
    for (let i = from; i < to; i++) wanted += lineCount(entries[i]!.text);
    const fits = to - from === 1 || wanted === lines.length;
    // Backwards: a member's name stands before its value, and its removal must have the last word.
    let line = lines.length;
    for (let i = to - 1; i >= from; i--) {
      const { holder, key, text: before, isName } = entries[i]!;
      const first = to - from === 1 ? 0 : line - lineCount(before);
      const now = fits ? lines.slice(first, line).join("\n") : undefined;
      line = first;
      if (now !== before) edits.set(holder, key, isName ? undefined : now);
    }
  }
}

function lineCount(text: string): number {
  let count = 1;
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) count += 1;
  return count;
}

/** Ordinal of the first event that did not leave; infinite when all did. */
export function firstUnsent(unsent: readonly EventReading[] | undefined): number {
  const first = unsent?.[0];
  return first instanceof Reading ? first.ordinal : Number.POSITIVE_INFINITY;
}

/** Text of an event that could not be read: it leaves whole and unchanged, or not at all. */
class WholeEvent implements PlacedSegment {
  readonly channel: Channel;
  readonly kind = "other";
  readonly choice = 0;
  readonly text: string;

  constructor(channel: Channel, text: string) {
    this.channel = channel;
    this.text = text;
  }

  put(_text: string, edits: Edits): void {
    edits.impossible = true;
  }
}

const NONE: readonly Channel[] = [];

export class Reading implements EventReading {
  readonly segments: PlacedSegment[] = [];
  closes: readonly Channel[] = NONE;
  terminal = false;
  modelled = true;
  unjudgeable = false;
  name?: string;
  rests: readonly Channel[] = NONE;
  usage?: Usage;
  upstreamError?: string;
  /** Place of the event in its stream, from 0. */
  readonly ordinal: number;
  /** The event as it came; undefined for a whole answer. */
  protected readonly data: string | undefined;
  readonly root: Json;

  constructor(data: string | undefined, root: Json, ordinal: number) {
    this.data = data;
    this.root = root;
    this.ordinal = ordinal;
  }

  rewrite(texts: readonly string[]): string {
    const edits = new Edits();
    let changed = false;
    for (let i = 0; i < this.segments.length; i++) {
      const segment = this.segments[i]!;
      const text = texts[i] ?? segment.text;
      if (text === segment.text) continue;
      changed = true;
      segment.put(text, edits);
    }
    if (!changed && this.data !== undefined) return this.data;
    const printed = edits.impossible ? "" : this.print();
    edits.undo();
    if (changed) this.rewritten(printed);
    return printed;
  }

  protected print(): string {
    return JSON.stringify(this.root);
  }

  /** Called with the new data after a rewrite that changed something. */
  protected rewritten(_printed: string): void {}
}

/** An event that this dialect does not know: its text runs on from one such event to the next. */
export function unreadable(
  unmodelled: Unmodelled,
  event: SseEvent,
  root: Json | undefined,
  ordinal: number,
): Reading {
  const reading = new Reading(event.data, null, ordinal);
  reading.modelled = false;
  const { segments, closes } = unmodelled.read(event.event, event.data, root, ordinal);
  for (const { channel, text } of segments) reading.segments.push(new WholeEvent(channel, text));
  reading.closes = closes;
  reading.unjudgeable = unmodelled.full;
  return reading;
}

/** A member that no table names, and where it stands. */
export interface Member extends Stranger {
  readonly holder: Holder;
  readonly key: string;
}

/** Text of members that no table names, run on from the event before: what of it may not stay goes. */
class MembersSpot implements PlacedSegment {
  readonly channel: Channel;
  readonly kind = "other";
  readonly choice = 0;
  readonly text: string;
  readonly run: Run<Member>;

  constructor(run: Run<Member>) {
    this.channel = run.channel;
    this.text = run.text;
    this.run = run;
  }

  /** By itself, each was written back before: what was changed there and otherwise here goes whole. */
  put(text: string, edits: Edits): void {
    const { of, leaves } = this.run;
    const [member] = of;
    const [leaf] = leaves;
    if (leaves.length === 1 && leaf !== undefined && member !== undefined) {
      const place = typeof member.value === "string" ? member : leaf;
      const now = place.holder[place.key];
      if (now === text) return;
      if (now === this.text) {
        edits.set(place.holder, place.key, text);
        return;
      }
    }
    for (const { holder, key } of of) {
      if (Array.isArray(holder)) edits.impossible = true;
      else edits.set(holder, key, undefined);
    }
  }
}

export function addMembers(reading: Reading, unmodelled: Unmodelled, members: readonly Member[]): void {
  if (members.length === 0) return;
  for (const run of unmodelled.runs(members)) reading.segments.push(new MembersSpot(run));
  reading.unjudgeable ||= unmodelled.full;
}

/** Undefined for text that is not JSON. */
export function parse(data: string): Json | undefined {
  try {
    return parseJson(data);
  } catch {
    return undefined;
  }
}

/** The words of an error object as a vendor sends it; "error" when it has none. */
export function errorText(error: Json | undefined): string {
  if (typeof error === "string") return error === "" ? "error" : error;
  const fields = typeof error === "object" && error !== null ? (error as JsonObject) : {};
  for (const name of ["message", "code", "type"]) {
    const value = fields[name];
    if (typeof value === "string" && value !== "") return value;
  }
  return "error";
}
