/**
 * One request from its head to its decision: route, seats, body, prompt, upstream, answer, record. Every
 * way out leads through `#conclude`, once: it tells the watches, writes the decision, and only then lets
 * the last bytes go. ARCHITECTURE.md draws this as the life of a request.
 */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Dispatcher } from "undici";
import type { AnswerReading, AnswerStream, Dialect, Json } from "../dialect/dialect.ts";
import {
  type Await,
  type Cause,
  type Delta,
  PROBLEMS,
  type Problem,
  type ProblemCode,
  type Prompt,
  problem,
  type Usage,
  type Verdict,
} from "../layer/index.ts";
import { ContentDraft } from "../ledger/content-draft.ts";
import type { Decision } from "../ledger/decision.ts";
import { type ChunkJudge, HoldBack } from "../pipeline/hold-back.ts";
import { type ChunkOutcome, Passage } from "../pipeline/passage.ts";
import { type Blocked, redactPrompt, withRedactions } from "../pipeline/whole-text.ts";
import type { Snapshot } from "../policy/snapshot.ts";
import { admitJson, replaceStrings } from "../wire/json-admission.ts";
import { readAnswerJson } from "../wire/json-answer.ts";
import { type AnswerHead, AnswerIntake, mediaType } from "./answer-intake.ts";
import { readBody } from "./body.ts";
import { decisionOf } from "./decide.ts";
import { addWithoutQuotas, credentialOf, readHeaders, upstreamHeaders } from "./headers.ts";
import { quotaHeaders } from "./quota-headers.ts";
import { refusalOf } from "./refusal.ts";
import { type LastWords, Reply } from "./reply.ts";
import { matchRoute, type RouteKind, type Target } from "./routes.ts";
import type { Member } from "./running.ts";
import type { Services, Trace } from "./services.ts";
import { type StreamOutcome, StreamRelay } from "./stream-relay.ts";

const NO_ROUTE: RouteKind = {
  id: "none",
  dialect: "openai",
  operation: "pass_through",
  method: "GET",
  path: "",
};
/** The upstream's headers as a channel of the answer. */
const HEADERS: Omit<Delta, "text"> = {
  channel: "other:headers",
  kind: "other",
  choice: 0,
  start: 0,
  final: true,
};
const NUMBER = /^[\d.]*$/;
const NO_HEADERS: Readonly<Record<string, string>> = {};
/** How long an upstream may take to close its answer after its last event, before it is cut off. */
const AFTER_END_MS = 1_000;
/** A short text joins the head of an answer in one write; a longer one is not worth encoding again. */
const JOINED_BYTES_MAX = 16_384;

export class Exchange implements Member {
  slot = -1;
  readonly #services: Services;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #id = `req_${randomUUID().replaceAll("-", "")}`;
  readonly #startedMs = performance.now();
  readonly #at = new Date().toISOString();
  readonly #address: string;
  #route: RouteKind = NO_ROUTE;
  readonly #reply: Reply;
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
  /** The caller's own key for the upstream, where the policy lets callers bring one. */
  #ownKey: string | undefined;
  /** Set where this request's content is recorded. */
  #draft: ContentDraft | undefined;

  constructor(services: Services, request: IncomingMessage, response: ServerResponse) {
    this.#services = services;
    this.#request = request;
    this.#response = response;
    this.#address = request.socket.remoteAddress ?? "";
    this.#snapshot = services.pin();
    this.#reply = new Reply(services.dialects.openai, {
      id: this.#id,
      request,
      response,
      idleMs: services.timeouts.idleMs,
    });
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

  isOn(socket: Duplex): boolean {
    return this.#request.socket === socket;
  }

  /** The request's body turned out malformed on the wire: an answer says so, unless one is under way. */
  cutBody(): void {
    if (this.#response.headersSent) {
      this.#request.socket.destroy();
      return;
    }
    this.#response.shouldKeepAlive = false;
    this.#fail(problem("body_incomplete"));
  }

  get #dialect(): Dialect {
    return this.#services.dialects[this.#route.dialect];
  }

  /** Made when it is first needed: by then the route is known, or the request has none. */
  get #passage(): Passage {
    if (this.#opened === undefined) {
      const { id, dialect, operation } = this.#route;
      const facts = { id: this.#id, route: id, dialect, operation, address: this.#address };
      const { cache, switchedOff } = this.#services;
      this.#opened = new Passage(this.#snapshot, facts, cache, switchedOff(this.#snapshot));
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
      this.#reply.dialect = this.#services.dialects[match.dialect];
      return this.#fail(notFound(match.found, method, match.pathname));
    }
    const { route, target } = match;
    this.#reply.dialect = this.#services.dialects[route.dialect];
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
    if (this.#passage.identity?.proof === "own_key") this.#ownKey = credential;
    if (verdict.act === "block" || verdict.act === "throttle") return this.#fail(refusalOf(verdict));
    this.#draft = this.#draftOf(method, target, headers);
    await this.#readPrompt(route, target, headers);
  }

  #draftOf(
    method: string,
    { pathname, search }: Target,
    headers: Readonly<Record<string, string>>,
  ): ContentDraft | undefined {
    const { content } = this.#services;
    const org = this.#passage.identity?.org ?? "";
    if (content?.wants(org) !== true) return undefined;
    return new ContentDraft(content, {
      id: this.#id,
      at: this.#at,
      org,
      method,
      url: pathname + search,
      headers,
    });
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
      this.#draft?.body(read.bytes);
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
    // An embedding tells nobody what its tokens said; a completion follows them.
    if (
      route.operation === "completions" &&
      (prompt.inputTokenIds ?? 0) > 0 &&
      judgesPrompts(this.#snapshot)
    ) {
      const message = "Token ids cannot be judged; send the prompt as text.";
      return this.#fail(problem("field_unknown", { param: "/prompt", message }));
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
    const call = { method: this.#route.method, path, headers: forwarded, body };
    const { identity, standing } = this.#passage;
    const { model, stream } = prompt;
    const caller = { tier: standing.tier, org: identity?.org ?? "", ownKey: this.#ownKey, model, stream };
    const refused = upstream.dispatch(call, this.#intake(prompt), caller);
    if (refused === undefined) return;
    // Nobody was asked: what the request had reserved is given back whole.
    this.#calledMs = 0;
    this.#fail(problem(refused.code, { retryAfterMs: refused.retryAfterMs }));
  }

  #intake(prompt: Prompt): AnswerIntake {
    return new AnswerIntake({
      streamWanted: prompt.stream,
      answerBytesMax: this.#services.limits.answerBytesMax,
      onStart: (controller) => {
        this.#controller = controller;
        if (this.#concluded) this.#abortUpstream();
      },
      onHead: (head) => this.#judgeHead(head),
      onStreamData: (chunk, valve) => this.#relay?.data(chunk, valve),
      onStreamEnd: (failure) => this.#relay?.end(failure),
      onWhole: ({ status, headers }, bytes) => {
        this.#wholeAnswer(status, headers, bytes).catch(this.#crash);
      },
      onFault: (code, detail) => this.#fail(problem(code, detail === undefined ? {} : { detail })),
    });
  }

  /** `onResponseHead` of the seats. */
  #judgeHead(head: AnswerHead): Await<boolean> {
    if (this.#concluded) return false;
    this.#upstreamMs = performance.now() - this.#calledMs;
    const settle = (verdict: Verdict): boolean => {
      if (this.#concluded) return false;
      if (verdict.act === "block" || verdict.act === "throttle") {
        this.#fail(refusalOf(verdict));
        return false;
      }
      if (head.stream) this.#openStream(head.status, head.headers);
      return true;
    };
    const outcome = this.#passage.onResponseHead(head);
    const headers = this.#judgeHeaders(head.headers);
    if (!(outcome instanceof Promise) && headers === undefined) return settle(outcome);
    const both = Promise.all([outcome, headers]).then(([verdict]) => settle(verdict));
    return both.catch((error: unknown) => {
      this.#crash(error);
      return false;
    });
  }

  /** Headers are text too: where a seat would cut something from them, none of them leaves. */
  #judgeHeaders(headers: Record<string, string>): Promise<void> | undefined {
    if (!this.#passage.judgesAnswers) return undefined;
    const names = Object.keys(headers).filter((name) => !NUMBER.test(headers[name]!));
    if (names.length === 0) return undefined;
    const drop = ({ verdict: { act } }: ChunkOutcome) => {
      if (act !== "allow" && act !== "flag") for (const name of names) delete headers[name];
    };
    const text = names.map((name) => headers[name]).join("\n");
    const outcome = this.#passage.onChunk({ ...HEADERS, text });
    if (outcome instanceof Promise) return outcome.then(drop);
    drop(outcome);
    return undefined;
  }

  #openStream(status: number, headers: Readonly<Record<string, string>>): void {
    const { limits } = this.#services;
    this.#stream = this.#dialect.openAnswerStream(this.#route.operation);
    const relay = new StreamRelay({
      response: this.#response,
      eventBytesMax: limits.eventBytesMax,
      bytesMax: limits.answerBytesMax,
      depthMax: limits.bodyDepthMax,
      account: this.#services.held.open(),
      onOutcome: (outcome) => this.#onStreamOutcome(outcome),
      onFirstByte: () => this.#markFirstByte(),
    });
    this.#holdBack = new HoldBack({
      judge: this.#judge(),
      stream: this.#stream,
      redaction: this.#snapshot.redaction,
      heldUnitsMax: limits.holdBytesMax,
      unknownEvents: this.#snapshot.unknownEvents,
      emit: relay.emit,
    });
    relay.bind(this.#holdBack);
    this.#relay = relay;
    this.#reply.beginStream(status, this.#withQuotas(headers), () => relay.bytesOut > 0);
  }

  /** The seats, and before them whoever keeps the answer's text as it came. */
  #judge(): ChunkJudge {
    const draft = this.#draft;
    const passage = this.#passage;
    if (draft === undefined) return passage;
    return {
      gathers: passage.gathers,
      onChunk(delta) {
        draft.text(delta);
        return passage.onChunk(delta);
      },
    };
  }

  #onStreamOutcome(outcome: StreamOutcome): void {
    const stream = this.#stream!;
    switch (outcome.kind) {
      case "ended": {
        const cause: Cause = outcome.upstreamError === undefined ? "complete" : "upstream_error";
        if (outcome.upstreamError !== undefined) this.#detail = outcome.upstreamError;
        this.#letUpstreamClose();
        this.#conclude(cause, this.#reply.tail(outcome.tail));
        return;
      }
      case "blocked": {
        const isCut = refusalOf(outcome.verdict).code === "answer_cut";
        const words = this.#wordsOn(outcome.verdict);
        if (!isCut && this.#snapshot.answerBlocked === "fail")
          return this.#fail(problem("answer_refused", { message: words }));
        const ending = stream.ending(outcome.unsent, isCut ? "length" : "filter", words);
        this.#conclude(isCut ? "answer_cut" : "answer_blocked", this.#reply.tailOf(ending));
        this.#abortUpstream();
        return;
      }
      case "full": {
        if (this.#snapshot.holdFull !== "end") return this.#fail(problem(outcome.code));
        this.#conclude(outcome.code, this.#reply.tailOf(stream.ending(outcome.unsent, "length")));
        this.#abortUpstream();
        return;
      }
      case "failed": {
        this.#fail(problem(outcome.code));
        return;
      }
      default:
        outcome satisfies never;
    }
  }

  async #wholeAnswer(status: number, headers: Record<string, string>, bytes: Buffer): Promise<void> {
    if (this.#concluded) return;
    const decoded = decode(bytes);
    const read =
      decoded === undefined ? "not_json" : readAnswerJson(decoded, this.#services.limits.bodyDepthMax);
    if (typeof read === "string") {
      if (status < 300) return this.#fail(problem("upstream_body", { detail: read }));
      return this.#conclude("upstream_error", this.#reply.upstreamError(status, this.#withQuotas(headers)));
    }
    const { value, text } = read;
    const reading = this.#dialect.readAnswer(this.#route.operation, value);
    if (reading.usage !== undefined) this.#usage = reading.usage;
    if (this.#draft !== undefined) for (const segment of reading.segments) this.#draft.text(segment);
    if (!reading.modelled && this.#snapshot.unknownEvents === "cut" && status < 300) {
      return this.#fail(problem("upstream_event_unknown"));
    }
    const judged = await this.#judgeWhole(reading);
    if (this.#concluded) return;
    if (judged !== undefined && "blocked" in judged) {
      const words = this.#wordsOn(judged.blocked);
      const isEnded = status < 300 && this.#snapshot.answerBlocked !== "fail";
      const withheld = isEnded ? reading.withheld(words) : undefined;
      if (withheld === undefined) return this.#fail(problem("answer_refused", { message: words }));
      return this.#conclude("answer_blocked", this.#reply.whole(status, withheld, this.#withQuotas(headers)));
    }
    const cause: Cause = status < 300 ? "complete" : "upstream_error";
    const isShort = text !== decoded || bytes.length <= JOINED_BYTES_MAX;
    const body = judged === undefined ? (isShort ? text : bytes) : reading.rewrite(judged);
    this.#conclude(cause, this.#reply.whole(status, body, this.#withQuotas(headers)));
  }

  /** Undefined: nothing to change. */
  #judgeWhole(reading: AnswerReading): Await<readonly string[] | Blocked | undefined> {
    if (!this.#passage.judgesAnswers) return undefined;
    return withRedactions(reading.segments, this.#passage, this.#snapshot.redaction);
  }

  /** Why an answer is withheld, as its reader may know it, and what to quote when asking about it. */
  #wordsOn(verdict: Verdict): string {
    const { code, message = PROBLEMS[code].text } = refusalOf(verdict);
    return `${message} Reference: ${this.#id}.`;
  }

  /** Our own limits in the answer's headers; then the upstream's, which are not the caller's, stay behind. */
  #withQuotas(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
    const quotas = this.#opened?.quotas();
    if (quotas === undefined || quotas.length === 0) return headers;
    const ours = quotaHeaders(quotas, this.#dialect);
    addWithoutQuotas(ours, headers);
    return ours;
  }

  #markFirstByte(): void {
    this.#firstByteMs ??= performance.now() - this.#startedMs;
  }

  /** Ends the request with a coded problem: as an error answer, or as an error event once the head is out. */
  #fail(fault: Problem): void {
    if (this.#concluded) return;
    this.#detail ??= fault.detail;
    const openStream = () => this.#dialect.openAnswerStream(this.#route.operation);
    this.#conclude(
      fault.code,
      this.#reply.problem(fault, () => this.#stream ?? openStream(), this.#withQuotas(NO_HEADERS)),
    );
    // Only now: the upstream's own report of being cut off must not become the cause.
    this.#abortUpstream();
  }

  /** The one way out. The last words go once the decision is written; a client that has gone gets none. */
  #conclude(cause: Cause, last: LastWords | undefined): void {
    if (this.#concluded) return;
    this.#concluded = true;
    clearTimeout(this.#totalTimer);
    this.#relay?.stop();
    if (this.#holdBack !== undefined) this.#usage = this.#holdBack.usage;
    this.#bytesOut = (this.#relay?.bytesOut ?? 0) + (last?.length ?? 0);
    const ended = this.#passage.onEnd({
      cause,
      usage: this.#usage,
      upstreamCalled: this.#calledMs > 0,
    });
    if (ended === undefined) this.#record(cause, last);
    else {
      const record = () => this.#record(cause, last);
      ended.then(record, record);
    }
  }

  #record(cause: Cause, last: LastWords | undefined): void {
    if (last !== undefined && last.length > 0) this.#markFirstByte();
    const { headersSent, statusCode } = this.#response;
    const status = last?.status ?? (headersSent ? statusCode : 0);
    const decision = this.#decision(cause, status);
    this.#response.off("close", this.#onClose);
    this.#draft?.keep({
      endUser: decision.endUser,
      answerStatus: this.#upstreamMs === null ? null : status,
      isWhole: cause === "complete" || cause === "upstream_error",
    });
    this.#services.record(decision, () => {
      if (last !== undefined) this.#reply.send(last);
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

function judgesPrompts({ seats }: Snapshot): boolean {
  return seats.some(({ phases }) => phases.includes("onLeaf") || phases.includes("onPrompt"));
}

function notFound(found: "none" | "method" | "query", method: string, pathname: string): Problem {
  const path = pathname.length > 200 ? `${pathname.slice(0, 200)}...` : pathname;
  if (found === "query") return problem("query_invalid");
  if (found === "method")
    return problem("method_not_allowed", { message: `${path} does not take ${method}.` });
  return problem("route_unknown", { message: `Unknown route: ${method} ${path}` });
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
