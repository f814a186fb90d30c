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
import { chat, SteadyLoad, statuses, type Told } from "./lines.ts";

export const PER_SECOND = 200;
/** Requests of one user; they come within half a second, and then the user is not seen again. */
const PER_USER = 100;
export const USER_LIMIT = 30;

/** One limit, of a window that is longer than any of these tests. */
export const OUTAGE_POLICY = policyWith(`  - { id: auth, use: auth }
  - id: rate-limit
    use: rate-limit
    with:
      limits: [{ name: user-requests, of: requests, per: [key, end_user], limit: ${USER_LIMIT}, window: 10m }]
      whenAway: share
`);

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
      for (const replica of fleet.replicas) decisions.push(...(await replica.decisions()));
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
      (first > outage.brokenMs + 100 && last < outage.mendedMs) ||
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

/** How long after it was mended a gateway still counted on its own; in milliseconds. */
export function recoveryMs({ decisions, brokenAt, mendedAt }: Outage): number {
  const insured = decisions.filter(({ seats }) =>
    seats.some(({ findings }) => findings.some(({ reason }) => reason === "rate.insured")),
  );
  assert.ok(insured.length > 0, "while Redis was broken, replicas counted on their own");
  const times = insured.map(({ at }) => Date.parse(at));
  assert.ok(Math.min(...times) >= brokenAt - 5, "none counted on its own before");
  return Math.max(0, Math.max(...times) - mendedAt);
}
