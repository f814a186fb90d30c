/**
 * The admin listener: health, metrics, and a small JSON API for what an operator does live. Everything that
 * shows or changes anything needs the admin token; /healthz and /readyz are for probes, and /metrics is
 * open unless `admin.metrics: token` is set (it carries counts and names of seats, never a caller's data).
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Call {
  /** Values of the route's ":name" segments. */
  readonly params: Readonly<Record<string, string>>;
  /** Parsed JSON body; undefined without one. */
  readonly body: unknown;
}

export interface AdminRoute {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly access: "open" | "token";
  handle(call: Call): Promise<Answer> | Answer;
}

export interface AdminOptions {
  readonly host: string;
  readonly port: number;
  readonly token: string;
  readonly routes: readonly AdminRoute[];
}

export interface Admin {
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

const BODY_BYTES_MAX = 1_048_576;

export async function openAdmin(options: AdminOptions): Promise<Admin> {
  const expected = digest(options.token);
  const server = createServer({ maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 30_000 });
  server.maxConnections = 256;
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    answer(options.routes, expected, request).then(
      (result) => send(response, result),
      () => send(response, fault(500, "internal", "The admin API failed; the log says more.")),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://${options.host.includes(":") ? `[${options.host}]` : options.host}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  routes: readonly AdminRoute[],
  expected: Buffer,
  request: IncomingMessage,
): Promise<Answer> {
  const path = (request.url ?? "").split("?", 1)[0]!;
  const here = routes.flatMap((route) => {
    const params = matchPath(route.path, path);
    return params === undefined ? [] : [{ route, params }];
  });
  const found = here.find(({ route }) => route.method === request.method);
  const isOpen = found !== undefined && found.route.access === "open";
  if (!isOpen && !holdsToken(request, expected)) {
    return {
      ...fault(401, "unauthenticated", "Send the admin token as `Authorization: Bearer TOKEN`."),
      headers: { "www-authenticate": 'Bearer realm="sallyport admin"' },
    };
  }
  if (found === undefined) {
    if (here.length === 0) return fault(404, "not_found", `There is no ${path} here.`);
    return fault(
      405,
      "method_not_allowed",
      `${path} takes ${here.map(({ route }) => route.method).join(", ")}.`,
    );
  }
  const body = await readJson(request);
  if (body === BAD_BODY)
    return fault(400, "bad_body", `The body must be JSON of at most ${BODY_BYTES_MAX} bytes.`);
  return found.route.handle({ params: found.params, body });
}

function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (let i = 0; i < wanted.length; i++) {
    const segment = wanted[i]!;
    if (segment.startsWith(":")) params[segment.slice(1)] = given[i]!;
    else if (segment !== given[i]) return undefined;
  }
  return params;
}

function holdsToken(request: IncomingMessage, expected: Buffer): boolean {
  const token = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
  return timingSafeEqual(digest(token), expected);
}

/** Equal lengths for the comparison in constant time. */
function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

const BAD_BODY = Symbol("bad body");

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > BODY_BYTES_MAX) return BAD_BODY;
    chunks.push(chunk as Buffer);
  }
  if (bytes === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    return BAD_BODY;
  }
}

/** RFC 9457 problem details. */
export function fault(status: number, code: string, detail: string): Answer {
  return {
    status,
    body: { title: code, status, detail },
    headers: { "content-type": "application/problem+json" },
  };
}

function send(response: ServerResponse, { status, body, headers }: Answer): void {
  if (response.headersSent || response.destroyed) return;
  const text = typeof body === "string" ? body : `${JSON.stringify(body, null, 2)}\n`;
  response.writeHead(status, {
    "content-type": typeof body === "string" ? "text/plain; charset=utf-8" : "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...headers,
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}
