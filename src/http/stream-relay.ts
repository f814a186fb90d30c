/**
 * Carries a streamed answer from the upstream to the client: bytes to events, events through the hold-back
 * engine, released text to the client. Back-pressure goes both ways: a slow client pauses the upstream, and
 * so does a layer that is still thinking.
 */
import type { ServerResponse } from "node:http";
import type { EventReading, SseEvent } from "../dialect/dialect.ts";
import type { ProblemCode, Verdict } from "../layer/index.ts";
import type { HeldAccount } from "../pipeline/held-budget.ts";
import type { HoldBack, HoldState } from "../pipeline/hold-back.ts";
import { readAnswerJson } from "../wire/json-answer.ts";
import { SseDecoder, SseFault } from "../wire/sse.ts";

/** An event nested beyond `depthMax`: the walks over its value could not be trusted to end. */
class TooDeep extends Error {}

/** What pauses and resumes the sender; undici's controller. */
export interface Valve {
  pause(): void;
  resume(): void;
}

export type StreamOutcome =
  | { readonly kind: "ended"; readonly tail: string; readonly upstreamError?: string }
  | { readonly kind: "blocked"; readonly verdict: Verdict; readonly unsent: readonly EventReading[] }
  /** Too much would be held: `unsent` as for `blocked`. */
  | {
      readonly kind: "full";
      readonly code: "hold_overflow" | "hold_exhausted";
      readonly unsent: readonly EventReading[];
    }
  | { readonly kind: "failed"; readonly code: ProblemCode };

export interface StreamRelayOptions {
  readonly response: ServerResponse;
  readonly eventBytesMax: number;
  readonly bytesMax: number;
  /** Nesting of an event's JSON. */
  readonly depthMax: number;
  /** This stream's part of what all streams may keep. */
  readonly account: HeldAccount;
  /** Called once, with everything released before it already written. */
  readonly onOutcome: (outcome: StreamOutcome) => void;
  /** Called at the first byte of text that leaves. */
  readonly onFirstByte: () => void;
}

/** A comment line keeps idle connections alive; its words, if any, stay behind. */
const HEARTBEAT = ":\n\n";

export class StreamRelay {
  readonly #options: StreamRelayOptions;
  readonly #decoder: SseDecoder;
  #holdBack: HoldBack | undefined;
  #valve: Valve | undefined;
  #events: SseEvent[] = [];
  #next = 0;
  #judging = false;
  #paused = false;
  #clientFull = false;
  #ended: "no" | "clean" | "unterminated" | ProblemCode = "no";
  #done = false;
  #out = "";
  bytesIn = 0;
  bytesOut = 0;

  constructor(options: StreamRelayOptions) {
    this.#options = options;
    this.#decoder = new SseDecoder({ eventBytesMax: options.eventBytesMax });
    options.response.on("drain", this.#onDrain);
  }

  /** The engine writes through `emit`, so the two are bound after both exist. */
  bind(holdBack: HoldBack): void {
    this.#holdBack = holdBack;
  }

  readonly emit = (text: string): void => {
    this.#out += text;
  };

  data(chunk: Buffer, valve: Valve): void {
    if (this.#done) return;
    this.#valve = valve;
    this.bytesIn += chunk.length;
    if (this.bytesIn > this.#options.bytesMax) {
      this.#settle({ kind: "failed", code: "upstream_too_large" });
      return;
    }
    try {
      this.#decoder.push(chunk, this.#onEvent, this.#onComment);
    } catch (error) {
      this.#pump();
      this.#fault(error);
      return;
    }
    this.#pump();
  }

  /** The upstream's end, orderly or not; what it sent before is judged first. */
  end(failure?: ProblemCode): void {
    if (this.#done || this.#ended !== "no") return;
    if (failure === undefined) {
      try {
        this.#ended = this.#decoder.end();
      } catch (error) {
        this.#fault(error);
        return;
      }
    } else {
      this.#ended = failure;
    }
    this.#pump();
  }

  /** The client has gone or the exchange ended otherwise: nothing more is judged or written. */
  stop(): void {
    this.#done = true;
    this.#events.length = 0;
    const { response, account } = this.#options;
    response.off("drain", this.#onDrain);
    const bytes = response.destroyed ? 0 : response.writableLength;
    account.keep(bytes);
    // What a slow client has not taken stays in memory until it has, or has gone.
    if (bytes > 0) response.once("close", () => account.keep(0));
  }

  readonly #onEvent = (event: SseEvent): void => {
    const read = readAnswerJson(event.data, this.#options.depthMax);
    if (read === "too_deep") throw new TooDeep();
    const isOwn = read === "not_json" || read.text === event.data;
    this.#events.push(isOwn ? event : { event: event.event, data: read.text });
  };

  readonly #onComment = (): void => {
    if (this.#events.length === this.#next) this.#out += HEARTBEAT;
  };

  readonly #onDrain = (): void => {
    this.#clientFull = false;
    this.#keep();
    this.#setValve();
  };

  /** Says what this stream keeps in memory now; ends it where all together may not keep so much. */
  #keep(): void {
    const { response, account } = this.#options;
    const holdBack = this.#holdBack!;
    let bytes = holdBack.heldUnits + this.#decoder.waitingBytes + response.writableLength;
    for (let i = this.#next; i < this.#events.length; i++) bytes += this.#events[i]!.data.length;
    if (account.keep(bytes + holdBack.backlogUnits)) return;
    holdBack.dropBacklogs();
    if (!account.keep(bytes))
      this.#settle({ kind: "full", code: "hold_exhausted", unsent: holdBack.giveUp() });
  }

  #fault(error: unknown): void {
    if (this.#done) return;
    const code: ProblemCode =
      error instanceof SseFault && error.code === "event_too_large"
        ? "upstream_event_too_large"
        : "upstream_body";
    this.#settle({ kind: "failed", code });
  }

  #pump(): void {
    const holdBack = this.#holdBack!;
    while (!this.#judging && !this.#done && this.#next < this.#events.length) {
      const event = this.#events[this.#next]!;
      this.#next += 1;
      try {
        this.#advance(holdBack.push(event));
      } catch {
        this.#settle({ kind: "failed", code: "internal" });
      }
    }
    if (this.#done) return;
    if (this.#next === this.#events.length) {
      this.#events.length = 0;
      this.#next = 0;
      if (this.#ended !== "no" && !this.#judging) {
        this.#judging = true;
        this.#afterEnd(holdBack).catch(() => this.#settle({ kind: "failed", code: "internal" }));
        return;
      }
    }
    this.#flush();
    this.#keep();
    this.#setValve();
  }

  #advance(outcome: HoldState | Promise<HoldState>): void {
    if (outcome instanceof Promise) {
      this.#judging = true;
      outcome.then(
        (state) => {
          this.#judging = false;
          if (this.#done) return;
          this.#react(state);
          this.#pump();
        },
        () => this.#settle({ kind: "failed", code: "internal" }),
      );
      return;
    }
    this.#react(outcome);
  }

  #react(state: HoldState): void {
    switch (state.state) {
      case "open":
        return;
      case "ended":
        this.#settle(
          state.upstreamError === undefined
            ? { kind: "ended", tail: state.tail }
            : { kind: "ended", tail: state.tail, upstreamError: state.upstreamError },
        );
        return;
      case "blocked":
        this.#settle({ kind: "blocked", verdict: state.verdict, unsent: state.unsent });
        return;
      case "overflow":
        this.#settle({ kind: "full", code: "hold_overflow", unsent: state.unsent });
        return;
      case "unknown_event":
        this.#settle({ kind: "failed", code: "upstream_event_unknown" });
        return;
      default:
        state satisfies never;
    }
  }

  /** No last event came: what was held has been judged as whole; the answer still ends as a failure. */
  async #afterEnd(holdBack: HoldBack): Promise<void> {
    const finished = holdBack.finish();
    const state = finished instanceof Promise ? await finished : finished;
    if (this.#done) return;
    if (state.state === "blocked") {
      this.#react(state);
      return;
    }
    const code =
      this.#ended === "clean" || this.#ended === "unterminated" ? "upstream_truncated" : this.#ended;
    this.#settle({ kind: "failed", code: code === "no" ? "upstream_truncated" : code });
  }

  #flush(): void {
    if (this.#out === "") return;
    const { response } = this.#options;
    if (this.bytesOut === 0) this.#options.onFirstByte();
    this.bytesOut += Buffer.byteLength(this.#out);
    if (!response.write(this.#out)) this.#clientFull = true;
    this.#out = "";
  }

  #setValve(): void {
    const paused = this.#clientFull || this.#judging;
    if (paused === this.#paused || this.#done) return;
    this.#paused = paused;
    if (paused) this.#valve?.pause();
    else this.#valve?.resume();
  }

  #settle(outcome: StreamOutcome): void {
    if (this.#done) return;
    this.#flush();
    this.stop();
    this.#options.onOutcome(outcome);
  }
}
