/**
 * The gateway's listener: a node:http server with every bound set, one Exchange per request, and a drain
 * that lets running answers end. Errors below HTTP (a head that cannot be parsed, too large or too slow)
 * are answered in JSON and counted.
 */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { PROBLEMS, type ProblemCode } from "../layer/index.ts";
import { Exchange } from "./exchange.ts";
import { Proxied } from "./proxied.ts";
import { Running } from "./running.ts";
import type { Services } from "./services.ts";

export interface GatewayOptions {
  readonly host: string;
  readonly port: number;
  readonly services: Services;
  readonly headerBytesMax: number;
  readonly headersCountMax: number;
  readonly connectionsMax: number;
  readonly headersMs: number;
  readonly keepAliveMs: number;
  readonly bodyMs: number;
  readonly idleMs: number;
  /** A request that never became one: `code` says why. */
  readonly onRejected: (code: ProblemCode) => void;
}

export interface Gateway {
  readonly host: string;
  readonly port: number;
  readonly url: string;
  readonly connections: number;
  readonly active: number;
  /** Stops listening, lets running requests end for `graceMs`, then ends them as `draining`. */
  drain(graceMs: number): Promise<void>;
}

const REALTIME_PATH = "/v1/realtime";

export async function openGateway(options: GatewayOptions): Promise<Gateway> {
  const { services } = options;
  const active = new Running<Exchange>();
  const sockets = new Set<Socket>();
  const proxied = new Proxied(services, { idleMs: options.idleMs });
  let draining = false;

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    if (draining) response.setHeader("connection", "close");
    if (request.rawHeaders.length > options.headersCountMax * 2) {
      options.onRejected("headers_too_large");
      const { status } = PROBLEMS.headers_too_large;
      response.writeHead(status, { "content-type": "application/json", connection: "close" });
      response.end(rawBody("headers_too_large"));
      return;
    }
    if (proxied.takes(request)) {
      // Nothing in there is known to throw; if it does, the close that follows concludes the request.
      proxied.carry(request, response).catch(() => response.destroy());
      return;
    }
    const exchange = new Exchange(services, request, response);
    active.add(exchange);
    response.once("close", () => active.remove(exchange));
    void exchange.run();
  };

  const server = createServer(
    {
      maxHeaderSize: options.headerBytesMax,
      headersTimeout: options.headersMs,
      // The exchange times the body itself, under its own code; this one stands behind it.
      requestTimeout: options.headersMs + options.bodyMs + 1_000,
      keepAliveTimeout: options.keepAliveMs,
      connectionsCheckingInterval: Math.min(1_000, options.headersMs),
      noDelay: true,
      insecureHTTPParser: false,
      requireHostHeader: true,
      // An offer to upgrade elsewhere may be ignored (RFC 9110, 7.8): the request is an ordinary one.
      shouldUpgradeCallback: (request) => request.url?.split("?", 1)[0] === REALTIME_PATH,
    },
    onRequest,
  );
  server.maxConnections = options.connectionsMax;
  server.maxHeadersCount = 0;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("drop", () => options.onRejected("connections_exhausted"));
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    const code = clientErrorCode(error);
    const running = active.all().find((exchange) => exchange.isOn(socket));
    if (running !== undefined && code !== undefined) {
      // Its body broke off or was malformed. Words put between the pieces of an answer would corrupt it.
      running.cutBody();
      return;
    }
    if (code !== undefined) options.onRejected(code);
    respondRaw(socket, code);
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    proxied.upgrade(request, socket, head).catch(() => socket.destroy());
  });
  server.on("connect", (_request: IncomingMessage, socket: Duplex) => {
    options.onRejected("route_unknown");
    respondRaw(socket, "route_unknown");
  });

  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    host: options.host,
    port,
    url: `http://${options.host.includes(":") ? `[${options.host}]` : options.host}:${port}`,
    get connections() {
      return sockets.size;
    },
    get active() {
      return active.size;
    },
    async drain(graceMs: number) {
      draining = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const idle = setInterval(() => server.closeIdleConnections(), 100);
      const timer = setTimeout(() => cutAll(active, server, sockets), graceMs);
      await closed;
      clearInterval(idle);
      clearTimeout(timer);
      proxied.close();
    },
  };
}

function cutAll(active: Running<Exchange>, server: Server, sockets: ReadonlySet<Socket>): void {
  for (const exchange of active.all()) exchange.cut("draining");
  server.closeAllConnections();
  // What is left was upgraded and is no longer the server's to close.
  setImmediate(() => {
    for (const socket of sockets) socket.destroy();
  });
}

/** Undefined for a connection that is gone: nobody is there to read an answer. */
function clientErrorCode(error: NodeJS.ErrnoException): ProblemCode | undefined {
  if (error.code === "ECONNRESET" || error.code === "EPIPE") return undefined;
  if (error.code === "HPE_HEADER_OVERFLOW") return "headers_too_large";
  if (error.code === "ERR_HTTP_REQUEST_TIMEOUT") return "body_timeout";
  return "header_invalid";
}

/** An answer written below node's own machinery, because there is no request to answer. */
function respondRaw(socket: Duplex, code: ProblemCode | undefined): void {
  if (code === undefined || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const { status } = PROBLEMS[code];
  const body = rawBody(code);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** The dialect is not known this far down; this shape is read by both vendors' clients. */
function rawBody(code: ProblemCode): string {
  return JSON.stringify({
    error: { message: PROBLEMS[code].text, type: "invalid_request_error", param: null, code },
  });
}
