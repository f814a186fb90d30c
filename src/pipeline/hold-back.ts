/**
 * The hold-back engine: no text of a streamed answer leaves before every enforcing seat has let it go.
 *
 * Events wait in one queue in the order in which they came. Each channel (choice × kind of text) has a
 * length, the offset up to which it is safe, and its redactions. The head of the queue leaves when all its
 * segments are safe; a head whose front alone is safe is split where the dialect can, so that a long event
 * does not wait for its last word.
 *
 *   channel "answer:0"   |------ released ------|--- held ---|
 *                                               ^ safe       ^ length
 *   queue                [event 7: 40 units, 12 of them safe] [event 8: held behind 7]
 */
import type { AnswerStream, EventReading, Segment, SseEvent } from "../dialect/dialect.ts";
import type { Await, Channel, ChannelKind, Delta, Usage, Verdict } from "../layer/index.ts";
import { ALLOW } from "../layer/index.ts";
import { encodeSse } from "../wire/sse.ts";
import type { ChunkOutcome } from "./passage.ts";
import { Redactions } from "./redaction.ts";

/** A safe front shorter than this waits for the rest of its event: splitting would cost more than it brings. */
const SPLIT_UNITS_MIN = 64;

/** The end of a channel at rest leaves unjudged while it is shorter than this; see `EventReading.rests`. */
const REST_UNITS_MAX = 8;

/** So many events wait behind a sentence that another channel began, and it is judged as far as it came. */
const STALLED_EVENTS = 64;

/** What the engine needs of a passage. */
export interface ChunkJudge {
  onChunk(delta: Delta): Await<ChunkOutcome>;
  /** True where text waits for the end of its sentence: it must hear of a channel that comes to rest. */
  readonly gathers?: boolean;
  /** UTF-16 units that wait for shadows alone. */
  readonly backlogUnits?: number;
  /** Gives up what waits for shadows: there is no memory left for what changes nothing. */
  dropBacklogs?(): void;
}

export interface HoldBackOptions {
  readonly judge: ChunkJudge;
  readonly stream: AnswerStream;
  /** `{kind}` is replaced by the kind of what was found. */
  readonly redaction: string;
  /** Bytes of event data (counted as UTF-16 units) that may wait. */
  readonly heldUnitsMax: number;
  readonly unknownEvents: "scan" | "cut";
  /** Takes bytes that may leave, in order. */
  readonly emit: (text: string) => void;
}

export type HoldState =
  | { readonly state: "open" }
  /** The last event of the answer was read; its bytes wait in `tail` until the decision is written. */
  | { readonly state: "ended"; readonly tail: string; readonly upstreamError?: string }
  /** `unsent`: what was read and never left, oldest first; the dialect's ending must not close what it opened. */
  | { readonly state: "blocked"; readonly verdict: Verdict; readonly unsent: readonly EventReading[] }
  | { readonly state: "overflow"; readonly unsent: readonly EventReading[] }
  | { readonly state: "unknown_event" };

const OPEN: HoldState = Object.freeze({ state: "open" });

interface ChannelState {
  readonly kind: ChannelKind;
  readonly choice: number;
  readonly redactions: Redactions;
  length: number;
  /** From where the seats hold, whatever has left. */
  held: number;
  safe: number;
  released: number;
  closed: boolean;
}

interface HeldEvent {
  readonly event: SseEvent;
  readonly reading: EventReading;
  /** Offset in its channel at which each segment starts; moves forward when its front was sent ahead. */
  readonly starts: number[];
  /** Units of segment 0 that were sent ahead. */
  sentAhead: number;
}

export class HoldBack {
  readonly #options: HoldBackOptions;
  readonly #channels = new Map<Channel, ChannelState>();
  #queue: HeldEvent[] = [];
  #heldUnits = 0;
  #state: HoldState = OPEN;
  /** The event that the seats look at, not queued yet. */
  #judged: HeldEvent | undefined;
  usage: Usage = {};
  events = 0;
  /** Most units that ever waited. */
  heldUnitsPeak = 0;
  /** Spans that a seat named after their text had left: a seat that breaks its bound. Counted, never hidden. */
  lateSpans = 0;

  constructor(options: HoldBackOptions) {
    this.#options = options;
  }

  /** What waits, and the event that a seat still thinks about. */
  get heldUnits(): number {
    return this.#heldUnits + (this.#judged === undefined ? 0 : weightOf(this.#judged));
  }

  /** What waits for shadows alone. */
  get backlogUnits(): number {
    return this.#options.judge.backlogUnits ?? 0;
  }

  dropBacklogs(): void {
    this.#options.judge.dropBacklogs?.();
  }

  /** Takes one event. Once the state is not "open", nothing more may be pushed. */
  push(event: SseEvent): Await<HoldState> {
    if (this.#state.state !== "open") throw new Error(`event after the stream was ${this.#state.state}`);
    const reading = this.#options.stream.read(event);
    this.events += 1;
    if (reading.usage !== undefined) this.usage = { ...this.usage, ...reading.usage };
    if (reading.unjudgeable === true || (!reading.modelled && this.#options.unknownEvents === "cut")) {
      return this.#stop({ state: "unknown_event" });
    }
    const held: HeldEvent = { event, reading, starts: [], sentAhead: 0 };
    this.#judged = held;
    return this.#judgeFrom(held, 0);
  }

  /**
   * The upstream ended without a last event: what is held is judged as whole and released or withheld.
   * "open" then means: all of it may leave, and the caller ends the answer with a failure.
   */
  finish(): Await<HoldState> {
    if (this.#state.state !== "open") return this.#state;
    return this.#closeAll([...this.#channels.keys()], () => {
      this.#drain();
      return OPEN;
    });
  }

  /** Ends the answer from outside; what is held never leaves. Gives what was read and did not leave. */
  giveUp(): readonly EventReading[] {
    const unsent = this.#unsent();
    this.#stop({ state: "overflow", unsent });
    return unsent;
  }

  #judgeFrom(held: HeldEvent, from: number): Await<HoldState> {
    const { segments, closes } = held.reading;
    for (let i = from; i < segments.length; i++) {
      const segment = segments[i]!;
      const channel = this.#channel(segment);
      const start = channel.length;
      channel.length += segment.text.length;
      held.starts.push(start);
      const final = closes.length > 0 && closes.includes(segment.channel);
      const outcome = this.#options.judge.onChunk({
        channel: segment.channel,
        kind: segment.kind,
        choice: segment.choice,
        start,
        text: segment.text,
        final,
      });
      if (outcome instanceof Promise) {
        return outcome.then((late) => {
          if (!this.#apply(channel, segment.channel, late, final)) return this.#state;
          return this.#judgeFrom(held, i + 1);
        });
      }
      if (!this.#apply(channel, segment.channel, outcome, final)) return this.#state;
    }
    const { rests } = held.reading;
    if (rests === undefined || rests.length === 0) return this.#afterText(held);
    return this.#tellRests(rests, () => {
      for (const name of rests) this.#rest(name);
      return this.#afterText(held);
    });
  }

  #afterText(held: HeldEvent): Await<HoldState> {
    const { closes } = held.reading;
    if (closes.length === 0) return this.#enqueue(held);
    return this.#closeAll(closes, () => this.#enqueue(held));
  }

  /** What waits on these channels for the end of its sentence is judged as it stands. */
  #tellRests(names: readonly Channel[], then: () => Await<HoldState>, from = 0): Await<HoldState> {
    if (this.#options.judge.gathers !== true) return then();
    for (let i = from; i < names.length; i++) {
      const name = names[i]!;
      const channel = this.#channels.get(name);
      if (channel === undefined || channel.closed || channel.held >= channel.length) continue;
      const { kind, choice, length } = channel;
      const delta: Delta = {
        channel: name,
        kind,
        choice,
        start: length,
        text: "",
        final: false,
        rests: true,
      };
      const outcome = this.#options.judge.onChunk(delta);
      if (outcome instanceof Promise) {
        return outcome.then((late) =>
          this.#apply(channel, name, late, false) ? this.#tellRests(names, then, i + 1) : this.#state,
        );
      }
      if (!this.#apply(channel, name, outcome, false)) return this.#state;
    }
    return then();
  }

  /**
   * The seats keep their state, so that what goes on later is judged with what came before. An end of REST_UNITS_MAX
   * and more goes on waiting: so much in the middle of matching is hardly chance.
   */
  #rest(name: Channel): void {
    const channel = this.#channels.get(name);
    if (channel !== undefined && channel.length - channel.held < REST_UNITS_MAX)
      channel.safe = channel.length;
  }

  /** Channels that hold the queue up while others speak: they may stand still in the middle of a sentence. */
  #stalled({ reading: { segments } }: HeldEvent): readonly Channel[] {
    const head = this.#queue[0]!.reading.segments.map(({ channel }) => channel);
    return head.filter((name) => !segments.some(({ channel }) => channel === name));
  }

  #enqueue(held: HeldEvent): Await<HoldState> {
    if (held.reading.terminal) {
      return this.#closeAll([...this.#channels.keys()], () => this.#end(held));
    }
    this.#queue.push(held);
    this.#judged = undefined;
    this.#heldUnits += weightOf(held);
    this.#drain();
    if (this.#heldUnits > this.heldUnitsPeak) this.heldUnitsPeak = this.#heldUnits;
    if (this.#heldUnits > this.#options.heldUnitsMax)
      return this.#stop({ state: "overflow", unsent: this.#unsent() });
    if (this.#queue.length === 0 || this.#queue.length % STALLED_EVENTS > 0) return OPEN;
    return this.#tellRests(this.#stalled(held), () => {
      this.#drain();
      return OPEN;
    });
  }

  /** Every channel is closed, hence safe: the queue empties and the last event becomes the tail. */
  #end(held: HeldEvent): HoldState {
    this.#drain();
    const tail = this.#render(held);
    const { upstreamError } = held.reading;
    return this.#stop(
      upstreamError === undefined ? { state: "ended", tail } : { state: "ended", tail, upstreamError },
    );
  }

  /** Tells the judges that these channels get no more text, then goes on. */
  #closeAll(names: readonly Channel[], then: () => Await<HoldState>, from = 0): Await<HoldState> {
    for (let i = from; i < names.length; i++) {
      const name = names[i]!;
      const channel = this.#channels.get(name);
      if (channel === undefined || channel.closed) continue;
      const { kind, choice, length } = channel;
      const delta: Delta = { channel: name, kind, choice, start: length, text: "", final: true };
      const outcome = this.#options.judge.onChunk(delta);
      if (outcome instanceof Promise) {
        return outcome.then((late) =>
          this.#apply(channel, name, late, true) ? this.#closeAll(names, then, i + 1) : this.#state,
        );
      }
      if (!this.#apply(channel, name, outcome, true)) return this.#state;
    }
    return then();
  }

  /** Notes one verdict on its channel; false when it ends the answer, or comes after the answer's end. */
  #apply(channel: ChannelState, name: Channel, outcome: ChunkOutcome, final: boolean): boolean {
    if (this.#state.state !== "open") return false;
    const { verdict } = outcome;
    if (verdict !== ALLOW) {
      if (verdict.act === "block" || verdict.act === "throttle") {
        this.#stop({ state: "blocked", verdict, unsent: this.#unsent() });
        return false;
      }
      if (verdict.act === "redact") {
        for (const span of verdict.spans) {
          if (span.channel !== name) continue;
          if (span.start < channel.released && !channel.redactions.any) this.lateSpans += 1;
          channel.redactions.add(span, verdict.findings);
        }
      }
    }
    if (final) channel.closed = true;
    const safe = final ? channel.length : Math.min(channel.length, outcome.holdFrom);
    channel.held = safe;
    if (safe > channel.safe) channel.safe = safe;
    return true;
  }

  #channel(segment: Segment): ChannelState {
    const known = this.#channels.get(segment.channel);
    if (known !== undefined) {
      // A channel that speaks again after its end (an upstream that breaks its own grammar) is judged anew.
      known.closed = false;
      return known;
    }
    const fresh: ChannelState = {
      kind: segment.kind,
      choice: segment.choice,
      redactions: new Redactions(this.#options.redaction),
      length: 0,
      held: 0,
      safe: 0,
      released: 0,
      closed: false,
    };
    this.#channels.set(segment.channel, fresh);
    return fresh;
  }

  #drain(): void {
    let leaving = 0;
    while (leaving < this.#queue.length) {
      const held = this.#queue[leaving]!;
      if (!this.#isSafe(held)) {
        this.#sendFront(held);
        break;
      }
      const text = this.#render(held);
      this.#heldUnits -= weightOf(held);
      if (text !== "") this.#options.emit(text);
      leaving += 1;
    }
    if (leaving === this.#queue.length) this.#queue.length = 0;
    else if (leaving > 0) this.#queue.splice(0, leaving);
  }

  #isSafe(held: HeldEvent): boolean {
    const { segments } = held.reading;
    for (let i = 0; i < segments.length; i++) {
      const channel = this.#channels.get(segments[i]!.channel)!;
      if (held.starts[i]! + segments[i]!.text.length - (i === 0 ? held.sentAhead : 0) > channel.safe)
        return false;
    }
    return true;
  }

  /** Sends the safe front of an event ahead, when it has one text and the dialect can split it. */
  #sendFront(held: HeldEvent): void {
    const { reading, starts } = held;
    const segment = reading.segments[0];
    if (segment === undefined || reading.segments.length !== 1 || reading.splitBefore === undefined) return;
    const channel = this.#channels.get(segment.channel)!;
    const from = starts[0]!;
    const units = charBoundary(segment.text, held.sentAhead, channel.safe - from);
    if (units < SPLIT_UNITS_MIN) return;
    const front = segment.text.slice(held.sentAhead, held.sentAhead + units);
    const data = reading.splitBefore(
      0,
      channel.redactions.any ? channel.redactions.apply(front, from) : front,
    );
    if (data === undefined) return;
    this.#options.emit(encodeSse({ event: held.event.event, data }));
    held.sentAhead += units;
    starts[0] = from + units;
    channel.released = from + units;
  }

  /** The event's bytes with its redactions applied; untouched events keep the upstream's own data. */
  #render(held: HeldEvent): string {
    const { event, reading, starts } = held;
    const { segments } = reading;
    let changed = held.sentAhead > 0;
    let texts: string[] | undefined;
    for (let i = 0; i < segments.length; i++) {
      const { channel: name, text } = segments[i]!;
      const channel = this.#channels.get(name)!;
      const rest = i === 0 && held.sentAhead > 0 ? text.slice(held.sentAhead) : text;
      const start = starts[i]!;
      let seen = rest;
      if (channel.redactions.any) {
        seen = channel.redactions.apply(rest, start);
        channel.redactions.forget(start);
      }
      channel.released = start + rest.length;
      // A closed channel that is wholly out has no more to say: streams of many short blocks stay small.
      if (channel.closed && channel.released === channel.length) this.#channels.delete(name);
      if (seen !== text) changed = true;
      if (changed || texts !== undefined) {
        texts ??= segments.slice(0, i).map((segment) => segment.text);
        texts.push(seen);
      }
    }
    const name = reading.name ?? event.event;
    if (!changed || texts === undefined)
      return encodeSse(name === event.event ? event : { event: name, data: event.data });
    const data = reading.rewrite(texts);
    return data === "" ? "" : encodeSse({ event: name, data });
  }

  #unsent(): EventReading[] {
    const waiting = this.#queue.map(({ reading }) => reading);
    if (this.#judged !== undefined) waiting.push(this.#judged.reading);
    return waiting;
  }

  #stop(state: HoldState): HoldState {
    this.#state = state;
    this.#judged = undefined;
    if (state.state !== "ended") {
      this.#queue.length = 0;
    }
    this.#heldUnits = 0;
    return state;
  }
}

/** An event that waits takes memory beside its data: many empty ones must reach the bound too. */
const EVENT_UNITS = 512;

function weightOf({ event }: HeldEvent): number {
  return event.data.length + EVENT_UNITS;
}

/** Units from `from` to `to`, one fewer where the cut would part a surrogate pair. */
function charBoundary(text: string, from: number, units: number): number {
  const end = from + units;
  const last = text.charCodeAt(end - 1);
  return last >= 0xd800 && last <= 0xdbff ? units - 1 : units;
}
