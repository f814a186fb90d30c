/**
 * What every counter store must do, run against each: the tests see only the port, and time as it passes. A store on
 * Redis is shown as two processes that take turns, so that what one books the other must see.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Await, Claim, Counters, Lease, Taken } from "../../src/layer/index.ts";
import type { CounterStore } from "../../src/ports/counters-window.ts";
import { eventually, seeded } from "./eventually.ts";

export interface OpenStore {
  readonly store: Pick<CounterStore<unknown>, "forSeat" | "inspect" | "reset">;
  /** Resolves when what was settled can be seen by every process. */
  settled(): Promise<void>;
  readonly by: "memory" | "shared";
}

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);

export const claimOf = (key: string, more: Partial<Claim> = {}): Claim => ({
  key,
  group: "org",
  limit: 10,
  windowSec: 3600,
  cost: 1,
  reserve: 0,
  ...more,
});

export async function admitted(taken: Await<Taken>): Promise<Lease> {
  const { lease, ...rest } = await taken;
  assert.equal(rest.admitted, true, JSON.stringify(rest));
  assert.ok(lease !== undefined);
  return lease;
}

export async function refused(taken: Await<Taken>): Promise<Taken> {
  const answer = await taken;
  assert.equal(answer.admitted, false, JSON.stringify(answer.levels));
  assert.equal(answer.lease, undefined);
  return answer;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export function behavesAsCounters(name: string, open: () => Promise<OpenStore>): void {
  let at = 0;
  /** A seat of its own for each test. */
  const opened = async () => {
    const { store, settled, by } = await open();
    const seat = `seat-${++at}`;
    const counters = store.forSeat(seat);
    const take = (...claims: Claim[]) => counters.take(claims, "refuse");
    const used = async (key: string) => {
      await settled();
      const rows = await store.inspect(seat, { contains: key, max: 10 });
      const row = rows.find((row) => row.key === key);
      return row === undefined ? [0, 0] : [row.used, row.reserved];
    };
    return { store, seat, counters, take, used, settled, by };
  };
  const it = (what: string, run: () => Promise<void>) => test(`${name}: ${what}`, run);

  it("of N concurrent tries at limit L exactly L are admitted, and refused ones take nothing", async () => {
    const { take, by } = await opened();
    const tries = await Promise.all(Array.from({ length: 100 }, () => take(claimOf("k", { limit: 7 }))));
    assert.equal(tries.filter((taken) => taken.admitted).length, 7);
    assert.equal(tries[0]?.by, by);
    // Had refused tries counted, a raised limit would not help.
    await admitted(take(claimOf("k", { limit: 8 })));
    await refused(take(claimOf("k", { limit: 8 })));
  });

  it("a take of nothing is admitted and holds nothing", async () => {
    const { take } = await opened();
    const { lease, ...rest } = await take();
    assert.deepEqual([rest.admitted, rest.levels, lease], [true, [], undefined]);
  });

  it("one refusal takes nothing from any other claim, wherever it stands", async () => {
    const { take, used } = await opened();
    await admitted(take(claimOf("full", { limit: 1 })));
    for (const full of [0, 1, 2]) {
      const claims = ["a", "b", "c"].map((key) => claimOf(key, { reserve: 2 }));
      claims[full] = claimOf("full", { limit: 1 });
      const { refusedBy, levels } = await refused(take(...claims));
      assert.equal(refusedBy, full);
      assert.equal(levels.length, 3);
    }
    for (const key of ["a", "b", "c"]) assert.deepEqual(await used(key), [0, 0]);
  });

  it("counts belong to the seat: one opened again has them, another has its own", async () => {
    const { store, seat, take } = await opened();
    await admitted(take(claimOf("k", { limit: 1 })));
    await refused(store.forSeat(seat).take([claimOf("k", { limit: 1 })], "refuse"));
    await admitted(store.forSeat(`${seat}-other`).take([claimOf("k", { limit: 1 })], "refuse"));
  });

  it("levels say what is left, and until when", async () => {
    const { take } = await opened();
    const first = await take(
      claimOf("k", { limit: 10, cost: 3, reserve: 2 }),
      claimOf("c", { windowSec: 0, limit: 4, cost: 0, reserve: 1 }),
    );
    assert.equal(first.levels[0]?.remaining, 5);
    const resetMs = first.levels[0]?.resetMs ?? 0;
    assert.ok(resetMs > 3_599_000 && resetMs <= 3_900_000, `${resetMs}`);
    assert.deepEqual(first.levels[1], { remaining: 3, resetMs: 0 });
    const { levels, refusedBy, retryAfterMs } = await refused(
      take(claimOf("fresh"), claimOf("k", { limit: 10, cost: 6 })),
    );
    assert.deepEqual([refusedBy, levels[0], levels[1]?.remaining], [1, { remaining: 10, resetMs: 0 }, 5]);
    assert.ok(retryAfterMs > 0 && retryAfterMs <= 3_900_000);
    const never = await refused(take(claimOf("k2", { limit: 10, cost: 11 })));
    assert.equal(never.retryAfterMs, 3_600_000);
  });

  it("a reserve counts until it is settled; what was used stays, to the unit", async () => {
    const { take, used } = await opened();
    const tokens = (reserve: number) => claimOf("tokens", { limit: 1000, cost: 0, reserve });
    const lease = await admitted(take(tokens(800)));
    await refused(take(tokens(201)));
    lease.settle([150]);
    lease.settle([9999]);
    assert.deepEqual(await used("tokens"), [150, 0]);
    const second = await admitted(take(tokens(850)));
    await refused(take(tokens(1)));
    second.settle([0]);
    assert.deepEqual(await used("tokens"), [150, 0]);
    // More than was reserved counts too.
    (await admitted(take(tokens(100)))).settle([950]);
    assert.deepEqual(await used("tokens"), [1100, 0]);
    const { levels } = await refused(take(tokens(1)));
    assert.equal(levels[0]?.remaining, 0);
  });

  it("a cost that was not used is given back", async () => {
    const { take, used } = await opened();
    const lease = await admitted(take(claimOf("k", { limit: 10, cost: 8 })));
    await refused(take(claimOf("k", { limit: 10, cost: 3 })));
    lease.settle([2]);
    assert.deepEqual(await used("k"), [2, 0]);
    await eventually(() => admitted(take(claimOf("k", { limit: 10, cost: 8 }))));
  });

  it("debits come out of the reserve, say when it is used up, and are corrected at the end", async () => {
    const { take, used } = await opened();
    const tokens = claimOf("tokens", { limit: 100, cost: 10, reserve: 50 });
    const lease = await admitted(take(tokens));
    assert.equal(lease.debit(0, 30), true);
    assert.equal(lease.debit(0, 20), true);
    assert.equal(lease.debit(0, 5), false);
    assert.equal(lease.debit(7, 5), true, "no such claim");
    lease.settle([40]);
    assert.deepEqual(await used("tokens"), [40, 0]);
    const other = await admitted(take(tokens));
    assert.equal(other.debit(0, 20), true);
    other.settle([35]);
    assert.deepEqual(await used("tokens"), [75, 0]);
    const aborted = await admitted(take({ ...tokens, limit: 1000 }));
    aborted.debit(0, 25);
    aborted.settle([0]);
    assert.deepEqual(await used("tokens"), [75, 0]);
  });

  it("more is reserved for all claims or for none", async () => {
    const { take, used } = await opened();
    const [a, b] = [
      claimOf("a", { limit: 100, cost: 0, reserve: 10 }),
      claimOf("b", { limit: 20, cost: 0, reserve: 10 }),
    ];
    const lease = await admitted(take(a, b));
    assert.equal(await lease.extend([5, 11]), false);
    assert.deepEqual(await used("a"), [0, 10]);
    assert.equal(await lease.extend([5, 10]), true);
    assert.deepEqual(
      [await used("a"), await used("b")],
      [
        [0, 15],
        [0, 20],
      ],
    );
    assert.equal(await lease.extend([1, 0]), true);
    lease.settle([3, 20]);
    assert.deepEqual(
      [await used("a"), await used("b")],
      [
        [3, 0],
        [20, 0],
      ],
    );
    assert.equal(await lease.extend([1, 0]), false);
  });

  it("a lease that is settled while more is asked for leaves nothing held", async () => {
    const { take, used } = await opened();
    const lease = await admitted(take(claimOf("k", { limit: 100, cost: 0, reserve: 10 })));
    const more = lease.extend([20]);
    lease.settle([4]);
    await more;
    assert.deepEqual(await used("k"), [4, 0]);
  });

  it("concurrency: what is reserved now counts, and nothing else", async () => {
    const { take, settled } = await opened();
    const slot = claimOf("slots", { limit: 3, windowSec: 0, cost: 0, reserve: 1 });
    const leases = await Promise.all([take(slot), take(slot), take(slot)].map(admitted));
    const { retryAfterMs } = await refused(take(slot));
    assert.equal(retryAfterMs, 1000);
    leases[1]?.settle([0]);
    await settled();
    const again = await admitted(take(slot));
    await refused(take(slot));
    for (const lease of [...leases, again]) lease.settle([0]);
    await settled();
    await Promise.all([take(slot), take(slot), take(slot)].map(admitted));
  });

  it("an edited limit holds at once; so does an edited window, for what was used before", async () => {
    const { take } = await opened();
    for (let i = 0; i < 3; i++) await admitted(take(claimOf("k", { limit: 10 })));
    await refused(take(claimOf("k", { limit: 3 })));
    await admitted(take(claimOf("k", { limit: 4 })));
    for (const windowSec of [60, 86_400, 7200, 3600])
      await refused(take(claimOf("k", { limit: 4, windowSec })));
    await admitted(take(claimOf("k", { limit: 5, windowSec: 86_400 })));
    const { levels } = await refused(take(claimOf("k", { limit: 5, windowSec: 60 })));
    assert.equal(levels[0]?.remaining, 0);
  });

  it("amounts up to 2^52 and windows of months are exact", async () => {
    const { take, used } = await opened();
    const limit = 2 ** 52;
    const month = { windowSec: 31 * 86_400, limit };
    const lease = await admitted(
      take(claimOf("spend", { ...month, cost: 1_234_567_890_123_457, reserve: 3 })),
    );
    lease.settle([1_234_567_890_123_459]);
    assert.deepEqual(await used("spend"), [1_234_567_890_123_459, 0]);
    const rest = limit - 1_234_567_890_123_459;
    await refused(take(claimOf("spend", { ...month, cost: rest + 1 })));
    await admitted(take(claimOf("spend", { ...month, cost: rest })));
    await refused(take(claimOf("spend", { ...month, cost: 1 })));
  });

  it("a place comes back when it was said, and not before", async () => {
    const { take } = await opened();
    const claim = claimOf("k", { limit: 2, windowSec: 1 });
    const startedMs = performance.now();
    await admitted(take(claim));
    await pause(300);
    await admitted(take(claim));
    const { retryAfterMs } = await refused(take(claim));
    const askedMs = performance.now();
    assert.ok(retryAfterMs <= 1084 - 300 + 20, `${retryAfterMs} ms`);
    for (;;) {
      const sentMs = performance.now();
      const { admitted: isIn } = await take(claim);
      if (isIn) break;
      assert.ok(sentMs - askedMs < retryAfterMs + 20, "later than was said");
      await pause(7);
    }
    assert.ok(performance.now() - startedMs >= 1000, "before its window was over");
  });

  it("no span of a window sees more than the limit, and a refusal has its reason (against an exact log)", async () => {
    const { take } = await opened();
    const step = fc.record({
      waitMs: fc.oneof(fc.constant(0), fc.integer({ max: 180, min: 0 })),
      burst: fc.integer({ min: 1, max: 6 }),
      cost: fc.integer({ min: 1, max: 3 }),
    });
    const [limit, windowMs, slotMs] = [7, 1000, 84];
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 25 }), async (steps) => {
        const key = `run-${run++}`;
        const log: { readonly sentMs: number; readonly heardMs: number; readonly cost: number }[] = [];
        for (const { waitMs, burst, cost } of steps) {
          if (waitMs > 0) await pause(waitMs);
          const tries = Array.from({ length: burst }, async () => {
            const sentMs = performance.now();
            const { admitted: isIn, by } = await take(claimOf(key, { limit, windowSec: 1, cost }));
            const heardMs = performance.now();
            if (isIn) log.push({ sentMs, heardMs, cost });
            return { isIn, by, sentMs, heardMs, cost };
          });
          for (const { isIn, by, sentMs, heardMs, cost } of await Promise.all(tries)) {
            if (isIn || by === "posture") continue;
            // What may still be counted: it was booked after this, at the latest when it was heard of.
            const sinceMs = sentMs - windowMs - slotMs - (by === "known" ? 1000 : 0);
            const counted = log.filter((event) => event.heardMs >= sinceMs && event.sentMs <= heardMs);
            assert.ok(sum(counted) + cost > limit, "refused though there was room");
          }
        }
        for (const { sentMs } of log) {
          const span = log.filter((event) => event.sentMs >= sentMs && event.heardMs < sentMs + windowMs);
          assert.ok(sum(span) <= limit, `${sum(span)} within one window`);
        }
      }),
      { numRuns: 3, seed: SEED },
    );
  });

  it(`after any run of takes, debits, extensions, settles and aborts nothing is left over (seed ${SEED})`, async () => {
    const { take, used } = await opened();
    const random = seeded(SEED);
    const below = (n: number) => Math.floor(random() * n);
    const keys = ["a", "b", "c", "d"];
    const truth = new Map(keys.map((key) => [key, 0]));
    const open: { readonly lease: Lease; readonly picked: readonly string[] }[] = [];
    const end = () => {
      const [{ lease, picked }] = open.splice(below(open.length), 1) as [(typeof open)[0]];
      const amounts = picked.map((key) => (key === "d" ? 0 : below(80)));
      for (const [i, key] of picked.entries()) truth.set(key, truth.get(key)! + amounts[i]!);
      lease.settle(amounts);
    };
    for (let i = 0; i < 600; i++) {
      if (open.length > 40 || (open.length > 0 && random() < 0.4)) end();
      else {
        const picked = keys.filter(() => random() < 0.6);
        const claims = picked.map((key) =>
          claimOf(key, {
            limit: 1e6,
            windowSec: key === "d" ? 0 : 3600,
            cost: key === "d" ? 0 : below(20),
            reserve: 1 + below(50),
          }),
        );
        const { lease } = await take(...claims);
        if (lease !== undefined) open.push({ lease, picked });
      }
      const one = open[below(open.length)];
      if (one !== undefined && random() < 0.5) one.lease.debit(below(one.picked.length), 1 + below(30));
      if (one !== undefined && random() < 0.2) await one.lease.extend(one.picked.map(() => below(10)));
    }
    while (open.length > 0) end();
    for (const key of keys) assert.deepEqual(await used(key), [truth.get(key), 0], key);
  });

  it("what is used up is known without asking, for this limit and as long as it lasts", async () => {
    const { take, counters } = await opened();
    const claim = claimOf("k", { limit: 2, windowSec: 1 });
    assert.equal(counters.known([claim]), undefined);
    const startedMs = performance.now();
    await admitted(take(claim));
    await admitted(take(claim));
    assert.equal(counters.known([claimOf("k", { limit: 3, windowSec: 1 })]), undefined);
    await refused(take(claim));
    const known = counters.known([claimOf("other"), claim]);
    assert.ok(known !== undefined);
    assert.deepEqual(
      [known.admitted, known.refusedBy, known.levels.length, known.lease],
      [false, 1, 2, undefined],
    );
    assert.ok(known.retryAfterMs > 0 && known.retryAfterMs <= 1084);
    assert.equal(counters.known([claimOf("k", { limit: 3, windowSec: 1 })]), undefined, "another limit");
    await eventually(() => assert.equal(counters.known([claim]), undefined));
    assert.ok(performance.now() - startedMs >= 1000 - 84);
    await eventually(() => admitted(take(claim)));
  });

  it("counters can be looked at and forgotten; what runs stays held", async () => {
    const { store, seat, take, used } = await opened();
    const lease = await admitted(
      take(
        claimOf("key=1,model=*[x]", { limit: 5, cost: 5 }),
        claimOf("slots", { windowSec: 0, cost: 0, reserve: 2 }),
      ),
    );
    await admitted(take(claimOf("key=2", { group: "" })));
    const rows = await store.inspect(seat, { max: 10 });
    assert.deepEqual(
      rows
        .map(({ seat: name, key, used, reserved, windowSec }) => [name, key, used, reserved, windowSec])
        .sort(),
      [
        [seat, "key=1,model=*[x]", 5, 0, 3600],
        [seat, "key=2", 1, 0, 3600],
        [seat, "slots", 0, 2, 0],
      ],
    );
    for (const { resetMs, windowSec } of rows)
      assert.ok(resetMs <= windowSec * 1084 && resetMs >= windowSec * 999);
    assert.equal((await store.inspect(seat, { max: 2 })).length, 2);
    assert.equal((await store.inspect(seat, { contains: "model=*", max: 9 })).length, 1);
    assert.equal((await store.inspect(undefined, { contains: "model=*[x]", max: 9 })).length, 1);
    await refused(take(claimOf("key=1,model=*[x]", { limit: 5 })));
    assert.equal(await store.reset(seat, "key=1"), false);
    assert.equal(await store.reset(seat, "key=1,model=*[x]"), true);
    assert.equal(await store.reset(seat, "slots"), true);
    await eventually(() => admitted(take(claimOf("key=1,model=*[x]", { limit: 5, cost: 5 }))));
    assert.deepEqual(await used("slots"), [0, 2]);
    lease.settle([5, 0]);
    assert.deepEqual(await used("slots"), [0, 0]);
  });
}

function sum(log: readonly { readonly cost: number }[]): number {
  return log.reduce((total, { cost }) => total + cost, 0);
}

/** The same seat of several stores, taking turns; each knows what any of them was told. */
export function inTurns(
  stores: readonly CounterStore<unknown>[],
): Pick<CounterStore<unknown>, "forSeat" | "inspect" | "reset"> {
  let turn = 0;
  return {
    forSeat(seat) {
      const all: readonly Counters[] = stores.map((store) => store.forSeat(seat));
      return {
        take: (claims, away) => all[turn++ % all.length]!.take(claims, away),
        known: (claims) => all.map((one) => one.known(claims)).find((taken) => taken !== undefined),
      };
    },
    inspect: (seat, options) => stores[turn++ % stores.length]!.inspect(seat, options),
    reset: async (seat, key) =>
      (await Promise.all(stores.map((store) => store.reset(seat, key)))).includes(true),
  };
}
