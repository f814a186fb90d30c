/** The pool with real worker threads: the real encoder once, and for what goes wrong a script that does it on demand. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openEncoder } from "./encoder.ts";
import { type EncoderPoolOptions, openEncoderPool } from "./encoder-pool.ts";

/** A worker that does what the first text of a call says, and answers with the texts' lengths. */
const puppet = script(`
  port.on("message", ({ texts }) => {
    const [order] = texts;
    if (order === "crash") throw new Error("told to crash");
    if (order === "exit") process.exit(3);
    if (order === "hog") { const all = []; for (;;) all.push(new Array(100_000).fill(all.length)); }
    if (order === "hang") for (;;) {}
    const answer = () => port.postMessage({
      kind: "embeddings", embeddings: texts.map((text) => Float32Array.of(text.length)),
    });
    if (order.startsWith("sleep")) setTimeout(answer, Number(order.slice(5)));
    else answer();
  });
  port.postMessage({ kind: "ready" });
`);

function script(code: string): URL {
  const source = `import { parentPort as port } from "node:worker_threads";${code}`;
  return new URL(`data:text/javascript,${encodeURIComponent(source)}`);
}

async function openPuppet(t: TestContext, options: EncoderPoolOptions = {}) {
  const pool = await openEncoderPool({ script: puppet, restartMs: 10, ...options });
  t.after(() => pool.close());
  return pool;
}

const soon = { deadlineMs: 5_000 };
const answer = (...lengths: readonly number[]) => ({
  kind: "embeddings",
  embeddings: lengths.map((length) => Float32Array.of(length)),
});

test("workers give what the encoder gives", async (t) => {
  const pool = await openEncoderPool({ workers: 2 });
  t.after(() => pool.close());
  const texts = ["How do I renew my passport?", "", "The harbour master wrote a long report."];
  const embeddings = await openEncoder().encode(texts);
  const calls = Array.from({ length: 6 }, () => pool.encode(texts, { deadlineMs: 30_000 }));
  for (const call of calls) assert.deepEqual(await call, { kind: "embeddings", embeddings });
});

test("calls are answered in turn, and those beyond the queue are refused at once", async (t) => {
  const pool = await openPuppet(t, { queueMax: 2 });
  const running = pool.encode(["sleep50"], soon);
  const queued = [pool.encode(["ab"], soon), pool.encode(["a", "abc"], soon)];
  assert.equal(pool.waiting, 2);
  assert.deepEqual(await pool.encode(["a"], soon), { kind: "full" });
  assert.deepEqual(await running, answer(7));
  assert.deepEqual(await Promise.all(queued), [answer(2), answer(1, 3)]);
  assert.equal(pool.waiting, 0);
});

test("a call is late when it waits too long or runs too long; a late one leaves the queue", async (t) => {
  const pool = await openPuppet(t, { queueMax: 1 });
  const running = pool.encode(["sleep150"], { deadlineMs: 60 });
  assert.deepEqual(await pool.encode(["queued"], { deadlineMs: 10 }), { kind: "late" });
  assert.equal(pool.waiting, 0);
  assert.deepEqual(await running, { kind: "late" });
  // Behind the one whose answer nobody awaits any more.
  assert.deepEqual(await pool.encode(["abc"], soon), answer(3));
});

for (const [order, cause] of [
  ["crash", /told to crash/],
  ["exit", /worker ended/],
  ["hog", /memory/],
] as const) {
  test(`a worker that ends (${order}) fails its call alone, and the next calls are answered`, async (t) => {
    const pool = await openPuppet(t);
    const lost = pool.encode([order], { deadlineMs: 30_000 });
    const behind = pool.encode(["abcd"], { deadlineMs: 30_000 });
    const failed = await lost;
    assert.equal(failed.kind, "failed");
    assert.match(failed.kind === "failed" ? failed.cause : "", cause);
    assert.deepEqual(await behind, answer(4));
    assert.deepEqual(await pool.encode(["ab"], soon), answer(2));
  });
}

test("a worker that hangs is ended and replaced", async (t) => {
  const pool = await openPuppet(t, { stuckMs: 100 });
  const hung = pool.encode(["hang"], soon);
  const behind = pool.encode(["abcd"], soon);
  assert.deepEqual(await hung, { kind: "failed", cause: "the encoder's worker was stuck" });
  assert.deepEqual(await behind, answer(4));
});

test("with one worker lost the others go on", async (t) => {
  const pool = await openPuppet(t, { workers: 2, restartMs: 60_000 });
  assert.equal((await pool.encode(["crash"], soon)).kind, "failed");
  for (const _ of [1, 2, 3]) assert.deepEqual(await pool.encode(["abc"], soon), answer(3));
});

test("with no worker left, calls wait until their deadline", async (t) => {
  const pool = await openPuppet(t, { restartMs: 60_000 });
  assert.equal((await pool.encode(["exit"], soon)).kind, "failed");
  assert.deepEqual(await pool.encode(["abc"], { deadlineMs: 20 }), { kind: "late" });
});

test("a worker that cannot start is a broken dependency, and ends nothing else", async () => {
  await assert.rejects(
    openEncoderPool({ script: script(`throw new Error("no weights");`), restartMs: 1 }),
    /no weights/,
  );
  await sleep(20);
});

test("closing fails what runs and what waits; more texts than allowed are the caller's mistake", async (t) => {
  const pool = await openPuppet(t, { textsMax: 2 });
  assert.throws(() => pool.encode(["a", "b", "c"], soon), RangeError);
  const calls = [pool.encode(["sleep1000"], soon), pool.encode(["a"], soon)];
  await pool.close();
  const closed = { kind: "failed", cause: "the encoder is closed" };
  assert.deepEqual(await Promise.all(calls), [closed, closed]);
  assert.deepEqual(await pool.encode(["a"], soon), closed);
});
