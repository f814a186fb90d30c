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
import { credentialOf, readHeaders, upstreamHeaders } from "./headers.ts";
import { refusalOf } from "./refusal.ts";
import { matchRoute } from "./routes.ts";
import type { Services } from "./services.ts";

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

interface Admitted {
  readonly passage: Passage;
  readonly snapshot: Snapshot;
  readonly headers: Readonly<Record<string, string>>;
  readonly at: string;
  readonly startedMs: number;
}

export class Proxied {
  readonly #services: Services;
  readonly #proxy;

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
  }

  /** True when the request is one of the policy's pass-through routes; the caller must not touch it then. */
  takes(request: IncomingMessage): boolean {
    return passThroughOf(this.#services.current(), request) !== undefined;
  }

  async carry(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const snapshot = this.#services.pin();
    const listed = passThroughOf(snapshot, request);
    const dialect = listed?.upstream ?? "openai";
    const admitted = await this.#admit(
      request,
      snapshot,
      dialect,
      "pass_through",
      "pass_through",
      (fault) => {
        const { status, text } = PROBLEMS[fault.code];
        const body = this.#services.dialects[dialect].errorBody({
          code: fault.code,
          status,
          message: fault.message ?? text,
          requestId: "",
        });
        response.writeHead(status, { "content-type": "application/json", connection: "close" }).end(body);
      },
    );
    if (admitted === undefined) return;
    const upstream = this.#services.upstreams[dialect];
    if (upstream === undefined) {
      this.#conclude(admitted, "upstream_not_configured", 503, false);
      response.writeHead(503, { connection: "close" }).end();
      return;
    }
    const { base, headers } = upstream.direct;
    const kept = forwardable(admitted.headers, [
      "content-type",
      "content-length",
      "transfer-encoding",
      "range",
    ]);
    replaceHeaders(request, { ...kept, "accept-encoding": "identity" });
    let cause: Cause = "complete";
    response.once("close", () => {
      if (!response.writableFinished && cause === "complete") cause = "client_gone";
      this.#conclude(admitted, cause, response.headersSent ? response.statusCode : 0, true);
    });
    this.#proxy.web(request, response, { target: base, headers: { ...headers } }, () => {
      cause = "upstream_connect";
      if (!response.headersSent) response.writeHead(502, { connection: "close" });
      response.end();
    });
  }

  /** A WebSocket upgrade on a route that the policy serves. */
  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => socket.destroy());
    const snapshot = this.#services.pin();
    const match = matchRoute(request.method ?? "", request.url ?? "", false);
    const served =
      match.found === "route" && match.route.operation === "realtime" && snapshot.routes.has(match.route.id);
    const admitted = await this.#admit(
      request,
      snapshot,
      "openai",
      served ? "realtime" : "pass_through",
      served ? "openai.realtime" : "none",
      (fault) => refuseSocket(socket, fault),
      served ? undefined : problem("route_unknown"),
    );
    if (admitted === undefined || match.found !== "route") return;
    const upstream = this.#services.upstreams.openai;
    if (upstream === undefined) {
      refuseSocket(socket, problem("upstream_not_configured"));
      this.#conclude(admitted, "upstream_not_configured", 503, false);
      return;
    }
    const { base, headers } = upstream.direct;
    const kept = forwardable(admitted.headers, HANDSHAKE);
    const protocols = (admitted.headers["sec-websocket-protocol"] ?? "")
      .split(",")
      .map((protocol) => protocol.trim())
      .filter((protocol) => protocol !== "" && !PROTOCOL_KEY.test(protocol));
    if (protocols.length > 0) kept["sec-websocket-protocol"] = protocols.join(", ");
    replaceHeaders(request, kept);
    request.url = match.target.pathname + match.target.search;
    let cause: Cause = "complete";
    socket.once("close", () => this.#conclude(admitted, cause, cause === "complete" ? 101 : 502, true));
    this.#proxy.ws(request, socket as never, head, { target: base, headers: { ...headers } }, () => {
      cause = "upstream_connect";
      refuseSocket(socket, problem("upstream_connect"));
    });
  }

  close(): void {
    this.#proxy.close();
  }

  async #admit(
    request: IncomingMessage,
    snapshot: Snapshot,
    dialect: DialectName,
    operation: Operation,
    route: string,
    refuse: (fault: Problem) => void,
    known?: Problem,
  ): Promise<Admitted | undefined> {
    const address = request.socket.remoteAddress ?? "";
    const id = `req_${randomUUID().replaceAll("-", "")}`;
    const passage = new Passage(snapshot, { id, dialect, operation, route, address }, this.#services.cache);
    const base = { passage, snapshot, at: new Date().toISOString(), startedMs: performance.now() };
    const read = readHeaders(request.rawHeaders);
    let fault = known ?? (read.ok ? undefined : read.problem);
    if (fault === undefined && !this.#services.recording()) fault = problem("spool_unavailable");
    if (fault === undefined && read.ok) {
      const credential = credentialOf(read.headers) ?? protocolKey(read.headers);
      if (typeof credential === "object") {
        fault = credential;
      } else {
        const path = (request.url ?? "").split("?", 1)[0]!;
        const facts = { method: request.method ?? "", path, headers: read.headers, address };
        const verdict = await passage.onRequest(credential === undefined ? facts : { ...facts, credential });
        if (verdict.act === "block" || verdict.act === "throttle") fault = refusalOf(verdict);
      }
    }
    if (fault === undefined && read.ok) return { ...base, headers: read.headers };
    const refused = fault ?? problem("internal");
    refuse(refused);
    this.#conclude({ ...base, headers: {} }, refused.code, PROBLEMS[refused.code].status, false);
    return undefined;
  }

  async #conclude(admitted: Admitted, cause: Cause, status: number, upstreamCalled: boolean): Promise<void> {
    const { passage, snapshot, at, startedMs } = admitted;
    await passage.onEnd({ cause, usage: {} });
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
