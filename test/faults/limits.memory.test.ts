/**
 * A million callers in one process: what their counters take is stated and bounded, and callers beyond the
 * bound are held together to one limit rather than let through or kept.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Claim, Counters, Taken } from "../../src/layer/index.ts";
import { MemoryCounters } from "../../src/ports/counters-memory.ts";

const KEYS = 1_000_000;
/** Of heap, for each key with one request in its window: stated in the rate-limit layer's README. */
const BYTES_A_KEY_MAX = 300;
const BEYOND = 200_000;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function heapBytes(): number {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const claimOf = (caller: number): Claim => ({
  key: `key-requests:key=key_${String(caller).padStart(12, "0")}`,
  group: "acme",
  limit: 5,
  windowSec: 600,
  cost: 1,
  reserve: 0,
});

/** Memory answers at once. */
function take(counters: Counters, caller: number): Taken {
  const taken = counters.take([claimOf(caller)], "share");
  assert.ok(!(taken instanceof Promise));
  taken.lease?.settle([1]);
  return taken;
}

it(`${KEYS} callers, and ${BEYOND} more than there is room for`, async (t) => {
  let nowMs = 1_000_000;
  const store = new MemoryCounters({ keysMax: KEYS, now: () => nowMs });
  const counters = store.forSeat("rate-limit");
  take(counters, 0);
  const before = heapBytes();
  const startedMs = performance.now();
  for (let caller = 1; caller < KEYS; caller++) take(counters, caller);
  const micros = ((performance.now() - startedMs) * 1000) / KEYS;
  const full = heapBytes();
  assert.equal(store.stats().keys, KEYS);
  const bytes = (full - before) / KEYS;

  let admitted = 0;
  for (let caller = KEYS; caller < KEYS + BEYOND; caller++)
    if (take(counters, caller).admitted) admitted += 1;
  const beyond = heapBytes();
  t.diagnostic(
    `${bytes.toFixed(0)} bytes a key, ${micros.toFixed(2)} µs a take; ` +
      `${((beyond - full) / 1024).toFixed(0)} KiB for ${BEYOND} more, ${admitted} of which were admitted`,
  );
  assert.ok(bytes <= BYTES_A_KEY_MAX, `${bytes.toFixed(0)} bytes a key`);
  assert.equal(store.stats().keys, KEYS, "the bound holds");
  assert.ok(beyond - full < 4 * 1024 * 1024, "those beyond it take no room");
  assert.equal(admitted, 5, "and share one limit");
  assert.equal(take(counters, 7).admitted, true, "who was there before goes on");

  // Two windows later nobody was seen for a whole one: there is room again, and the memory is back.
  nowMs += 1_300_000;
  take(counters, KEYS + 1);
  nowMs += 1_300_000;
  assert.equal(take(counters, KEYS + 2).admitted, true);
  assert.ok(store.stats().keys <= 2, `${store.stats().keys} keys are kept`);
  const after = heapBytes();
  assert.ok(after - before < 4 * 1024 * 1024, `${((after - before) / 1024).toFixed(0)} KiB stay`);
});
