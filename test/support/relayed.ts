/**
 * A streamed chat from bytes to bytes without sockets: decoder, dialect, seats and hold-back as the relay puts them
 * together, for tests and figures that must know at which event each text left.
 */
import { openai } from "../../src/dialect/openai/index.ts";
import { IDLE_PORTS, type LayerKind } from "../../src/layer/index.ts";
import { HoldBack, type HoldState } from "../../src/pipeline/hold-back.ts";
import { Passage } from "../../src/pipeline/passage.ts";
import { VerdictCache } from "../../src/pipeline/verdict-cache.ts";
import type { Seat, Snapshot } from "../../src/policy/snapshot.ts";
import { readAnswerJson } from "../../src/wire/json-answer.ts";
import { SseDecoder } from "../../src/wire/sse.ts";

/** A seat of this kind that enforces, with the kind's defaults and `settings`. */
export function seatOf<Config>(kind: LayerKind<Config>, settings: object = {}): Seat {
  const config = kind.config.parse(settings);
  return {
    id: kind.kind,
    use: kind.kind,
    mode: "enforce",
    rollout: 100,
    sample: 1,
    onError: "block",
    timeoutMs: 100,
    when: undefined,
    layer: kind.compile(config, {
      seat: kind.kind,
      ...IDLE_PORTS,
      artifacts: { text: () => "", bytes: () => new Uint8Array() },
    }),
    config,
    phases: kind.phasesOf?.(config) ?? kind.phases,
    holdMax: kind.holdMax?.(config) ?? 0,
    portions: kind.portions?.(config),
    fingerprint: "f",
  };
}

export function openRelay(seats: readonly Seat[]) {
  const snapshot: Snapshot = {
    revision: "test",
    seats,
    routes: new Set(),
    passThrough: [],
    unknownFields: "scan",
    unknownEvents: "scan",
    redaction: "[redacted:{kind}]",
  };
  const facts = {
    id: "req_1",
    dialect: "openai",
    operation: "chat",
    route: "openai.chat",
    address: "127.0.0.1",
  } as const;
  let out = "";
  let text = "";
  const engine = new HoldBack({
    judge: new Passage(snapshot, facts, new VerdictCache({ entriesMax: 0 })),
    stream: openai.openAnswerStream("chat"),
    redaction: snapshot.redaction,
    heldUnitsMax: 1_048_576,
    unknownEvents: "scan",
    emit: (text) => {
      out += text;
    },
  });
  const decoder = new SseDecoder({ eventBytesMax: 1_048_576 });
  let state: HoldState = { state: "open" };
  return {
    /** Throws where a seat answers later: nothing here waits. */
    push(bytes: Buffer): void {
      decoder.push(bytes, (event) => {
        const read = readAnswerJson(event.data, 128);
        const own = typeof read === "string" || read.text === event.data;
        const next = engine.push(own ? event : { event: event.event, data: read.text });
        if (next instanceof Promise) throw new Error("a seat answers later");
        state = next;
      });
      if (state.state === "ended") out += state.tail;
      text += textOf(out);
      out = "";
    },
    /** The answer's text that has left. */
    get text(): string {
      return text;
    },
    /** Units of the answer's text that have left. */
    get released(): number {
      return text.length;
    },
    get state(): HoldState {
      return state;
    },
    engine,
  };
}

/** The `content` of all chunks in these bytes, which the gateway printed. */
export function textOf(body: string): string {
  let text = "";
  for (const match of body.matchAll(/"content":("(?:[^"\\]|\\.)*")/g))
    text += JSON.parse(match[1]!) as string;
  return text;
}

const WORDS =
  "The plan for the week is simple : on Monday the team reviews what changed since the last release , writes down what is unclear and asks the people who know . After lunch somebody reads the notes aloud , and whoever finds a gap fixes it at once . By Friday 3 short pages are left that a newcomer can follow without help .".split(
    " ",
  );

/** A chat's chunks, a token each; every tenth sentence ends a paragraph. */
export function benignStream(tokens: number): { readonly bytes: Buffer; readonly text: string }[] {
  return Array.from({ length: tokens }, (_, i) => {
    const word = WORDS[i % WORDS.length]!;
    const text = `${/^[.,:]$/.test(word) || i === 0 ? "" : " "}${word}${i % 600 === 599 ? "\n\n" : ""}`;
    const chunk = {
      id: "chatcmpl-AbC123",
      object: "chat.completion.chunk",
      created: 1_700_000_000,
      model: "gpt-6-sol",
      choices: [{ index: 0, delta: { content: text }, logprobs: null, finish_reason: null }],
    };
    return { bytes: Buffer.from(`data: ${JSON.stringify(chunk)}\n\n`), text };
  });
}
