/**
 * What is carried byte for byte after `onRequest`: WebSocket sessions (`/v1/realtime`) and the routes that
 * the policy lists as pass-through. Nothing in them is scanned, and their decision says so. The transport
 * is http-proxy-3; identity, limits, credentials, headers and the record are ours.
 */
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { createProxyServer } from "http-proxy-3";
import {
  type Cause,
  type DialectName,
  type Operation,
  PROBLEMS,
  type Problem,
  problem,
} from "../layer/index.ts";
import { Passage } from "../pipeline/passage.ts";
import type { Snapshot } from "../policy/snapshot.ts";
import { decisionOf } from "./decide.ts";
import { clientHeaders, credentialOf, readHeaders, upstreamHeaders } from "./headers.ts";
import { refusalOf } from "./refusal.ts";
import { matchRoute } from "./routes.ts";
import type { Services } from "./services.ts";
import { upstreamProblem } from "./upstream.ts";

/** WebSocket's own handshake, which the upstream must see. */
const HANDSHAKE = [
  "upgrade",
  "connection",
  "sec-websocket-key",
  "sec-websocket-version",
  "sec-websocket-extensions",
  "origin",
];
/** A browser carries its key here ("openai-insecure-api-key.KEY"): it is a credential and stays behind. */
const PROTOCOL_KEY = /^openai-insecure-api-key\.(.+)$/;

/** Answer headers of a pass-through route that its reader needs, besides those of any answer. */
const FILE_HEADERS = new Set([
  "content-type",
  "content-length",
  "transfer-encoding",
  "content-disposition",
  "content-range",
  "accept-ranges",
  "cache-control",
  "etag",
  "last-modified",
]);
const UPGRADE_HEADERS = new Set([
  "upgrade",
  "connection",
  "sec-websocket-accept",
  "sec-websocket-protocol",
  "sec-websocket-extensions",
]);
/** What a WebSocket client may send before its handshake is answered. */
const EARLY_BYTES_MAX = 65_536;
const BODILESS = new Set(["GET", "HEAD", "DELETE", "OPTIONS"]);

/** One carried request from its admission to its one decision. */
interface Carried {
  readonly passage: Passage;
  readonly snapshot: Snapshot;
  readonly at: string;
  readonly startedMs: number;
  headers: Readonly<Record<string, string>>;
  /** Kept for callers with their own key for the upstream alone; never recorded. */
  credential: string | undefined;
  upstreamCalled: boolean;
  /** Status of the upstream's head; 0 before it came. */
  status: number;
  isOver: boolean;
}

export class Proxied {
  readonly #services: Services;
  readonly #proxy;
  /** What the proxy's events speak of, by the client's request. */
  readonly #sessions = new WeakMap<IncomingMessage, Carried>();

  constructor(services: Services, options: { readonly idleMs: number }) {
    this.#services = services;
    this.#proxy = createProxyServer({
      changeOrigin: true,
      xfwd: false,
      proxyTimeout: options.idleMs,
      ws: true,
    });
    // Each call passes its own error callback; this one only keeps a late error from being unhandled.
    this.#proxy.on("error", () => {});
    this.#proxy.on("proxyRes", (answer, request) => {
      const session = this.#sessions.get(request);
      if (session !== undefined) session.status = answer.statusCode ?? 0;
      keepHeaders(answer, FILE_HEADERS);
    });
    this.#proxy.on("proxyReqWs", (call, request, socket) => {
      const session = this.#sessions.get(request);
      const note = (answer: IncomingMessage, kept: ReadonlySet<string>) => {
        if (session !== undefined) session.status = answer.statusCode ?? 0;
        keepHeaders(answer, kept);
      };
      call.once("upgrade", (answer) => note(answer, UPGRADE_HEADERS));
      call.once("response", (answer) => note(answer, FILE_HEADERS));
      // The proxy looks after the pair once it is joined; until then a client that leaves must be noticed here.
      socket.once("close", () => call.destroy());
    });
  }

  /** True when the request is one of the policy's pass-through routes; the caller must not touch it then. */
  takes(request: IncomingMessage): boolean {
    return passThroughOf(this.#services.current(), request) !== undefined;
  }

  async carry(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const dialect = passThroughOf(this.#services.current(), request)?.upstream ?? "openai";
    const session = this.#open(request, dialect, "pass_through", "pass_through");
    response.once("close", () => {
      const cause: Cause = response.writableFinished ? "complete" : "client_gone";
      this.#conclude(session, cause, response.headersSent ? response.statusCode : 0);
    });
    const refuse = (fault: Problem) => {
      const { status, text } = PROBLEMS[fault.code];
      this.#conclude(session, fault.code, status);
      const { id } = session.passage;
      const message = fault.message ?? text;
      const body = this.#services.dialects[dialect].errorBody({
        code: fault.code,
        status,
        message,
        requestId: id,
      });
      response.writeHead(status, { "content-type": "application/json", connection: "close" }).end(body);
    };
    const fault = await this.#admit(request, session, bodyFault(request));
    if (session.isOver) return;
    if (fault !== undefined) return refuse(fault);
    const upstream = this.#services.upstreams[dialect];
    if (upstream === undefined) return refuse(problem("upstream_not_configured"));
    const { base, headers } = upstream.direct(callerOf(session));
    const kept = forwardable(session.headers, [
      "content-type",
      "content-length",
      "transfer-encoding",
      "range",
    ]);
    replaceHeaders(request, { ...kept, "accept-encoding": "identity" });
    session.upstreamCalled = true;
    this.#proxy.web(request, response, { target: base, headers: { ...headers } }, (error) => {
      if (session.isOver) return;
      if (!response.headersSent) return refuse(problem(upstreamProblem(error, false)));
      this.#conclude(session, "upstream_truncated", response.statusCode);
      // Ended in order, the next answer on this connection would be read as the rest of this one.
      response.destroy();
    });
  }

  /** A WebSocket upgrade on a route that the policy serves. */
  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const match = matchRoute(request.method ?? "", request.url ?? "", false);
    const isServed =
      match.found === "route" &&
      match.route.operation === "realtime" &&
      this.#services.current().routes.has(match.route.id);
    const session = isServed
      ? this.#open(request, "openai", "realtime", match.route.id)
      : this.#open(request, "openai", "pass_through", "none");
    socket.on("error", () => socket.destroy());
    socket.once("close", () => {
      const cause: Cause =
        session.status === 101 ? "complete" : session.status === 0 ? "client_gone" : "upstream_error";
      this.#conclude(session, cause, session.status);
    });
    const refuse = (fault: Problem) => {
      this.#conclude(session, fault.code, PROBLEMS[fault.code].status);
      refuseSocket(socket, fault);
    };
    // A socket that nobody reads does not tell when the other side has left.
    const early = readAhead(socket);
    const fault = await this.#admit(request, session, isServed ? undefined : problem("route_unknown"));
    const first = Buffer.concat([head, ...early()]);
    if (session.isOver) return;
    if (fault !== undefined || match.found !== "route") return refuse(fault ?? problem("route_unknown"));
    const upstream = this.#services.upstreams.openai;
    if (upstream === undefined) return refuse(problem("upstream_not_configured"));
    const { base, headers } = upstream.direct(callerOf(session));
    const kept = forwardable(session.headers, HANDSHAKE);
    const protocols = (session.headers["sec-websocket-protocol"] ?? "")
      .split(",")
      .map((protocol) => protocol.trim())
      .filter((protocol) => protocol !== "" && !PROTOCOL_KEY.test(protocol));
    if (protocols.length > 0) kept["sec-websocket-protocol"] = protocols.join(", ");
    replaceHeaders(request, kept);
    request.url = match.target.pathname + match.target.search;
    session.upstreamCalled = true;
    this.#proxy.ws(request, socket as never, first, { target: base, headers: { ...headers } }, (error) => {
      if (session.isOver) return;
      if (session.status === 0) return refuse(problem(upstreamProblem(error, false)));
      // The handshake is over: words of HTTP would be read as frames.
      this.#conclude(session, "upstream_truncated", session.status);
      socket.destroy();
    });
  }

  close(): void {
    this.#proxy.close();
  }

  #open(request: IncomingMessage, dialect: DialectName, operation: Operation, route: string): Carried {
    const snapshot = this.#services.pin();
    const address = request.socket.remoteAddress ?? "";
    const id = `req_${randomUUID().replaceAll("-", "")}`;
    const { cache, switchedOff } = this.#services;
    const facts = { id, dialect, operation, route, address };
    const passage = new Passage(snapshot, facts, cache, switchedOff(snapshot));
    const session: Carried = {
      passage,
      snapshot,
      at: new Date().toISOString(),
      startedMs: performance.now(),
      headers: {},
      credential: undefined,
      upstreamCalled: false,
      status: 0,
      isOver: false,
    };
    this.#sessions.set(request, session);
    return session;
  }

  /** What keeps the request from being carried, if anything does; `known` is what was plain from its head. */
  async #admit(
    request: IncomingMessage,
    session: Carried,
    known: Problem | undefined,
  ): Promise<Problem | undefined> {
    const read = readHeaders(request.rawHeaders);
    if (!read.ok) return read.problem;
    if (known !== undefined) return known;
    if (!this.#services.recording()) return problem("spool_unavailable");
    session.headers = read.headers;
    const credential = credentialOf(read.headers) ?? protocolKey(read.headers);
    if (typeof credential === "object") return credential;
    session.credential = credential;
    const path = (request.url ?? "").split("?", 1)[0]!;
    const { address } = session.passage;
    const facts = { method: request.method ?? "", path, headers: read.headers, address };
    const verdict = await session.passage.onRequest(
      credential === undefined ? facts : { ...facts, credential },
    );
    return verdict.act === "block" || verdict.act === "throttle" ? refusalOf(verdict) : undefined;
  }

  async #conclude(session: Carried, cause: Cause, status: number): Promise<void> {
    if (session.isOver) return;
    session.isOver = true;
    const { passage, snapshot, at, startedMs, upstreamCalled } = session;
    await passage.onEnd({ cause, usage: {}, upstreamCalled });
    const decision = decisionOf(passage, {
      at,
      startedMs,
      status,
      cause,
      upstreamCalled,
      scanned: false,
      usage: {},
      bytesIn: 0,
      bytesOut: 0,
      firstByteMs: null,
      upstreamMs: null,
      traceId: undefined,
    });
    this.#services.record(decision, () => {
      this.#services.observer.ended(decision, { seatTimings: [], startedMs }, undefined);
      this.#services.unpin(snapshot);
    });
  }
}

/** On whose account a carried request goes upstream. */
function callerOf({ passage: { identity }, credential }: Carried): {
  org: string;
  ownKey: string | undefined;
} {
  return { org: identity?.org ?? "", ownKey: identity?.proof === "own_key" ? credential : undefined };
}

/**
 * A body where none belongs: the proxy would forward it without its framing, and the upstream would read it
 * as the next request.
 */
function bodyFault(request: IncomingMessage): Problem | undefined {
  const { method = "", headers } = request;
  if (!BODILESS.has(method)) return undefined;
  const hasBody = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
  return hasBody ? problem("body_unexpected", { message: `${method} takes no body here.` }) : undefined;
}

/** Reads a socket until the returned function is called, which gives back what came; too much or an end closes it. */
function readAhead(socket: Duplex): () => Buffer[] {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const onData = (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > EARLY_BYTES_MAX) socket.destroy();
  };
  const onEnd = () => socket.destroy();
  socket.on("data", onData).on("end", onEnd);
  return () => {
    socket.off("data", onData).off("end", onEnd);
    socket.pause();
    return chunks;
  };
}

function keepHeaders(answer: IncomingMessage, more: ReadonlySet<string>): void {
  const allowed = clientHeaders(answer.headers);
  for (const name of Object.keys(answer.headers)) {
    if (!(name in allowed) && !more.has(name)) delete answer.headers[name];
  }
}

/** Exact paths, or a prefix written with a trailing "/*"; dots and empty segments never match a prefix. */
function passThroughOf(snapshot: Snapshot, request: IncomingMessage) {
  if (snapshot.passThrough.length === 0) return undefined;
  const path = (request.url ?? "").split("?", 1)[0]!;
  return snapshot.passThrough.find(({ path: listed, methods }) => {
    if (!methods.includes(request.method ?? "")) return false;
    if (!listed.endsWith("/*")) return path === listed;
    return path.startsWith(listed.slice(0, -1)) && !/\/\.{0,2}(\/|$)|%|\\/.test(path);
  });
}

function forwardable(
  headers: Readonly<Record<string, string>>,
  more: readonly string[],
): Record<string, string> {
  const kept: Record<string, string> = {};
  const flat = upstreamHeaders(headers);
  for (let i = 0; i < flat.length; i += 2) kept[flat[i]!] = flat[i + 1]!;
  for (const name of more) {
    const value = headers[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}

/** http-proxy sends what it finds on the request. */
function replaceHeaders(request: IncomingMessage, headers: Readonly<Record<string, string>>): void {
  request.headers = { ...headers };
  request.rawHeaders = Object.entries(headers).flat();
}

function protocolKey(headers: Readonly<Record<string, string>>): string | undefined {
  for (const protocol of (headers["sec-websocket-protocol"] ?? "").split(",")) {
    const key = PROTOCOL_KEY.exec(protocol.trim())?.[1];
    if (key !== undefined) return key;
  }
  return undefined;
}

function refuseSocket(socket: Duplex, fault: Problem): void {
  if (socket.destroyed) return;
  const { status, text } = PROBLEMS[fault.code];
  const body = JSON.stringify({ error: { message: fault.message ?? text, type: "error", code: fault.code } });
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
