/**
 * One model API behind the gateway: a pool of keep-alive connections, our own framing and credential, and
 * each way to fail under its own code. Built on undici's dispatch, which can be aborted, paused and
 * resumed; streams piped by other means leave the upstream running when the client has gone.
 */
import { type Dispatcher, Pool } from "undici";
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

export class Upstream {
  readonly options: UpstreamOptions;
  readonly origin: string;
  readonly #prefix: string;
  readonly #pool: Pool;
  readonly #credential: readonly string[];

  constructor(options: UpstreamOptions) {
    const url = new URL(options.url);
    this.options = options;
    this.origin = url.origin;
    this.#prefix = url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#credential = credential(options.dialect, options.key);
    this.#pool = new Pool(url.origin, {
      connections: options.connectionsMax,
      pipelining: 1,
      connect: { timeout: options.connectMs, noDelay: true },
      headersTimeout: options.firstByteMs,
      bodyTimeout: options.idleMs,
      keepAliveTimeout: UPSTREAM_IDLE_MS,
      maxHeaderSize: 32_768,
    });
  }

  /** Where a WebSocket or a pass-through route goes: base URL and the headers that carry our credential. */
  get direct(): { readonly base: string; readonly headers: Readonly<Record<string, string>> } {
    const headers: Record<string, string> = {};
    for (let i = 0; i < this.#credential.length; i += 2)
      headers[this.#credential[i]!] = this.#credential[i + 1]!;
    return { base: this.origin + this.#prefix, headers };
  }

  dispatch(call: UpstreamCall, handler: Dispatcher.DispatchHandler): void {
    const headers = call.headers;
    headers.push("accept-encoding", "identity", ...this.#credential);
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

  get stats(): { readonly connected: number; readonly running: number; readonly queued: number } {
    const { connected, running, queued } = this.#pool.stats;
    return { connected, running, queued };
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }
}

function credential(dialect: DialectName, key: string | undefined): readonly string[] {
  if (key === undefined) return [];
  return dialect === "openai" ? ["authorization", `Bearer ${key}`] : ["x-api-key", key];
}

/** The code of a failed call; `headSent` tells whether the upstream's head had come. */
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
