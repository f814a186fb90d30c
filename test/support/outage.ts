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
  /** When it was broken for certain: a process that is to be killed lives on for a moment. */
  readonly isBrokenMs: number;
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
    /** Breaks Redis, says so, waits as long as it is to last, and mends it. */
    outage(mended: () => void, broken: () => void): Promise<void>;
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
    let [isBrokenMs, mendedMs, mendedAt] = [0, 0, 0];
    await steps.outage(
      () => {
        mendedMs = performance.now();
        mendedAt = Date.now();
      },
      () => {
        isBrokenMs = performance.now();
      },
    );
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
    if (isBrokenMs === 0) isBrokenMs = brokenMs;
    return { told: load.told, decisions, brokenMs, isBrokenMs, mendedMs, brokenAt, mendedAt };
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
 * A user of one of the two regimes gets the limit at most; one who was there when they changed may get it from
 * either. Answers how many of each there were.
 */
export function assertWithinLimits(outage: Outage): { readonly steady: number; readonly across: number } {
  const users = new Map<string, Shot[]>();
  for (const shot of outage.told) {
    const shots = users.get(userOf(shot.number)) ?? [];
    users.set(userOf(shot.number), shots);
    shots.push(shot);
  }
  let [steady, across] = [0, 0];
  for (const [user, shots] of users) {
    const admitted = shots.filter(({ status }) => status === 200).length;
    const [first, last] = [
      Math.min(...shots.map(({ sentMs }) => sentMs)),
      Math.max(...shots.map(({ gotMs }) => gotMs)),
    ];
    // Found out a little after it happened; mended within two seconds after it could be.
    const isSteady =
      last < outage.brokenMs ||
      (first > outage.isBrokenMs + 100 && last < outage.mendedMs) ||
      first > outage.mendedMs + 2_000;
    if (isSteady) {
      steady += 1;
      assert.ok(admitted <= USER_LIMIT, `${user} got ${admitted} of ${USER_LIMIT}`);
    } else {
      across += 1;
      assert.ok(admitted <= 2 * USER_LIMIT, `${user} got ${admitted} of twice ${USER_LIMIT}`);
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

/** While Redis was broken, and not before, gateways counted on their own. */
export function assertInsured(outage: Outage): void {
  const times = insuredIn(outage).map(({ at }) => Date.parse(at));
  assert.ok(times.length > 0, "while Redis was broken, gateways counted on their own");
  assert.ok(Math.min(...times) >= outage.brokenAt - 5, "none counted on its own before");
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
