/**
 * One request from its head to its decision: route, seats, body, prompt, upstream, answer, record. Every
 * way out leads through `#conclude`, once: it tells the watches, writes the decision, and only then lets
 * the last bytes go. ARCHITECTURE.md draws this as the life of a request.
 */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Dispatcher } from "undici";
import type { AnswerReading, AnswerStream, Dialect, Json } from "../dialect/dialect.ts";
import {
  type Await,
  type Cause,
  PROBLEMS,
  type Problem,
  type ProblemCode,
  type Prompt,
  problem,
  type Usage,
  type Verdict,
} from "../layer/index.ts";
import type { Decision } from "../ledger/decision.ts";
import { HoldBack } from "../pipeline/hold-back.ts";
import { Passage } from "../pipeline/passage.ts";
import { redactPrompt, withRedactions } from "../pipeline/whole-text.ts";
import type { Snapshot } from "../policy/snapshot.ts";
import { admitJson, replaceStrings } from "../wire/json-admission.ts";
import { encodeSse } from "../wire/sse.ts";
import { readBody } from "./body.ts";
import { decisionOf } from "./decide.ts";
import { clientHeaders, credentialOf, readHeaders, upstreamHeaders } from "./headers.ts";
import { refusalOf } from "./refusal.ts";
import { matchRoute, type RouteKind, type Target } from "./routes.ts";
import type { Services, Trace } from "./services.ts";
import { type StreamOutcome, StreamRelay } from "./stream-relay.ts";
import { upstreamProblem } from "./upstream.ts";

const NO_ROUTE: RouteKind = {
  id: "none",
  dialect: "openai",
  operation: "pass_through",
  method: "GET",
  path: "",
};
/** How long an upstream may take to close its answer after its last event, before it is cut off. */
const AFTER_END_MS = 1_000;
const JOINED_BYTES_MAX = 16_384;
/** Body bytes that are read and dropped after an early refusal, to keep the connection. */
const UNREAD_BYTES_MAX = 65_536;

/** What the client still gets when a request is over: a whole answer (with headers), or the end of a stream. */
interface LastWords {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
  /** Of `body`, in bytes. */
  readonly length: number;
}

function lastWords(
  status: number,
  body: string | Buffer,
  headers?: Readonly<Record<string, string>>,
): LastWords {
  const length = typeof body === "string" ? Buffer.byteLength(body) : body.length;
  return headers === undefined ? { status, body, length } : { status, headers, body, length };
}

export class Exchange {
  readonly #services: Services;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #id = `req_${randomUUID().replaceAll("-", "")}`;
  readonly #startedMs = performance.now();
  readonly #at = new Date().toISOString();
  readonly #address: string;
  #route: RouteKind = NO_ROUTE;
  #dialect: Dialect;
  #snapshot: Snapshot;
  #opened: Passage | undefined;
  #trace: Trace | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  #relay: StreamRelay | undefined;
  #holdBack: HoldBack | undefined;
  #stream: AnswerStream | undefined;
  #totalTimer: NodeJS.Timeout | undefined;
  #concluded = false;
  #usage: Usage = {};
  #bytesIn = 0;
  #bytesOut = 0;
  #calledMs = 0;
  #upstreamMs: number | null = null;
  #firstByteMs: number | null = null;
  #detail: string | undefined;

  constructor(services: Services, request: IncomingMessage, response: ServerResponse) {
    this.#services = services;
    this.#request = request;
    this.#response = response;
    this.#address = request.socket.remoteAddress ?? "";
    this.#snapshot = services.pin();
    this.#dialect = services.dialects.openai;
  }

  /** Never rejects: a throw in here is our own fault and ends the request as `internal`. */
  async run(): Promise<void> {
    this.#response.once("close", this.#onClose);
    try {
      await this.#admit();
    } catch (error) {
      this.#crash(error);
    }
  }

  /** Ends the exchange from outside: the gateway's time to drain is over. */
  cut(code: ProblemCode): void {
    this.#fail(problem(code));
  }

  /** Made when it is first needed: by then the route is known, or the request has none. */
  get #passage(): Passage {
    if (this.#opened === undefined) {
      const { id, dialect, operation } = this.#route;
      const facts = { id: this.#id, route: id, dialect, operation, address: this.#address };
      this.#opened = new Passage(this.#snapshot, facts, this.#services.cache);
    }
    return this.#opened;
  }

  async #admit(): Promise<void> {
    const read = readHeaders(this.#request.rawHeaders);
    if (!read.ok) return this.#fail(read.problem);
    const { headers } = read;
    const { method = "", url = "" } = this.#request;
    this.#trace = this.#services.observer.began(headers);
    const match = matchRoute(method, url, "anthropic-version" in headers);
    if (match.found !== "route") {
      this.#dialect = this.#services.dialects[match.dialect];
      return this.#fail(notFound(match.found, method, match.pathname));
    }
    const { route, target } = match;
    this.#dialect = this.#services.dialects[route.dialect];
    if (!this.#snapshot.routes.has(route.id) || route.operation === "realtime") {
      return this.#fail(notFound("none", method, target.pathname));
    }
    this.#route = route;
    if (!this.#services.recording()) return this.#fail(problem("spool_unavailable"));
    const credential = credentialOf(headers);
    if (typeof credential === "object") return this.#fail(credential);
    this.#totalTimer = setTimeout(this.#onTotalTimeout, this.#services.timeouts.totalMs);
    const head = { method, path: target.pathname, headers, address: this.#address };
    const outcome = this.#passage.onRequest(credential === undefined ? head : { ...head, credential });
    const verdict = outcome instanceof Promise ? await outcome : outcome;
    if (this.#concluded) return;
    if (verdict.act === "block" || verdict.act === "throttle") return this.#fail(refusalOf(verdict));
    await this.#readPrompt(route, target, headers);
  }

  async #readPrompt(
    route: RouteKind,
    target: Target,
    headers: Readonly<Record<string, string>>,
  ): Promise<void> {
    let bytes: Buffer | undefined;
    let text = "";
    let body: { [key: string]: Json } | undefined;
    if (route.method === "POST") {
      if (!isJson(headers["content-type"])) return this.#fail(problem("body_media_type"));
      const { limits, timeouts } = this.#services;
      const read = await readBody(this.#request, headers, {
        bodyBytesMax: limits.bodyBytesMax,
        bodyMs: timeouts.bodyMs,
      });
      if (this.#concluded) return;
      if (!read.ok) {
        if (read.problem.code === "body_incomplete" && this.#request.socket.destroyed) return this.#onClose();
        return this.#fail(read.problem);
      }
      this.#bytesIn = read.wireBytes;
      if (read.bytes.length === 0) return this.#fail(problem("body_missing"));
      const admission = admitJson(read.bytes, { depthMax: limits.bodyDepthMax });
      if (!admission.ok) return this.#fail(admission.problem);
      bytes = read.bytes;
      text = admission.text;
      body = admission.value;
    } else if (headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0) {
      return this.#fail(problem("body_unexpected"));
    }
    const prompt = this.#dialect.readPrompt({
      operation: route.operation,
      body,
      parameters: target.parameters,
    });
    if (prompt.unknown.length > 0 && this.#snapshot.unknownFields === "refuse") {
      const param = prompt.unknown[0]!;
      return this.#fail(
        problem("field_unknown", { param, message: `The field ${param} is not known here.` }),
      );
    }
    const outcome = this.#passage.onPrompt(prompt);
    const verdict = outcome instanceof Promise ? await outcome : outcome;
    if (this.#concluded) return;
    if (verdict.act === "block" || verdict.act === "throttle") return this.#fail(refusalOf(verdict));
    if (verdict.act === "redact") {
      const edits = redactPrompt(prompt, verdict, this.#snapshot.redaction);
      if (edits === undefined) return this.#fail(refusalOf({ act: "block", findings: verdict.findings }));
      bytes = Buffer.from(replaceStrings(text, edits));
    }
    this.#call(prompt, target, headers, bytes);
  }

  #call(
    prompt: Prompt,
    target: Target,
    headers: Readonly<Record<string, string>>,
    body: Buffer | undefined,
  ): void {
    const upstream = this.#services.upstreams[this.#route.dialect];
    if (upstream === undefined) return this.#fail(problem("upstream_not_configured"));
    const forwarded = upstreamHeaders(headers);
    if (this.#trace !== undefined) forwarded.push("traceparent", this.#trace.traceparent);
    this.#calledMs = performance.now();
    const path = target.pathname + target.search;
    upstream.dispatch(
      { method: this.#route.method, path, headers: forwarded, body },
      this.#answerHandler(prompt),
    );
  }

  #answerHandler(prompt: Prompt): Dispatcher.DispatchHandler {
    let status = 0;
    let headers: Record<string, string> = {};
    let whole: { chunks: Buffer[]; bytes: number } | undefined;
    return {
      onRequestStart: (controller) => {
        this.#controller = controller;
        if (this.#concluded) controller.abort(new Error("client gone"));
      },
      onResponseStart: (controller, statusCode, rawHeaders) => {
        if (this.#concluded || statusCode < 200) return;
        this.#upstreamMs = performance.now() - this.#calledMs;
        status = statusCode;
        headers = clientHeaders(rawHeaders);
        const encoding = rawHeaders["content-encoding"];
        if (encoding !== undefined && encoding !== "identity")
          return this.#fail(problem("upstream_encoding"));
        const type = mediaType(rawHeaders["content-type"]);
        const streamed = type === "text/event-stream" && status < 300;
        if (streamed && !prompt.stream) return this.#fail(problem("upstream_content_type"));
        if (!streamed && status < 300 && type !== "application/json")
          return this.#fail(problem("upstream_content_type"));
        this.#answerHead(status, headers, streamed, controller, () => this.#openStream(status, headers));
        if (!streamed) whole = { chunks: [], bytes: 0 };
      },
      onResponseData: (controller, chunk) => {
        if (this.#concluded) return;
        if (whole === undefined) {
          this.#relay?.data(chunk, controller);
          return;
        }
        whole.bytes += chunk.length;
        if (whole.bytes > this.#services.limits.answerBytesMax)
          return this.#fail(problem("upstream_too_large"));
        whole.chunks.push(chunk);
      },
      onResponseEnd: () => {
        if (this.#concluded) return;
        if (whole === undefined) {
          this.#relay?.end();
          return;
        }
        const bytes = whole.chunks.length === 1 ? whole.chunks[0]! : Buffer.concat(whole.chunks, whole.bytes);
        this.#wholeAnswer(status, headers, bytes).catch(this.#crash);
      },
      onResponseError: (_controller, error) => {
        if (this.#concluded) return;
        const code = upstreamProblem(error, status > 0);
        this.#detail = error.message;
        if (this.#relay !== undefined) this.#relay.end(code);
        else this.#fail(problem(code, { detail: error.message }));
      },
    };
  }

  /** `onResponseHead` of the seats; a seat that takes its time pauses the upstream meanwhile. */
  #answerHead(
    status: number,
    headers: Readonly<Record<string, string>>,
    stream: boolean,
    controller: Dispatcher.DispatchController,
    open: () => void,
  ): void {
    const settle = (verdict: Verdict) => {
      if (this.#concluded) return;
      if (verdict.act === "block" || verdict.act === "throttle") return this.#fail(refusalOf(verdict));
      if (stream) open();
    };
    const outcome: Await<Verdict> = this.#passage.onResponseHead({ status, headers, stream });
    if (outcome instanceof Promise) {
      controller.pause();
      outcome.then((verdict) => {
        settle(verdict);
        if (!this.#concluded) controller.resume();
      }, this.#crash);
      return;
    }
    settle(outcome);
  }

  #openStream(status: number, headers: Readonly<Record<string, string>>): void {
    const { limits } = this.#services;
    this.#stream = this.#dialect.openAnswerStream(this.#route.operation);
    const relay = new StreamRelay({
      response: this.#response,
      eventBytesMax: limits.eventBytesMax,
      bytesMax: limits.answerBytesMax,
      onOutcome: (outcome) => this.#onStreamOutcome(outcome),
      onFirstByte: () => this.#markFirstByte(),
    });
    this.#holdBack = new HoldBack({
      judge: this.#passage,
      stream: this.#stream,
      redaction: this.#snapshot.redaction,
      heldUnitsMax: limits.holdBytesMax,
      unknownEvents: this.#snapshot.unknownEvents,
      emit: relay.emit,
    });
    relay.bind(this.#holdBack);
    this.#relay = relay;
    this.#response.writeHead(status, {
      ...headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-sallyport-request-id": this.#id,
    });
    this.#response.flushHeaders();
  }

  #onStreamOutcome(outcome: StreamOutcome): void {
    const stream = this.#stream!;
    switch (outcome.kind) {
      case "ended": {
        const cause: Cause = outcome.upstreamError === undefined ? "complete" : "upstream_error";
        if (outcome.upstreamError !== undefined) this.#detail = outcome.upstreamError;
        this.#letUpstreamClose();
        this.#conclude(cause, this.#lastEvents(outcome.tail));
        return;
      }
      case "blocked": {
        const events = stream.ending(outcome.unsent).map(encodeSse).join("");
        this.#conclude("answer_blocked", this.#lastEvents(events));
        this.#abortUpstream();
        return;
      }
      case "failed": {
        this.#conclude(outcome.code, this.#lastEvents(this.#failureEvents(problem(outcome.code))));
        this.#abortUpstream();
        return;
      }
      default:
        outcome satisfies never;
    }
  }

  async #wholeAnswer(status: number, headers: Record<string, string>, bytes: Buffer): Promise<void> {
    const text = decode(bytes);
    const parsed = text === undefined ? undefined : parse(text);
    if (text === undefined || parsed === undefined) {
      if (status < 300) return this.#fail(problem("upstream_body"));
      return this.#sendUpstreamError(status, headers);
    }
    const reading = this.#dialect.readAnswer(this.#route.operation, parsed);
    if (reading.usage !== undefined) this.#usage = reading.usage;
    if (!reading.modelled && this.#snapshot.unknownEvents === "cut" && status < 300) {
      return this.#fail(problem("upstream_event_unknown"));
    }
    const judged = await this.#judgeWhole(reading);
    if (this.#concluded) return;
    if (judged === "blocked") {
      const withheld = status < 300 ? reading.withheld() : undefined;
      if (withheld === undefined) return this.#fail(problem("answer_refused"));
      return this.#conclude("answer_blocked", lastWords(status, withheld, headers));
    }
    const cause: Cause = status < 300 ? "complete" : "upstream_error";
    if (judged !== undefined)
      return this.#conclude(cause, lastWords(status, reading.rewrite(judged), headers));
    // A short text joins the head in one write; a long one is not worth encoding again.
    const body = bytes.length <= JOINED_BYTES_MAX ? text : bytes;
    this.#conclude(cause, { status, headers, body, length: bytes.length });
  }

  /** Undefined: nothing to change. */
  #judgeWhole(reading: AnswerReading): Await<readonly string[] | "blocked" | undefined> {
    if (!this.#passage.judgesAnswers) return undefined;
    return withRedactions(reading.segments, this.#passage, this.#snapshot.redaction);
  }

  /** An error of the upstream that is not JSON keeps its status and gets a body in the client's dialect. */
  #sendUpstreamError(status: number, headers: Record<string, string>): void {
    const body = this.#errorBody(problem("upstream_error"), status);
    this.#conclude("upstream_error", lastWords(status, body, headers));
  }

  #send(last: LastWords): void {
    const { status, headers, body, length } = last;
    if (headers === undefined) {
      this.#response.end(body);
      return;
    }
    this.#response.writeHead(status, {
      ...headers,
      "content-type": "application/json",
      "content-length": length,
      "x-sallyport-request-id": this.#id,
    });
    this.#response.end(body);
  }

  /** The end of a stream whose head was sent. */
  #lastEvents(text: string): LastWords {
    return lastWords(this.#response.statusCode, text);
  }

  #markFirstByte(): void {
    this.#firstByteMs ??= performance.now() - this.#startedMs;
  }

  /** Ends the request with a coded problem: as an error answer, or as an error event once the head is out. */
  #fail(fault: Problem): void {
    if (this.#concluded) return;
    this.#detail ??= fault.detail;
    const last = this.#response.headersSent
      ? this.#lastEvents(this.#failureEvents(fault))
      : this.#problemAnswer(fault);
    this.#conclude(fault.code, last);
    // Only now: the upstream's own report of being cut off must not become the cause.
    this.#abortUpstream();
  }

  #problemAnswer(fault: Problem): LastWords {
    const { status } = PROBLEMS[fault.code];
    const headers: Record<string, string> = {};
    if (fault.retryAfterMs !== undefined) {
      headers["retry-after"] = String(Math.max(1, Math.ceil(fault.retryAfterMs / 1000)));
      headers["retry-after-ms"] = String(Math.ceil(fault.retryAfterMs));
    }
    // Node reads off a short unread body so that the connection serves on; a long one is not worth it.
    const { complete, headers: sent } = this.#request;
    if (!complete && !(Number(sent["content-length"]) <= UNREAD_BYTES_MAX)) headers["connection"] = "close";
    return lastWords(status, this.#errorBody(fault, status), headers);
  }

  #errorBody(fault: Problem, status: number): string {
    return this.#dialect.errorBody({ ...this.#publicly(fault), status });
  }

  #failureEvents(fault: Problem): string {
    const stream = this.#stream ?? this.#dialect.openAnswerStream(this.#route.operation);
    return stream.failure(this.#publicly(fault)).map(encodeSse).join("");
  }

  #publicly(fault: Problem) {
    const { status, text } = PROBLEMS[fault.code];
    const common = { code: fault.code, status, message: fault.message ?? text, requestId: this.#id };
    return fault.param === undefined ? common : { ...common, param: fault.param };
  }

  /** The one way out. The last words go once the decision is written; a client that has gone gets none. */
  #conclude(cause: Cause, last: LastWords | undefined): void {
    if (this.#concluded) return;
    this.#concluded = true;
    clearTimeout(this.#totalTimer);
    this.#relay?.stop();
    if (this.#holdBack !== undefined) this.#usage = this.#holdBack.usage;
    this.#bytesOut = (this.#relay?.bytesOut ?? 0) + (last?.length ?? 0);
    const ended = this.#passage.onEnd({ cause, usage: this.#usage });
    if (ended === undefined) this.#record(cause, last);
    else ended.then(() => this.#record(cause, last), this.#crash);
  }

  #record(cause: Cause, last: LastWords | undefined): void {
    if (last !== undefined && last.length > 0) this.#markFirstByte();
    const { headersSent, statusCode } = this.#response;
    const status = last?.status ?? (headersSent ? statusCode : 0);
    const decision = this.#decision(cause, status);
    this.#response.off("close", this.#onClose);
    this.#services.record(decision, () => {
      if (last !== undefined) this.#send(last);
      this.#observe(decision);
      this.#services.unpin(this.#snapshot);
    });
  }

  #observe(decision: Decision): void {
    const stream = this.#holdBack;
    this.#services.observer.ended(
      decision,
      {
        seatTimings: this.#trace === undefined ? [] : this.#passage.timings(),
        startedMs: this.#startedMs,
        ...(stream !== undefined && {
          stream: { events: stream.events, heldUnitsPeak: stream.heldUnitsPeak, lateSpans: stream.lateSpans },
        }),
        ...(this.#detail !== undefined && { detail: this.#detail }),
      },
      this.#trace,
    );
  }

  #decision(cause: Cause, status: number): Decision {
    return decisionOf(this.#passage, {
      at: this.#at,
      scanned: true,
      status,
      cause,
      usage: this.#usage,
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      startedMs: this.#startedMs,
      firstByteMs: this.#firstByteMs,
      upstreamMs: this.#upstreamMs,
      upstreamCalled: this.#calledMs > 0,
      traceId: this.#trace?.traceId,
    });
  }

  #abortUpstream(): void {
    const controller = this.#controller;
    if (controller !== undefined && !controller.aborted) controller.abort(new Error("exchange ended"));
  }

  /** The answer is over for the client; the connection may be used again if the upstream closes it in order. */
  #letUpstreamClose(): void {
    const timer = setTimeout(() => this.#abortUpstream(), AFTER_END_MS);
    timer.unref();
  }

  readonly #onTotalTimeout = (): void => {
    this.#fail(problem("upstream_total_timeout"));
  };

  readonly #onClose = (): void => {
    if (this.#concluded) return;
    this.#conclude("client_gone", undefined);
    this.#abortUpstream();
  };

  readonly #crash = (error: unknown): void => {
    this.#detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#fail(problem("internal"));
  };
}

function notFound(found: "none" | "method" | "query", method: string, pathname: string): Problem {
  const path = pathname.length > 200 ? `${pathname.slice(0, 200)}...` : pathname;
  if (found === "query") return problem("query_invalid");
  if (found === "method")
    return problem("method_not_allowed", { message: `${path} does not take ${method}.` });
  return problem("route_unknown", { message: `Unknown route: ${method} ${path}` });
}

function mediaType(value: string | string[] | undefined): string {
  if (typeof value !== "string") return "";
  const semicolon = value.indexOf(";");
  return (semicolon < 0 ? value : value.slice(0, semicolon)).trim().toLowerCase();
}

function isJson(contentType: string | undefined): boolean {
  return mediaType(contentType) === "application/json";
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decode(bytes: Buffer): string | undefined {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
}

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
