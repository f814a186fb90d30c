/**
 * What a dialect is: a pure translation between a vendor's wire format and Prompt, Delta and coded
 * problems. No I/O, no state beyond one answer. The pipeline holds and releases; the dialect alone knows
 * where text lies in an event and what a correct ending looks like.
 *
 *   request JSON --readPrompt--> Prompt
 *   answer JSON  --readAnswer--> AnswerReading (segments, rewrite, withheld)
 *   SSE events   --openAnswerStream().read--> EventReading (segments, rewrite, splitBefore)
 */
import type { Channel, ChannelKind, DialectName, Operation, Prompt, Quota, Usage } from "../layer/index.ts";
import type { Json, JsonObject } from "../wire/json-text.ts";
import type { SseEvent } from "../wire/sse.ts";

export type { Json, JsonObject, SseEvent };

/** A run of text inside an event or an answer. */
export interface Segment {
  readonly channel: Channel;
  readonly kind: ChannelKind;
  readonly choice: number;
  readonly text: string;
}

/** Where the text of one event lies. Segments stand in document order; a channel occurs at most once. */
export interface EventReading {
  readonly segments: readonly Segment[];
  /** Channels that get no more text after this event. */
  readonly closes: readonly Channel[];
  /** The last event of a well-formed answer (`[DONE]`, `message_stop`, `response.completed` ...). */
  readonly terminal: boolean;
  /** False for an event kind that the dialect does not model, or data that is not JSON: its text is then of kind `other`, on channels that go on through the stream. */
  readonly modelled: boolean;
  /**
   * True where text goes on from text that has left already (a block that was closed, a choice that comes twice), or
   * where it cannot be told any more what goes on from what: it cannot be judged as clients read it, so the answer is
   * cut here, whatever the policy says of unknown events.
   */
  readonly unjudgeable?: boolean;
  /** Sent in place of the event's own name. */
  readonly name?: string;
  /**
   * Channels that may go on, but whose text stands still while others speak: a short end that waits there leaves, so
   * that it does not hold the others up.
   */
  readonly rests?: readonly Channel[];
  readonly usage?: Usage;
  /** Set when the upstream itself reports an error inside the stream. */
  readonly upstreamError?: string;
  /** The event's data with segment i's text replaced by `texts[i]`; logprobs and token bytes of changed text go too. */
  rewrite(texts: readonly string[]): string;
  /**
   * Data of an event that carries only `text` on segment `index`, to be sent before this one when its head
   * may leave and its tail may not; undefined where the event cannot be split (it is then held whole).
   */
  splitBefore?(index: number, text: string): string | undefined;
}

/** Why the gateway stops an answer: `filter` for its content, `length` at a usage limit. */
export type StopCause = "filter" | "length";

export interface AnswerStream {
  /** Never throws: what cannot be read is `modelled: false`. Keeps what `ending` needs (ids, open blocks, choices). */
  read(event: SseEvent): EventReading;
  /**
   * Events that end the answer properly when the gateway stops it: for its content (`content_filter`, `refusal`),
   * or at a usage limit (`length`, `max_tokens`), as the vendor itself ends an answer that reached its maximum.
   * `unsent`: readings whose events never left, oldest first; what they opened is then not closed. Without it,
   * everything that was read counts as sent. `words`: the public reason and the reference to quote, told where the
   * dialect has a place for it; it is for `filter` alone, as a limit explains itself.
   */
  ending(unsent?: readonly EventReading[], why?: StopCause, words?: string): readonly SseEvent[];
  /** Events that end it with an error after the head was sent. */
  failure(problem: PublicProblem): readonly SseEvent[];
}

/** A whole (not streamed) answer. Every segment is the whole text of its own channel. */
export interface AnswerReading {
  readonly segments: readonly Segment[];
  readonly usage?: Usage;
  /** False when the body has fields that the dialect does not model (their strings are segments of kind `other`). */
  readonly modelled: boolean;
  rewrite(texts: readonly string[]): string;
  /** The same answer with its content withheld and the dialect's finish reason for that; undefined where the shape has none. `words` as for `ending`. */
  withheld(words?: string): string | undefined;
}

/** What of a problem the caller may see. The table is src/http/problems.ts. */
export interface PublicProblem {
  /** Stable code, such as "prompt_blocked". */
  readonly code: string;
  readonly status: number;
  readonly message: string;
  /** JSON Pointer or parameter name at fault. */
  readonly param?: string;
  readonly requestId: string;
}

export interface PromptInput {
  readonly operation: Operation;
  /** Parsed body; undefined for a call without one. */
  readonly body: JsonObject | undefined;
  /** Path and query parameters, decoded. */
  readonly parameters: readonly (readonly [name: string, value: string])[];
}

export interface Dialect {
  readonly name: DialectName;
  /** Covers every string of the body; never throws. */
  readPrompt(input: PromptInput): Prompt;
  readAnswer(operation: Operation, body: Json): AnswerReading;
  openAnswerStream(operation: Operation): AnswerStream;
  /** JSON text of an error answer in the vendor's shape. */
  errorBody(problem: PublicProblem): string;
  /** The vendor's own headers for what is left, which its clients read; lower-case names. */
  quotaHeaders(quotas: readonly Quota[], nowMs: number): Record<string, string>;
}
