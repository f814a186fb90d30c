/**
 * The bypass suite against a Sallyport of this working tree: nothing leaks and nothing breaks. And against one that
 * judges nothing, a part of it: there the same cases must leak, or they prove nothing.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { reportOf } from "./report.ts";
import { runSuite } from "./suite.ts";
import { type OpenTarget, openSallyportTarget } from "./targets.ts";
import { ScriptedUpstream } from "./upstream.ts";

let upstream: ScriptedUpstream;
const targets: OpenTarget[] = [];
before(async () => {
  upstream = await ScriptedUpstream.open("127.0.0.1", 0);
});
after(async () => {
  for (const target of targets) await target.close();
  await upstream.close();
});

async function attacked(policy?: (shipped: string) => string, only: readonly string[] = []) {
  const target = await openSallyportTarget(upstream.url, policy);
  targets.push(target);
  const notes: string[] = [];
  const rows = await runSuite({ target, upstream, only, note: (line) => notes.push(line) });
  assert.deepEqual(notes, []);
  return reportOf(target.name, rows, 0);
}

test("nothing leaks and nothing breaks, on every route", async () => {
  const { cases, totals } = await attacked();
  assert.ok(totals.cases > 5_000, `${totals.cases} cases`);
  assert.deepEqual(
    cases
      .filter(({ result }) => result !== "passed")
      .map(({ id, result, detail }) => `${result} ${id}: ${detail}`),
    [],
  );
});

test("where nothing is judged, the same cases leak", async () => {
  const only = [
    "prompt-window/",
    "answer-split/chat content",
    "answer-split/messages thinking",
    "answer-bytes/responses",
  ];
  const { cases } = await attacked((shipped) => shipped.replace(/^seats:[\s\S]*/m, "seats: []\n"), only);
  const passed = cases.filter(({ result }) => result !== "leaked").map(({ id }) => id);
  assert.ok(cases.length > 200, `${cases.length} cases`);
  // Bodies that are too deep are refused without any seat.
  assert.deepEqual(passed, ["prompt-window/nested 5,000 deep"]);
});
