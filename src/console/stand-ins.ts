/**
 * For tests: an admin listener over stand-ins for the stores, and a client that holds every answer against what
 * the API says of itself. The stand-ins keep what they are told and refuse what the real ones refuse.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { type ExemplarRow, newExemplarRow } from "../ports/exemplars-row.ts";
import { newRow, type SanctionRow } from "../ports/sanctions-row.ts";
import { type AdminOptions, openAdmin } from "./admin.ts";
import { LoginLimits } from "./attempts.ts";
import type { AuditEntry } from "./audited.ts";
import { openapiDocument } from "./openapi.ts";
import type { AdminParts, CounterRow, KeyListing } from "./parts.ts";
import { ADMIN_ROWS, adminRoutes } from "./routes.ts";
import { standInOperators } from "./stand-in-operators.ts";

export const TOKEN = "test-admin-token";
export const READ_TOKEN = "test-read-token";

/** Of a store that is "away" every write fails, in the store's own words. */
export interface Weather {
  isAway: boolean;
}

export function standInParts(weather: Weather = { isAway: false }): AdminParts {
  const refuseWhenAway = () => {
    if (weather.isAway) throw new Error("Redis does not answer");
  };
  const revision = "0123456789ab";
  return {
    policy: {
      current: () => ({
        revision,
        seats: [],
        routes: new Set(["openai.chat"]),
        passThrough: [],
        unknownFields: "scan",
        unknownEvents: "scan",
        holdFull: "fail",
        redaction: "[redacted]",
      }),
      status: () => ({
        revision,
        hash: "0".repeat(64),
        loadedAt: new Date(0).toISOString(),
        servedFrom: "file",
        lastResult: "applied",
        problems: [],
        seats: [{ id: "limits", use: "rate-limit", mode: "enforce" }],
        draining: 0,
      }),
      reload: async () => ({ result: "unchanged", revision }),
      ...standInChanges(revision),
    },
    switches: {
      active: () => [],
      kill: async () => {
        throw new Error("it has no switches");
      },
      revive: async () => false,
    },
    guard: { status: () => ({ mode: "on", good: revision, segments: 0 }), filed: () => [] },
    operators: standInOperators(refuseWhenAway),
    logins: new LoginLimits(),
    isSecure: false,
    identities: standInKeys(refuseWhenAway),
    sanctions: standInSanctions(refuseWhenAway),
    exemplars: standInExemplars(refuseWhenAway),
    ...standInReputation(refuseWhenAway),
    counters: standInCounters(refuseWhenAway),
    limits: () => [
      {
        seat: "limits",
        mode: "enforce",
        name: "requests",
        of: "requests",
        per: ["key"],
        limit: 600,
        windowSec: 60,
        scale: { trusted: 2 },
      },
    ],
    redis: { isUp: true, isCluster: false, replica: "abc", liveReplicas: 2, problem: undefined },
    upstreams: {
      openai: {
        origins: ["http://127.0.0.1:1"],
        stats: () => ({
          targets: [
            ...[
              {
                name: "main",
                limit: 20,
                inFlight: 1,
                connected: 1,
                isEjected: false,
                failures: 0,
                ejections: 0,
              },
            ],
          ],
          shed: { trusted: 0, normal: 0, new: 0, risky: 0, suspended: 0 },
          retries: 0,
        }),
      },
    },
    spool: {
      accepting: true,
      stats: () => ({
        state: "ok",
        segments: 1,
        bytes: 0,
        appended: 0,
        dropped: 0,
        segmentsDropped: 0,
        torn: 0,
        full: false,
        lastError: "",
      }),
    },
    audit: {
      read: async () => ({ records: [], next: undefined }),
      stats: () => ({
        ...{ records: 0, recordFailures: 0, checkpointFailures: 0, bytes: 0 },
        ...{ head: { seq: 0, hash: "0".repeat(64) }, checkpoint: undefined, problem: undefined },
      }),
    },
    metrics: { expose: async () => "up 1\n", contentType: "text/plain; version=0.0.4" },
    metricsAccess: "open",
    state: { draining: false },
  };
}

function standInKeys(refuseWhenAway: () => void): AdminParts["identities"] {
  const rows = new Map<string, KeyListing>();
  const insert = (fields: Omit<KeyListing, "id" | "prefix" | "createdAt">) => {
    refuseWhenAway();
    const id = `key_${randomBytes(6).toString("hex")}`;
    const key = `sp-${randomBytes(16).toString("hex")}`;
    rows.set(id, { id, prefix: `${key.slice(0, 6)}…`, createdAt: new Date().toISOString(), ...fields });
    return { id, key };
  };
  return {
    list: () => [...rows.values()],
    async create({ canary, ...fields }) {
      if (fields.expiresAt !== undefined && Date.parse(fields.expiresAt) <= Date.now())
        throw new RangeError("expiresAt: must lie in the future");
      return insert({ ...fields, ...(canary === true && { canary }) });
    },
    async rotate(id, { overlapSec }) {
      const old = rows.get(id);
      if (old === undefined) throw new RangeError(`id: ${id} is no key here`);
      if (old.revokedAt !== undefined) throw new RangeError(`id: ${id} was revoked: make a new key instead`);
      const made = insert({ org: old.org, project: old.project, name: old.name, rotatedFrom: id });
      const expiresAt = new Date(Date.now() + overlapSec * 1_000).toISOString();
      rows.set(id, { ...old, expiresAt, replacedBy: made.id });
      return made;
    },
    async revoke(id) {
      refuseWhenAway();
      const found = rows.get(id);
      if (found === undefined) return false;
      rows.set(id, { ...found, revokedAt: found.revokedAt ?? new Date().toISOString() });
      return true;
    },
  };
}

function standInSanctions(refuseWhenAway: () => void): AdminParts["sanctions"] {
  const rows = new Map<string, SanctionRow>();
  const nowIso = () => new Date().toISOString();
  return {
    get: (id) => rows.get(id),
    async impose(wanted) {
      refuseWhenAway();
      const row = newRow(wanted, `sanc_${randomBytes(6).toString("hex")}`, Date.now());
      rows.set(row.id, row);
      return row;
    },
    async lift(id, by) {
      refuseWhenAway();
      const found = rows.get(id);
      if (found === undefined || found.liftedAt !== undefined) return found;
      const lifted = { ...found, liftedAt: nowIso(), liftedBy: by };
      rows.set(id, lifted);
      return lifted;
    },
    list: ({ active, entity } = {}) =>
      [...rows.values()]
        .filter((row) => active === undefined || (row.liftedAt === undefined) === active)
        .filter((row) => entity === undefined || row.entity.id === entity.id)
        .reverse(),
  };
}

function standInExemplars(refuseWhenAway: () => void): AdminParts["exemplars"] {
  const rows = new Map<string, ExemplarRow>();
  return {
    get: (id) => rows.get(id),
    values: () => rows.values(),
    async add(wanted) {
      refuseWhenAway();
      const embedding = new Float32Array(512).fill(0.1);
      const folded = wanted.text.toLowerCase();
      const row = newExemplarRow(wanted, { folded, print: undefined, embedding, nowMs: Date.now() });
      rows.set(row.id, row);
      return row;
    },
    async remove(id) {
      refuseWhenAway();
      return rows.delete(id);
    },
  };
}

function standInReputation(refuseWhenAway: () => void): Pick<AdminParts, "reputation" | "reputationSeats"> {
  const given = new Map<string, { points: number; reason: string; by: string; atMs: number }[]>();
  const sum = (causes: readonly { points: number }[]) =>
    Math.max(
      0,
      causes.reduce((all, { points }) => all + points, 0),
    );
  return {
    reputation: {
      async adjust({ kind, id }, points, why) {
        refuseWhenAway();
        const name = `${kind} ${id}`;
        given.set(name, [{ points, ...why, atMs: Date.now() }, ...(given.get(name) ?? [])]);
      },
      explain({ kind, id }) {
        const causes = given.get(`${kind} ${id}`) ?? [];
        return {
          points: sum(causes),
          causes: causes.map((cause) => ({ ...cause, times: 1 })),
          sanctions: [],
        };
      },
      worst: ({ kind, max }) =>
        [...given]
          .map(([name, causes]) => {
            const [of, ...rest] = name.split(" ");
            return { entity: { kind: of as "org", id: rest.join(" ") }, points: sum(causes) };
          })
          .filter(({ entity }) => kind === undefined || entity.kind === kind)
          .sort((a, b) => b.points - a.points)
          .slice(0, max),
      stats: () => ({ entities: given.size }),
    },
    reputationSeats: () => [
      {
        seat: "reputation",
        mode: "enforce",
        halfLifeMs: 86_400_000,
        tierAt: (points) => ({ tier: points >= 3 ? "risky" : "normal", risk: 1 - Math.exp(-points) }),
      },
    ],
  };
}

function standInCounters(refuseWhenAway: () => void): AdminParts["counters"] {
  const rows: CounterRow[] = ["key=key_1", "key=key_2", "org=acme"].map((key) => ({
    seat: "limits",
    key,
    used: 7,
    reserved: 1,
    windowSec: 60,
    resetMs: 30_000,
  }));
  return {
    inspect(seat, { contains, max }) {
      refuseWhenAway();
      return rows
        .filter((row) => seat === undefined || row.seat === seat)
        .filter(({ key }) => contains === undefined || key.includes(contains))
        .slice(0, max);
    },
    reset(seat, key) {
      refuseWhenAway();
      const at = rows.findIndex((row) => row.seat === seat && row.key === key);
      if (at < 0) return false;
      rows[at] = { ...rows[at]!, used: 0, resetMs: 0 };
      return true;
    },
    stats: () => ({ keys: rows.length, overflowed: 0 }),
  };
}

export interface Ask {
  readonly body?: unknown;
  /** Sent as it is. */
  readonly text?: string;
  /** "" sends none. */
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Answered<Body> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

export interface Console {
  readonly url: string;
  readonly audits: readonly AuditEntry[];
  readonly faults: readonly string[];
  /** Asks over a socket; throws where the answer is not as the document says. */
  ask<Body = Record<string, unknown>>(call: string, ask?: Ask): Promise<Answered<Body>>;
  close(): Promise<void>;
}

export async function openConsole(
  parts: AdminParts = standInParts(),
  more: Partial<AdminOptions> = {},
): Promise<Console> {
  const audits: AuditEntry[] = [];
  const faults: string[] = [];
  const admin = await openAdmin({
    host: "127.0.0.1",
    port: 0,
    token: TOKEN,
    readToken: READ_TOKEN,
    operators: parts.operators,
    routes: adminRoutes(parts),
    audit: {
      begin: async () => 1,
      end: async (_begun, entry) => void audits.push(entry),
      refused: async (entry) => void audits.push(entry),
    },
    onFault: (error, action) => faults.push(`${action}: ${error instanceof Error ? error.message : error}`),
    ...more,
  });
  return {
    url: admin.url,
    audits,
    faults,
    async ask<Body>(call: string, { body, text, token = TOKEN, headers = {} }: Ask = {}) {
      const [method = "", path = ""] = call.split(" ");
      const sent = text ?? (body === undefined ? undefined : JSON.stringify(body));
      const response = await fetch(admin.url + path, {
        method,
        headers: { ...(token !== "" && { authorization: `Bearer ${token}` }), ...headers },
        ...(sent !== undefined && { body: sent }),
      });
      const answer = await response.text();
      const isJson = /json/.test(response.headers.get("content-type") ?? "");
      const read: unknown = isJson && answer !== "" ? JSON.parse(answer) : answer;
      if (method !== "HEAD") checkAnswer(method, path, response, read);
      return { status: response.status, headers: response.headers, body: read as Body };
    },
    close: () => admin.close(),
  };
}

interface DocumentParts {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { responses: Record<string, unknown> }>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, unknown>>;
    readonly responses: Readonly<Record<string, unknown>>;
  };
}

const DOCUMENT = openapiDocument(ADMIN_ROWS) as unknown as DocumentParts;

/** The document must declare the status, and its schema (and the row's, which is stricter) must fit the body. */
function checkAnswer(method: string, path: string, response: Response, body: unknown): void {
  const bare = path.split("?", 1)[0]!;
  const template = Object.keys(DOCUMENT.paths).find((one) => patternOf(one).test(bare));
  const operation = template === undefined ? undefined : DOCUMENT.paths[template]?.[method.toLowerCase()];
  // A path or method that is not there has no words in the document.
  if (template === undefined || operation === undefined) {
    assert.ok([401, 404, 405, 429].includes(response.status), `${method} ${path} answers ${response.status}`);
    return;
  }
  const where = `${method} ${template} ${response.status}`;
  const declared = resolved(operation.responses[String(response.status)]);
  assert.ok(declared !== undefined, `${where} is not declared`);
  const [type = ""] = (response.headers.get("content-type") ?? "").split(";");
  const { content } = declared as { content: Record<string, { schema: unknown }> };
  assert.ok(type in content, `${where} is ${type}, not ${Object.keys(content)}`);
  const schema = content[type]!.schema;
  const fits = z.fromJSONSchema(standAlone(schema)).safeParse(body);
  assert.ok(fits.success, `${where}: ${fits.error?.message} in ${JSON.stringify(body)}`);
  const row = ADMIN_ROWS.find((one) => one.path === template && one.method === method);
  const strict = row?.answers[response.status]?.schema?.safeParse(body);
  assert.ok(strict?.success !== false, `${where}: ${strict?.error?.message}`);
}

function patternOf(template: string): RegExp {
  return new RegExp(`^${template.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`);
}

function resolved(response: unknown): unknown {
  const ref = (response as { readonly $ref?: string } | undefined)?.$ref;
  return ref === undefined ? response : DOCUMENT.components.responses[ref.split("/").at(-1)!];
}

function standAlone(schema: unknown): z.core.JSONSchema.JSONSchema {
  const text = JSON.stringify({ ...(schema as object), $defs: DOCUMENT.components.schemas });
  return JSON.parse(text.replaceAll("#/components/schemas/", "#/$defs/"));
}

/** A policy that takes every change and keeps none. */
function standInChanges(
  revision: string,
): Pick<AdminParts["policy"], "history" | "source" | "validate" | "change" | "withdraw"> {
  const tag = `"${revision}"`;
  return {
    history: {
      entries: [],
      find: () => undefined,
      bundle: () => Promise.reject(new Error("it has no history")),
    },
    source: async () => ({ text: "seats: []\n", tag, from: "file", isServed: true }),
    validate: async () => ({ ok: true, revision, seats: 0, seatsOff: 0, routes: 1 }),
    change: async ({ make, expects }) => {
      if (expects?.(tag) === false) return { result: "changed", tag };
      make("seats: []\n");
      return { result: "unchanged", revision, tag };
    },
    withdraw: async () => undefined,
  };
}
