import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  type Caller,
  type CallerRecord,
  type Decided,
  type EntityKind,
  type Finding,
  type Identity,
  NO_STANDING,
  type Ports,
  type Prompt,
  REASONS,
  type Reputation,
  type RequestContext,
  type RequestHead,
  type RiskEntry,
  reasonEntry,
  type Sanction,
  type SanctionAct,
  type Standing,
} from "../../src/layer/index.ts";
import { openReputation } from "../../src/ports/reputation.ts";
import standings from "./cases/standing.json" with { type: "json" };
import weightCases from "./cases/weights.json" with { type: "json" };
import { reputationConfig } from "./config.ts";
import { reputation } from "./layer.ts";
import { isNewNetwork, riskOf, standingOf, tierAt, verdictOn } from "./standing.ts";
import { compileWeights, DEFAULT_WEIGHTS, entriesOf } from "./weights.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const CONFIG = reputationConfig.parse({});
const NO_POINTS = { org: 0, key: 0, end_user: 0, address: 0, network: 0 };
const IDENTITY: Identity = { org: "acme", project: "chat", keyId: "key_1" };

interface StandingCase {
  readonly why: string;
  readonly ageDays?: number;
  readonly points?: Partial<Record<EntityKind, number>>;
  readonly sanctions?: readonly string[];
  readonly isStranger?: boolean;
  readonly country?: string;
  readonly asn?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly expect: Partial<Standing>;
}

function sanction(act: string, kind: EntityKind = "org"): Sanction {
  const entity = { kind, id: kind === "end_user" ? "acme/bob" : "acme" };
  return {
    id: `san_${act}`,
    entity,
    act: act as SanctionAct,
    reason: "a test",
    limitScale: act === "throttle" ? 0.25 : 1,
  };
}

function recordOf(from: Partial<StandingCase>, more: Partial<CallerRecord> = {}): CallerRecord {
  return {
    points: { ...NO_POINTS, ...from.points },
    ageMs: from.ageDays === undefined ? Number.POSITIVE_INFINITY : from.ageDays * DAY_MS,
    networkAgeMs: Number.POSITIVE_INFINITY,
    country: from.country ?? "",
    asn: from.asn ?? "",
    sanctions: (from.sanctions ?? []).map((act) => sanction(act)),
    ...more,
  };
}

for (const one of standings as readonly StandingCase[]) {
  test(`standing: ${one.why}`, () => {
    const config = reputationConfig.parse(one.config ?? {});
    const { risk, ...standing } = standingOf(recordOf(one), config, one.isStranger !== true);
    const { risk: expectedRisk = 0, ...expected } = one.expect;
    const { risk: _, ...rest } = NO_STANDING;
    assert.deepEqual(standing, { ...rest, ...expected });
    assert.ok(Math.abs(risk - expectedRisk) < 1e-4, `risk ${risk}, not ${expectedRisk}`);
  });
}

for (const { why, reason, weights, expect } of weightCases as readonly {
  why: string;
  reason: string;
  weights?: Record<string, number>;
  expect: number;
}[]) {
  test(`weight: ${why}`, () => {
    const weightOf = compileWeights({ ...DEFAULT_WEIGHTS, ...weights });
    assert.equal(weightOf(reason), expect);
    assert.equal(weightOf(reason), expect, "and again");
  });
}

test("every weight that is set by default is of a registered reason or family", () => {
  for (const key of Object.keys(DEFAULT_WEIGHTS)) {
    const isKnown = key.endsWith(".*")
      ? Object.keys(REASONS).some((reason) => reason.startsWith(key.slice(0, -1)))
      : reasonEntry(key) !== undefined;
    assert.ok(isKnown, key);
  }
});

test("risk grows with every point of every entity, stays below 1, and is the formula", () => {
  const blame = CONFIG.blame;
  for (const kind of Object.keys(NO_POINTS) as EntityKind[]) {
    let last = 0;
    for (const points of [0.01, 0.1, 1, 3, 10]) {
      const risk = riskOf(recordOf({ points: { org: 0.2, [kind]: points } }), blame, true);
      if (points > 0.2 || kind !== "org") assert.ok(risk > last, `${kind} ${points}`);
      assert.ok(risk < 1);
      last = risk;
    }
  }
  const points = { org: 1, key: 0.5, end_user: 0.25, address: 2, network: 3 };
  const byHand =
    1 -
    (1 - 0.5 * (1 - Math.exp(-1))) *
      (1 - (1 - Math.exp(-0.5))) *
      (1 - (1 - Math.exp(-0.25))) *
      (1 - 0.4 * (1 - Math.exp(-2))) *
      (1 - 0.1 * (1 - Math.exp(-3)));
  assert.ok(Math.abs(riskOf(recordOf({ points }), blame, true) - byHand) < 1e-12);
});

test("nothing known against a caller makes nothing new: the standing is one of three constants", () => {
  for (const ageDays of [1, 30, 100]) {
    const standing = standingOf(recordOf({ ageDays }), CONFIG);
    assert.equal(standingOf(recordOf({ ageDays }), CONFIG), standing);
    assert.ok(Object.isFrozen(standing));
  }
});

test("the tier of an entity by its points alone", () => {
  assert.equal(tierAt(0, CONFIG).tier, "normal");
  assert.deepEqual(tierAt(1, CONFIG), { tier: "risky", risk: 1 - Math.exp(-1) });
  assert.equal(tierAt(9, { riskyAt: 0.6, suspendAt: 0.9 }).tier, "suspended");
});

test("a new network is told where the key is older than that", () => {
  const table: readonly [why: string, ageMs: number, networkAgeMs: number, hours: number, expect: boolean][] =
    [
      ["never seen before", 30 * DAY_MS, 0, 24, true],
      ["seen since yesterday", 30 * DAY_MS, 25 * HOUR_MS, 24, false],
      ["the caller itself is new", 2 * HOUR_MS, 0, 24, false],
      ["nobody knows the network's age", 30 * DAY_MS, Number.POSITIVE_INFINITY, 24, false],
      ["switched off", 30 * DAY_MS, 0, 0, false],
    ];
  for (const [why, ageMs, networkAgeMs, hours, expect] of table) {
    assert.equal(isNewNetwork(recordOf({}, { ageMs, networkAgeMs }), hours), expect, why);
  }
});

test("verdicts: what is blocked, what is flagged, and the score says why", () => {
  const verdict = (from: Partial<StandingCase>, more: Partial<CallerRecord> = {}) => {
    const config = reputationConfig.parse(from.config ?? {});
    const record = recordOf(from, more);
    return verdictOn(record, standingOf(record, config), config);
  };
  assert.deepEqual(verdict({ ageDays: 1 }), { act: "allow" });
  for (const act of ["suspend", "ban"]) {
    assert.deepEqual(verdict({ sanctions: [act] }), {
      act: "block",
      findings: [{ reason: `sanction.${act}`, score: 1 }],
    });
  }
  for (const act of ["notice", "step-up", "throttle"]) {
    assert.deepEqual(verdict({ sanctions: [act, act] }), {
      act: "flag",
      findings: [{ reason: `sanction.${act}`, score: 1 }],
    });
  }
  const risk = 1 - Math.exp(-1);
  assert.deepEqual(verdict({ points: { key: 1 } }), {
    act: "flag",
    findings: [{ reason: "reputation.tier.risky", score: risk }],
  });
  assert.deepEqual(verdict({ points: { key: 1 }, config: { suspendAt: 0.6 } }), {
    act: "block",
    findings: [{ reason: "reputation.tier.suspended", score: risk }],
  });
  assert.deepEqual(verdict({ ageDays: 30 }, { networkAgeMs: 0 }), {
    act: "flag",
    findings: [{ reason: "reputation.network.new", score: 1 }],
  });
  for (const reason of ["reputation.tier.risky", "reputation.tier.suspended", "reputation.network.new"]) {
    assert.notEqual(reasonEntry(reason), undefined, reason);
  }
});

test("a finding's points: weight times score, once for a reason, nothing for what weighs nothing", () => {
  const weightOf = compileWeights(DEFAULT_WEIGHTS);
  const where = { channel: "prompt:0", start: 0, end: 1 };
  const findings: Finding[] = [
    { reason: "prompt.rule.a", score: 0.5 },
    { reason: "prompt.rule.a", score: 1, where },
    { reason: "prompt.rule.b", score: 1 },
    { reason: "custom.x", score: 1 },
    { reason: "sanction.notice", score: 1 },
    { reason: "reputation.tier.risky", score: 0.9 },
  ];
  assert.deepEqual(entriesOf(findings, weightOf, "req_1"), [
    { finding: findings[1], points: 0.3, requestId: "req_1" },
    { finding: findings[2], points: 0.3, requestId: "req_1" },
  ]);
  assert.equal(entriesOf([], weightOf, "req_1").length, 0);
});

/** A port that says what it is told to say, and a request that notes what it hears. */
function scene(answer: (caller: Caller) => CallerRecord, identity: Identity | undefined = IDENTITY) {
  const fed: { caller: Caller; entries: readonly RiskEntry[]; halfLifeMs: number }[] = [];
  const looked: Caller[] = [];
  const port: Reputation = {
    look(caller) {
      looked.push(caller);
      return answer(caller);
    },
    feed(caller, entries, halfLifeMs) {
      fed.push({ caller, entries, halfLifeMs });
    },
  };
  const stood: Standing[] = [];
  const request: { identity: Identity | undefined; address: string; stand(standing: Standing): void } = {
    identity,
    address: "192.0.2.7",
    stand: (standing: Standing) => stood.push(standing),
  };
  const layer = reputation.compile(CONFIG, { seat: "reputation", reputation: port } as unknown as Ports);
  const watch = layer.open(request as unknown as RequestContext);
  return { watch, request, fed, looked, stood };
}
const HEAD = {} as RequestHead;
const PROMPT = {} as Prompt;

test("the first gate looks at the caller, tells the standing and says what it found", () => {
  const { watch, stood, looked } = scene(() => recordOf({ ageDays: 30, points: { key: 2 } }));
  const verdict = watch.onRequest?.(HEAD);
  assert.equal((verdict as { act: string }).act, "flag");
  assert.equal(stood[0]?.tier, "risky");
  assert.deepEqual(looked, [{ identity: IDENTITY, address: "192.0.2.7" }]);
});

test("a stranger is judged by their address, also one who was let in without a key", () => {
  for (const identity of [undefined, { ...IDENTITY, proof: "none" as const }]) {
    const { watch, stood } = scene(() => recordOf({ points: { address: 32 } }));
    const asked = scene(() => recordOf({ points: { address: 32 } }), identity);
    watch.onRequest?.(HEAD);
    asked.request.identity = identity; // undefined too, which a default would replace
    asked.watch.onRequest?.(HEAD);
    assert.equal(stood[0]?.tier, "normal", "a known caller behind that address");
    assert.equal(asked.stood[0]?.tier, "risky");
  }
});

test("the body names an end user: their points and sanctions count, and nothing is said twice", () => {
  const bob = { ...IDENTITY, endUser: "bob" };
  const { watch, request, stood, looked } = scene(({ identity }) =>
    identity?.endUser === "bob"
      ? recordOf(
          { ageDays: 30, points: { key: 0.1, end_user: 3 } },
          { sanctions: [sanction("throttle", "end_user"), sanction("notice")] },
        )
      : recordOf({ ageDays: 30, points: { key: 0.1 }, sanctions: ["notice"] }),
  );
  watch.onRequest?.(HEAD);
  assert.equal(stood[0]?.tier, "normal");
  assert.deepEqual(watch.onPrompt?.(PROMPT), { act: "allow" }, "no end user: nothing to look at");
  assert.equal(looked.length, 1);
  request.identity = bob;
  const verdict = watch.onPrompt?.(PROMPT) as { act: string; findings: Finding[] };
  assert.deepEqual(
    verdict.findings.map(({ reason }) => reason),
    ["sanction.throttle", "reputation.tier.risky"],
  );
  assert.equal(stood.length, 2);
  assert.equal(stood[1]?.tier, "risky");
  assert.equal(stood[1]?.limitScale, 0.25);
});

test("an end user under a ban is refused once the body names them; a clean one changes nothing", () => {
  const scenes = { banned: sanction("ban", "end_user"), clean: undefined };
  for (const [why, one] of Object.entries(scenes)) {
    const { watch, request, stood } = scene(({ identity }) =>
      recordOf({ ageDays: 30 }, { sanctions: identity?.endUser !== undefined && one ? [one] : [] }),
    );
    watch.onRequest?.(HEAD);
    request.identity = { ...IDENTITY, endUser: "bob" };
    const verdict = watch.onPrompt?.(PROMPT) as { act: string };
    assert.equal(verdict.act, one === undefined ? "allow" : "block", why);
    assert.equal(stood.length, one === undefined ? 1 : 2, why);
  }
});

test("an end user whom a token named is looked at with the head, once", () => {
  const { watch, looked } = scene(() => recordOf({ ageDays: 30 }), { ...IDENTITY, endUser: "bob" });
  watch.onRequest?.(HEAD);
  watch.onPrompt?.(PROMPT);
  assert.equal(looked.length, 1);
});

test("what was decided is booked on the caller; a failed proof only on where it came from", () => {
  const { watch, fed } = scene(() => recordOf({ ageDays: 30 }));
  const decided = (...reasons: string[]): Decided => ({
    id: "req_9",
    cause: "complete",
    act: "flag",
    findings: reasons.map((reason) => ({ reason, score: 1 })),
  });
  watch.onDecided?.(decided());
  watch.onDecided?.(decided("custom.x", "sanction.notice", "reputation.tier.risky"));
  assert.equal(fed.length, 0, "nothing that weighs anything");
  watch.onDecided?.(decided("prompt.rule.a", "auth.scope.model"));
  assert.equal(fed.length, 1);
  assert.deepEqual(fed[0]?.caller, { identity: IDENTITY, address: "192.0.2.7" });
  assert.deepEqual(
    fed[0]?.entries.map(({ finding, points }) => [finding.reason, points]),
    [
      ["prompt.rule.a", 0.3],
      ["auth.scope.model", 0.02],
    ],
  );
  assert.equal(fed[0]?.halfLifeMs, DAY_MS);
  watch.onDecided?.(decided("auth.canary"));
  assert.deepEqual(fed[1]?.caller, { identity: undefined, address: "192.0.2.7" }, "the owner is the victim");
});

test("configuration: defaults, bounds, and errors that name the field", () => {
  assert.deepEqual(CONFIG, {
    halfLifeHours: 24,
    weights: {},
    blame: { org: 0.5, key: 1, endUser: 1, address: 0.4, network: 0.1 },
    riskyAt: 0.6,
    newDays: 7,
    trustedDays: 90,
    trustedRiskMax: 0.05,
    newNetworkHours: 24,
  });
  const bad: readonly [object, string][] = [
    [{ halfLifeHours: 0 }, "halfLifeHours"],
    [{ weights: { "prompt.*.x": 1 } }, "weights.prompt.*.x"],
    [{ weights: { "prompt.rule.*": -1 } }, "weights.prompt.rule.*"],
    [{ riskyAt: 0 }, "riskyAt"],
    [{ suspendAt: 0.5 }, "suspendAt"],
    [{ trustedDays: 3 }, "trustedDays"],
    [{ trustedRiskMax: 0.7 }, "trustedRiskMax"],
    [{ blame: { user: 1 } }, "blame"],
  ];
  for (const [config, field] of bad) {
    const parsed = reputationConfig.safeParse(config);
    assert.equal(parsed.success, false, JSON.stringify(config));
    assert.equal(parsed.error?.issues[0]?.path.join("."), field);
  }
});

test("calibration, on the real store: three rule hits make a key risky, one user's do not condemn the platform", async () => {
  const dataDir = mkdtempSync(join(tmpdir(), "sallyport-reputation-"));
  const clock = { ms: Date.UTC(2030, 0, 1) };
  const store = await openReputation({ dataDir, now: () => clock.ms });
  const layer = reputation.compile(CONFIG, { seat: "reputation", reputation: store } as unknown as Ports);
  let requests = 0;
  const send = (identity: Identity | undefined, address: string, ...reasons: string[]): Standing => {
    let standing = NO_STANDING;
    const request = {
      identity,
      address,
      stand(told: Standing) {
        standing = told;
      },
    };
    const watch = layer.open(request as unknown as RequestContext);
    watch.onRequest?.(HEAD);
    const findings = reasons.map((reason) => ({ reason, score: 1 }));
    watch.onDecided?.({ id: `req_${requests++}`, cause: "complete", act: "flag", findings });
    return standing;
  };
  const key = (n: number): Identity => ({ org: `org_${n}`, project: "p", keyId: `key_${n}`, sinceMs: 0 });

  for (let i = 0; i < 2; i++) send(key(1), "10.1.0.1", "prompt.rule.x");
  assert.equal(send(key(1), "10.1.0.1", "prompt.rule.x").tier, "normal", "two hits");
  assert.equal(send(key(1), "10.1.0.1").tier, "risky", "three");
  clock.ms += DAY_MS;
  assert.equal(send(key(1), "10.1.0.1").tier, "normal", "a day later it is over");

  const user = (name: string) => ({ ...key(2), endUser: name });
  for (let i = 0; i < 5; i++) send(user("mallory"), "10.2.0.1", "prompt.rule.x");
  assert.equal(send(user("mallory"), "10.2.0.1").tier, "risky");
  assert.equal(send(user("alice"), "10.9.0.1").tier, "normal", "another user of the same key");

  for (let i = 0; i < 100; i++) send(key(3), "10.3.0.1", "rate.requests");
  assert.equal(send(key(3), "10.3.0.1").tier, "normal", "a hundred refusals of a busy client");
  for (let i = 0; i < 500; i++) send(key(3), "10.3.0.1", "rate.requests");
  assert.equal(send(key(3), "10.3.0.1").tier, "risky", "six hundred");

  send(key(4), "10.4.0.1", "auth.canary");
  assert.equal(send(key(4), "10.5.0.1").tier, "trusted", "whose canary was stolen");
  assert.equal(send(undefined, "10.4.0.1").tier, "risky", "where the thief is");
  await store.close();
  rmSync(dataDir, { recursive: true });
});
