import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { schemaFiles, staleSchemas, withTable } from "./schemas.ts";

const CONFIG = resolve(import.meta.dirname, "../../config");

test("the committed schemas are those of the code", async () => {
  assert.deepEqual(await staleSchemas(), [], "run `npx sallyport schemas`");
});

test("each configuration file names its schema", () => {
  for (const name of readdirSync(CONFIG).filter(
    (file) => file === "policy.yaml" || file === "gateway.yaml",
  )) {
    const [first = ""] = readFileSync(resolve(CONFIG, name), "utf8").split("\n");
    const named = /^# yaml-language-server: \$schema=schema\/(.+)$/.exec(first)?.[1];
    assert.ok(named !== undefined && named in schemaFiles(), first);
  }
});

test("a page's table is replaced between its markers, and nowhere else", () => {
  const page = "before\n<!-- begin x -->\nold\n<!-- end x -->\nafter\n";
  const written = "before\n<!-- begin x -->\n| new |\n<!-- end x -->\nafter\n";
  assert.equal(withTable(page, "x", "| new |"), written);
  assert.equal(withTable(written, "x", "| new |"), written);
  assert.throws(() => withTable("no markers", "x", ""), /no <!-- begin x -->/);
});

/** Every field of every object, so that one without words or without a default is named by the test. */
function fieldsOf(
  schema: unknown,
  path: string,
): { path: string; field: Record<string, unknown>; isRequired: boolean }[] {
  if (typeof schema !== "object" || schema === null) return [];
  if (Array.isArray(schema)) return schema.flatMap((one, i) => fieldsOf(one, `${path}/${i}`));
  const { properties, required, if: _, ...rest } = schema as Record<string, unknown>;
  const needed = new Set(Array.isArray(required) ? required : []);
  const own = Object.entries((properties ?? {}) as Record<string, Record<string, unknown>>).map(
    ([name, field]) => ({
      path: `${path}.${name}`,
      field,
      isRequired: needed.has(name),
    }),
  );
  const below = [...Object.entries(rest), ...Object.entries(properties ?? {})];
  return [
    ...own,
    ...below.flatMap(([name, value]) => (name === "default" ? [] : fieldsOf(value, `${path}.${name}`))),
  ];
}

test("every field is described; every one that may be left out states its default or says what absence means", () => {
  for (const [name, text] of Object.entries(schemaFiles())) {
    const fields = fieldsOf(JSON.parse(text), name);
    assert.ok(fields.length > 10);
    for (const { path, field, isRequired } of fields) {
      assert.ok(typeof field["description"] === "string", `${path} is described`);
      const saysAbsent = /absent|with no |default/i.test(field["description"]);
      assert.ok(isRequired || "default" in field || saysAbsent, `${path} states a default`);
    }
  }
});
