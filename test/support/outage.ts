/**
 * What the tests of a broken Redis have in common: a steady load whose users come and go, so that the counters
 * are asked anew all the time, and what the gateways' own records say of the time in which it broke.
 */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { percentile } from "../../load-tests/bench/statistics.ts";
import type { Decision } from "../../src/ledger/decision.ts";
import type { Fleet } from "./fleet.ts";
import { eventually, policyWith } from "./house.ts";
import { chat, Line, SteadyLoad, statuses, type Told } from "./lines.ts";

export const PER_SECOND = 200;
/** Requests of one user; they come within half a second, and then the user is not seen again. */
const PER_USER = 100;
export const USER_LIMIT = 30;
export const RECOVERY_MS_MAX = 2_000;

/** One limit, of a window that is longer than any of these tests. */
export const OUTAGE_POLICY = policyWith(`  - { id: auth, use: auth }
  - id: rate-limit
    use: rate-limit
    with:
      limits: [{ name: user-requests, of: requests, per: [key, end_user], limit: ${USER_LIMIT}, window: 10m }]
      whenAway: share
`);

/** Gateways that have just started are slow, and with them a Redis that shares their processors. */
const WARMING = 60;
const WARM_USER = "warm";
/** So long without one request that a gateway counted on its own: all is as before. */
const CLEAN_MS = 1_000;

type Shot = Told & { readonly number: number };

export interface Outage {
  readonly told: readonly Shot[];
  readonly decisions: readonly Decision[];
  /** On the clock of performance.now, and of Date.now for the decisions. */
  readonly brokenMs: number;
  readonly mendedMs: number;
  readonly brokenAt: number;
  readonly mendedAt: number;
}

/** Load for a while, then with Redis broken, then for a while after it was mended. */
export async function throughOutage(
  fleet: Fleet,
  steps: {
    readonly beforeMs: number;
    readonly afterMs: number;
    /** Breaks Redis, waits as long as it is to last, and mends it. */
    outage(mended: () => void): Promise<void>;
  },
): Promise<Outage> {
  await Promise.all(
    fleet.replicas.map(async ({ port }) => {
      const line = new Line(port);
      for (let i = 0; i < WARMING; i++) await line.ask(chat({ user: `${WARM_USER}-${port}-${i}` }));
      line.close();
    }),
  );
  const load = new SteadyLoad({
    ports: fleet.replicas.map(({ port }) => port),
    perSecond: PER_SECOND,
    request: (number) => chat({ user: userOf(number) }),
  });
  try {
    await sleep(steps.beforeMs);
    const [brokenMs, brokenAt] = [performance.now(), Date.now()];
    let [mendedMs, mendedAt] = [0, 0];
    await steps.outage(() => {
      mendedMs = performance.now();
      mendedAt = Date.now();
    });
    assert.ok(mendedMs > 0, "the outage says when it is mended");
    await sleep(steps.afterMs);
    await load.stop();
    const decisions: Decision[] = [];
    await eventually(async () => {
      decisions.length = 0;
      for (const replica of fleet.replicas) {
        const all = await replica.decisions();
        decisions.push(...all.filter(({ endUser }) => !endUser.includes(`${WARM_USER}-`)));
      }
      assert.equal(decisions.length, load.told.length, "a decision for each request");
    });
    return { told: load.told, decisions, brokenMs, mendedMs, brokenAt, mendedAt };
  } finally {
    await load.stop();
  }
}

function userOf(number: number): string {
  return `user-${Math.floor(number / PER_USER)}`;
}

/** Nothing but admitted and refused: no error, no broken connection. */
export function assertNoFailures(told: readonly Told[]): void {
  const wrong = told.filter(({ status }) => status !== 200 && status !== 429);
  assert.deepEqual(statuses(wrong), {}, wrong[0] && `${wrong[0].status} ${wrong[0].body.slice(0, 300)}`);
}

/**
 * A user who was admitted by Redis alone, or by the gateways' shares alone, gets the limit at most; one who was
 * there when that changed may get it from either. By the gateways' own records. Answers how many of each there were.
 */
export function assertWithinLimits(outage: Outage): { readonly steady: number; readonly across: number } {
  let [steady, across] = [0, 0];
  const insured = new Set(insuredIn(outage));
  for (const [user, decisions] of Map.groupBy(outage.decisions, ({ endUser }) => endUser)) {
    const admitted = decisions.filter(({ status }) => status === 200);
    const byShare = admitted.filter((decision) => insured.has(decision)).length;
    if (byShare === 0 || byShare === admitted.length) {
      steady += 1;
      assert.ok(admitted.length <= USER_LIMIT, `${user} got ${admitted.length} of ${USER_LIMIT}`);
    } else {
      across += 1;
      assert.ok(admitted.length <= 2 * USER_LIMIT, `${user} got ${admitted.length} of twice ${USER_LIMIT}`);
    }
  }
  return { steady, across };
}

/** Milliseconds that the limits' seat took, of requests that came between two times. */
export function seatMs(decisions: readonly Decision[], fromAt: number, toAt: number): readonly number[] {
  return decisions
    .filter(({ at }) => Date.parse(at) >= fromAt && Date.parse(at) < toAt)
    .flatMap(({ seats }) =>
      seats.filter(({ seat }) => seat === "rate-limit").map(({ micros }) => micros / 1000),
    );
}

/** The limits' seat decided within 25 ms at p99 while Redis was broken and while it came back. */
export function assertDecidedInTime(outage: Outage): string {
  const { decisions, brokenAt, mendedAt, told, brokenMs, mendedMs } = outage;
  const normal = seatMs(decisions, 0, brokenAt);
  const broken = seatMs(decisions, brokenAt, mendedAt + 2_000);
  assert.ok(
    normal.length > 100 && broken.length > 100,
    `${normal.length} before, ${broken.length} in the outage`,
  );
  const [base, p99] = [percentile(normal, 0.99), percentile(broken, 0.99)];
  const answered = (from: number, to: number) =>
    percentile(
      told.filter(({ sentMs }) => sentMs >= from && sentMs < to).map(({ sentMs, gotMs }) => gotMs - sentMs),
      0.99,
    ).toFixed(1);
  assert.ok(p99 <= base + 25, `decided in ${p99.toFixed(1)} ms at p99; ${base.toFixed(1)} ms before`);
  return (
    `decided in ${p99.toFixed(1)} ms at p99 (${base.toFixed(1)} before; longest ${Math.max(...broken).toFixed(1)}), ` +
    `answered in ${answered(brokenMs, mendedMs + 2_000)} ms (${answered(0, brokenMs)} before)`
  );
}

/** Decisions for which a gateway counted on its own. */
export function insuredIn({ decisions }: Outage): readonly Decision[] {
  return decisions.filter(({ seats }) =>
    seats.some(({ findings }) => findings.some(({ reason }) => reason === "rate.insured")),
  );
}

/**
 * While Redis was broken gateways counted on their own, and before that on Redis: but for a command that a busy
 * machine held up beyond its deadline, and the quarter of a second after it.
 */
export function assertInsured(outage: Outage): void {
  const times = insuredIn(outage).map(({ at }) => Date.parse(at));
  const before = times.filter((at) => at < outage.brokenAt - 5).length;
  const all = outage.decisions.filter(({ at }) => Date.parse(at) < outage.brokenAt).length;
  assert.ok(times.length > before, "while Redis was broken, gateways counted on their own");
  assert.ok(before <= 0.1 * all, `${before} of ${all} were counted so before`);
}

/**
 * How long after it was mended gateways still counted on their own, in milliseconds: until a whole second came
 * without it. A command that misses its deadline later, on a busy machine, is another and shorter outage.
 */
export function recoveryMs(outage: Outage): number {
  const { mendedAt } = outage;
  const times = insuredIn(outage).map(({ at }) => Date.parse(at));
  let recoveredAt = mendedAt;
  for (const at of times.filter((time) => time > mendedAt).sort((a, b) => a - b)) {
    if (at - recoveredAt > CLEAN_MS) break;
    recoveredAt = at;
  }
  return recoveredAt - mendedAt;
}
