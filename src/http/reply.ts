/**
 * What the client gets from us rather than through us: heads, endings and errors, in the client's own
 * dialect. An Exchange decides what is said; this knows how.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AnswerStream, Dialect, PublicProblem, SseEvent } from "../dialect/dialect.ts";
import { PROBLEMS, type Problem, problem } from "../layer/index.ts";
import { encodeSse } from "../wire/sse.ts";

/** What the client still gets when a request is over: a whole answer (with headers), or the end of a stream. */
export interface LastWords {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
  /** Of `body`, in bytes. */
  readonly length: number;
}

export interface ReplyOptions {
  readonly id: string;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** How long a client may take no byte of what is written before it is dropped. */
  readonly idleMs: number;
}

/** Body bytes that are read and dropped after an early refusal, to keep the connection. */
const UNREAD_BYTES_MAX = 65_536;

/** Headers of an answer that are never another's. */
const OWN = new Set(["content-type", "content-length", "x-sallyport-request-id"]);

export class Reply {
  readonly #options: ReplyOptions;
  dialect: Dialect;

  constructor(dialect: Dialect, options: ReplyOptions) {
    this.dialect = dialect;
    this.#options = options;
  }

  get hasBegun(): boolean {
    return this.#options.response.headersSent;
  }

  /** Sends the head of a streamed answer: in one write with its first text where that comes in the same turn. */
  beginStream(status: number, headers: Readonly<Record<string, string>>, hasText: () => boolean): void {
    const { response, id } = this.#options;
    response.writeHead(status, {
      ...headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-sallyport-request-id": id,
    });
    process.nextTick(() => {
      if (!hasText() && !response.writableEnded) response.flushHeaders();
    });
  }

  whole(status: number, body: string | Buffer, headers: Readonly<Record<string, string>>): LastWords {
    const length = typeof body === "string" ? Buffer.byteLength(body) : body.length;
    return { status, headers, body, length };
  }

  /** The end of a stream whose head was sent. */
  tail(text: string): LastWords {
    return { status: this.#options.response.statusCode, body: text, length: Buffer.byteLength(text) };
  }

  tailOf(events: readonly SseEvent[]): LastWords {
    return this.tail(events.map(encodeSse).join(""));
  }

  /** A coded problem as an error answer, or as the last event of `stream` once the head is out. */
  problem(fault: Problem, stream: () => AnswerStream, quotas: Readonly<Record<string, string>>): LastWords {
    if (this.hasBegun) return this.tailOf(stream().failure(this.#publicly(fault)));
    const headers: Record<string, string> = { ...quotas };
    if (fault.retryAfterMs !== undefined) {
      headers["retry-after"] = String(Math.max(1, Math.ceil(fault.retryAfterMs / 1000)));
      headers["retry-after-ms"] = String(Math.ceil(fault.retryAfterMs));
    }
    // Node reads off a short unread body so that the connection serves on; a long one is not worth it.
    const { complete, headers: sent } = this.#options.request;
    if (!complete && !(Number(sent["content-length"]) <= UNREAD_BYTES_MAX)) headers["connection"] = "close";
    return this.whole(PROBLEMS[fault.code].status, this.dialect.errorBody(this.#publicly(fault)), headers);
  }

  /** An error of the upstream that cannot be read keeps its status and gets a body in the client's dialect. */
  upstreamError(status: number, headers: Readonly<Record<string, string>>): LastWords {
    const shown = { ...this.#publicly(problem("upstream_error")), status };
    return this.whole(status, this.dialect.errorBody(shown), headers);
  }

  send({ status, headers, body, length }: LastWords): void {
    const { request, response, id, idleMs } = this.#options;
    if (headers !== undefined) {
      // A list, as node takes it: a further object for each answer would only be walked again.
      const list: string[] = [];
      for (const name in headers) if (!OWN.has(name)) list.push(name, headers[name]!);
      list.push("content-type", "application/json", "content-length", String(length));
      list.push("x-sallyport-request-id", id);
      response.writeHead(status, list);
    }
    response.end(body);
    // From here no timer of the exchange runs. Node watches for progress, and drops who makes none.
    if (request.socket.writableLength > 0) response.setTimeout(idleMs);
  }

  #publicly(fault: Problem): PublicProblem {
    const { status, text } = PROBLEMS[fault.code];
    const shown = { code: fault.code, status, message: fault.message ?? text, requestId: this.#options.id };
    return fault.param === undefined ? shown : { ...shown, param: fault.param };
  }
}
