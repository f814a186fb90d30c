import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { behavesAsCounters, claimOf } from "../../test/support/counters-behaviour.ts";
import type { Claim, Counters, Taken } from "../layer/index.ts";
import { MemoryCounters } from "./counters-memory.ts";
import { slotsOf } from "./counters-window.ts";

behavesAsCounters("memory", async () => ({
  store: new MemoryCounters(),
  settled: async () => {},
  by: "memory",
}));

function clocked(keysMax?: number) {
  const clock = { ms: 1000 };
  const store = new MemoryCounters({ now: () => clock.ms, ...(keysMax !== undefined && { keysMax }) });
  return { clock, store };
}

const take = (counters: Counters, ...claims: Claim[]) => counters.take(claims, "share") as Taken;

test("any run of takes: what an exact log says, but for a slot's length of patience", () => {
  const step = fc.record({
    waitMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4000 }), fc.integer({ min: 0, max: 90_000 })),
    key: fc.constantFrom("a", "b", "c"),
    cost: fc.integer({ min: 1, max: 4 }),
    used: fc.integer({ min: 0, max: 6 }),
    reserve: fc.integer({ min: 0, max: 3 }),
  });
  for (const windowSec of [1, 60, 7200]) {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const { store, clock } = clocked();
        const counters = store.forSeat("seat");
        const windowMs = windowSec * 1000;
        const patienceMs = windowMs / slotsOf(windowSec) + 1;
        const log: { readonly key: string; readonly atMs: number; readonly amount: number }[] = [];
        const logged = (key: string, sinceMs: number) =>
          log
            .filter((event) => event.key === key && event.atMs > sinceMs)
            .reduce((sum, { amount }) => sum + amount, 0);
        for (const { waitMs, key, cost, used, reserve } of steps) {
          clock.ms += waitMs * (windowSec / 60);
          const nowMs = clock.ms;
          const claim = claimOf(key, { limit: 9, windowSec, cost, reserve });
          const { admitted, lease, retryAfterMs } = take(counters, claim);
          const [least, most] = [logged(key, nowMs - windowMs), logged(key, nowMs - windowMs - patienceMs)];
          if (admitted) assert.ok(least + cost + reserve <= 9, "more than the limit within a window");
          else {
            assert.ok(most + cost + reserve > 9, "refused though there was room");
            assert.ok(retryAfterMs > 0 && retryAfterMs <= windowMs + patienceMs);
          }
          lease?.settle([used]);
          if (admitted) log.push({ key, atMs: nowMs, amount: used });
          assert.ok(store.stats().keys <= 3);
        }
      }),
    );
  }
});

test("a refused claim fits exactly when it was said to", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 9000 }), fc.integer({ min: 1, max: 3 })), {
        minLength: 5,
        maxLength: 40,
      }),
      (steps) => {
        const { store, clock } = clocked();
        const counters = store.forSeat("seat");
        for (const [waitMs, cost] of steps) {
          clock.ms += waitMs;
          const claim = claimOf("k", { limit: 6, windowSec: 60, cost });
          const { admitted, retryAfterMs } = take(counters, claim);
          if (admitted) continue;
          clock.ms += retryAfterMs - 2;
          assert.notEqual(counters.known([claim]), undefined);
          clock.ms += 2;
          assert.equal(counters.known([claim]), undefined);
        }
      },
    ),
  );
});

test("a running request keeps its place through any number of windows, and its use is booked at the end", async () => {
  const { store, clock } = clocked();
  const counters = store.forSeat("a");
  const long = claimOf("k", { limit: 100, windowSec: 60, cost: 1, reserve: 90 });
  const { lease } = take(counters, long);
  for (let minute = 0; minute < 5; minute++) {
    clock.ms += 61_000;
    take(counters, claimOf(`other-${minute}`, { windowSec: 60 })).lease?.settle([1]);
    assert.equal(take(counters, { ...long, reserve: 10 }).admitted, false, `minute ${minute}`);
  }
  assert.equal(lease?.debit(0, 50), true);
  lease?.settle([71]);
  const [row] = await store.inspect("a", { contains: "k", max: 1 });
  assert.deepEqual([row?.used, row?.reserved], [70, 0], "its cost has left the window");
  assert.equal(store.stats().leases, 0);
  clock.ms += 200_000;
  assert.equal(take(counters, { ...long, reserve: 99 }).admitted, true);
});

test("a lease that held nothing books into the counter that counts now", async () => {
  const { store, clock } = clocked();
  const counters = store.forSeat("a");
  const claim = claimOf("k", { limit: 10, windowSec: 60 });
  const { lease } = take(counters, claim);
  clock.ms += 70_000;
  take(counters, claimOf("x", { windowSec: 60 }));
  clock.ms += 70_000;
  take(counters, claimOf("x", { windowSec: 60 }));
  assert.equal(store.stats().keys, 1, "its counter was dropped");
  assert.equal(take(counters, claim).levels[0]?.remaining, 9);
  lease?.settle([4]);
  const [row] = await store.inspect("a", { contains: "k", max: 1 });
  assert.equal(row?.used, 4);
});

test("keys are bounded: what has ended makes room first, then the new keys of a limit share one counter", () => {
  const { store, clock } = clocked(10);
  const counters = store.forSeat("a");
  const idle = store.forSeat("removed-from-policy");
  const of = (key: string, limit = 2) => claimOf(key, { limit, windowSec: 12 });
  for (let i = 0; i < 5; i++) take(idle, of(`idle_${i}`));
  for (let i = 0; i < 5; i++) take(counters, of(`key_${i}`));
  assert.deepEqual(store.stats(), { keys: 10, overflowed: 0, leases: 10 });
  assert.equal(take(counters, of("new_1")).admitted, true);
  assert.equal(take(counters, of("new_2")).admitted, true);
  assert.equal(take(counters, of("new_3")).admitted, false, "the shared counter is used up");
  assert.equal(
    take(counters, of("new_3", 1000)).admitted,
    true,
    "another limit, such as of tokens, has its own",
  );
  assert.equal(take(counters, of("key_0")).admitted, true, "a known key keeps its own counter");
  assert.deepEqual([store.stats().keys, store.stats().overflowed], [10, 3]);
  clock.ms += 13_000;
  take(counters, of("key_0"));
  clock.ms += 13_000;
  for (let i = 0; i < 9; i++) assert.equal(take(counters, of(`fresh_${i}`)).levels[0]?.remaining, 1);
  assert.equal(store.stats().overflowed, 3);
  assert.ok(store.stats().keys <= 10);
});

test("a refused take opens no counter", () => {
  const { store } = clocked();
  take(store.forSeat("a"), claimOf("k", { limit: 1, cost: 2 }), claimOf("l"));
  assert.equal(store.stats().keys, 0);
});
