/** The layer on a port that keeps notes: what is claimed when, what follows from each answer, what is settled. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import {
  ALLOW,
  type Delta,
  type DialectName,
  type Ending,
  type Held,
  type Identity,
  type Leaf,
  NO_STANDING,
  type Operation,
  type Ports,
  type RequestContext,
  type RequestHead,
  type Standing,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { groupOf, keyOf, outputThatFits, scaledLimit } from "./claims.ts";
import { Config, limitOf, PER, type Per, windowSecOf } from "./config.ts";
import { FakeCounters } from "./fake-counters.ts";
import { rateLimit } from "./layer.ts";
import type { SizedPrompt } from "./prompt-size.ts";

const IDENTITY: Identity = { org: "acme", project: "chat", keyId: "key_1" };
const HEAD = {} as RequestHead;
const PRICES = `asOf: 2026-01-01
default: { input: 10, output: 50 }
models:
  - { model: "gpt-5*", input: 1.25, output: 10 }
`;

function cases<T>(name: string): T[] {
  return parse(readFileSync(new URL(`cases/${name}.yaml`, import.meta.url), "utf8")) as T[];
}

interface KeyCase {
  readonly why: string;
  readonly who?: "nobody";
  readonly per: readonly Per[];
  readonly address?: string;
  readonly endUser?: string;
  readonly model?: string;
  readonly expect: string;
  readonly group: string;
}

for (const { why, who, per, address, endUser, model, expect, group } of cases<KeyCase>("counter-keys")) {
  test(`key: ${why}`, () => {
    const limit = limitOf(Config.parse({ limits: [{ name: "l", limit: 1, per }] }).limits[0]!);
    const identity = who === "nobody" ? undefined : IDENTITY;
    const asker = {
      identity,
      address: address ?? "192.0.2.7",
      standing: NO_STANDING,
      endUser: endUser ?? "",
      model: model ?? "gpt-5",
    };
    assert.equal(keyOf(limit, asker), expect);
    assert.equal(groupOf(limit, identity), group);
    const turned = limitOf(
      Config.parse({ limits: [{ name: "l", limit: 1, per: per.toReversed() }] }).limits[0]!,
    );
    assert.equal(keyOf(turned, asker), expect, "the order in the policy is of no account");
  });
}

interface ConfigCase {
  readonly why: string;
  readonly with: unknown;
  readonly at: string;
  readonly says?: string;
}

for (const { why, with: given, at, says } of cases<ConfigCase>("config")) {
  test(`configuration: ${why}`, () => {
    const parsed = Config.safeParse(given);
    assert.equal(parsed.success, false);
    const issues = parsed.error!.issues;
    const issue = issues.find(({ path }) => path.join(".") === at);
    assert.ok(issue, `no issue at "${at}": ${JSON.stringify(issues)}`);
    if (says !== undefined) assert.match(issue.message, new RegExp(says));
  });
}

test("configuration: defaults, windows, phases and artifacts", () => {
  const config = Config.parse({});
  assert.deepEqual(config.limits, [
    { name: "key-requests", of: "requests", per: ["key"], limit: 600, window: "1m", scale: {} },
  ]);
  assert.deepEqual(config.whenAway, "share");
  const windows = [
    ["1s", 1],
    ["90s", 90],
    ["2h", 7_200],
    ["31d", 2_678_400],
    ["month", 2_678_400],
    [undefined, 60],
    ["32d", undefined],
    ["1.5h", undefined],
    ["01m", undefined],
  ] as const;
  for (const [text, seconds] of windows) assert.equal(windowSecOf(text), seconds, text);
  const phases = (limit: object) =>
    rateLimit.phasesOf!(Config.parse({ limits: [{ name: "a", limit: 1, ...limit }] }));
  assert.deepEqual(phases({}), ["onRequest", "onEnd"]);
  assert.deepEqual(phases({ of: "concurrency", per: ["org", "network"] }), ["onRequest", "onEnd"]);
  const before = ["onRequest", "onPrompt", "onEnd"];
  for (const limit of [
    { models: ["gpt-5"] },
    { per: ["model"] },
    { per: ["end_user"] },
    { of: "input_tokens" },
  ])
    assert.deepEqual(phases(limit), before);
  for (const unit of ["output_tokens", "tokens", "spend"])
    assert.deepEqual(phases({ of: unit }), ["onRequest", "onPrompt", "onChunk", "onEnd"]);
  const needs = (of: string) => rateLimit.needs!(Config.parse({ limits: [{ name: "a", of, limit: 1 }] }));
  assert.deepEqual(needs("tokens"), []);
  assert.deepEqual(needs("spend"), [{ path: "prices.yaml" }]);
});

test("a limit is scaled by tier and sanction, and never to nothing", () => {
  const config = Config.parse({
    limits: [{ name: "a", limit: 10, scale: { trusted: 2, new: 0.5, risky: 0.01 } }],
  });
  const limit = limitOf(config.limits[0]!);
  const scaled = (standing: Partial<Standing>) => scaledLimit(limit, { ...NO_STANDING, ...standing });
  assert.deepEqual(
    [
      scaled({}),
      scaled({ tier: "trusted" }),
      scaled({ tier: "new" }),
      scaled({ tier: "new", limitScale: 0.5 }),
      scaled({ tier: "risky" }),
      scaled({ limitScale: 0 }),
      scaled({ tier: "suspended" }),
    ],
    [10, 20, 5, 2, 1, 1, 10],
  );
});

test("an answer's reserve is no larger than the room that the limits leave beside the input", () => {
  const limits = Config.parse({
    limits: [
      { name: "a", of: "requests", limit: 5 },
      { name: "b", of: "tokens", limit: 1_000 },
      { name: "c", of: "output_tokens", limit: 300 },
    ],
  }).limits.map(limitOf);
  const fits = (output: number, input: number) =>
    outputThatFits(output, limits, { input, rate: undefined, standing: NO_STANDING });
  assert.deepEqual(
    [fits(512, 100), fits(512, 800), fits(50, 100), fits(512, 5_000), fits(0, 5_000)],
    [300, 200, 50, 1, 0],
  );
});

interface Scene {
  readonly counters: FakeCounters;
  readonly watch: Watch;
}

function open(
  given: unknown,
  request: Partial<RequestContext> = {},
  counters: FakeCounters = new FakeCounters(),
): Scene {
  const ports = { seat: "limits", counters, artifacts: { text: () => PRICES } } as unknown as Ports;
  const layer = rateLimit.compile(Config.parse(given), ports);
  const context = {
    dialect: "openai",
    operation: "chat",
    address: "192.0.2.7",
    identity: IDENTITY,
    standing: NO_STANDING,
    ...request,
  } as RequestContext;
  return { counters, watch: layer.open(context) };
}

function leaf(text: string, kind: Leaf["kind"] = "text"): Leaf {
  return { channel: "prompt:0", path: "/messages/0/content", role: "user", kind, turn: 0, text };
}

function prompt(more: Partial<SizedPrompt> = {}): SizedPrompt {
  return {
    dialect: "openai" as DialectName,
    operation: "chat" as Operation,
    model: "gpt-5-mini",
    stream: false,
    leaves: [leaf("Tell me a story about a fox and a hen, please.")],
    newestTurn: 0,
    unknown: [],
    mediaCount: 0,
    ...more,
  };
}

/** About `tokens` tokens of an answer. */
function delta(tokens: number, more: Partial<Delta> = {}): Delta {
  const text = " word".repeat(tokens);
  return { channel: "answer:0", kind: "answer", choice: 0, start: 0, text, final: false, ...more };
}

function ending(more: Partial<Ending> = {}): Ending {
  return { cause: "complete", usage: {}, upstreamCalled: true, ...more };
}

const limits = (...list: object[]) => ({ limits: list });

test("limits that need nothing of the body are taken from before it is read", async () => {
  for (const isLate of [false, true]) {
    const { counters, watch } = open(
      limits(
        { name: "a", limit: 5 },
        { name: "b", of: "concurrency", per: ["org"], limit: 2 },
        { name: "c", limit: 100, per: ["network"], window: "1d" },
      ),
    );
    if (isLate) counters.late = Promise.resolve();
    assert.equal(await watch.onRequest?.(HEAD), ALLOW);
    assert.deepEqual(counters.takes, [
      {
        away: "share",
        claims: [
          { key: "a:key=key_1", group: "acme", limit: 5, windowSec: 60, cost: 1, reserve: 0 },
          { key: "b:org=acme", group: "acme", limit: 2, windowSec: 0, cost: 0, reserve: 1 },
          { key: "c:network=192.0.2.0/24", group: "", limit: 100, windowSec: 86_400, cost: 1, reserve: 0 },
        ],
      },
    ]);
    assert.deepEqual(watch.quotas?.(), [
      { name: "a", unit: "requests", limit: 5, remaining: 4, resetMs: 700, windowSec: 60 },
      { name: "b", unit: "concurrency", limit: 2, remaining: 1, resetMs: 700, windowSec: 0 },
      { name: "c", unit: "requests", limit: 100, remaining: 99, resetMs: 700, windowSec: 86_400 },
    ]);
    await watch.onEnd?.(ending({ upstreamCalled: false, cause: "prompt_blocked" }));
    assert.deepEqual(counters.leases[0]!.settled, [[1, 0, 1]], "the request counts, the slot is free");
  }
});

test("refused: the limit that refused is the reason, and nothing is left to settle", async () => {
  const { counters, watch } = open(
    limits({ name: "a", limit: 5 }, { name: "b", of: "concurrency", limit: 1 }),
  );
  counters.refusedBy = 1;
  assert.deepEqual(await watch.onRequest?.(HEAD), {
    act: "throttle",
    findings: [{ reason: "rate.concurrency", score: 1 }],
    retryAfterMs: 1_234,
  });
  assert.equal(watch.quotas?.().length, 2);
  await watch.onEnd?.(ending({ upstreamCalled: false, cause: "rate_limited" }));
  assert.equal(counters.leases.length, 0);
});

test("while Redis is away the posture goes along and is told apart", async () => {
  const away = async (by: FakeCounters["by"], refusedBy: number, whenAway: string) => {
    const { counters, watch } = open({ whenAway, ...limits({ name: "a", limit: 5 }) });
    counters.by = by;
    counters.refusedBy = refusedBy;
    const verdict = (await watch.onRequest?.(HEAD)) as Verdict;
    assert.equal(counters.takes[0]?.away, whenAway);
    watch.onEnd?.(ending());
    assert.equal(counters.open, 0);
    return [verdict.act, verdict.act === "allow" ? "" : verdict.findings[0]?.reason];
  };
  assert.deepEqual(await away("shared", -1, "share"), ["allow", ""]);
  assert.deepEqual(await away("share", -1, "share"), ["flag", "rate.insured"]);
  assert.deepEqual(await away("share", 0, "share"), ["throttle", "rate.requests"]);
  assert.deepEqual(await away("posture", -1, "admit"), ["flag", "rate.uncounted"]);
  assert.deepEqual(await away("posture", 0, "refuse"), ["throttle", "rate.away"]);
});

const MIXED = limits(
  { name: "requests", limit: 5 },
  { name: "slots", of: "concurrency", per: ["org"], limit: 2 },
  { name: "input", of: "input_tokens", limit: 100_000 },
  { name: "output", of: "output_tokens", per: ["key", "model"], limit: 100_000 },
  { name: "both", of: "tokens", per: ["org"], limit: 100_000, window: "1h" },
  { name: "money", of: "spend", per: ["org"], limit: 2.5, window: "month" },
  { name: "mini", of: "requests", limit: 3, models: ["gpt-4*", "gpt-5-mini"] },
  { name: "others", of: "requests", limit: 3, models: ["claude-*"] },
);

test("where one limit needs the body all wait for it, and only what is known to be used up refuses before", async () => {
  const { counters, watch } = open(MIXED);
  assert.equal(await watch.onRequest?.(HEAD), ALLOW);
  assert.equal(counters.takes.length, 0);
  assert.deepEqual(
    counters.asked[0]?.map(({ key, cost, reserve }) => [key, cost, reserve]),
    [
      ["requests:key=key_1", 1, 0],
      ["slots:org=acme", 0, 1],
      ["input:key=key_1", 0, 1],
      ["both:org=acme", 0, 2],
      ["money:org=acme", 0, 2],
    ],
    "what needs the model's name is not asked for",
  );
  assert.equal(await watch.onPrompt?.(prompt()), ALLOW);
  const input = counters.takes[0]!.claims[2]!.reserve;
  assert.ok(input > 10 && input < 30, `${input} tokens`);
  assert.deepEqual(
    counters.takes[0]?.claims.map(({ key, cost, reserve, limit }) => [key, cost, reserve, limit]),
    [
      ["requests:key=key_1", 1, 0, 5],
      ["slots:org=acme", 0, 1, 2],
      ["input:key=key_1", 0, input, 100_000],
      ["output:key=key_1,model=gpt-5-mini", 0, 512, 100_000],
      ["both:org=acme", 0, input + 512, 100_000],
      ["money:org=acme", 0, input * 1_250 + 512 * 10_000, 2_500_000_000],
      ["mini:key=key_1", 1, 0, 3],
    ],
  );
  // Input is used from the moment on that the model is asked.
  assert.deepEqual(counters.leases[0]?.debits, [0, 0, input, 0, input, input * 1_250, 0]);
  watch.onEnd?.(ending({ usage: { inputTokens: 100, outputTokens: 40 } }));
  assert.deepEqual(counters.leases[0]?.settled, [[1, 0, 100, 40, 140, 100 * 1_250 + 40 * 10_000, 1]]);
  const shown = watch.quotas?.().map(({ name }) => name);
  assert.deepEqual(shown, ["requests", "slots", "input", "output", "both", "mini"], "money is not shown");
});

test("what is known to be used up is refused before the body is read", async () => {
  const { counters, watch } = open(MIXED);
  counters.knownBy = 3;
  const verdict = (await watch.onRequest?.(HEAD)) as Verdict;
  assert.deepEqual(verdict, {
    act: "throttle",
    findings: [{ reason: "rate.tokens", score: 1 }],
    retryAfterMs: 1_234,
  });
  watch.onEnd?.(ending({ upstreamCalled: false }));
  assert.deepEqual([counters.takes.length, counters.leases.length], [0, 0]);
});

test("what an operation does not use is neither reserved nor asked for", async () => {
  const keys = async (operation: Operation) => {
    const { counters, watch } = open(MIXED, { operation });
    await watch.onRequest?.(HEAD);
    if (operation !== "realtime" && operation !== "pass_through")
      await watch.onPrompt?.(prompt({ operation, stream: false }));
    watch.onEnd?.(ending({ usage: { inputTokens: 9 } }));
    assert.equal(counters.open, 0, operation);
    return counters.takes[0]?.claims.map(({ key, reserve }) => [key.split(":")[0], reserve > 1]);
  };
  const counted = [
    ["requests", false],
    ["slots", false],
    ["mini", false],
  ];
  for (const operation of ["models", "moderations", "count_tokens"] as const)
    assert.deepEqual(await keys(operation), counted, operation);
  assert.deepEqual(await keys("embeddings"), [
    ["requests", false],
    ["slots", false],
    ["input", true],
    ["both", true],
    ["money", true],
    ["mini", false],
  ]);
  // Carried byte for byte: there is no prompt to wait for, and no name of a model.
  for (const operation of ["realtime", "pass_through"] as const)
    assert.deepEqual(await keys(operation), counted.slice(0, 2), operation);
});

test("reserves: the request's maximum, within bounds, times its answers", async () => {
  const reserve = async (more: Partial<SizedPrompt>) => {
    const { counters, watch } = open(limits({ name: "a", of: "output_tokens", limit: 1_000_000 }));
    await watch.onPrompt?.(prompt(more));
    watch.onEnd?.(ending());
    return counters.takes[0]?.claims[0]?.reserve;
  };
  assert.equal(await reserve({}), 512);
  assert.equal(await reserve({ outputTokensMax: 100 }), 100);
  assert.equal(await reserve({ outputTokensMax: 100_000 }), 4_096);
  assert.equal(await reserve({ choices: 3 }), 1_536);
  assert.equal(await reserve({ choices: 1_000_000_000 }), 4_096);
});

test("input: media count the same whatever their size, token ids one each, parameters nothing", async () => {
  const reserve = async (more: Partial<SizedPrompt>) => {
    const { counters, watch } = open(limits({ name: "a", of: "input_tokens", limit: 1e9 }));
    await watch.onPrompt?.(prompt(more));
    watch.onEnd?.(ending());
    return counters.takes[0]!.claims[0]!.reserve;
  };
  const none = await reserve({ leaves: [] });
  assert.equal(none, 7);
  assert.equal(await reserve({ leaves: [leaf("gpt-5", "parameter")] }), none);
  assert.equal(await reserve({ leaves: [leaf("AAAA".repeat(100_000), "media")] }), none + 1_024);
  assert.equal(await reserve({ leaves: [], inputTokenIds: 900 }), none + 900);
  const words = await reserve({ leaves: [leaf("word ".repeat(20_000))] });
  assert.ok(words > 15_000 && words < 25_000, `${words} for 20,000 words`);
});

test("settled by the upstream's count, and by ours where it named none or the answer broke off", async () => {
  const used = async (stream: boolean, end: Partial<Ending>, deltas: readonly Delta[] = [delta(50)]) => {
    const { counters, watch } = open(
      limits(
        { name: "in", of: "input_tokens", limit: 1e6 },
        { name: "out", of: "output_tokens", limit: 1e6 },
      ),
    );
    await watch.onPrompt?.(prompt({ stream }));
    for (const one of deltas) await watch.onChunk?.(one);
    watch.onEnd?.(ending(end));
    assert.equal(counters.open, 0);
    const estimate = counters.takes[0]!.claims[0]!.reserve;
    const [input, output] = counters.leases[0]!.settled[0]!;
    return [input === estimate ? "estimate" : input, output];
  };
  const usage = { inputTokens: 9, outputTokens: 3 };
  assert.deepEqual(await used(true, { usage }), [9, 3]);
  assert.deepEqual(await used(false, { usage }), [9, 3]);
  const [, counted] = await used(true, {});
  assert.ok(Number(counted) >= 40 && Number(counted) <= 60, `${counted} for 50 words`);
  assert.deepEqual(await used(true, {}), ["estimate", counted]);
  // The Messages API names one output token at the start: what streamed since is more.
  assert.deepEqual(await used(true, { cause: "client_gone", usage: { inputTokens: 9, outputTokens: 1 } }), [
    9,
    counted,
  ]);
  assert.deepEqual(await used(true, { cause: "client_gone" }, []), ["estimate", 0]);
  // Whoever does not wait for a whole answer has had it written all the same.
  assert.deepEqual(await used(false, { cause: "client_gone" }, []), ["estimate", 512]);
  assert.deepEqual(await used(false, { cause: "upstream_error" }, []), [0, 0]);
  assert.deepEqual(await used(true, { cause: "upstream_error" }), ["estimate", counted]);
  assert.deepEqual(await used(false, { cause: "prompt_blocked", upstreamCalled: false }, []), [0, 0]);
  const absurd = { inputTokens: Number.POSITIVE_INFINITY, outputTokens: -3.5 };
  assert.deepEqual(await used(false, { usage: absurd }), [1e9, 0]);
});

test("what the model wrote is counted once, and nothing else is", async () => {
  const count = async (request: Partial<RequestContext>, deltas: readonly Delta[]) => {
    const { counters, watch } = open(limits({ name: "out", of: "output_tokens", limit: 1e6 }), request);
    await watch.onPrompt?.(prompt({ stream: true }));
    for (const one of deltas) await watch.onChunk?.(one);
    watch.onEnd?.(ending());
    return counters.leases[0]!.settled[0]![0]!;
  };
  const once = await count({}, [delta(40)]);
  assert.ok(once > 0);
  for (const kind of ["thinking", "refusal", "tool", "transcript"] as const)
    assert.equal(await count({}, [delta(40, { kind })]), once, kind);
  for (const kind of ["logprobs", "other"] as const) assert.equal(await count({}, [delta(40, { kind })]), 0);
  const signature = delta(40, { kind: "thinking", channel: "signature:0" });
  assert.equal(await count({ dialect: "anthropic", operation: "messages" }, [signature]), 0);
  const repeated = [delta(40), delta(40, { channel: "answer:0:0:done", final: true })];
  assert.equal(await count({ operation: "responses" }, repeated), once);
});

const OUT = { cutAtLimit: true, ...limits({ name: "out", of: "output_tokens", limit: 1e6 }) };

/** Opens a stream with a reserve of 512. */
async function streaming(
  given: object,
  extensions: FakeCounters["extensions"],
  more: Partial<SizedPrompt> = {},
) {
  const scene = open(given);
  scene.counters.extensions = extensions;
  await scene.watch.onPrompt?.(prompt({ stream: true, ...more }));
  return { ...scene, lease: scene.counters.leases[0]! };
}

test("more is reserved ahead of need, and text that fits does not wait", async () => {
  let grant: (isGranted: boolean) => void = () => {};
  const pending = new Promise<boolean>((resolve) => {
    grant = resolve;
  });
  const { watch, lease } = await streaming(OUT, [pending]);
  assert.equal(watch.onChunk?.(delta(300)), ALLOW);
  assert.deepEqual(lease.extended, []);
  assert.equal(watch.onChunk?.(delta(170)), ALLOW, "three quarters are used: asked, and not waited for");
  assert.deepEqual(lease.extended, [[512]]);
  const held = watch.onChunk?.(delta(200));
  assert.ok(held instanceof Promise, "the reserve is used up: the text waits");
  grant(true);
  assert.equal(await held, ALLOW);
  assert.equal(lease.extended.length, 1, "asked once");
  watch.onEnd?.(ending());
});

test("refused while it streams: cut where the policy says so, else it runs over and is booked", async () => {
  const isCut = async (given: object) => {
    const { watch, lease } = await streaming(given, Array(20).fill(false));
    const held: (Held | undefined)[] = [];
    for (let i = 0; i < 8; i++) held.push(await watch.onChunk?.(delta(100)));
    watch.onEnd?.(ending({ cause: "answer_cut" }));
    const asked = lease.extended.flat();
    assert.deepEqual(
      asked,
      [512, 256, 128, 64, 32, 16].slice(0, asked.length),
      "halves, while a half is worth it",
    );
    assert.ok(lease.settled[0]![0]! >= 600, "all that was written is booked");
    return held.map((one) => one?.act);
  };
  const cut = await isCut(OUT);
  assert.deepEqual(cut.slice(0, 5), Array(5).fill("allow"), "what was reserved may be used");
  assert.equal(cut.at(-1), "block");
  assert.deepEqual(await isCut({ ...OUT, cutAtLimit: false }), Array(8).fill("allow"));
  const { watch } = await streaming(OUT, Array(20).fill(false));
  assert.deepEqual(await watch.onChunk?.(delta(700)), {
    act: "block",
    findings: [{ reason: "rate.cut", score: 1 }],
  });
  watch.onEnd?.(ending());
});

test("a late refusal cuts, a late grant lets go, a throw counts as a refusal", async () => {
  for (const [late, act] of [
    [Promise.resolve(true), "allow"],
    [Promise.resolve(false), "block"],
    [Promise.reject(new Error("gone")), "block"],
  ] as const) {
    const { watch } = await streaming(OUT, [late, ...Array(20).fill(Promise.resolve(false))]);
    const held = await watch.onChunk?.(delta(600));
    assert.equal(held?.act, act);
    watch.onEnd?.(ending());
  }
});

test("nothing is reserved past the request's own maximum, and nothing is cut there", async () => {
  const { watch, lease } = await streaming(OUT, Array(20).fill(false), { outputTokensMax: 200 });
  for (let i = 0; i < 5; i++) assert.equal(await watch.onChunk?.(delta(100)), ALLOW);
  assert.deepEqual(lease.extended, []);
  watch.onEnd?.(ending());
});

test("a delta larger than a step is reserved in one go", async () => {
  const { watch, lease } = await streaming(OUT, []);
  assert.equal(await watch.onChunk?.(delta(4_000)), ALLOW);
  assert.equal(lease.extended.length, 1);
  assert.ok(lease.extended[0]![0]! > 3_000);
  watch.onEnd?.(ending());
});

test("an end before the counters answered settles the lease that comes too late", async () => {
  let arrive: () => void = () => {};
  const { counters, watch } = open(MIXED);
  counters.late = new Promise((resolve) => {
    arrive = resolve;
  });
  const verdict = watch.onPrompt?.(prompt());
  watch.onEnd?.(ending({ cause: "client_gone", upstreamCalled: false }));
  arrive();
  await verdict;
  assert.equal(counters.leases.length, 1);
  assert.deepEqual(counters.leases[0]!.settled, [[1, 0, 0, 0, 0, 0, 1]]);
});

test("anonymous callers, tiers and end users reach the claims", async () => {
  const given = limits({ name: "a", limit: 10, per: ["key", "end_user"], scale: { new: 0.5 } });
  const request = { identity: undefined, standing: { ...NO_STANDING, tier: "new" as const } };
  const { counters, watch } = open(given, request);
  await watch.onRequest?.(HEAD);
  assert.deepEqual(counters.asked, [], "nothing can be named yet");
  await watch.onPrompt?.(prompt({ endUser: "u1" }));
  const [claim] = counters.takes[0]!.claims;
  assert.deepEqual([claim?.key, claim?.group, claim?.limit], ["a:address=192.0.2.7,end_user=-/u1", "", 5]);
  watch.onEnd?.(ending());
  assert.equal(counters.open, 0);
});

test("every part of a caller is known to the keys", () => {
  const all = limitOf(Config.parse({ limits: [{ name: "l", limit: 1, per: [...PER] }] }).limits[0]!);
  const asker = { identity: IDENTITY, address: "192.0.2.7", standing: NO_STANDING, endUser: "u", model: "m" };
  assert.equal(
    keyOf(all, asker),
    "l:org=acme,project=acme/chat,key=key_1,address=192.0.2.7,network=192.0.2.0/24,end_user=acme/u,model=m",
  );
});
