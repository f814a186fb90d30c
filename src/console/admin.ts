/**
 * The admin listener: health, metrics, and a JSON API for what an operator does live. Everything that shows or
 * changes anything needs a token; /healthz and /readyz are for probes, and /metrics is open unless
 * `admin.metrics: token` is set (it carries counts and names of seats, never a caller's data).
 *
 *   match -> token -> 404, 405 -> may it write -> actor -> path, query, body -> if-match -> handle -> audit
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { AuditTrail } from "../ledger/audit.ts";
import { LoginAttempts } from "./attempts.ts";
import { audited, entryOf } from "./audited.ts";
import { BODY_BYTES_MAX, readJson } from "./body.ts";
import { fault, faultOf, invalid } from "./faults.ts";
import { changedTo, names } from "./if-match.ts";
import type { AdminRoute, Call, Reply } from "./route.ts";
import { actorOf, BAD_ACTOR, checkedCall, Router, type Target, targetOf } from "./router.ts";

export interface AdminOptions {
  readonly host: string;
  readonly port: number;
  /** May do everything. */
  readonly token: string;
  /** May read. Absent: there is no such token. */
  readonly readToken?: string | undefined;
  readonly routes: readonly AdminRoute[];
  /** Told of each call that could change something, before and after; a change that it cannot take is not made. */
  readonly audit?: Omit<AuditTrail, "note">;
  /** Told of what a handler threw, before it is answered with 500 or 503. */
  readonly onFault?: (error: unknown, action: string) => void;
  /** Milliseconds, monotonic: for the limit on failed logins. */
  readonly clock?: () => number;
}

export interface Admin {
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 256;
const FAILED_LOGINS = { failuresMax: 10, windowMs: 60_000, addressesMax: 4_096 };

type Right = "all" | "read" | "none";

export async function openAdmin(options: AdminOptions): Promise<Admin> {
  const listener = new AdminListener(options);
  const server = createServer({ maxHeaderSize: 16_384, headersTimeout: 10_000, requestTimeout: 30_000 });
  server.maxConnections = CONNECTIONS_MAX;
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    listener.answer(request).then(
      (reply) => send(request, response, reply),
      // Not a handler's doing: those are caught where the action is known.
      (error: unknown) => {
        options.onFault?.(error, "admin");
        send(request, response, BROKEN);
      },
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

const BROKEN = fault("internal", "The log says more.");

class AdminListener {
  readonly #options: AdminOptions;
  readonly #router: Router;
  readonly #full: Buffer;
  readonly #read: Buffer | undefined;
  readonly #attempts: LoginAttempts;

  constructor(options: AdminOptions) {
    const { token, readToken, clock = () => performance.now() } = options;
    if (token === "") throw new RangeError("token: the admin token must not be empty");
    if (readToken === token) throw new RangeError("readToken: must be another than the admin token");
    if (readToken === "") throw new RangeError("readToken: must not be empty; leave it out to have none");
    this.#options = options;
    this.#router = new Router(options.routes);
    this.#full = digest(token);
    this.#read = readToken === undefined ? undefined : digest(readToken);
    this.#attempts = new LoginAttempts({ ...FAILED_LOGINS, clock });
  }

  /** Undefined: the caller left before the end of the request. */
  async answer(request: IncomingMessage): Promise<Reply | undefined> {
    const target = targetOf(request.url ?? "");
    const method = request.method ?? "";
    const match = this.#router.match(method, target.path);
    const presented = bearerOf(request);
    const right = this.#rightOf(presented);
    if (right === "none" && match.found?.access !== "open") return this.#unauthenticated(request, presented);
    if (match.found === undefined) {
      const { allowed } = match;
      if (allowed.length === 0)
        return fault("not_found", "There is no such path; GET /api/openapi.json lists them all.");
      const headers = { allow: allowed.join(", ") };
      return fault("method_not_allowed", `This path takes ${allowed.join(", ")}.`, { headers });
    }
    const { found: route, segments } = match;
    if (route.method === "GET") return this.#run(route, segments, target, request, "reader");
    // From here on it could change something, so it goes on record.
    const actor = actorOf(request.headers["x-sallyport-actor"], right === "all" ? "admin" : "reader");
    if (actor !== undefined && right === "all") return this.#run(route, segments, target, request, actor);
    const refused =
      actor === undefined
        ? BAD_ACTOR
        : fault("read_only", "Send the admin token (SALLYPORT_ADMIN_TOKEN); this one may only GET.");
    return this.#refuse(refused, route, actor ?? "unnamed", segments);
  }

  async #run(
    route: AdminRoute,
    segments: Readonly<Record<string, string>>,
    { query }: Target,
    request: IncomingMessage,
    actor: string,
  ): Promise<Reply | undefined> {
    const isChange = route.method !== "GET";
    const refuse = (reply: Reply) => (isChange ? this.#refuse(reply, route, actor, segments) : reply);
    const bytesMax = route.bodyBytesMax ?? BODY_BYTES_MAX;
    const body = await readJson(request, bytesMax);
    switch (body.state) {
      case "gone":
        return undefined;
      case "too_large": {
        const headers = { connection: "close" };
        return refuse(fault("too_large", `Send at most ${bytesMax} bytes.`, { headers }));
      }
      case "bad":
        return refuse(invalid([{ path: "", message: body.why }]));
      case "read":
        break;
      default:
        return body satisfies never;
    }
    const ifMatch = request.headers["if-match"];
    const checked = checkedCall(route, { segments, query, body: body.value, actor, ifMatch });
    if ("refused" in checked) return refuse(checked.refused);
    const answer = () => this.#handled(route, checked.call, ifMatch);
    if (!isChange) return answer();
    return audited({ action: route.id, actor, segments, audit: this.#options.audit }, answer);
  }

  async #handled(route: AdminRoute, call: Call, ifMatch: string | undefined): Promise<Reply> {
    try {
      return await handled(route, call, ifMatch);
    } catch (error) {
      const known = faultOf(error, route.faults?.store_away !== undefined);
      if (known === undefined || known.status >= 500) this.#options.onFault?.(error, route.id);
      return known ?? BROKEN;
    }
  }

  /** Refused before anything was begun; an attempt is on record too. */
  async #refuse(
    reply: Reply,
    { id }: AdminRoute,
    actor: string,
    segments: Readonly<Record<string, string>>,
  ): Promise<Reply> {
    await this.#options.audit?.refused(entryOf(id, actor, reply, segments));
    return reply;
  }

  #rightOf(presented: string | undefined): Right {
    if (presented === undefined) return "none";
    const given = digest(presented);
    // Both are compared, so that the time tells nothing of which was nearer.
    const isFull = timingSafeEqual(given, this.#full);
    const isRead = this.#read !== undefined && timingSafeEqual(given, this.#read);
    return isFull ? "all" : isRead ? "read" : "none";
  }

  #unauthenticated(request: IncomingMessage, presented: string | undefined): Reply {
    // Who shows no token guesses none.
    const waitMs = presented === undefined ? 0 : this.#attempts.failed(request.socket.remoteAddress ?? "");
    if (waitMs > 0) {
      const retryAfter = String(Math.ceil(waitMs / 1_000));
      return fault("attempts", `Try again in ${retryAfter} s, or send the right token now.`, {
        headers: { "retry-after": retryAfter },
      });
    }
    return fault("unauthenticated", "Send the admin token as `Authorization: Bearer TOKEN`.", {
      headers: { "www-authenticate": 'Bearer realm="sallyport admin"' },
    });
  }
}

async function handled(route: AdminRoute, call: Call, ifMatch: string | undefined): Promise<Reply> {
  const { etag } = route;
  if (route.method === "GET") {
    const reply = await route.handle(call);
    const tag = reply.status === 200 ? await etag?.(call) : undefined;
    return tag === undefined ? reply : { ...reply, headers: { ...reply.headers, etag: tag } };
  }
  if (ifMatch === undefined && route.needsIfMatch === true)
    return fault("unconditional", "Read it first, and send its etag as if-match.");
  if (ifMatch !== undefined) {
    if (etag === undefined) {
      return invalid([{ path: "if-match", message: "this takes no if-match: it has no version" }]);
    }
    const tag = await etag(call);
    if (tag !== undefined && !names(ifMatch, tag)) return changedTo(tag);
  }
  return route.handle(call);
}

function bearerOf(request: IncomingMessage): string | undefined {
  const header = request.headers.authorization;
  if (header === undefined) return undefined;
  return /^bearer +(\S+)$/i.exec(header)?.[1] ?? "";
}

/** Equal lengths for the comparison in constant time. */
function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function send(request: IncomingMessage, response: ServerResponse, reply: Reply | undefined): void {
  if (reply === undefined || response.headersSent || response.destroyed) return;
  const { status, body, headers } = reply;
  const text = typeof body === "string" ? body : `${JSON.stringify(body, null, 2)}\n`;
  response.writeHead(status, {
    "content-type": typeof body === "string" ? "text/plain; charset=utf-8" : "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...headers,
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
  // A body that nobody read must go somewhere, or the caller never gets to the answer; requestTimeout bounds it.
  if (!request.complete) request.resume();
}
