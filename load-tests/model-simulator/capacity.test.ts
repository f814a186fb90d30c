import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { Capacity } from "./capacity.ts";
import { type Script, type Simulator, startSimulator } from "./simulator.ts";

let simulator: Simulator;
before(async () => {
  simulator = await startSimulator();
});
after(() => simulator.close());
afterEach(() => simulator.clearScripts());

const capacity = (settings: NonNullable<Script["capacity"]>, more: Script = {}): Script => ({
  text: "Well.",
  ...more,
  capacity: settings,
});

async function ask(stream = false, signal?: AbortSignal) {
  const started = performance.now();
  const response = await fetch(`${simulator.url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({ model: "m", stream, messages: [{ role: "user", content: "x" }] }),
    ...(signal && { signal }),
  });
  const text = await response.text();
  const endedMs = performance.now();
  return { status: response.status, text, endedMs, tookMs: endedMs - started };
}

test("requests beyond the places wait for one", async () => {
  simulator.setScript(capacity({ concurrency: 2, serviceMs: 60 }));
  const startedMs = performance.now();
  const answers = await Promise.all(Array.from({ length: 6 }, () => ask()));
  // The earliest that each could come with two at work at once, however slow the machine; timers may be 1 ms early.
  const came = answers.map(({ endedMs }) => endedMs - startedMs).sort((a, b) => a - b);
  for (const [i, atMs] of came.entries()) {
    assert.ok(atMs >= 59 * (1 + Math.floor(i / 2)), `answer ${i} of ${came}`);
  }
  assert.ok(answers.every(({ status }) => status === 200));
});

test("whoever waits is served in order, and who leaves the queue is passed over", () => {
  const places = new Capacity();
  const begun: number[] = [];
  const enter = (nth: number) => places.enter({ concurrency: 1 }, () => begun.push(nth))!;
  const entered = [0, 1, 2, 3, 4].map(enter);
  assert.deepEqual([begun, places.busy, places.waiting], [[0], 1, 4]);
  entered[2]!.leave();
  for (const nth of [0, 1, 3]) entered[nth]!.leave();
  assert.deepEqual([begun, places.busy, places.waiting], [[0, 1, 3, 4], 1, 0]);
  for (const place of entered) place.leave();
  assert.deepEqual([places.busy, places.waiting], [0, 0]);
});

test("beyond the queue they are refused at once, in the vendor's shape", async () => {
  simulator.setScript(capacity({ concurrency: 1, serviceMs: 1_000, queueMax: 1 }));
  const answers = await Promise.all(Array.from({ length: 5 }, () => ask()));
  const refused = answers.filter(({ status }) => status === 503);
  assert.equal(refused.length, 3);
  assert.ok(refused.every(({ tookMs }) => tookMs < 900));
  assert.match(refused[0]!.text, /"error":\{"message":"The server is at its capacity/);
  simulator.setScript(capacity({ concurrency: 1, serviceMs: 30, queueMax: 0, status: 529 }));
  const both = await Promise.all([ask(), ask()]);
  assert.deepEqual(both.map(({ status }) => status).sort(), [200, 529]);
});

test("a stream keeps its place to its end; who leaves frees it, at work or waiting", async () => {
  simulator.setScript(capacity({ concurrency: 1 }, { text: "a b c d e f", eventGapMs: 60 }));
  const [one, other] = await Promise.all([ask(true), ask(true)]);
  // A stream takes at least 300 ms, which the later one cannot begin before the earlier one's end.
  assert.ok(Math.abs(one.endedMs - other.endedMs) > 200, `${one.endedMs} and ${other.endedMs}`);
  simulator.setScript(capacity({ concurrency: 1, serviceMs: 60_000 }));
  const leaving = new AbortController();
  const gone = [ask(false, leaving.signal), ask(true, leaving.signal)];
  await eventually(() => assert.equal(simulator.openStreams(), 2));
  leaving.abort();
  await Promise.allSettled(gone);
  simulator.setScript(capacity({ concurrency: 1, serviceMs: 1 }));
  assert.equal((await ask()).status, 200);
});

test("settings that will not do are named", () => {
  assert.throws(() => simulator.setScript({ capacity: { concurrency: 0 } }), /script\.capacity\.concurrency/);
});
