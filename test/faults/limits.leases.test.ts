/**
 * What a request reserves and what it is charged: thousands of requests that end in every way there is (whole,
 * streamed, left by the caller, broken by the upstream, refused, killed with their gateway) leave no reserve and
 * no slot behind, and what those that ended well are charged is the usage that the upstream reported, to the token.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Fleet, openFleet, type Replica } from "../support/fleet.ts";
import { eventually, policyWith, seeded } from "../support/house.ts";
import { chat, Line, leave, openLines, statuses, volley } from "../support/lines.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
const REQUESTS = Number(process.env["SALLYPORT_LEASES"] ?? 2_000);
const DISCONNECTS = 1_000;
const AT_ONCE = 32;
/** Below AT_ONCE, so that some are refused while all others run. */
const SLOTS = 24;
/** How long a killed process's reserves may stay: their time to live and a sweep. */
const LAPSE_MS_MAX = 40_000;

const POLICY = policyWith(`  - { id: auth, use: auth }
  - id: rate-limit
    use: rate-limit
    with:
      limits:
        - { name: key-tokens, of: tokens, per: [key], limit: 1000000000, window: 1h }
        - { name: key-slots, of: concurrency, per: [key], limit: ${SLOTS} }
`);

let redis: RedisServer;
let fleet: Fleet;
before(async () => {
  redis = await startRedis();
  // The upstreams' own limits stand wide open: they would answer to the resets and to those who leave.
  const overload = { concurrencyMin: 512, concurrencyStart: 512, concurrencyMax: 512 };
  const gateway = { upstreams: { overload } };
  fleet = await openFleet({ replicas: 3, redis: redis.url, policy: POLICY, gateway });
  const { simulator } = fleet;
  simulator.setScript({ text: "word ".repeat(40), firstByteDelayMs: 10, eventGapMs: 1 }, "slow");
  simulator.setScript({ text: "word ".repeat(40), fault: { kind: "reset" } }, "reset-early");
  simulator.setScript({ text: "word ".repeat(40), fault: { kind: "reset", afterEvents: 6 } }, "reset-late");
  simulator.setScript({ text: "slow", firstByteDelayMs: 700 }, "waits");
});
after(async () => {
  await fleet?.close();
  await redis.stop();
});

it(`${REQUESTS} requests that end in every way, and a gateway killed among them (seed ${SEED})`, async (t) => {
  const random = seeded(SEED);
  const [doomed, ...survivors] = [fleet.replicas[2]!, fleet.replicas[0]!, fleet.replicas[1]!];
  const honest = await fleet.makeKey("acme", "ends well");
  const rough = await fleet.makeKey("acme", "ends anyhow");
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  /** Sum of the usage that honest callers were told of in their answers. */
  let told = 0;
  const ends: Record<string, number> = {};
  const count = (kind: string) => {
    ends[kind] = (ends[kind] ?? 0) + 1;
  };

  let next = 0;
  let killed: Promise<void> | undefined;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      const lines = new Map(fleet.replicas.map(({ port }) => [port, new Line(port)]));
      while (next < REQUESTS) {
        const index = next++;
        if (index === REQUESTS >> 1) killed = doomed.kill();
        const isHonest = index % 2 === 0;
        const port = pick(isHonest || killed !== undefined ? survivors : fleet.replicas).port;
        const stream = random() < 0.5;
        const common = {
          key: isHonest ? honest.key : rough.key,
          stream,
          text: "word ".repeat(1 + Math.floor(random() * 50)),
          outputTokensMax: 100 + Math.floor(random() * 400),
        };
        if (isHonest) {
          const answer = await lines.get(port)!.ask(chat({ ...common, model: pick(["m", "slow"]) }));
          count(`honest ${answer.status}`);
          if (answer.status === 200) told += usageOf(answer.body);
          continue;
        }
        const model = pick(["m", "slow", "slow", "reset-early", "reset-late"]);
        const request = chat({ ...common, model });
        if (random() < 0.5) {
          count("left");
          // The gateway may have been killed since it was picked.
          await leave(port, request, random() * 80).catch(() => {});
        } else {
          const answer = await lines.get(port)!.ask(request);
          count(`rough ${answer.status}`);
        }
      }
      for (const line of lines.values()) line.close();
    }),
  );
  await killed;
  const endedMs = performance.now();
  t.diagnostic(JSON.stringify(ends));
  assert.ok((ends["honest 200"] ?? 0) > REQUESTS / 4, "most of the honest ended well");

  const [reader] = survivors;
  const lapsedMs = await eventually(async () => {
    for (const { id } of [honest, rough]) {
      for (const limit of ["key-tokens", "key-slots"] as const) {
        assert.equal((await levelOf(reader!, limit, id)).reserved, 0, `${limit} of ${id} is reserved still`);
      }
    }
    return performance.now() - endedMs;
  }, LAPSE_MS_MAX);
  t.diagnostic(`nothing is reserved ${(lapsedMs / 1000).toFixed(1)} s after the last request`);
  for (const survivor of survivors) {
    assert.equal(await survivor.metric("sallyport_limit_leases_open"), 0);
    assert.equal(await survivor.metric("sallyport_limit_settles_pending"), 0);
  }
  for (const { id } of [honest, rough]) assert.equal((await levelOf(reader!, "key-slots", id)).used, 0);
  const charged = (await levelOf(reader!, "key-tokens", honest.id)).used;
  t.diagnostic(`honest callers were told of ${told} tokens and charged ${charged}`);
  assert.equal(charged, told, "charged is what was used");
});

it(`${DISCONNECTS} callers who leave, and not a slot is lost (seed ${SEED})`, async (t) => {
  const random = seeded(SEED + 1);
  const replicas = fleet.replicas.slice(0, 2);
  const { id, key } = await fleet.makeKey("leavers");
  let next = 0;
  await Promise.all(
    Array.from({ length: SLOTS }, async () => {
      while (next < DISCONNECTS) {
        const { port } = replicas[next++ % replicas.length]!;
        await leave(port, chat({ key, model: "slow", stream: random() < 0.7 }), random() * 80);
      }
    }),
  );
  await eventually(async () => {
    const level = await levelOf(replicas[0]!, "key-slots", id);
    assert.deepEqual([level.used, level.reserved], [0, 0]);
    for (const replica of replicas) assert.equal(await replica.metric("sallyport_limit_leases_open"), 0);
  }, 10_000);
  // As many as there are slots fit in at once, and not one more.
  const lines = await openLines(
    replicas.map(({ port }) => port),
    SLOTS * 2,
  );
  await sleep(100);
  const found = statuses(await volley(lines, () => chat({ key, model: "waits" })));
  for (const line of lines) line.close();
  t.diagnostic(`${DISCONNECTS} left; then ${JSON.stringify(found)} of ${SLOTS * 2} at once`);
  assert.deepEqual(found, { 200: SLOTS, 429: SLOTS });
});

function usageOf(body: string): number {
  const total = /"total_tokens":\s*(\d+)/.exec(body)?.[1];
  assert.ok(total !== undefined, `the answer tells of its usage: ${body.slice(-300)}`);
  return Number(total);
}

/** Where a key's counter of a limit stands; nothing where there is no counter (any more). */
async function levelOf(
  replica: Replica,
  limit: "key-tokens" | "key-slots",
  keyId: string,
): Promise<{ readonly used: number; readonly reserved: number }> {
  const { status, body } = await replica.api("GET", `/api/limits/live?contains=${keyId}`);
  assert.equal(status, 200, JSON.stringify(body));
  const counters = body["counters"] as readonly { key: string; used: number; reserved: number }[];
  return counters.find(({ key }) => key === `${limit}:key=${keyId}`) ?? { used: 0, reserved: 0 };
}
