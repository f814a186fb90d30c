/** The guard on simulated traffic: what is bad goes within seconds, and what is ordinary stays. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seeded } from "../../../test/support/eventually.ts";
import { Guard, type Withdrawal } from "./guard.ts";
import { policyOf, type Tenant, Traffic } from "./traffic.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? 20_261_124);
const HISTORY_SEC = 900;

function tenants(random: () => number, count: number, rps: number): Tenant[] {
  return Array.from({ length: count }, (_, i) => ({
    org: `org-${i}`,
    tier: i % 5 === 0 ? ("new" as const) : ("normal" as const),
    rps: (rps / count) * (0.3 + 1.4 * random()),
    refused: 0.003 + 0.03 * random() ** 2,
  }));
}

/** A guard that knows its traffic, with the change adopted and nothing of it seen yet. */
function withHistory(traffic: Traffic, all: readonly Tenant[], rules = {}): Guard {
  const guard = new Guard();
  guard.adopt(policyOf("good"));
  for (let second = 0; second < HISTORY_SEC; second++) {
    for (const one of all) traffic.ordinary("good", one, 1, (decision) => guard.note(decision));
    guard.second();
  }
  guard.adopt(policyOf("bad", "2", rules));
  return guard;
}

function quantiles(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.trunc(share * sorted.length))];
  return `median ${at(0.5)}, p90 ${at(0.9)}, max ${sorted.at(-1)}`;
}

for (const { refused, rps, withinSec } of [
  { refused: 0.02, rps: 200, withinSec: 20 },
  { refused: 0.05, rps: 200, withinSec: 10 },
  // Fewer refusals tell less a second.
  { refused: 0.01, rps: 200, withinSec: 60 },
  { refused: 0.02, rps: 60, withinSec: 60 },
]) {
  test(`a change that triples one tenant's ${refused * 100}% at ${rps} rps goes within ${withinSec} s of its floor`, (context) => {
    const after: number[] = [];
    const fromFloor: number[] = [];
    for (let run = 0; run < 20; run++) {
      const seed = SEED + run;
      const traffic = new Traffic(seeded(seed));
      const victim: Tenant = { org: "victim", tier: "normal", rps, refused };
      const all = [...tenants(traffic.random, 6, 140), victim];
      const guard = withHistory(traffic, all);
      let found: Withdrawal | undefined;
      for (let second = 0; second < 120 && found === undefined; second++) {
        for (const one of all) {
          traffic.ordinary("bad", one, 1, (decision) => {
            const isHit = one === victim && decision.act === "allow" && traffic.random() < refused * 2;
            guard.note(isHit ? traffic.decision("bad", victim, "bad") : decision);
          });
        }
        found = guard.second();
      }
      assert.ok(found !== undefined, `seed ${seed}: it was not withdrawn in 120 s`);
      assert.equal(found.figure, "block", `seed ${seed}`);
      assert.equal(found.revision, "bad");
      assert.equal(found.good, "good");
      assert.ok(found.observed > found.band * 0.9, `seed ${seed}: ${JSON.stringify(found)}`);
      after.push(found.afterSec);
      fromFloor.push(found.afterSec - found.floorSec);
    }
    const late = fromFloor.filter((seconds) => seconds > withinSec).length;
    context.diagnostic(
      `seeds ${SEED}..${SEED + 19}: seconds after the change: ${quantiles(after)}; after the floor: ${quantiles(fromFloor)}; ${late} of 20 later than ${withinSec} s`,
    );
    // A tenant in a mild mood is refused less than thrice its usual share: those take longer.
    assert.ok(late <= 2, `${late} of 20 took longer than ${withinSec} s after the floor`);
  });
}

for (let run = 0; run < 3; run++) {
  test(`a day of bursts, nights, newcomers and attacks, with a harmless change each half hour: run ${run}`, (context) => {
    const seed = SEED + 100 + run;
    context.diagnostic(`seed ${seed}`);
    const traffic = new Traffic(seeded(seed));
    const { random } = traffic;
    const guard = new Guard();
    let revision = "r0";
    guard.adopt(policyOf(revision));
    let all = tenants(random, 10, 35);
    let next = all.length;
    let attack: { readonly on: Tenant; readonly until: number; readonly rps: number } | undefined;
    let attacks = 0;
    let trials = 0;
    for (let second = 1; second <= 86_400; second++) {
      const day = 0.55 - 0.45 * Math.cos((2 * Math.PI * second) / 86_400);
      if (random() < 1 / 1_800) {
        // One goes, another comes with habits of its own; now and then a tester of whom half is refused.
        const refused = random() < 0.1 ? 0.5 : 0.003 + 0.05 * random() ** 2;
        const newcomer = { org: `org-${next++}`, tier: "normal" as const, rps: 1 + 8 * random(), refused };
        all = [...all.filter((_, i) => i !== Math.trunc(random() * all.length)), newcomer];
      }
      if (attack === undefined && random() < 1 / 1_500) {
        attacks += 1;
        const on = all[Math.trunc(random() * all.length)]!;
        attack = { on, until: second + 60 + Math.trunc(random() * 600), rps: 2 + 20 * random() };
      }
      if (attack !== undefined && second > attack.until) attack = undefined;
      if (second % 1_800 === 0) {
        trials += 1;
        revision = `r${trials}`;
        guard.adopt(policyOf(revision, String(trials)));
      }
      const note = (decision: Parameters<Guard["note"]>[0]) => guard.note(decision);
      for (const one of all) traffic.ordinary(revision, one, day, note);
      if (attack !== undefined) traffic.attack(revision, attack.on, attack.rps, note);
      const found = guard.second();
      assert.equal(found, undefined, `seed ${seed}, second ${second}: ${JSON.stringify(found)}`);
    }
    context.diagnostic(
      `${trials} changes, ${attacks} attacks, no withdrawal; ${guard.status.segments} segments`,
    );
  });
}

test("counting one request takes less than a microsecond", (context) => {
  const traffic = new Traffic(seeded(SEED));
  const all = tenants(traffic.random, 100, 100);
  const decisions = all.flatMap((one) =>
    (["plain", "plain", "plain", "both"] as const).map((kind) => traffic.decision("good", one, kind)),
  );
  const guard = new Guard();
  guard.adopt(policyOf("good"));
  const round = (times: number) => {
    const started = performance.now();
    for (let i = 0; i < times; i++) guard.note(decisions[i % decisions.length]!);
    return ((performance.now() - started) * 1e6) / times;
  };
  for (let i = 0; i < 120; i++) {
    round(1_000);
    guard.second();
  }
  const best = Math.min(...Array.from({ length: 10 }, () => round(50_000)));
  context.diagnostic(`${best.toFixed(0)} ns a request`);
  assert.ok(best < 1_000, `${best} ns`);
});
