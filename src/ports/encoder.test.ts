/** The encoder's port over pools that do as they are told, and once over the real one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openEncoderPool, type Encoded as PoolAnswer } from "../text/encoder/encoder-pool.ts";
import { type EncoderOptions, openEncoder } from "./encoder.ts";

interface Held {
  readonly texts: readonly string[];
  readonly deadlineMs: number;
  readonly answer: (encoded: PoolAnswer) => void;
}

/** A pool whose answers the test gives. */
function heldPool(more: Partial<EncoderOptions> = {}) {
  const calls: Held[] = [];
  const encoder = openEncoder({
    workers: 1,
    queueMax: 1,
    timeoutMs: 1_000,
    openPool: async () => ({
      encode: (texts, { deadlineMs }) =>
        new Promise<PoolAnswer>((answer) => calls.push({ texts, deadlineMs, answer })),
      waiting: 0,
      close: async () => {},
    }),
    ...more,
  });
  return { encoder, calls };
}

const given = (...numbers: number[]): PoolAnswer => ({
  kind: "embeddings",
  embeddings: [Float32Array.from(numbers)],
});
const turn = () => new Promise((resolve) => setImmediate(resolve));

test("a text is encoded once: the same beside it waits along, the same after it is known", async () => {
  const { encoder, calls } = heldPool();
  const both = [encoder.encode("a"), encoder.encode("a")];
  await turn();
  assert.equal(calls.length, 1);
  assert.ok(calls[0]!.deadlineMs <= 1_000 && calls[0]!.deadlineMs > 500);
  calls[0]!.answer(given(1, 2));
  for (const encoded of await Promise.all(both)) {
    assert.deepEqual(encoded, { kind: "embedding", embedding: Float32Array.of(1, 2) });
  }
  assert.equal((await encoder.encode("a")).kind, "embedding");
  assert.equal(calls.length, 1);
  const { embedded, known, waiting } = encoder.stats();
  assert.deepEqual([embedded, known, waiting], [1, 2, 0]);
});

test("what is known is bounded, the least lately asked for goes first", async () => {
  const { encoder, calls } = heldPool({ knownMax: 2 });
  const ask = async (text: string) => {
    const before = calls.length;
    const encoding = encoder.encode(text);
    await turn();
    calls[before]?.answer(given(1));
    await encoding;
    return calls.length - before;
  };
  assert.deepEqual([await ask("a"), await ask("b"), await ask("a"), await ask("c")], [1, 1, 0, 1]);
  assert.deepEqual([await ask("a"), await ask("b")], [0, 1]);
});

test("full: the text beyond the queue is refused at once; late and failed come back as that", async () => {
  const { encoder, calls } = heldPool();
  const first = encoder.encode("a");
  const second = encoder.encode("b");
  assert.deepEqual(await encoder.encode("c"), { kind: "skipped", cause: "full" });
  await turn();
  calls[0]!.answer({ kind: "late" });
  calls[1]!.answer({ kind: "failed", cause: "broken" });
  assert.deepEqual(await first, { kind: "skipped", cause: "late" });
  assert.deepEqual(await second, { kind: "skipped", cause: "failed" });
  assert.deepEqual(encoder.stats().skipped, { full: 1, late: 1, failed: 1, gone: 0 });
});

test("a request that is over is not encoded", async () => {
  const { encoder, calls } = heldPool();
  assert.deepEqual(await encoder.encode("a", AbortSignal.abort()), { kind: "skipped", cause: "gone" });
  const controller = new AbortController();
  const encoding = encoder.encode("b", controller.signal);
  await turn();
  controller.abort();
  calls[0]!.answer(given(1));
  assert.deepEqual(await encoding, { kind: "skipped", cause: "gone" });
  assert.equal(calls.length, 1);
});

test("a pool that cannot start is failed, told once, and not tried at each text; one that is slow is late", async () => {
  const problems: (string | undefined)[] = [];
  let tries = 0;
  const { encoder } = heldPool({
    openPool: async () => {
      tries += 1;
      throw new Error("no weights");
    },
    onProblem: (problem) => problems.push(problem),
  });
  for (const text of ["a", "b", "c"]) {
    assert.deepEqual(await encoder.encode(text), { kind: "skipped", cause: "failed" });
  }
  assert.deepEqual([tries, problems], [1, ["no weights"]]);
  const slow = heldPool({ timeoutMs: 20, openPool: () => new Promise(() => {}) });
  assert.deepEqual(await slow.encoder.encode("a"), { kind: "skipped", cause: "late" });
});

test("a warmed encoder has started before the first text, and once", async (context) => {
  let opened = 0;
  const encoder = openEncoder({
    workers: 1,
    queueMax: 1,
    timeoutMs: 30_000,
    openPool: (options) => {
      opened += 1;
      return openEncoderPool(options);
    },
  });
  context.after(() => encoder.close());
  encoder.warm();
  encoder.warm();
  assert.equal(opened, 1);
  assert.equal((await encoder.encode("A loaf of bread.")).kind, "embedding");
  encoder.warm();
  assert.equal(opened, 1);
});

test("the real pool: near in meaning is near in numbers", async (context) => {
  const encoder = openEncoder({ workers: 1, queueMax: 8, timeoutMs: 30_000 });
  context.after(() => encoder.close());
  const [one, near, far] = await Promise.all(
    [
      "How do I bake bread at home?",
      "What is a way to make a loaf myself?",
      "The court ruled on Monday.",
    ].map((text) => encoder.encode(text)),
  );
  assert.ok(one?.kind === "embedding" && near?.kind === "embedding" && far?.kind === "embedding");
  const cosine = (a: Float32Array, b: Float32Array) =>
    a.subarray(0, 512).reduce((sum, value, i) => sum + value * b[i]!, 0);
  assert.ok(cosine(one.embedding, near.embedding) > cosine(one.embedding, far.embedding) + 0.2);
});
