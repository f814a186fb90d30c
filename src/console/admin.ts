/**
 * The admin listener: health, metrics, and a JSON API for what an operator does live. Everything that shows or
 * changes anything needs a token or a session whose role the row names; /healthz and /readyz are for probes, and
 * /metrics is open unless `admin.metrics: token` is set (it carries counts and names of seats, never a caller's data).
 *
 *   match -> caller -> 404, 405 -> role -> forgery -> actor -> path, query, body -> if-match -> handle -> audit
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { AuditTrail } from "../ledger/audit.ts";
import { audited, entryOf, type Named } from "./audited.ts";
import { BODY_BYTES_MAX, readJson } from "./body.ts";
import { fault, faultOf, invalid } from "./faults.ts";
import { type Caller, Gate, type GateOptions } from "./gate.ts";
import { changedTo, names } from "./if-match.ts";
import type { AdminRoute, Call, Reply } from "./route.ts";
import { actorOf, BAD_ACTOR, checkedCall, Router, type Target, targetOf } from "./router.ts";

export interface AdminOptions extends Omit<GateOptions, "clock"> {
  readonly host: string;
  readonly port: number;
  readonly routes: readonly AdminRoute[];
  /** Told of each call that could change something, before and after; a change that it cannot take is not made. */
  readonly audit?: Omit<AuditTrail, "note">;
  /** Told of what a handler threw, before it is answered with 500 or 503. */
  readonly onFault?: (error: unknown, action: string) => void;
  /** Milliseconds, monotonic: for the limit on wrong tokens. */
  readonly clock?: () => number;
}

export interface Admin {
  readonly port: number;
  readonly url: string;
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 256;

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
  readonly #gate: Gate;

  constructor(options: AdminOptions) {
    const { clock = () => performance.now() } = options;
    this.#options = options;
    this.#router = new Router(options.routes);
    this.#gate = new Gate({ ...options, clock });
  }

  /** Undefined: the caller left before the end of the request. */
  async answer(request: IncomingMessage): Promise<Reply | undefined> {
    const target = targetOf(request.url ?? "");
    const match = this.#router.match(request.method ?? "", target.path);
    const isOpen = match.found?.access === "open";
    const caller = isOpen ? undefined : this.#gate.callerOf(request);
    if (caller === undefined && !isOpen) return this.#gate.unauthenticated(request);
    if (match.found === undefined) {
      const { allowed } = match;
      if (allowed.length === 0)
        return fault("not_found", "There is no such path; GET /api/openapi.json lists them all.");
      const headers = { allow: allowed.join(", ") };
      return fault("method_not_allowed", `This path takes ${allowed.join(", ")}.`, { headers });
    }
    const { found: route, segments } = match;
    const forbidden = forbiddenTo(caller, route);
    const run = (actor: string) => this.#run(route, request, { segments, target, actor, caller });
    if (route.method === "GET") return forbidden ?? run(caller?.name ?? "nobody");
    // From here on it could change something, so it goes on record.
    const actor = actorFor(caller, request);
    const refused = actor === undefined ? BAD_ACTOR : (forbidden ?? this.#gate.forged(request, caller));
    if (refused === undefined) return run(actor ?? "nobody");
    return this.#refuse(refused, {
      action: route.id,
      actor: actor ?? "unnamed",
      via: viaOf(caller),
      segments,
    });
  }

  async #run(
    route: AdminRoute,
    request: IncomingMessage,
    { segments, target, actor, caller }: Matched,
  ): Promise<Reply | undefined> {
    const isChange = route.method !== "GET";
    const named = { action: route.id, actor, via: viaOf(caller), segments };
    const refuse = (reply: Reply) => (isChange ? this.#refuse(reply, named) : reply);
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
    const checked = checkedCall(route, {
      ...{ segments, query: target.query, body: body.value, actor, caller, ifMatch },
      address: request.socket.remoteAddress ?? "",
    });
    if ("refused" in checked) return refuse(checked.refused);
    const answer = () => this.#handled(route, checked.call, ifMatch);
    return isChange ? audited(named, this.#options.audit, answer) : answer();
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
  async #refuse(reply: Reply, named: Named): Promise<Reply> {
    await this.#options.audit?.refused(entryOf(named, reply));
    return reply;
  }
}

interface Matched {
  readonly segments: Readonly<Record<string, string>>;
  readonly target: Target;
  readonly actor: string;
  /** Undefined at an open path. */
  readonly caller: Caller | undefined;
}

function forbiddenTo(caller: Caller | undefined, { access }: AdminRoute): Reply | undefined {
  if (access === "open" || (caller !== undefined && access.includes(caller.role))) return undefined;
  return fault("forbidden", `This takes the role ${access.join(" or ")}; you call as ${caller?.role}.`);
}

function viaOf(caller: Caller | undefined): Named["via"] {
  return caller?.via ?? "nobody";
}

/** Only whoever holds a token of the environment says who they are; the others are known. */
function actorFor(caller: Caller | undefined, request: IncomingMessage): string | undefined {
  if (caller === undefined) return "nobody";
  if (caller.via !== "environment") return caller.name;
  return actorOf(request.headers["x-sallyport-actor"], caller.name);
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
