/**
 * Limits are exact across processes: what many replicas admit together is the limit to the letter, in every
 * span of its window, whatever their clocks say, and a refusal by one limit takes nothing from another. Four
 * gateways on one Redis; what was admitted when is told by the test's own monotonic clock.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Fleet, openFleet, withFleet } from "../support/fleet.ts";
import { policyWith, seeded } from "../support/house.ts";
import { chat, headerOf, type Line, openLines, statuses, type Told, volley } from "../support/lines.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
const TRIES = Number(process.env["SALLYPORT_TRIES"] ?? 10_000);
const REPLICAS = 4;
/** Of the replicas, as far apart as machines with a broken time service. */
const CLOCKS = [undefined, "+300s", "-300s", "+150s"];

const limits = (...rows: readonly string[]) =>
  policyWith(
    `  - { id: auth, use: auth }\n  - { id: rate-limit, use: rate-limit, with: { limits: [${rows.join(", ")}] } }\n`,
  );

let redis: RedisServer;
before(async () => {
  redis = await startRedis();
});
after(() => redis.stop());

const prefixed = (prefix: string) => ({ stores: { redis: { prefix } } });

describe(`${TRIES} concurrent tries of one key on ${REPLICAS} processes`, () => {
  const LIMIT = 100;
  for (const [index, { name, clocks }] of [
    { name: "with clocks that agree", clocks: [] },
    { name: `with clocks ${CLOCKS.slice(1).join(", ")} off`, clocks: CLOCKS },
  ].entries()) {
    it(`${name}: exactly ${LIMIT} are admitted`, async (t) => {
      const policy = limits(`{ name: key-requests, of: requests, per: [key], limit: ${LIMIT}, window: 5m }`);
      const gateway = prefixed(`exact-${index}`);
      await withFleet({ replicas: REPLICAS, policy, redis: redis.url, clocks, gateway }, async (fleet) => {
        const lines = await openLines(portsOf(fleet), TRIES);
        const startedMs = performance.now();
        const told = await volley(lines, () => chat());
        const seconds = (performance.now() - startedMs) / 1000;
        closeAll(lines);
        t.diagnostic(`${TRIES} tries in ${seconds.toFixed(1)} s: ${JSON.stringify(statuses(told))}`);
        assert.deepEqual(statuses(told), { 200: LIMIT, 429: TRIES - LIMIT });
        for (const refused of told.filter(({ status }) => status === 429).slice(0, 100)) {
          const waitSec = Number(headerOf(refused, "retry-after"));
          assert.ok(waitSec >= 1 && waitSec <= 330, `retry-after ${headerOf(refused, "retry-after")}`);
        }
      });
    });
  }
});

it(`no span of the window sees more than the limit, in bursts of random size and time (seed ${SEED})`, async (t) => {
  const [limit, windowMs, forMs] = [100, 2_000, 12_000];
  const policy = limits(`{ name: key-requests, of: requests, per: [key], limit: ${limit}, window: 2s }`);
  const gateway = prefixed("windows");
  const options = { replicas: REPLICAS, policy, redis: redis.url, clocks: CLOCKS, gateway };
  await withFleet(options, async (fleet) => {
    const random = seeded(SEED);
    const lines = await openLines(portsOf(fleet), 160);
    const told: Told[] = [];
    const volleys: Promise<void>[] = [];
    const idle = new Set(lines);
    const startedMs = performance.now();
    // A counter that starts anew at set times is caught by a burst before such a time and one after it; one
    // that only ever meets steady demand looks right.
    while (performance.now() - startedMs < forMs) {
      const size = [2, 5, 20, 120][Math.floor(random() * 4)]!;
      const shots = [...idle].slice(0, size);
      for (const line of shots) idle.delete(line);
      volleys.push(
        volley(shots, () => chat()).then((answers) => {
          told.push(...answers);
          for (const line of shots) idle.add(line);
        }),
      );
      await sleep(random() * 400);
    }
    await Promise.all(volleys);
    closeAll(lines);
    const admitted = told.filter(({ status }) => status === 200);
    const most = mostWithin(admitted, windowMs);
    t.diagnostic(`${told.length} tries, ${admitted.length} admitted, at most ${most} in any ${windowMs} ms`);
    assert.deepEqual(
      Object.keys(statuses(told)).filter((status) => status !== "200" && status !== "429"),
      [],
    );
    assert.ok(told.length > (1.2 * limit * forMs) / windowMs, "more were asked for than may pass");
    assert.ok(most <= limit, `${most} were admitted within ${windowMs} ms`);
    assert.ok(most > limit * 0.9, `the proof is sharp: it saw ${most} of ${limit}`);
    assert.ok(admitted.length >= limit * (forMs / windowMs / 2), "what comes back may be used again");
  });
});

describe("all limits or none", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await openFleet({
      replicas: REPLICAS,
      redis: redis.url,
      gateway: prefixed("all-or-nothing"),
      policy: limits(
        "{ name: key-requests, of: requests, per: [key], limit: 100, window: 10m }",
        "{ name: org-requests, of: requests, per: [org], limit: 150, window: 10m }",
        "{ name: model-requests, of: requests, per: [org, model], limit: 10, window: 10m }",
      ),
    });
  });
  after(() => fleet.close());

  it("what one limit refuses takes nothing from those before and after it", async (t) => {
    const { key: first } = await fleet.makeKey("acme", "first");
    const { key: second } = await fleet.makeKey("acme", "second");
    const lines = await openLines(portsOf(fleet), 400);
    const ask = async (key: string, model: string) =>
      statuses(await volley(lines, () => chat({ key, model })))[200] ?? 0;
    // Each model admits 10 of 400: were the other 390 counted against the key, it would be used up at once.
    const admitted: number[] = [];
    for (let model = 0; model < 11; model++) admitted.push(await ask(first, `model-${model}`));
    assert.deepEqual(
      admitted,
      [...Array.from({ length: 10 }, () => 10), 0],
      "10 models of 10 are 100 of the key",
    );
    // 8,000 tries of a key that is used up have taken nothing from its organisation's other 50.
    const others: number[] = [];
    for (let model = 20; model < 27; model++) others.push(await ask(second, `model-${model}`));
    assert.deepEqual(others, [10, 10, 10, 10, 10, 0, 0], "50 are left of the organisation");
    t.diagnostic(`first key ${admitted.join(" ")}, second key ${others.join(" ")}`);
    closeAll(lines);
  });
});

function portsOf(fleet: Fleet): readonly number[] {
  return fleet.replicas.map(({ port }) => port);
}

function closeAll(lines: readonly Line[]): void {
  for (const line of lines) line.close();
}

/**
 * The most that were surely admitted within a span of this length: those written after its start and answered
 * before its end, for the spans that start with a request. One that was on its way at either end counts for
 * none, so the figure can only be too small, and too small by what was on its way.
 */
function mostWithin(admitted: readonly Told[], spanMs: number): number {
  const bySent = [...admitted].sort((a, b) => a.sentMs - b.sentMs);
  let most = 0;
  for (const [index, { sentMs }] of bySent.entries()) {
    let count = 0;
    for (let at = index; at < bySent.length && bySent[at]!.sentMs <= sentMs + spanMs; at++) {
      if (bySent[at]!.gotMs <= sentMs + spanMs) count += 1;
    }
    most = Math.max(most, count);
  }
  return most;
}
