/**
 * `sallyport schemas [--check]`: writes config/schema/*.json, which editors read through the first line of
 * each YAML file. A test fails when the committed files are not what this writes.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { layerKinds } from "../../layers/index.ts";
import { gatewayJsonSchema, policyJsonSchema } from "../policy/schema.ts";

const SCHEMA_DIR = resolve(import.meta.dirname, "../../config/schema");

const USAGE = `sallyport schemas [--check]

Writes config/schema/policy.schema.json and gateway.schema.json from the schemas of the code and its layers.

  --check   write nothing; exit 1 when a file is not what it should be`;

/** Text by file name. */
export function schemaFiles(): Readonly<Record<string, string>> {
  return {
    "gateway.schema.json": `${JSON.stringify(gatewayJsonSchema(), null, 2)}\n`,
    "policy.schema.json": `${JSON.stringify(policyJsonSchema(layerKinds), null, 2)}\n`,
  };
}

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
  const stale = await staleSchemas();
  if (flag === "--check") {
    for (const name of stale)
      console.error(`config/schema/${name} is out of date; run \`sallyport schemas\``);
    return stale.length > 0 ? 1 : 0;
  }
  await mkdir(SCHEMA_DIR, { recursive: true });
  for (const [name, text] of Object.entries(schemaFiles())) await writeFile(join(SCHEMA_DIR, name), text);
  console.log(`wrote ${Object.keys(schemaFiles()).join(" and ")} to ${SCHEMA_DIR}`);
  return 0;
}

/** Names of committed files that are missing or differ. */
export async function staleSchemas(): Promise<readonly string[]> {
  const stale: string[] = [];
  for (const [name, text] of Object.entries(schemaFiles())) {
    const committed = await readFile(join(SCHEMA_DIR, name), "utf8").catch(() => undefined);
    if (committed !== text) stale.push(name);
  }
  return stale;
}
