/**
 * Runs every test of the project in node's own runner and prints one closing line, "N passed, N failed".
 * Arguments are path fragments that pick test files: `npm test -- pipeline e2e/streams`.
 */
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

/** No file takes longer; one that hangs fails instead of holding the run up. */
const FILE_MS_MAX = 15 * 60_000;
/** Nor does a single test, unless it names a time of its own: the tests after it still run. */
const TEST_MS_MAX = 10 * 60_000;

const root = resolve(import.meta.dirname, "..");
const picks = process.argv.slice(2);
const files = globSync("{src,layers,load-tests,test}/**/*.test.ts", {
  cwd: root,
  exclude: ["**/node_modules/**"],
})
  .filter((file) => picks.length === 0 || picks.some((pick) => file.includes(pick)))
  .sort()
  .map((file) => resolve(root, file));

// Faults measure times and load the machine: each has it to itself, after everything else.
const alone = files.filter((file) => file.includes("/test/faults/"));
const shared = files.filter((file) => !alone.includes(file));
const count = { passed: 0, failed: 0, skipped: 0 };

for (const { group, concurrency } of [
  { group: shared, concurrency: Math.min(2, availableParallelism()) },
  { group: alone, concurrency: 1 },
]) {
  if (group.length > 0) await runGroup(group, concurrency);
}
const { passed, failed, skipped } = count;
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);

async function runGroup(group: readonly string[], concurrency: number): Promise<void> {
  const stream = run({
    files: group,
    concurrency,
    timeout: FILE_MS_MAX,
    // As `npm start` runs the gateway: a young heap of 4 MB keeps each of the collector's pauses short.
    execArgv: ["--max-semi-space-size=4", `--test-timeout=${TEST_MS_MAX}`],
  });
  stream.on("test:pass", ({ skip, details }) => {
    if (details.type === "suite") return;
    if (skip !== undefined) count.skipped += 1;
    else count.passed += 1;
  });
  stream.on("test:fail", ({ details }) => {
    if (details.type !== "suite") count.failed += 1;
  });
  for await (const text of stream.compose(new spec())) process.stdout.write(text as string);
}
