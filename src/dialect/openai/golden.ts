/**
 * Compares a value with a golden file that a reviewer reads. `UPDATE_GOLDEN=1` writes the files anew. Only
 * tests import this.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const FOLDER = new URL("../../../test/golden/openai/", import.meta.url);

export function golden(name: string, actual: unknown): void {
  const file = new URL(`${name}.json`, FOLDER);
  const printed = `${JSON.stringify(actual, null, 2)}\n`;
  if (process.env["UPDATE_GOLDEN"] === "1") {
    mkdirSync(dirname(file.pathname), { recursive: true });
    writeFileSync(file, printed);
    return;
  }
  const wanted = readFileSync(file, "utf8");
  assert.deepEqual(JSON.parse(printed), JSON.parse(wanted), `differs from test/golden/openai/${name}.json`);
}
