/**
 * One call of the gateway, byte for byte: nothing is decoded, followed or tried again, so that what came back
 * is what any client could have read.
 */
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

export interface Ask {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON. */
  readonly body?: object | string | Buffer;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly trailers: readonly string[];
  readonly body: Buffer;
  /** The answer ended as its framing said. */
  readonly complete: boolean;
  /** Set when no head came, or the answer broke off or took too long. */
  readonly fault?: string;
  readonly ms: number;
}

export interface CallOptions {
  readonly base: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  /** The caller leaves, with a reset, so many milliseconds after the first byte of the answer's head. */
  readonly leaveAfterMs?: number;
  /** The caller leaves when this resolves, answered or not. */
  readonly leaveOn?: Promise<unknown>;
}

const TIMEOUT_MS = 15_000;
/** How often a call that was throttled is made again, and how long it waits at most in all. */
const THROTTLED_MS_MAX = 120_000;

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

/** Calls, and waits as told when the gateway throttles. */
export async function call(ask: Ask, options: CallOptions): Promise<Reply> {
  for (let waited = 0; ; ) {
    const reply = await once(ask, options);
    const wait = 1_000 * Number(reply.headers["retry-after"] ?? 0);
    if (reply.status !== 429 || wait === 0 || waited + wait > THROTTLED_MS_MAX) return reply;
    waited += wait;
    await sleep(wait);
  }
}

function once(ask: Ask, options: CallOptions): Promise<Reply> {
  const { method = "POST", path, body } = ask;
  const payload =
    body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const bytes = payload === undefined ? undefined : Buffer.from(payload);
  const started = performance.now();
  return new Promise((resolve) => {
    const { hostname, port } = new URL(options.base);
    const chunks: Buffer[] = [];
    let head: Omit<Reply, "complete" | "ms" | "body" | "trailers"> = {
      status: 0,
      headers: {},
      rawHeaders: [],
    };
    let trailers: readonly string[] = [];
    let isOver = false;
    const finish = (complete: boolean, fault?: string) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      const reply = {
        ...head,
        trailers,
        body: Buffer.concat(chunks),
        complete,
        ms: performance.now() - started,
      };
      resolve(fault === undefined ? reply : { ...reply, fault });
    };
    const outgoing = request(
      {
        hostname,
        port,
        method,
        path,
        agent: options.leaveAfterMs === undefined && options.leaveOn === undefined ? agent : false,
        headers: {
          ...(bytes === undefined
            ? {}
            : { "content-type": "application/json", "content-length": bytes.length }),
          ...options.headers,
          ...ask.headers,
        },
      },
      (response) => {
        head = {
          status: response.statusCode ?? 0,
          headers: response.headers,
          rawHeaders: response.rawHeaders,
        };
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          trailers = response.rawTrailers;
          finish(response.complete, response.complete ? undefined : "the answer broke off");
        });
        response.on("error", (error) => finish(false, `the answer broke off: ${error.message}`));
        if (options.leaveAfterMs !== undefined) setTimeout(leave, options.leaveAfterMs);
      },
    );
    const leave = () => {
      outgoing.socket?.resetAndDestroy();
      outgoing.destroy();
      finish(false, "the caller left");
    };
    const timer = setTimeout(() => {
      outgoing.destroy();
      finish(false, "no end within the time");
    }, options.timeoutMs ?? TIMEOUT_MS);
    outgoing.on("error", (error) => finish(false, error.message));
    outgoing.on("information", (info) => {
      chunks.push(Buffer.from(JSON.stringify(info.rawHeaders)));
    });
    outgoing.end(bytes);
    void options.leaveOn?.then(leave);
  });
}
