/**
 * One model API behind the gateway: a pool of keep-alive connections, our own framing and credential, and
 * each way to fail under its own code. Built on undici's dispatch, which can be aborted, paused and
 * resumed; streams piped by other means leave the upstream running when the client has gone.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { buildConnector, type Dispatcher, Pool } from "undici";
import type { DialectName, ProblemCode } from "../layer/index.ts";

export interface UpstreamOptions {
  readonly dialect: DialectName;
  /** Origin with an optional path prefix; a trailing "/v1" is understood, as client libraries write it. */
  readonly url: string;
  readonly key: string | undefined;
  readonly connectionsMax: number;
  readonly connectMs: number;
  readonly firstByteMs: number;
  readonly idleMs: number;
}

/** An idle connection is kept this long: under the minute after which load balancers commonly drop one. */
const UPSTREAM_IDLE_MS = 55_000;

export interface UpstreamCall {
  readonly method: string;
  /** Path and query as the gateway wrote them. */
  readonly path: string;
  /** Flat name, value list of allow-listed headers. */
  readonly headers: string[];
  readonly body: Buffer | undefined;
}

/** Flat name, value list of the header that carries a key. */
export type Credential = readonly string[];

export class Upstream {
  readonly origin: string;
  readonly #prefix: string;
  readonly #pool: Pool;
  readonly #credential: Credential;

  constructor(options: UpstreamOptions) {
    const url = new URL(options.url);
    this.origin = url.origin;
    this.#prefix = url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#credential = credentialFor(options.dialect, options.key);
    this.#pool = new Pool(url.origin, {
      connections: options.connectionsMax,
      pipelining: 1,
      connect: connectorNoting(options.connectMs),
      headersTimeout: options.firstByteMs,
      bodyTimeout: options.idleMs,
      keepAliveTimeout: UPSTREAM_IDLE_MS,
      maxHeaderSize: 32_768,
    });
  }

  /** Where a WebSocket or a pass-through route goes: base URL and the headers that carry the credential. */
  direct(credential: Credential = this.#credential): Direct {
    const headers: Record<string, string> = {};
    for (let i = 0; i < credential.length; i += 2) headers[credential[i]!] = credential[i + 1]!;
    return { base: this.origin + this.#prefix, headers };
  }

  /** Adds our own headers to those of the call. */
  dispatch(call: UpstreamCall, handler: Dispatcher.DispatchHandler, credential = this.#credential): void {
    const headers = call.headers;
    headers.push("accept-encoding", "identity");
    for (let i = 0; i < credential.length; i++) headers.push(credential[i]!);
    if (call.body !== undefined) headers.push("content-type", "application/json");
    this.#pool.dispatch(
      {
        method: call.method as Dispatcher.HttpMethod,
        path: this.#prefix + call.path,
        headers,
        body: call.body ?? null,
      },
      handler,
    );
  }

  get connected(): number {
    return this.#pool.stats.connected;
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }
}

export interface Direct {
  readonly base: string;
  readonly headers: Readonly<Record<string, string>>;
}

export function credentialFor(dialect: DialectName, key: string | undefined): Credential {
  if (key === undefined) return [];
  return dialect === "openai" ? ["authorization", `Bearer ${key}`] : ["x-api-key", key];
}

/** Errors of connections, and the sockets that they came from. */
const socketOf = new WeakMap<object, Socket>();

/**
 * A connection that was kept alive may be closed by the other side in the moment in which a request is sent on
 * it. Whose error it was is known only here, before undici has heard of it; whether the connection had been used
 * is read off the socket when the failed call asks, since undici tells of some errors at once and of others when
 * the socket has closed. HTTP/2 connections begin with bytes from the server, so that nothing can be told of them.
 */
function connectorNoting(connectMs: number): buildConnector.connector {
  const connect = buildConnector({ timeout: connectMs, noDelay: true });
  return (options, callback) => {
    connect(options, (...outcome) => {
      // Absent after an error, whatever the type says.
      const socket = outcome[1] as Socket | TLSSocket | null | undefined;
      if (socket && !("alpnProtocol" in socket && socket.alpnProtocol === "h2")) {
        socket.once("error", (error) => socketOf.set(error, socket));
      }
      callback(...outcome);
    });
  };
}

/** Whether a failed call was sent on a connection that had served an answer before. */
export function failedOnUsedConnection(error: unknown): boolean {
  const socket = typeof error === "object" && error !== null ? socketOf.get(error) : undefined;
  return socket !== undefined && socket.bytesRead > 0;
}

/** The code of a failed call; `headCame` tells whether the upstream's head had come. */
export function upstreamProblem(error: unknown, headCame: boolean): ProblemCode {
  const code = (error as { code?: unknown } | null)?.code;
  switch (code) {
    case "UND_ERR_CONNECT_TIMEOUT":
      return "upstream_connect_timeout";
    case "UND_ERR_HEADERS_TIMEOUT":
      return "upstream_first_byte_timeout";
    case "UND_ERR_BODY_TIMEOUT":
      return "upstream_idle_timeout";
    case "UND_ERR_HEADERS_OVERFLOW":
    case "UND_ERR_RES_EXCEEDED_MAX_SIZE":
    case "UND_ERR_RES_CONTENT_LENGTH_MISMATCH":
      return "upstream_protocol";
    case "ECONNREFUSED":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "ETIMEDOUT":
      return "upstream_connect";
    default:
      break;
  }
  if (error instanceof Error && error.name === "HTTPParserError") return "upstream_protocol";
  if (typeof code === "string" && code.startsWith("HPE_")) return "upstream_protocol";
  if (
    typeof code === "string" &&
    (code.startsWith("CERT_") || code.startsWith("ERR_TLS") || code.startsWith("ERR_SSL"))
  ) {
    return "upstream_connect";
  }
  return headCame ? "upstream_truncated" : "upstream_reset";
}
