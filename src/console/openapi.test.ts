/** The document is whole by itself, and the one that is committed is the one that the code makes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { openapiDocument, routesTable } from "./openapi.ts";
import { defineRoute, ok } from "./route.ts";
import { ADMIN_ROWS } from "./routes.ts";

type Node = Readonly<Record<string, unknown>>;
interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly security?: readonly unknown[];
  readonly tags?: readonly string[];
  readonly parameters?: readonly Node[];
  readonly responses: Readonly<Record<string, Node>>;
  readonly "x-sallyport-roles"?: readonly string[];
}

const document = JSON.parse(JSON.stringify(openapiDocument(ADMIN_ROWS))) as {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly tags: readonly { readonly name: string }[];
  readonly components: Readonly<Record<string, Node>>;
};

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
);

function nodesOf(value: unknown): Node[] {
  if (typeof value !== "object" || value === null) return [];
  const below = Object.values(value).flatMap(nodesOf);
  return Array.isArray(value) ? below : [value as Node, ...below];
}

function at(ref: string): unknown {
  assert.match(ref, /^#\//, ref);
  return ref
    .slice(2)
    .split("/")
    .reduce<unknown>((node, name) => (node as Node | undefined)?.[name], document);
}

test("every reference leads somewhere, and every component is used", () => {
  const refs = new Set(nodesOf(document).flatMap(({ $ref }) => (typeof $ref === "string" ? [$ref] : [])));
  assert.ok(refs.size > 20);
  for (const ref of refs) assert.ok(at(ref) !== undefined, ref);
  for (const [kind, named] of Object.entries(document.components)) {
    if (kind === "securitySchemes") continue;
    for (const name of Object.keys(named))
      assert.ok(refs.has(`#/components/${kind}/${name}`), `${kind} ${name}`);
  }
});

test("every operation: an id of its own, words, tokens, its path's parameters, a problem", () => {
  const ids = operations.map(({ operation }) => operation.operationId);
  assert.equal(new Set(ids).size, ADMIN_ROWS.length);
  const tags = new Set(document.tags.map(({ name }) => name));
  for (const { path, method, operation } of operations) {
    const where = `${method} ${path}`;
    assert.match(operation.operationId ?? "", /^[a-z]+\.[a-z]+$/, where);
    assert.match(operation.summary ?? "", /^[A-Z].{5,118}\.$/, where);
    assert.ok(
      operation.tags?.every((tag) => tags.has(tag)),
      where,
    );
    assert.ok(Array.isArray(operation.security), where);
    const declared = (operation.parameters ?? []).filter((one) => one["in"] === "path");
    assert.deepEqual(
      declared.map((one) => one["name"]),
      [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name),
      where,
    );
    assert.ok(
      declared.every((one) => one["required"] === true),
      where,
    );
    const statuses = Object.keys(operation.responses);
    assert.ok(
      statuses.some((status) => status.startsWith("2")),
      where,
    );
    for (const [status, response] of Object.entries(operation.responses)) {
      const ref = response["$ref"];
      const full = (typeof ref === "string" ? at(ref) : response) as Node;
      assert.ok(
        typeof full["description"] === "string" && full["content"] !== undefined,
        `${where} ${status}`,
      );
    }
    assert.ok("500" in operation.responses && "400" in operation.responses, where);
    if (operation.security?.length !== 0) assert.ok("401" in operation.responses, where);
  }
});

test("all but probes and logins take a token or a session, and name the roles that may call", () => {
  for (const { path, method, operation } of operations) {
    const isOpen = ["/healthz", "/readyz", "/api/login", "/api/setup"].includes(path);
    const known = [{ token: [] }, { session: [] }];
    const expected = isOpen ? [] : path === "/metrics" ? [{}, ...known] : known;
    assert.deepEqual(operation.security, expected, `${method} ${path}`);
    const roles = operation["x-sallyport-roles"];
    assert.equal(roles === undefined, isOpen || path === "/metrics", `${method} ${path}`);
    if (roles === undefined) continue;
    assert.ok(roles.includes("admin"), `${method} ${path}`);
    if (method !== "get" && !path.startsWith("/api/session") && path !== "/api/logout")
      assert.ok(!roles.includes("viewer"), `${method} ${path}`);
  }
});

test("every schema is one that a reader of JSON Schema takes", () => {
  const all = document.components["schemas"] ?? {};
  for (const [name, schema] of Object.entries(all)) {
    const text = JSON.stringify({ ...(schema as object), $defs: all });
    const alone = JSON.parse(text.replaceAll("#/components/schemas/", "#/$defs/"));
    assert.doesNotThrow(() => z.fromJSONSchema(alone), name);
  }
});

test("two schemas of one name are a mistake that is told", () => {
  const row = (path: string, schema: z.ZodType) =>
    defineRoute({
      ...({ id: "a.b", noun: "api", method: "GET", path, access: ["viewer"], summary: "Says." } as const),
      answers: { 200: { description: "Yes.", schema } },
      handle: () => ok({}),
    });
  const registry = [z.object({ a: z.string() }), z.object({ b: z.string() })] as const;
  const [one, other] = [registry[0].meta({ id: "Twin" }), registry[1].meta({ id: "Twin" })];
  assert.throws(() => openapiDocument([row("/a", one), row("/b", other)]), /called Twin/);
});

test("the table of the docs has a line for each row", () => {
  const lines = routesTable(ADMIN_ROWS).split("\n");
  assert.equal(lines.length, ADMIN_ROWS.length + 2);
  assert.ok(
    lines.includes(
      "| `DELETE /api/keys/{id}` | senior-analyst, sre, admin | Revokes a key, on every replica within a second. A second time changes nothing. |",
    ),
  );
});
