import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { eventually, seeded } from "../../test/support/house.ts";
import { type RedisServer, startRedis, startRedisCluster } from "../../test/support/redis.ts";
import type { Caller, Entity, Identity, RiskEntry } from "../layer/index.ts";
import { openRedis, type RedisSettings, type SharedRedis } from "./redis.ts";
import { openReputation, type ReputationStore } from "./reputation.ts";

const DAY = 24 * 3_600_000;
const ACME: Identity = { org: "acme", project: "chat", keyId: "key_1" };
const CALLER: Caller = { identity: ACME, address: "192.0.2.7" };
const KEY: Entity = { kind: "key", id: "key_1" };

let server: RedisServer;
let prefixes = 0;
const opened: { readonly store: ReputationStore; readonly redis: SharedRedis; readonly dataDir: string }[] =
  [];

before(async () => {
  server = await startRedis();
});
afterEach(async () => {
  for (const { store, redis, dataDir } of opened.splice(0)) {
    await store.close();
    await redis.close();
    rmSync(dataDir, { recursive: true, force: true });
  }
});
after(() => server.stop());

type Replica = ReputationStore & { readonly redis: SharedRedis };

async function replica(
  settings: Partial<RedisSettings>,
  options: { now?: () => number; dataDir?: string } = {},
) {
  const redis = await openRedis({
    url: undefined,
    nodes: [],
    prefix: `test${prefixes}`,
    timeoutMs: 500,
    ...settings,
  });
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), "sallyport-reputation-"));
  const store = await openReputation({ ...options, dataDir, redis });
  opened.push({ store, redis, dataDir });
  return Object.assign(store, { redis }) as Replica;
}

/** Gateways of one fleet, alone in its keys. */
async function fleet(
  count: number,
  settings: Partial<RedisSettings> = { url: server.url },
): Promise<Replica[]> {
  prefixes += 1;
  return Promise.all(Array.from({ length: count }, () => replica(settings)));
}

function entry(points: number, requestId: string, reason = "prompt.rule.x"): RiskEntry {
  return { finding: { reason, score: 1 }, points, requestId };
}

function pointsOf(store: ReputationStore, caller = CALLER): number {
  return store.look(caller, DAY).points.key;
}

/** Within what decays while a test runs, and the digits that Redis keeps. */
function near(actual: number, expected: number, why = ""): void {
  assert.ok(
    Math.abs(actual - expected) < 0.001 * Math.max(1, expected),
    `${why}: ${actual}, not ${expected}`,
  );
}

test("three replicas agree within a second, whoever was fed", async () => {
  const seed = 7;
  const random = seeded(seed);
  const replicas = await fleet(3);
  for (const one of replicas) one.look(CALLER, DAY);
  let sum = 0;
  for (let i = 0; i < 60; i++) {
    const points = random() / 4;
    sum += points;
    replicas[Math.floor(random() * 3)]!.feed(CALLER, [entry(points, `req_${i}`)], DAY);
    if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 30));
  }
  const fedAt = performance.now();
  await eventually(() => {
    for (const one of replicas) near(pointsOf(one), sum, `seed ${seed}`);
  }, 1_000);
  assert.ok(performance.now() - fedAt < 1_000);
  const whys = await Promise.all(replicas.map((one) => one.explain(KEY, DAY)));
  for (const why of whys) {
    near(why.points, sum);
    assert.equal(why.causes[0]?.times, 60);
    near(why.causes[0]?.points ?? 0, sum, "one reason gave all of it");
  }
});

test("the second request of a caller whom this replica never saw has what the others know", async () => {
  const [first, second] = await fleet(2);
  first!.look({ identity: { ...ACME, sinceMs: Date.now() - 50 * DAY }, address: "192.0.2.7" }, DAY);
  // Too little to be told to those who never saw the caller.
  first!.feed(CALLER, [entry(0.05, "req_1")], DAY);
  await eventually(() => assert.equal(first!.stats().owed, 0));
  const before = second!.look(CALLER, DAY);
  assert.equal(before.points.key, 0, "it does not wait");
  assert.equal(before.ageMs, Number.POSITIVE_INFINITY, "nor does it guess");
  await eventually(() => near(pointsOf(second!), 0.05));
  assert.ok(second!.look(CALLER, DAY).ageMs > 49 * DAY);
});

test("what weighs is told to all: the very first request has it", async () => {
  const [first, second] = await fleet(2);
  first!.feed(CALLER, [entry(3, "req_1")], DAY);
  await eventually(() => assert.equal(second!.worst({ kind: "key", max: 1 }).length, 1), 1_000);
  near(pointsOf(second!), 3);
});

test("clocks minutes apart make no difference", async () => {
  prefixes += 1;
  const [early, late] = await Promise.all(
    [-300_000, 300_000].map((skew) => replica({ url: server.url }, { now: () => Date.now() + skew })),
  );
  const halfLifeMs = 600_000;
  early!.look(CALLER, halfLifeMs);
  late!.look(CALLER, halfLifeMs);
  early!.feed(CALLER, [entry(4, "req_1")], halfLifeMs);
  await eventually(() => near(late!.look(CALLER, halfLifeMs).points.key, 4));
  late!.feed(CALLER, [entry(4, "req_2")], halfLifeMs);
  await eventually(() => near(early!.look(CALLER, halfLifeMs).points.key, 8));
  const ages = await Promise.all([early!, late!].map((one) => one.explain(KEY, halfLifeMs)));
  for (const { points } of ages) near(points, 8);
});

test("a pardon on one replica holds on all", async () => {
  const [first, second] = await fleet(2);
  first!.feed(CALLER, [entry(9, "req_1")], DAY);
  await eventually(() => near(pointsOf(second!), 9));
  await second!.adjust(KEY, -100, { reason: "ruling.pardon", by: "ada" });
  assert.equal(pointsOf(second!), 0);
  await eventually(() => assert.equal(pointsOf(first!), 0), 1_000);
  const why = await first!.explain(KEY, DAY);
  assert.deepEqual([why.causes[0]?.reason, why.causes[0]?.by], ["ruling.pardon", "ada"]);
});

test("a key's networks are known to all; at most 32, the oldest dropped", async () => {
  const [first, second] = await fleet(2);
  const from = (i: number): Caller => ({ identity: ACME, address: `10.0.${i}.1` });
  first!.look(from(0), DAY);
  await eventually(async () => {
    first!.look(from(0), DAY);
    assert.notEqual((await second!.explain(KEY, DAY)).firstSeenMs, undefined);
  });
  for (let i = 1; i < 40; i++) {
    first!.look(from(i), DAY);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await eventually(async () => {
    const row = await server.command("HGET", `test${prefixes}:rep:{key:key_1}`, "n");
    const names = Object.keys(JSON.parse(String(row)) as object);
    assert.equal(names.length, 32);
    assert.ok(names.includes("10.0.39.0/24") && !names.includes("10.0.0.0/24"), names.join());
  });
});

test("Redis away: memory goes on, what was fed is told on its return, once", async () => {
  const own = await startRedis();
  try {
    const [first, second] = await fleet(2, { url: own.url, timeoutMs: 100 });
    first!.feed(CALLER, [entry(1, "req_1")], DAY);
    await eventually(() => near(pointsOf(second!), 1));

    own.freeze();
    for (let i = 0; i < 10; i++) first!.feed(CALLER, [entry(0.5, `req_a${i}`)], DAY);
    near(pointsOf(first!), 6, "at once");
    await eventually(() => assert.equal(first!.redis.isUp, false));
    for (let i = 0; i < 10; i++) second!.feed(CALLER, [entry(0.2, `req_b${i}`, "rate.requests")], DAY);
    near(pointsOf(second!), 3);
    assert.ok(second!.stats().owed > 0);
    own.thaw();
    // The batch that was frozen on its way may have been carried out, and is sent again.
    await eventually(() => {
      near(pointsOf(first!), 8);
      near(pointsOf(second!), 8);
      assert.equal(first!.stats().owed + second!.stats().owed, 0);
    });
    const why = await first!.explain(KEY, DAY);
    near(why.points, 8, "what Redis holds");
    assert.deepEqual(why.causes.map(({ times }) => times).sort(), [10, 11]);
  } finally {
    await own.stop();
  }
});

test("a Redis that comes back empty is told again by those who remember", async () => {
  const own = await startRedis();
  try {
    const [first, second] = await fleet(2, { url: own.url, timeoutMs: 100 });
    first!.look(CALLER, DAY);
    first!.feed(CALLER, [entry(4, "req_1")], DAY);
    await eventually(() => near(pointsOf(second!), 4));
    await own.restart();
    await eventually(() => assert.ok(first!.redis.isUp && second!.redis.isUp));
    await eventually(async () => {
      near(pointsOf(first!), 4);
      const row = await own.command("HGET", `test${prefixes}:rep:{key:key_1}`, "s");
      near(Number(row), 4, "in Redis");
    });
    second!.feed(CALLER, [entry(1, "req_2")], DAY);
    await eventually(() => {
      near(pointsOf(first!), 5);
      near(pointsOf(second!), 5);
    });
    const late = await replica({ url: own.url });
    near((await late.explain(KEY, DAY)).points, 5);
    assert.equal((await late.explain(KEY, DAY)).causes.length, 1);
  } finally {
    await own.stop();
  }
});

test("SCRIPT FLUSH goes unnoticed", async () => {
  const [first, second] = await fleet(2);
  first!.feed(CALLER, [entry(1, "req_1")], DAY);
  await eventually(() => near(pointsOf(second!), 1));
  await server.command("SCRIPT", "FLUSH");
  first!.feed(CALLER, [entry(1, "req_2")], DAY);
  await eventually(() => near(pointsOf(second!), 2), 1_000);
  assert.equal(first!.problem, undefined);
});

test("an entity whose key in Redis is spoilt holds up nobody else", async () => {
  const [first, second] = await fleet(2);
  await server.command("SET", `test${prefixes}:rep:{key:key_1}`, "not a hash");
  first!.feed(CALLER, [entry(1, "req_1")], DAY);
  const other: Caller = { identity: { ...ACME, keyId: "key_2" }, address: "192.0.2.7" };
  first!.feed(other, [entry(2, "req_2")], DAY);
  await eventually(() => near(pointsOf(second!, other), 2), 1_000);
  near(pointsOf(first!), 1, "memory goes on");
  assert.match(first!.problem ?? "", /WRONGTYPE/);
});

test("what was known without Redis is told to it; a row goes when nothing is left of it", async () => {
  prefixes += 1;
  const dataDir = mkdtempSync(join(tmpdir(), "sallyport-reputation-"));
  const alone = await openReputation({ dataDir });
  alone.feed(CALLER, [entry(4, "req_1")], DAY);
  await alone.close();
  const joined = await replica({ url: server.url }, { dataDir });
  near(pointsOf(joined), 4, "at once, from the file");
  await eventually(async () => {
    const row = await server.command("HGET", `test${prefixes}:rep:{address:192.0.2.7}`, "s");
    near(Number(row), 4);
  });
  const ttlMs = Number(await server.command("PTTL", `test${prefixes}:rep:{address:192.0.2.7}`));
  assert.ok(
    ttlMs > 11 * DAY && ttlMs < 13 * DAY,
    `4 points are below 0.001 after 12 half-lives, not ${ttlMs / DAY}`,
  );
});

test("a cluster: entities of one caller lie in several nodes", async () => {
  const cluster = await startRedisCluster(3);
  try {
    const replicas = await fleet(2, { url: undefined, nodes: cluster.addresses });
    const callers = Array.from(
      { length: 20 },
      (_, i): Caller => ({
        identity: { org: `org_${i}`, project: "p", keyId: `key_${i}`, endUser: "}{bob" },
        address: `10.0.${i}.1`,
      }),
    );
    for (const caller of callers) {
      for (const one of replicas) one.look(caller, DAY);
      replicas[0]!.feed(caller, [entry(4, "req_1")], DAY);
    }
    await eventually(() => {
      for (const caller of callers) {
        near(replicas[1]!.look(caller, DAY).points.end_user, 4);
        near(replicas[1]!.look(caller, DAY).points.key, 1);
      }
    }, 2_000);
    assert.equal(replicas[0]!.problem, undefined);
  } finally {
    for (const { store, redis } of opened) {
      await store.close();
      await redis.close();
    }
    await cluster.stop();
  }
});
