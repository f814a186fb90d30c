/**
 * `sallyport schemas [--check]`: writes what the code says of itself: config/schema/*.json, which editors read
 * through the first line of each YAML file, the admin API's OpenAPI document, and the table of its routes in the
 * docs. A test fails when the committed files are not what this writes.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { layerKinds } from "../../layers/index.ts";
import { openapiDocument, rolesTable, routesTable } from "../console/openapi.ts";
import { ADMIN_ROWS } from "../console/routes.ts";
import { gatewayJsonSchema, policyJsonSchema } from "../policy/schema.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const SCHEMA_DIR = "config/schema";

const USAGE = `sallyport schemas [--check]

Writes, from the schemas of the code and its layers:
  config/schema/policy.schema.json and gateway.schema.json, for editors
  config/schema/admin.openapi.json, the admin API
  the tables of routes and roles in docs/admin-api.md

  --check   write nothing; exit 1 when a file is not what it should be`;

/** Text by file name in config/schema. */
export function schemaFiles(): Readonly<Record<string, string>> {
  const text = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  return {
    "admin.openapi.json": text(openapiDocument(ADMIN_ROWS)),
    "gateway.schema.json": text(gatewayJsonSchema()),
    "policy.schema.json": text(policyJsonSchema(layerKinds)),
  };
}

/** Pages that hold a table of the code's between `<!-- begin NAME -->` and `<!-- end NAME -->`. */
const TABLES: readonly { readonly path: string; readonly name: string; readonly table: () => string }[] = [
  { path: "docs/admin-api.md", name: "routes", table: () => routesTable(ADMIN_ROWS) },
  { path: "docs/admin-api.md", name: "roles", table: () => rolesTable(ADMIN_ROWS) },
];

export async function runSchemas(args: readonly string[]): Promise<number> {
  const [flag, ...more] = args;
  if (flag === "--help" || flag === "-h") {
    console.log(USAGE);
    return 0;
  }
  if (more.length > 0 || (flag !== undefined && flag !== "--check")) {
    console.error(USAGE);
    return 2;
  }
  const stale = await staleFiles();
  if (flag === "--check") {
    for (const { path } of stale) console.error(`${path} is out of date; run \`sallyport schemas\``);
    return stale.length > 0 ? 1 : 0;
  }
  for (const { path, text } of stale) {
    await mkdir(dirname(join(ROOT, path)), { recursive: true });
    await writeFile(join(ROOT, path), text);
  }
  console.log(
    stale.length === 0 ? "nothing to write" : `wrote ${stale.map(({ path }) => path).join(" and ")}`,
  );
  return 0;
}

/** Paths of committed files that are missing or differ. */
export async function staleSchemas(): Promise<readonly string[]> {
  return (await staleFiles()).map(({ path }) => path);
}

async function staleFiles(): Promise<readonly { readonly path: string; readonly text: string }[]> {
  const wanted = Object.entries(schemaFiles()).map(([name, text]) => ({
    path: `${SCHEMA_DIR}/${name}`,
    text,
  }));
  const pages = new Map<string, string>();
  for (const { path, name, table } of TABLES) {
    const page = pages.get(path) ?? (await readFile(join(ROOT, path), "utf8"));
    pages.set(path, withTable(page, name, table()));
  }
  for (const [path, text] of pages) wanted.push({ path, text });
  const committed = await Promise.all(
    wanted.map(({ path }) => readFile(join(ROOT, path), "utf8").catch(() => undefined)),
  );
  return wanted.filter(({ text }, i) => committed[i] !== text);
}

/** Throws where the page does not hold both markers. */
export function withTable(page: string, name: string, table: string): string {
  const begin = `<!-- begin ${name} -->\n`;
  const end = `<!-- end ${name} -->`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`the page has no ${begin.trim()} ... ${end}`);
  return `${page.slice(0, from)}${begin}${table}\n${page.slice(to)}`;
}
