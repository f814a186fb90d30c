/**
 * Who calls the admin API, and whether a page of another site makes them. A caller is known by a token of the
 * environment, a named token, or the cookie of a session; where a token is sent, it alone counts.
 *
 *     authorization -> environment's token -> named token \
 *     cookie -> session -> account                          } -> caller (name, role)
 *     a change by a session: Origin, Sec-Fetch-Site, then the token against forgery (x-sallyport-csrf)
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Operators } from "../ports/operators.ts";
import type { Role } from "../ports/operators-record.ts";
import { addressEntity } from "../text/network.ts";
import { FailureWindows } from "./attempts.ts";
import { fault } from "./faults.ts";
import type { Reply } from "./route.ts";
import { cookieIn } from "./session-cookie.ts";

export interface Caller {
  /** The account's name, "token:" and a token's name, or what the holder of the environment's token says. */
  readonly name: string;
  readonly role: Role;
  readonly via: "environment" | "token" | "session";
  /** Of `via: "session"`. */
  readonly session?: { readonly id: string; readonly expiresMs: number };
}

export interface GateOptions {
  /** The environment's, may do everything. Absent: there is none. */
  readonly token?: string | undefined;
  /** The environment's, may read. Absent: there is none. */
  readonly readToken?: string | undefined;
  readonly operators: Pick<Operators, "sessions" | "tokens">;
  /** Under which people open the console, such as https://sallyport.example.org. Absent: by the Host that they name. */
  readonly url?: string | undefined;
  readonly clock: () => number;
}

const FAILED_TOKENS = { failuresMax: 10, windowMs: 60_000, keysMax: 4_096 };

export class Gate {
  readonly #full: Buffer | undefined;
  readonly #read: Buffer | undefined;
  readonly #operators: GateOptions["operators"];
  readonly #origin: string | undefined;
  readonly #attempts: FailureWindows;

  constructor({ token, readToken, operators, url, clock }: GateOptions) {
    if (token === "") throw new RangeError("token: the admin token must not be empty");
    if (readToken === "") throw new RangeError("readToken: must not be empty; leave it out to have none");
    if (readToken !== undefined && readToken === token)
      throw new RangeError("readToken: must be another than the admin token");
    this.#full = token === undefined ? undefined : digest(token);
    this.#read = readToken === undefined ? undefined : digest(readToken);
    this.#operators = operators;
    this.#origin = url === undefined ? undefined : new URL(url).origin;
    this.#attempts = new FailureWindows({ ...FAILED_TOKENS, clock });
  }

  callerOf(request: IncomingMessage): Caller | undefined {
    const presented = bearerOf(request);
    return presented === undefined ? this.#sessionOf(request) : this.#holderOf(presented);
  }

  /** The answer to a caller who is not known. */
  unauthenticated(request: IncomingMessage): Reply {
    // Who shows no token guesses none; an id of a session that ended is no guess either.
    const isGuess = bearerOf(request) !== undefined;
    const waitMs = isGuess ? this.#attempts.count(addressEntity(request.socket.remoteAddress ?? "")) : 0;
    if (waitMs > 0) return tooMany(waitMs, "send the right token now");
    return fault(
      "unauthenticated",
      "Send a token as `Authorization: Bearer TOKEN` (the admin token, or one of `sallyport tokens create`), " +
        "or log in with POST /api/login.",
      { headers: { "www-authenticate": 'Bearer realm="sallyport admin"' } },
    );
  }

  /** What speaks against a change by this caller (undefined: at an open path); undefined where nothing does. */
  forged({ headers }: IncomingMessage, caller: Caller | undefined): Reply | undefined {
    if (caller !== undefined && caller.session === undefined) return undefined;
    const site = headers["sec-fetch-site"];
    const isForeign = site !== undefined && site !== "same-origin" && site !== "none";
    if (isForeign || !this.#isOwn(headers.origin, headers.host)) {
      return fault(
        "forbidden",
        "This call comes from a page of another origin. If it is the console's own, set admin.url in gateway.yaml " +
          "to the address under which it is opened.",
      );
    }
    if (caller?.session === undefined) return undefined;
    const given = headers["x-sallyport-csrf"];
    const wanted = this.#operators.sessions.csrfOf(caller.session.id);
    if (typeof given === "string" && timingSafeEqual(digest(given), digest(wanted))) return undefined;
    return fault("forbidden", "Send `csrf` of GET /api/session as x-sallyport-csrf.");
  }

  #isOwn(origin: string | undefined, host: string | undefined): boolean {
    if (origin === undefined) return true;
    if (this.#origin !== undefined) return origin === this.#origin;
    return host !== undefined && URL.parse(origin)?.host === host.toLowerCase();
  }

  #holderOf(presented: string): Caller | undefined {
    const given = digest(presented);
    // Both are compared, so that the time tells nothing of which was nearer.
    const isFull = this.#full !== undefined && timingSafeEqual(given, this.#full);
    const isRead = this.#read !== undefined && timingSafeEqual(given, this.#read);
    if (isFull) return { name: "admin", role: "admin", via: "environment" };
    if (isRead) return { name: "reader", role: "viewer", via: "environment" };
    const token = this.#operators.tokens.find(presented);
    return token === undefined ? undefined : { name: `token:${token.name}`, role: token.role, via: "token" };
  }

  #sessionOf(request: IncomingMessage): Caller | undefined {
    const secret = cookieIn(request.headers, this.#origin?.startsWith("https:") ?? false);
    const found = secret === undefined ? undefined : this.#operators.sessions.find(secret);
    if (found === undefined) return undefined;
    const { account, id, expiresMs } = found;
    return { name: account.id, role: account.role, via: "session", session: { id, expiresMs } };
  }
}

/** 429, and when to come back. */
export function tooMany(waitMs: number, else_: string): Reply {
  const retryAfter = String(Math.ceil(waitMs / 1_000));
  return fault("attempts", `Try again in ${retryAfter} s, or ${else_}.`, {
    headers: { "retry-after": retryAfter },
  });
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
