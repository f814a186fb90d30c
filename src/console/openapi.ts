/**
 * The admin API as an OpenAPI 3.1 document, made from the rows that the router serves. Problems, tokens and
 * headers that follow from how a row is written are added here, so that no row can forget them.
 */
import { z } from "zod";
import { ROLES, type Role } from "../ports/operators-record.ts";
import { BODY_BYTES_MAX } from "./body.ts";
import { type FaultCode, faultStatus, faultTitle, problemSchema } from "./faults.ts";
import type { Noun, RouteRow } from "./route.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
type JsonObject = { readonly [name: string]: Json };

const NOUNS: Readonly<Record<Noun, string>> = {
  health: "Probes, metrics and the gateway at a glance.",
  session: "Logging in and out.",
  accounts: "Accounts of operators.",
  tokens: "Named bearer tokens for the command line and CI.",
  policy: "The policy that is served.",
  keys: "Virtual keys of callers.",
  limits: "Limits and where their counters stand.",
  reputation: "Risk points of callers, and why.",
  sanctions: "What was imposed on callers.",
  exemplars: "Texts that people have judged, by which their like is known.",
  audit: "Who changed what, and when.",
  stores: "Where state is kept, and the model APIs behind the gateway.",
  api: "This API.",
};

/** Headers that calls which change something may carry. */
const HEADERS = {
  Actor: {
    name: "x-sallyport-actor",
    in: "header",
    required: false,
    description:
      "Who does it, for the record: a name that the holder of a token of the environment answers for. Others are known.",
    schema: { type: "string", pattern: "^[\\w.@:+-]{1,64}$", default: "admin" },
  },
  Csrf: {
    name: "x-sallyport-csrf",
    in: "header",
    required: false,
    description: "`csrf` of GET /api/session: needed with a session's cookie, ignored with a token.",
    schema: { type: "string" },
  },
  IfMatch: {
    name: "if-match",
    in: "header",
    required: false,
    description: "`etag` of the thing as it was read; 412 where it has changed since. Absent: not asked.",
    schema: { type: "string" },
  },
} as const;

export function openapiDocument(rows: readonly RouteRow[]): JsonObject {
  const schemas = new Schemas();
  const paths: Record<string, Record<string, Json>> = {};
  for (const row of rows) {
    paths[row.path] = { ...paths[row.path], [row.method.toLowerCase()]: operationOf(row, schemas) };
  }
  const problem = schemas.of(problemSchema, "output");
  const used = new Set<FaultCode>(rows.flatMap((row) => faultsOf(row).map(({ code }) => code)));
  return {
    openapi: "3.1.1",
    info: {
      title: "Sallyport admin API",
      version: "1",
      description:
        "Accounts, keys, limits, reputation, sanctions and exemplars of one gateway, live. `x-sallyport-roles` names who may call what. Errors are RFC 9457 problem details.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "http://127.0.0.1:8081", description: "`admin.listen` in gateway.yaml." }],
    tags: Object.entries(NOUNS).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description: "SALLYPORT_ADMIN_TOKEN (admin), SALLYPORT_ADMIN_READ_TOKEN (viewer) or a named token.",
        },
        session: {
          type: "apiKey",
          in: "cookie",
          name: "sallyport",
          description: "Of POST /api/login; `__Host-sallyport` where admin.url is https.",
        },
      },
      parameters: HEADERS,
      responses: Object.fromEntries(
        [...used].sort().map((code) => [
          code,
          {
            description: `${faultTitle(code)}`,
            ...responseHeaders(code),
            content: { "application/problem+json": { schema: problem } },
          },
        ]),
      ),
      schemas: schemas.sorted(),
    },
  };
}

function operationOf(row: RouteRow, schemas: Schemas): Json {
  const isChange = row.method !== "GET";
  const parameters: Json[] = [
    ...parametersIn("path", row.params, schemas),
    ...parametersIn("query", row.query, schemas),
  ];
  if (isChange && row.access !== "open") {
    for (const name of ["Actor", "Csrf"]) parameters.push({ $ref: `#/components/parameters/${name}` });
  }
  if (isChange && row.etag !== undefined) parameters.push({ $ref: "#/components/parameters/IfMatch" });
  const responses: Record<string, Json> = {};
  for (const [status, { description, schema }] of Object.entries(row.answers)) {
    responses[status] = {
      description,
      ...(row.etag !== undefined && !isChange && { headers: { etag: headerOf("For if-match.") } }),
      content:
        schema === undefined
          ? { "text/plain": { schema: { type: "string" } } }
          : { "application/json": { schema: schemas.of(schema, "output") } },
    };
  }
  for (const { code, description } of faultsOf(row)) {
    const ref = `#/components/responses/${code}`;
    responses[String(faultStatus(code))] =
      description === undefined ? { $ref: ref } : { $ref: ref, description };
  }
  return {
    operationId: row.id,
    tags: [row.noun],
    summary: row.summary,
    ...(row.description !== undefined && { description: row.description }),
    security: securityOf(row),
    ...(rolesOf(row).length > 0 && { "x-sallyport-roles": rolesOf(row) }),
    ...(parameters.length > 0 && { parameters }),
    ...(row.body !== undefined && {
      requestBody: {
        required: !row.body.safeParse({}).success,
        description: `At most ${row.bodyBytesMax ?? BODY_BYTES_MAX} bytes.`,
        content: { "application/json": { schema: schemas.of(row.body, "input") } },
      },
    }),
    responses,
  };
}

function securityOf({ access }: RouteRow): Json {
  const known: JsonObject[] = [{ token: [] }, { session: [] }];
  if (access === "open") return [];
  // An empty requirement: it is open, unless gateway.yaml asks for a token.
  return access === "metrics" ? [{}, ...known] : known;
}

/** Empty where nobody needs one. */
function rolesOf({ access }: RouteRow): readonly Role[] {
  return access === "open" || access === "metrics" ? [] : access;
}

interface FaultNote {
  readonly code: FaultCode;
  readonly description?: string;
}

/** Of two faults with one status, one is named: the statuses of the table differ, so there are none. */
function faultsOf(row: RouteRow): readonly FaultNote[] {
  const isChange = row.method !== "GET";
  const notes: FaultNote[] = [{ code: "invalid" }, { code: "too_large" }, { code: "internal" }];
  if (row.access !== "open") notes.push({ code: "unauthenticated" }, { code: "attempts" });
  if (isChange) notes.push({ code: "unrecorded" });
  if (isChange || (row.access !== "open" && row.access !== "metrics" && row.access.length < ROLES.length))
    notes.push({ code: "forbidden" });
  if (isChange && row.etag !== undefined) notes.push({ code: "changed" });
  if (row.needsIfMatch === true) notes.push({ code: "unconditional" });
  for (const [code, description] of Object.entries(row.faults ?? {})) {
    notes.push({ code: code as keyof NonNullable<RouteRow["faults"]>, description });
  }
  return notes;
}

function responseHeaders(code: FaultCode): JsonObject {
  switch (code) {
    case "attempts":
    case "store_away":
      return { headers: { "retry-after": headerOf("Seconds to wait.") } };
    case "unauthenticated":
      return { headers: { "www-authenticate": headerOf("Bearer.") } };
    default:
      return {};
  }
}

function headerOf(description: string): JsonObject {
  return { description, schema: { type: "string" } };
}

function parametersIn(place: "path" | "query", shape: z.ZodObject | undefined, schemas: Schemas): Json[] {
  if (shape === undefined) return [];
  const { properties = {}, required = [] } = schemas.of(shape, "input") as {
    readonly properties?: Readonly<Record<string, JsonObject>>;
    readonly required?: readonly string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: place,
    required: required.includes(name),
    ...(description !== undefined && { description }),
    schema,
  }));
}

/** Schemas with a name, gathered from all rows: one of each. */
class Schemas {
  readonly #named = new Map<string, { readonly text: string; readonly schema: JsonObject }>();

  /** A reference where the schema has a name, else the schema itself. */
  of(schema: z.ZodType, io: "input" | "output"): JsonObject {
    const made = z.toJSONSchema(schema, { io, override: (one) => tidy(one.jsonSchema, io) });
    const { $schema: _, $defs = {}, id: _id, ...own } = JSON.parse(JSON.stringify(made)) as JsonObject;
    for (const [id, { id: _own, ...below }] of Object.entries(
      $defs as Readonly<Record<string, JsonObject>>,
    )) {
      this.#keep(id, relinked(below) as JsonObject);
    }
    return relinked(own) as JsonObject;
  }

  sorted(): JsonObject {
    const names = [...this.#named.keys()].sort();
    return Object.fromEntries(names.map((name) => [name, this.#named.get(name)!.schema]));
  }

  #keep(id: string, schema: JsonObject): void {
    const text = JSON.stringify(schema);
    const known = this.#named.get(id);
    if (known !== undefined && known.text !== text) throw new Error(`two schemas are called ${id}`);
    this.#named.set(id, { text, schema });
  }
}

function tidy(schema: z.core.JSONSchema.BaseSchema, io: "input" | "output"): void {
  // What is answered may gain fields: a client must not break by them.
  if (io === "output" && schema.additionalProperties === false) delete schema.additionalProperties;
  // zod's own pattern for what `format` says already, 400 characters long.
  if (schema.format === "date-time") delete schema.pattern;
}

function refOf(id: string): string {
  return `#/components/schemas/${id}`;
}

/** References into `$defs` lead to the document's components. */
function relinked(value: Json): Json {
  if (Array.isArray(value)) return value.map(relinked);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, below]) => [
      name,
      name === "$ref" && typeof below === "string"
        ? below.replace("#/$defs/", refOf(""))
        : relinked(below as Json),
    ]),
  );
}

/** A table of the routes in Markdown, for the docs. */
export function routesTable(rows: readonly RouteRow[]): string {
  const lines = rows.map(({ method, path, summary, access }) => [
    `\`${method} ${path}\``,
    access === "open" ? "nobody" : access === "metrics" ? "nobody, or any" : roleWords(access),
    summary.replaceAll("|", "\\|"),
  ]);
  return markdown([["call", "role", "what it does"], ...lines]);
}

/** Every route with every role, for the docs: `yes` where the role may call it. */
export function rolesTable(rows: readonly RouteRow[]): string {
  const lines = rows.map(({ id, method, path, access }) => [
    id,
    `\`${method} ${path}\``,
    ...ROLES.map((role) => (typeof access === "string" || access.includes(role) ? "yes" : "")),
  ]);
  return markdown([["action", "call", ...ROLES], ...lines]);
}

function roleWords(roles: readonly Role[]): string {
  return roles.length === ROLES.length ? "any" : roles.join(", ");
}

function markdown([head = [], ...lines]: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...lines].map((line) => `| ${line.join(" | ")} |`).join("\n");
}
