/**
 * A Redis Cluster of three masters changes under two gateways at 200 requests a second: a slot is moved to
 * another node, a replica is promoted in an orderly way, and one takes over from a master that was killed. No
 * caller sees an error, and the limits go on being counted on Redis.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { withFleet } from "../support/fleet.ts";
import { eventually } from "../support/house.ts";
import { chat, SteadyLoad, statuses } from "../support/lines.ts";
import {
  assertDecidedInTime,
  assertNoFailures,
  insuredIn,
  OUTAGE_POLICY,
  PER_SECOND,
  RECOVERY_MS_MAX,
  recoveryMs,
  throughOutage,
  USER_LIMIT,
} from "../support/outage.ts";
import { type RedisCluster, startRedisCluster, startRedisWithReplica } from "../support/redis.ts";

let cluster: RedisCluster;
before(async () => {
  cluster = await startRedisCluster(3, { replicas: true });
});
after(() => cluster.stop());

it("every slot that holds a counter moves during load", async (t) => {
  const options = {
    replicas: 2,
    policy: OUTAGE_POLICY,
    redis: cluster.addresses,
    gateway: { stores: { redis: { nodes: cluster.addresses, prefix: "moves" } } },
  };
  await withFleet(options, async (fleet) => {
    const load = new SteadyLoad({
      ports: fleet.replicas.map(({ port }) => port),
      perSecond: PER_SECOND,
      request: (number) => chat({ user: `move-${Math.floor(number / 100)}` }),
    });
    let moves = 0;
    try {
      await sleep(1_000);
      const slots = await slotsInUse("moves");
      assert.ok(slots.length > 0, "the counters are on the cluster");
      for (let turn = 0; turn < 3; turn++) {
        for (const slot of slots.slice(0, 8)) {
          const owner = await cluster.ownerOf(slot);
          const to = (owner + 1) % 3;
          await cluster.beginMove(slot, to);
          await sleep(50);
          await cluster.moveSlot(slot, to);
          moves += 1;
        }
      }
      await sleep(1_000);
    } finally {
      await load.stop();
    }
    assertNoFailures(load.told);
    // A counter on its way cannot be asked: for that moment each gateway counts against its share.
    for (const [user, shots] of Map.groupBy(load.told, ({ number }) => Math.floor(number / 100))) {
      const admitted = shots.filter(({ status }) => status === 200).length;
      assert.ok(admitted <= 2 * USER_LIMIT, `user ${user} got ${admitted}`);
    }
    const shared = await sum(fleet.replicas, "sallyport_limit_takes_total", { by: "shared" });
    const share = await sum(fleet.replicas, "sallyport_limit_takes_total", { by: "share" });
    t.diagnostic(
      `${moves} moves; ${JSON.stringify(statuses(load.told))}; ${shared} by Redis, ${share} by the share`,
    );
    assert.ok(shared > share, "most were counted on Redis");
  });
});

for (const how of ["orderly", "kill"] as const) {
  it(`a replica becomes master (${how})`, async (t) => {
    const prefix = `failover-${how}`;
    const options = {
      replicas: 2,
      policy: OUTAGE_POLICY,
      redis: cluster.addresses,
      gateway: { stores: { redis: { nodes: cluster.addresses, prefix } } },
    };
    await withFleet(options, async (fleet) => {
      const outage = await throughOutage(fleet, {
        beforeMs: 1_500,
        afterMs: 4_000,
        async outage(mended) {
          const slot = (await slotsInUse(prefix))[0];
          assert.ok(slot !== undefined, "the counters are on the cluster");
          await promoteInPlaceOf(await cluster.ownerOf(slot), how);
          mended();
        },
      });
      assertNoFailures(outage.told);
      t.diagnostic(`${assertDecidedInTime(outage)}; ${JSON.stringify(statuses(outage.told))}`);
      await eventually(async () => {
        for (const replica of fleet.replicas) assert.equal(await replica.metric("sallyport_redis_up"), 1);
      });
      const tookMs = recoveryMs(outage);
      t.diagnostic(
        `${insuredIn(outage).length} were counted by the share, until ${tookMs} ms after the promotion`,
      );
      assert.ok(tookMs <= RECOVERY_MS_MAX, `counted on its own for ${tookMs} ms`);
    });
  });
}

it("a single Redis hands over to its replica behind one address", async (t) => {
  const pair = await startRedisWithReplica();
  try {
    await withFleet({ replicas: 2, policy: OUTAGE_POLICY, redis: pair.url }, async (fleet) => {
      const outage = await throughOutage(fleet, {
        beforeMs: 1_500,
        afterMs: 4_000,
        async outage(mended) {
          await pair.promote("demote");
          mended();
        },
      });
      assertNoFailures(outage.told);
      t.diagnostic(`${assertDecidedInTime(outage)}; ${JSON.stringify(statuses(outage.told))}`);
      const tookMs = recoveryMs(outage);
      t.diagnostic(
        `${insuredIn(outage).length} were counted by the share, until ${tookMs} ms after the promotion`,
      );
      assert.ok(tookMs <= RECOVERY_MS_MAX, `counted on its own for ${tookMs} ms`);
    });
  } finally {
    await pair.stop();
  }
});

/** Nodes stand in pairs, three apart; which of a pair is the master changes from test to test. */
async function promoteInPlaceOf(master: number, how: "orderly" | "kill"): Promise<void> {
  const replica = cluster.nodes[(master + 3) % 6]!;
  if (how === "kill") await cluster.nodes[master]!.kill();
  await replica.command("CLUSTER", "FAILOVER", ...(how === "kill" ? ["TAKEOVER"] : []));
  await eventually(async () => {
    assert.match(String(await replica.command("INFO", "replication")), /role:master/);
  });
}

/** Slots of the keys that begin with this prefix, those with the most keys first. */
async function slotsInUse(prefix: string): Promise<readonly number[]> {
  const count = new Map<number, number>();
  for (const node of cluster.nodes) {
    const role = String(await node.command("INFO", "replication").catch(() => ""));
    if (!role.includes("role:master")) continue;
    for (const key of (await node.command("KEYS", `${prefix}:*`)) as string[]) {
      if (!key.includes("rate-limit")) continue;
      const slot = await cluster.slotOf(key);
      count.set(slot, (count.get(slot) ?? 0) + 1);
    }
  }
  return [...count].sort(([, a], [, b]) => b - a).map(([slot]) => slot);
}

async function sum(
  replicas: readonly { metric(name: string, labels: Readonly<Record<string, string>>): Promise<number> }[],
  name: string,
  labels: Readonly<Record<string, string>>,
): Promise<number> {
  let total = 0;
  for (const replica of replicas) total += await replica.metric(name, labels);
  return total;
}
