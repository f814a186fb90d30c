import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  admitted,
  behavesAsCounters,
  claimOf,
  inTurns,
  refused,
} from "../../test/support/counters-behaviour.ts";
import { eventually } from "../../test/support/eventually.ts";
import { type RedisServer, startRedis, startRedisCluster } from "../../test/support/redis.ts";
import type { AwayPosture, Claim, Lease, Taken } from "../layer/index.ts";
import { RedisCounters, type RedisCountersOptions } from "./counters-redis.ts";
import { openRedis, type RedisSettings, type SharedRedis } from "./redis.ts";

let server: RedisServer;
const opened: { close(): Promise<void> }[] = [];
before(async () => {
  server = await startRedis();
});
after(async () => {
  for (const one of opened.reverse()) await one.close();
  await server.stop();
});

let prefixes = 0;
/** Room for a stall of this machine: two cores for many tests. The deadline itself is tested on its own. */
const PATIENT = { timeoutMs: 1000 };

async function replica(
  settings: Partial<RedisSettings> = {},
  options: Partial<RedisCountersOptions> = {},
): Promise<{ redis: SharedRedis; counters: RedisCounters }> {
  const redis = await openRedis({
    url: server.url,
    nodes: [],
    prefix: `p${prefixes}`,
    timeoutMs: 20,
    ...settings,
  });
  const counters = new RedisCounters({ redis, ...options });
  opened.push(redis, counters);
  return { redis, counters };
}

/** Several processes of one prefix, all counted by each other. */
async function replicas(
  count: number,
  settings: Partial<RedisSettings> = {},
  options: Partial<RedisCountersOptions> = {},
) {
  const prefix = `p${++prefixes}`;
  const all: Awaited<ReturnType<typeof replica>>[] = [];
  for (let i = 0; i < count; i++) all.push(await replica({ prefix, ...settings }, options));
  return all;
}

/** All is told, and was carried out: commands of one connection keep their order. */
async function settled(all: readonly { redis: SharedRedis; counters: RedisCounters }[]): Promise<void> {
  await eventually(() => {
    for (const { counters } of all) {
      const { pendingSettles, atHand } = counters.stats();
      assert.deepEqual([pendingSettles, atHand], [0, 0]);
    }
  });
  for (const { redis } of all) {
    const { client } = redis;
    await Promise.all(("nodes" in client ? client.nodes("master") : [client]).map((node) => node.ping()));
  }
}

async function scriptsRun(): Promise<number> {
  const stats = String(await server.command("INFO", "commandstats"));
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1] ?? 0);
}

async function levelsOf({ counters }: { counters: RedisCounters }, key: string): Promise<[number, number]> {
  const row = (await counters.inspect("s", { max: 100 })).find((row) => row.key === key);
  return [row?.used ?? 0, row?.reserved ?? 0];
}

const takes = (all: readonly { counters: RedisCounters }[], away: AwayPosture = "share") =>
  all
    .map(({ counters }) => counters.forSeat("s"))
    .map(
      (seat) =>
        (...claims: Claim[]) =>
          seat.take(claims, away),
    );

let pair: Awaited<ReturnType<typeof replicas>> | undefined;
behavesAsCounters("redis", async () => {
  pair ??= await replicas(2, PATIENT);
  const both = pair;
  return { store: inTurns(both.map(({ counters }) => counters)), settled: () => settled(both), by: "shared" };
});

test("10,000 concurrent takes of four processes at limit 100: exactly 100, and a caller who is out costs little", async () => {
  const all = await replicas(4, PATIENT);
  const take = takes(all);
  const before = await scriptsRun();
  const tries = await Promise.all(
    Array.from({ length: 10_000 }, (_, i) =>
      take[i % 4]!(claimOf("k", { limit: 100 }), claimOf("org", { limit: 1e6 })),
    ),
  );
  assert.equal(tries.filter((taken) => taken.admitted).length, 100);
  const after = await scriptsRun();
  assert.ok(after - before < 2000, `${after - before} scripts`);
  for (const { lease } of tries) lease?.settle([1, 1]);
  await settled(all);
  assert.deepEqual(
    [await levelsOf(all[0]!, "k"), await levelsOf(all[0]!, "org")],
    [
      [100, 0],
      [100, 0],
    ],
  );
});

test("what a dead process held comes back after its time to live; what it had debited stays; a live one keeps its own", async () => {
  const [dead, alive] = (await replicas(2, PATIENT, { leaseTtlMs: 900 })) as [
    Awaited<ReturnType<typeof replica>>,
    Awaited<ReturnType<typeof replica>>,
  ];
  const [takeDead, takeAlive] = takes([dead, alive]);
  const slot = claimOf("slots", { windowSec: 0, limit: 4, cost: 0, reserve: 2 });
  const tokens = claimOf("tokens", { limit: 1000, cost: 0, reserve: 100 });
  const doomed = await admitted(takeDead!(slot, tokens));
  const kept = await admitted(takeAlive!(slot, tokens));
  doomed.debit(1, 40);
  await refused(takeAlive!(slot));
  await eventually(async () => assert.deepEqual(await levelsOf(alive, "tokens"), [40, 160]), 2000);
  // As kill -9: no settle, no heartbeat, no word.
  dead.redis.client.disconnect();
  await dead.redis.close();
  const startedMs = performance.now();
  await eventually(() => admitted(takeAlive!(slot)), 3000);
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs > 300, `${tookMs} ms: lapsed while it could have been alive`);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.deepEqual(await levelsOf(alive, "slots"), [0, 4]);
  assert.deepEqual(await levelsOf(alive, "tokens"), [40, 100]);
  kept.settle([0, 10]);
  await settled([alive]);
  assert.deepEqual(await levelsOf(alive, "tokens"), [50, 0]);
});

test("only what is used, not what is reserved, is refused without asking", async () => {
  const all = await replicas(1, PATIENT);
  const [take] = takes(all);
  const seat = all[0]!.counters.forSeat("s");
  const claim = claimOf("k", { limit: 2, cost: 0, reserve: 1 });
  const leases = [await admitted(take!(claim)), await admitted(take!(claim))];
  await refused(take!(claim));
  assert.equal(seat.known([claim]), undefined);
  for (const lease of leases) lease.settle([1]);
  await settled(all);
  assert.equal((await refused(take!(claim))).by, "shared");
  assert.equal((await refused(take!(claim))).by, "known");
  assert.equal((await refused(take!({ ...claim, reserve: 2 }))).by, "known");
  const { known, shared } = all[0]!.counters.stats();
  assert.deepEqual([known, shared], [2, 4]);
});

test("every key of ours expires", async () => {
  const all = await replicas(1, PATIENT);
  const [take] = takes(all);
  const claims = [
    claimOf("a"),
    claimOf("b", { windowSec: 0, cost: 0, reserve: 1 }),
    claimOf("c", { cost: 0, reserve: 5, windowSec: 60 }),
  ];
  (await admitted(take!(...claims))).settle([1, 0, 3]);
  (await admitted(take!(claimOf("d", { cost: 0, reserve: 3 })))).settle([3]);
  await settled(all);
  const keys = (await server.command("KEYS", `${all[0]!.redis.prefix}:*`)) as string[];
  assert.equal(keys.length, 5);
  for (const key of keys) {
    const ttl = Number(await server.command("PTTL", key));
    assert.ok(ttl > 0 && ttl < 2 * 3600_000, `${key}: ${ttl}`);
  }
});

test("frozen: every take is answered within 25 ms at p99 by its posture, back within 2 s, and what was used meanwhile is told", async () => {
  const own = await startRedis();
  opened.push({ close: () => own.stop() });
  const all = await replicas(2, { url: own.url });
  await eventually(() => {
    for (const { redis } of all) assert.deepEqual([redis.isUp, redis.liveReplicas], [true, 2]);
  });
  const [one] = all as [(typeof all)[0]];
  const seat = one.counters.forSeat("s");
  const claim = claimOf("k", { limit: 50, cost: 1, reserve: 2 });
  const running = (await seat.take([claim, claimOf("slots", { windowSec: 0, cost: 0, reserve: 1 })], "share"))
    .lease;
  for (let cycle = 0; cycle < 2; cycle++) {
    own.freeze();
    const waits: number[] = [];
    const answers: { away: AwayPosture; taken: Taken }[] = [];
    const asked: Promise<void>[] = [];
    for (let i = 0; i < 150; i++) {
      const away = (["share", "admit", "refuse"] as const)[i % 3]!;
      const sentMs = performance.now();
      asked.push(
        Promise.resolve(seat.take([{ ...claim, key: `k${cycle}` }], away)).then((taken) => {
          waits.push(performance.now() - sentMs);
          answers.push({ away, taken });
        }),
      );
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await Promise.all(asked);
    waits.sort((a, b) => a - b);
    assert.ok(
      waits[Math.floor(waits.length * 0.99)]! < 25,
      `p99 ${waits.slice(-5).map((ms) => ms.toFixed(1))}`,
    );
    const admittedBy = (away: AwayPosture) =>
      answers.filter((a) => a.away === away && a.taken.admitted).length;
    // 25 of 50 are this replica's: 8 of 3 each while they run.
    assert.deepEqual([admittedBy("share"), admittedBy("admit"), admittedBy("refuse")], [8, 50, 0]);
    const bys = new Set(answers.map(({ away, taken }) => `${away} ${taken.by}`));
    assert.deepEqual([...bys].sort(), ["admit posture", "refuse posture", "share share"]);
    const refusal = answers.find(({ away }) => away === "refuse")!.taken;
    assert.deepEqual([refusal.refusedBy, refusal.retryAfterMs, refusal.levels], [0, 1000, []]);
    assert.equal(one.counters.stats().away, true);
    if (cycle === 1) await new Promise((resolve) => setTimeout(resolve, 3000));
    const half = answers.filter(({ taken }) => taken.by === "share" && taken.admitted);
    for (const { taken } of half.slice(0, 4)) taken.lease?.settle([3]);
    own.thaw();
    await eventually(() => assert.equal(one.redis.isUp, true), 2000);
    await settled([one]);
    // Told: four settled with 3, four still run with cost 1 and 2 reserved. Nothing that was given up on was taken.
    await eventually(async () => assert.deepEqual(await levelsOf(one, `k${cycle}`), [16, 8]), 2000);
    for (const { taken } of half.slice(4)) taken.lease?.settle([0]);
    await settled([one]);
    assert.deepEqual(await levelsOf(one, `k${cycle}`), [12, 0]);
    assert.deepEqual(await levelsOf(one, "slots"), [0, 1]);
  }
  running?.settle([1, 0]);
  await settled([one]);
  assert.deepEqual(
    [await levelsOf(one, "k"), await levelsOf(one, "slots")],
    [
      [1, 0],
      [0, 0],
    ],
  );
});

test("what a take was granted after its caller had been answered otherwise is given back", async () => {
  const own = await startRedis();
  opened.push({ close: () => own.stop() });
  const [one] = await replicas(1, { url: own.url });
  const seat = one!.counters.forSeat("s");
  const claims = [
    claimOf("k", { cost: 3, reserve: 2 }),
    claimOf("slots", { windowSec: 0, cost: 0, reserve: 1 }),
  ];
  const kept = await seat.take(claims, "refuse");
  own.freeze();
  const tries = await Promise.all(Array.from({ length: 5 }, () => seat.take(claims, "refuse")));
  assert.deepEqual([...new Set(tries.map(({ by }) => by))], ["posture"]);
  own.thaw();
  await eventually(() => assert.equal(one!.redis.isUp, true), 2000);
  assert.ok(Number(/evalsha:calls=(\d+)/.exec(String(await own.command("INFO", "commandstats")))?.[1]) >= 6);
  await eventually(async () => {
    assert.deepEqual(
      [await levelsOf(one!, "k"), await levelsOf(one!, "slots")],
      [
        [3, 2],
        [0, 1],
      ],
    );
  });
  kept.lease?.settle([3, 0]);
  await settled([one!]);
  assert.deepEqual(
    [await levelsOf(one!, "k"), await levelsOf(one!, "slots")],
    [
      [3, 0],
      [0, 0],
    ],
  );
});

test("killed and restarted empty: what runs is held again, what ended meanwhile is told, no more than the share is admitted", async () => {
  const own = await startRedis();
  opened.push({ close: () => own.stop() });
  const all = await replicas(2, { url: own.url });
  await eventually(() => assert.equal(all[0]!.redis.liveReplicas, 2));
  const [take] = takes(all);
  const slot = claimOf("slots", { windowSec: 0, limit: 10, cost: 0, reserve: 1 });
  const leases: Lease[] = [];
  for (let i = 0; i < 4; i++) leases.push(await admitted(take!(slot)));
  await own.kill();
  await eventually(() => assert.equal(all[0]!.redis.isUp, false));
  const tries = await Promise.all(Array.from({ length: 20 }, () => take!(slot)));
  assert.equal(tries.filter((taken) => taken.admitted).length, 5);
  leases[0]!.settle([0]);
  assert.equal(await leases[1]!.extend([1]), false, "its share is full");
  await own.restart();
  await eventually(() => assert.equal(all[0]!.redis.isUp, true), 2000);
  await eventually(async () => assert.deepEqual(await levelsOf(all[0]!, "slots"), [0, 8]));
  for (const { lease } of [...tries, ...leases.map((lease) => ({ lease }))]) lease?.settle([0]);
  await settled(all);
  assert.deepEqual(await levelsOf(all[0]!, "slots"), [0, 0]);
});

test("a busy caller with ample room is answered from what is at hand, and nothing of it is lost or kept", async () => {
  const all = await replicas(2, PATIENT);
  const take = takes(all);
  const [requests, slots] = [
    claimOf("k", { limit: 1e6 }),
    claimOf("s", { limit: 1e6, windowSec: 0, cost: 0, reserve: 3 }),
  ];
  const before = await scriptsRun();
  let last: Taken | undefined;
  for (let i = 0; i < 2_000; i++) {
    last = await take[i % 2]!(requests, slots);
    assert.deepEqual([last.admitted, last.by, last.levels.length], [true, "shared", 2]);
    last.lease?.settle([1, 0]);
  }
  const scripts = (await scriptsRun()) - before;
  const advanced = all.reduce((sum, { counters }) => sum + counters.stats().advanced, 0);
  assert.ok(advanced > 1_500, `${advanced} of 2000 were at hand`);
  assert.ok(scripts < 1_000, `${scripts} scripts`);
  // Each replica knows of the other's with some delay.
  const { remaining } = last!.levels[0]!;
  assert.ok(remaining >= 1e6 - 2_064 && remaining <= 1e6 - 500, `${remaining}`);
  await settled(all);
  assert.deepEqual(
    [await levelsOf(all[0]!, "k"), await levelsOf(all[0]!, "s")],
    [
      [2_000, 0],
      [0, 0],
    ],
  );
});

test("what is at hand of a limit never lets more through than the limit, and all of it in the end", async () => {
  const all = await replicas(4, PATIENT);
  const take = takes(all);
  const claim = claimOf("k", { limit: 4_000 });
  let admittedCount = 0;
  const leases: (Lease | undefined)[] = [];
  for (let round = 0; round < 60; round++) {
    const tries = await Promise.all(Array.from({ length: 100 }, (_, i) => take[i % 4]!(claim)));
    admittedCount += tries.filter(({ admitted: isIn }) => isIn).length;
    leases.push(...tries.map(({ lease }) => lease));
  }
  assert.ok(admittedCount <= 4_000 && admittedCount >= 4_000 * (1 - 1 / 32), `${admittedCount}`);
  assert.ok(all.some(({ counters }) => counters.stats().advanced > 0));
  // What one replica had at hand and did not use is every replica's again.
  await eventually(async () => {
    for (const one of take) {
      const { admitted: isIn, lease } = await one(claim);
      if (isIn) admittedCount += 1;
      leases.push(lease);
    }
    assert.equal(admittedCount, 4_000);
  });
  for (const one of take) await refused(one(claim));
  for (const lease of leases) lease?.settle([1]);
  await settled(all);
  assert.deepEqual(await levelsOf(all[0]!, "k"), [4_000, 0]);
});

test("what is at hand is given back when Redis goes away, and what it admitted is told", async () => {
  const own = await startRedis();
  opened.push({ close: () => own.stop() });
  const [one] = await replicas(1, { url: own.url });
  const seat = one!.counters.forSeat("s");
  const claim = claimOf("k", { limit: 1e6 });
  let count = 0;
  const take = async () => {
    const taken = await seat.take([claim], "refuse");
    if (taken.admitted) count += 1;
    taken.lease?.settle([1]);
    return taken;
  };
  await eventually(async () => {
    await take();
    assert.ok(one!.counters.stats().advanced > 20);
  });
  own.freeze();
  await eventually(async () => assert.equal((await take()).by, "posture"));
  assert.equal(one!.counters.stats().atHand, 0);
  own.thaw();
  await eventually(() => assert.equal(one!.redis.isUp, true));
  await settled([one!]);
  assert.deepEqual(await levelsOf(one!, "k"), [count, 0]);
});

test("SCRIPT FLUSH under load is not noticed", async () => {
  const all = await replicas(2, PATIENT);
  const take = takes(all, "refuse");
  for (let round = 0; round < 5; round++) {
    const tries = Array.from({ length: 40 }, (_, i) => take[i % 2]!(claimOf("k", { limit: 1000 })));
    await server.command("SCRIPT", "FLUSH");
    for (const taken of await Promise.all(tries)) {
      assert.deepEqual([taken.admitted, taken.by], [true, "shared"]);
      taken.lease?.settle([1]);
    }
  }
  await settled(all);
  assert.deepEqual(await levelsOf(all[0]!, "k"), [200, 0]);
});

test("amounts for more counters than there is room for are lost, and counted", async () => {
  const own = await startRedis();
  opened.push({ close: () => own.stop() });
  const [one] = await replicas(1, { url: own.url }, { pendingMax: 10 });
  const seat = one!.counters.forSeat("s");
  await own.kill();
  await eventually(() => assert.equal(one!.redis.isUp, false));
  for (let i = 0; i < 15; i++) (await admitted(seat.take([claimOf(`k${i}`)], "share"))).settle([1]);
  assert.deepEqual([one!.counters.stats().pendingSettles, one!.counters.stats().lostSettles], [10, 5]);
  await own.restart();
  await eventually(async () => assert.equal((await one!.counters.inspect("s", { max: 99 })).length, 10));
});

test("a cluster: one step for a group, several groups at once, all or none; a slot that moves and a failover cost no answer", async () => {
  const cluster = await startRedisCluster(3, { replicas: true });
  opened.push({ close: () => cluster.stop() });
  const all = await replicas(2, { url: undefined, nodes: cluster.addresses, ...PATIENT });
  const [take, other] = takes(all);
  const groups = ["org-a", "org-b", "org-c", ""];
  const claims = groups.map((group) => claimOf(`k-${group}`, { group, limit: 20, reserve: 2 }));
  const slots = await Promise.all(groups.map((group) => cluster.slotOf(`{${group || "-"}}`)));
  const owners = await Promise.all(slots.map((slot) => cluster.ownerOf(slot)));
  assert.ok(new Set(owners).size > 1, "the groups are on several nodes");
  const lease = await admitted(take!(...claims));
  const state = () => Promise.all(groups.map((group) => levelsOf(all[1]!, `k-${group}`)));
  assert.deepEqual(
    await state(),
    groups.map(() => [1, 2]),
  );
  for (let full = 0; full < groups.length; full++) {
    const asked = claims.map((claim, i) => (i === full ? { ...claim, limit: 5, cost: 9 } : claim));
    const { refusedBy, levels } = await refused(other!(...asked));
    assert.deepEqual([refusedBy, levels.length], [full, 4]);
    await settled(all);
    assert.deepEqual(
      await state(),
      groups.map(() => [1, 2]),
      "what the others took was given back",
    );
  }
  lease.settle([2, 2, 2, 2]);
  await settled(all);
  assert.deepEqual(
    await state(),
    groups.map(() => [2, 0]),
  );

  // Half-moved, a slot answers ASK and TRYAGAIN; moved, MOVED.
  const slot = slots[0]!;
  const to = (owners[0]! + 1) % 3;
  await cluster.beginMove(slot, to);
  for (let i = 0; i < 5; i++) {
    const taken = await take!(
      claimOf("k-org-a", { group: "org-a", limit: 1000 }),
      claimOf(`new-${i}`, { group: "org-a" }),
    );
    assert.equal(taken.admitted, true, taken.by);
    taken.lease?.settle([1, 1]);
  }
  await cluster.moveSlot(slot, to);
  for (let i = 0; i < 5; i++)
    (await admitted(take!(claimOf("k-org-a", { group: "org-a", limit: 1000 })))).settle([1]);
  await eventually(async () => {
    await settled(all);
    assert.deepEqual(await levelsOf(all[1]!, "k-org-a"), [12, 0]);
  });

  for (const how of ["orderly", "kill"] as const) {
    const master = how === "orderly" ? 0 : 1;
    const failing = cluster.failover(master, how);
    for (let i = 0; i < 30; i++) {
      const taken = await other!(...groups.map((group) => claimOf(`f-${group}`, { group, limit: 1e6 })));
      assert.equal(taken.admitted, true);
      taken.lease?.settle([1, 1, 1, 1]);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await failing;
    await eventually(async () => {
      const taken = await other!(...groups.map((group) => claimOf(`f-${group}`, { group, limit: 1e6 })));
      taken.lease?.settle([0, 0, 0, 0]);
      assert.equal(taken.by, "shared");
    }, 5000);
  }
});
