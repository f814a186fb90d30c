/**
 * Runs every test of the project in node's own runner and prints one closing line, "N passed, N failed".
 * Arguments are path fragments that pick test files: `npm test -- pipeline e2e/streams`.
 */
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

const root = resolve(import.meta.dirname, "..");
const picks = process.argv.slice(2);
const files = globSync("{src,layers,load-tests,test}/**/*.test.ts", {
  cwd: root,
  exclude: ["**/node_modules/**"],
})
  .filter((file) => picks.length === 0 || picks.some((pick) => file.includes(pick)))
  .sort()
  .map((file) => resolve(root, file));

let passed = 0;
let failed = 0;
let skipped = 0;
const stream = run({ files, concurrency: Math.min(2, availableParallelism()), timeout: 20 * 60_000 });
stream.on("test:pass", ({ skip, details }) => {
  if (details.type === "suite") return;
  if (skip !== undefined) skipped += 1;
  else passed += 1;
});
stream.on("test:fail", ({ details }) => {
  if (details.type !== "suite") failed += 1;
});
stream.compose(spec).pipe(process.stdout);
stream.on("end", () => {
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
  setImmediate(() =>
    console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`),
  );
});
