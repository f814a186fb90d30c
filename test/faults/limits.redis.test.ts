/**
 * Redis is frozen, killed and emptied of its scripts while two gateways admit 200 requests a second by it.
 * Callers see no error and no wait: what Redis cannot answer within its deadline is counted against each
 * gateway's share of the limit, and within two seconds of Redis' return all is as before.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { withFleet } from "../support/fleet.ts";
import { eventually } from "../support/house.ts";
import { chat, SteadyLoad, statuses } from "../support/lines.ts";
import {
  assertDecidedInTime,
  assertInsured,
  assertNoFailures,
  assertWithinLimits,
  OUTAGE_POLICY,
  PER_SECOND,
  RECOVERY_MS_MAX,
  recoveryMs,
  throughOutage,
  USER_LIMIT,
} from "../support/outage.ts";
import { startRedis } from "../support/redis.ts";

const FREEZE_SEC = Number(process.env["SALLYPORT_FREEZE_SEC"] ?? 5);
const AWAY_MS = 3_000;
const BEFORE_MS = 3_000;
const AFTER_MS = 4_000;

it(`Redis frozen for ${FREEZE_SEC} s at ${PER_SECOND} requests a second`, async (t) => {
  const redis = await startRedis();
  try {
    await withFleet({ replicas: 2, policy: OUTAGE_POLICY, redis: redis.url }, async (fleet) => {
      const outage = await throughOutage(fleet, {
        beforeMs: BEFORE_MS,
        afterMs: AFTER_MS,
        async outage(mended) {
          redis.freeze();
          await sleep(FREEZE_SEC * 1_000);
          mended();
          redis.thaw();
        },
      });
      assertNoFailures(outage.told);
      t.diagnostic(assertDecidedInTime(outage));
      const users = assertWithinLimits(outage);
      assert.ok(users.steady > 10, "users who met one regime alone");
      assertInsured(outage);
      const tookMs = recoveryMs(outage);
      t.diagnostic(`${JSON.stringify(statuses(outage.told))}, recovered after ${tookMs} ms`);
      assert.ok(tookMs <= RECOVERY_MS_MAX, `counted on its own for ${tookMs} ms after Redis answered again`);
      for (const replica of fleet.replicas) assert.equal(await replica.metric("sallyport_redis_up"), 1);
    });
  } finally {
    redis.thaw();
    await redis.stop();
  }
});

it(`Redis killed, away for ${AWAY_MS} ms, and started again on what it had written`, async (t) => {
  const redis = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
  try {
    await withFleet({ replicas: 2, policy: OUTAGE_POLICY, redis: redis.url }, async (fleet) => {
      const outage = await throughOutage(fleet, {
        beforeMs: BEFORE_MS,
        afterMs: AFTER_MS,
        async outage(mended) {
          await redis.kill();
          await sleep(AWAY_MS);
          await redis.restart();
          mended();
        },
      });
      assertNoFailures(outage.told);
      t.diagnostic(assertDecidedInTime(outage));
      assertWithinLimits(outage);
      assertInsured(outage);
      const tookMs = recoveryMs(outage);
      t.diagnostic(`${JSON.stringify(statuses(outage.told))}, recovered after ${tookMs} ms`);
      assert.ok(tookMs <= RECOVERY_MS_MAX, `counted on its own for ${tookMs} ms after Redis was back`);
    });
  } finally {
    await redis.stop();
  }
});

it("Redis forgets its scripts again and again", async (t) => {
  const redis = await startRedis();
  try {
    await withFleet({ replicas: 2, policy: OUTAGE_POLICY, redis: redis.url }, async (fleet) => {
      const load = new SteadyLoad({
        ports: fleet.replicas.map(({ port }) => port),
        perSecond: PER_SECOND,
        request: (number) => chat({ user: `flush-${Math.floor(number / 100)}` }),
      });
      let flushes = 0;
      for (; flushes < 15; flushes++) {
        await sleep(200);
        await redis.command("SCRIPT", "FLUSH");
      }
      await load.stop();
      assertNoFailures(load.told);
      // Nothing was away: what a script's loss would cost is a second round trip, and no exactness.
      const users = Map.groupBy(load.told, ({ number }) => Math.floor(number / 100));
      for (const [user, shots] of users) {
        const admitted = shots.filter(({ status }) => status === 200).length;
        assert.equal(admitted, Math.min(USER_LIMIT, shots.length), `user ${user}`);
      }
      for (const by of ["share", "posture"]) {
        for (const replica of fleet.replicas) {
          assert.equal(await replica.metric("sallyport_limit_takes_total", { by }), 0, `counted by ${by}`);
        }
      }
      t.diagnostic(`${flushes} flushes, ${JSON.stringify(statuses(load.told))}`);
    });
  } finally {
    await redis.stop();
  }
});

it("a gateway starts and serves while no Redis is there, and takes it up when it comes", async (t) => {
  const redis = await startRedis();
  try {
    await redis.kill();
    await withFleet({ replicas: 1, policy: OUTAGE_POLICY, redis: redis.url }, async (fleet) => {
      const [replica] = fleet.replicas;
      const load = new SteadyLoad({
        ports: [replica!.port],
        perSecond: 50,
        request: (number) => chat({ user: `start-${Math.floor(number / 25)}` }),
      });
      await sleep(500);
      const startedMs = performance.now();
      await redis.restart();
      const sharedMs = await eventually(async () => {
        assert.ok((await replica!.metric("sallyport_limit_takes_total", { by: "shared" })) > 0);
        return performance.now() - startedMs;
      });
      await load.stop();
      assertNoFailures(load.told);
      assert.ok((statuses(load.told)[200] ?? 0) > 0, "some were admitted");
      t.diagnostic(`counted on Redis ${sharedMs.toFixed(0)} ms after its start began`);
      assert.ok(sharedMs < RECOVERY_MS_MAX + 1_000);
    });
  } finally {
    await redis.stop();
  }
});
