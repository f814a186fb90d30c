/**
 * What a row of the admin API is made of. A row says all there is to know of one operation: how it is called,
 * who may, what it takes and what it answers, so that the router, the OpenAPI document and the table in the
 * docs are read from the same place and cannot disagree.
 */
import type { z } from "zod";
import type { Await } from "../layer/index.ts";
import type { Caller } from "./gate.ts";
import type { AdminParts } from "./parts.ts";
import type { Allowed } from "./roles.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** What an operation is about: a tag of the document, a section of the docs. */
export type Noun =
  | "health"
  | "session"
  | "accounts"
  | "tokens"
  | "policy"
  | "keys"
  | "limits"
  | "reputation"
  | "sanctions"
  | "exemplars"
  | "stores"
  | "audit"
  | "api";

export interface Call<Params = unknown, Query = unknown, Body = unknown> {
  /** Values of the path's `{name}` segments, decoded. */
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** Who does this, by the name that goes on record. */
  readonly actor: string;
  /** As it was sent, for a check that is part of the change itself. */
  readonly ifMatch?: string | undefined;
  /** Undefined at an open path. */
  readonly caller: Caller | undefined;
  /** Of the connection. */
  readonly address: string;
}

export interface Reply {
  readonly status: number;
  /** A string is sent as text, anything else as JSON. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** What was made or changed, for the audit record; absent: the values of the path's parameters. */
  readonly target?: string;
  /** What it was and what it became, as small as it tells; for the audit record alone. */
  readonly change?: { readonly before?: unknown; readonly after?: unknown };
  /** Of a login: whose it was, for the audit record. */
  readonly loggedIn?: string;
}

interface AnswerNote {
  readonly description: string;
  /** Absent: text. */
  readonly schema?: z.ZodType;
}

type OwnFault = "not_found" | "conflict" | "store_away" | "unauthenticated" | "attempts";

/** One operation, its types forgotten: the router has checked what it hands over. */
export interface RouteRow {
  /** Stable: the `operationId`, and the `action` of audit records. */
  readonly id: string;
  readonly noun: Noun;
  readonly method: Method;
  /** Segments; `{name}` stands for one, percent-decoded. */
  readonly path: string;
  /** Roles that may call it. `metrics`: as `admin.metrics` in gateway.yaml says. */
  readonly access: "open" | "metrics" | Allowed;
  /** One line. */
  readonly summary: string;
  readonly description?: string;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** The largest body; absent: as body.ts says. */
  readonly bodyBytesMax?: number;
  /** A call without `if-match` is answered with 428. */
  readonly needsIfMatch?: true;
  /** Answers that are no problem details; those follow from the rest of the row, but for `faults`. */
  readonly answers: Readonly<Record<number, AnswerNote>>;
  /** Problems of its own. */
  readonly faults?: Readonly<Partial<Record<OwnFault, string>>>;
  /**
   * What `if-match` is compared to before a change, and what GET sends as `etag`; undefined where there is no
   * such thing. It is a check, not a lock: what changes between it and the change itself is not seen.
   */
  etag?(call: Call, parts: AdminParts): Await<string | undefined>;
  handle(call: Call, parts: AdminParts): Await<Reply>;
}

type Parsed<Schema> = Schema extends z.ZodType ? z.output<Schema> : undefined;

type TypedRow<Params, Query, Body> = Omit<RouteRow, "params" | "query" | "body" | "etag" | "handle"> & {
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  etag?(
    call: Call<Parsed<Params>, Parsed<Query>, Parsed<Body>>,
    parts: AdminParts,
  ): Await<string | undefined>;
  handle(call: Call<Parsed<Params>, Parsed<Query>, Parsed<Body>>, parts: AdminParts): Await<Reply>;
};

/** Gives `handle` the types of what the row's own schemas let through. */
export function defineRoute<
  Params extends z.ZodObject | undefined = undefined,
  Query extends z.ZodObject | undefined = undefined,
  Body extends z.ZodType | undefined = undefined,
>(row: TypedRow<Params, Query, Body>): RouteRow {
  return row as unknown as RouteRow;
}

/** A row bound to the parts that it works on. */
export interface AdminRoute extends Omit<RouteRow, "access" | "etag" | "handle"> {
  readonly access: "open" | Allowed;
  readonly etag: ((call: Call) => Await<string | undefined>) | undefined;
  readonly handle: (call: Call) => Await<Reply>;
}

export function ok(body: unknown, more: Omit<Reply, "status" | "body"> = {}): Reply {
  return { status: 200, body, ...more };
}
