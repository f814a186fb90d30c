import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Counted, Counters, Limit } from "../layer/index.ts";
import { MemoryCounters } from "./counters-memory.ts";

function clocked(keysMax?: number) {
  const clock = { ms: 1000 };
  const store = new MemoryCounters({ now: () => clock.ms, ...(keysMax !== undefined && { keysMax }) });
  return { clock, store };
}

const take = (counters: Counters, key: string, limit: Limit) => counters.take(key, limit) as Counted;

test("of N concurrent tries at limit L exactly L are admitted, and refused ones take nothing", async () => {
  const { store } = clocked();
  const counters = store.forSeat("limits");
  const limit = { limit: 7, windowSec: 60 };
  const tries = await Promise.all(Array.from({ length: 100 }, async () => counters.take("key_1", limit)));
  assert.equal(tries.filter(({ admitted }) => admitted).length, 7);
  assert.deepEqual(tries[0], { admitted: true, remaining: 6, resetMs: 60_000 });
  assert.deepEqual(tries[99], { admitted: false, remaining: 0, resetMs: 60_000 });
  // Had refused tries counted, a raised limit would not help at once.
  assert.equal(take(counters, "key_1", { limit: 8, windowSec: 60 }).admitted, true);
  assert.equal(take(counters, "key_1", { limit: 8, windowSec: 60 }).admitted, false);
});

test("counts belong to the seat and outlive a reload", () => {
  const { store } = clocked();
  const limit = { limit: 1, windowSec: 60 };
  assert.equal(take(store.forSeat("a"), "key", limit).admitted, true);
  assert.equal(take(store.forSeat("a"), "key", limit).admitted, false, "the seat as a reload opens it again");
  assert.equal(take(store.forSeat("b"), "key", limit).admitted, true, "another seat");
});

test("a live edit of the window's length holds for running windows", () => {
  const { store, clock } = clocked();
  const counters = store.forSeat("a");
  assert.equal(take(counters, "key", { limit: 1, windowSec: 60 }).admitted, true);
  clock.ms += 30_000;
  assert.deepEqual(take(counters, "key", { limit: 1, windowSec: 90 }), {
    admitted: false,
    remaining: 0,
    resetMs: 60_000,
  });
  assert.equal(take(counters, "key", { limit: 1, windowSec: 30 }).admitted, true);
});

test("any run of takes gives what one exact window for each key gives", () => {
  const step = fc.record({
    waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 25_000 })),
    key: fc.constantFrom("a", "b", "c"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const { store, clock } = clocked();
      const counters = store.forSeat("seat");
      const model = new Map<string, { startedMs: number; used: number }>();
      for (const { waitMs, key } of steps) {
        clock.ms += waitMs;
        let window = model.get(key);
        if (window === undefined || clock.ms - window.startedMs >= 10_000) {
          window = { startedMs: clock.ms, used: 0 };
          model.set(key, window);
        }
        const admitted = window.used < 3;
        if (admitted) window.used += 1;
        assert.deepEqual(take(counters, key, { limit: 3, windowSec: 10 }), {
          admitted,
          remaining: 3 - window.used,
          resetMs: window.startedMs + 10_000 - clock.ms,
        });
        assert.ok(store.stats().keys <= 3);
      }
    }),
  );
});

test("keys are bounded: ended windows make room first, then new keys share one window", () => {
  const { store, clock } = clocked(10);
  const counters = store.forSeat("a");
  const idle = store.forSeat("removed-from-policy");
  const limit = { limit: 2, windowSec: 10 };
  for (let i = 0; i < 5; i++) take(idle, `idle_${i}`, limit);
  for (let i = 0; i < 5; i++) take(counters, `key_${i}`, limit);
  assert.deepEqual(store.stats(), { keys: 10, overflowed: 0 });
  assert.equal(take(counters, "new_1", limit).admitted, true);
  assert.equal(take(counters, "new_2", limit).admitted, true);
  assert.equal(take(counters, "new_3", limit).admitted, false, "the shared window is used up");
  assert.equal(take(counters, "key_0", limit).admitted, true, "a known key keeps its own window");
  assert.deepEqual(store.stats(), { keys: 10, overflowed: 3 });
  clock.ms += 10_000;
  take(counters, "key_0", limit);
  clock.ms += 10_000;
  for (let i = 0; i < 9; i++) assert.equal(take(counters, `fresh_${i}`, limit).remaining, 1);
  assert.equal(store.stats().overflowed, 3);
  assert.ok(store.stats().keys <= 10);
});
