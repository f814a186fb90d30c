/**
 * A sanction that is issued on one gateway stops the next request on every other within a second, and is lifted
 * as fast. A caller who hammers on a limit that is used up is answered from memory, and a million callers fit
 * into memory that is known beforehand.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { type Fleet, openFleet, withFleet } from "../support/fleet.ts";
import { eventually, policyWith } from "../support/house.ts";
import { chat, hammer, Line, openLines, statuses } from "../support/lines.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const WITHIN_MS = 1_000;
const SANCTIONS = 10;

let redis: RedisServer;
let fleet: Fleet;
before(async () => {
  redis = await startRedis();
  fleet = await openFleet({
    replicas: 3,
    redis: redis.url,
    gateway: { stores: { redis: { prefix: "sanctions" } } },
    policy: policyWith("  - { id: auth, use: auth }\n  - { id: reputation, use: reputation }\n"),
  });
});
after(async () => {
  await fleet?.close();
  await redis.stop();
});

it(`${SANCTIONS} bans reach every gateway within ${WITHIN_MS} ms, and so does their end`, async (t) => {
  const tookMs = { ban: [] as number[], lift: [] as number[] };
  for (let turn = 0; turn < SANCTIONS; turn++) {
    const org = `org-${turn}`;
    const { id: keyId, key } = await fleet.makeKey(org);
    const entity = [
      { kind: "key", id: keyId },
      { kind: "org", id: org },
      { kind: "end_user", id: `${org}/someone` },
      { kind: "address", id: "127.0.0.1" },
      { kind: "network", id: "127.0.0.0/8" },
    ][turn % 5]!;
    const issuer = fleet.replicas[turn % fleet.replicas.length]!;
    const request = chat({ key, user: "someone" });
    const lines = await openLines(
      fleet.replicas.map(({ port }) => port),
      fleet.replicas.length,
    );
    for (const line of lines) assert.equal((await line.ask(request)).status, 200, "not sanctioned yet");

    const bannedMs = performance.now();
    const issued = await issuer.api("POST", "/api/sanctions", {
      entity,
      act: "ban",
      reason: "a test",
      forSec: 60,
    });
    assert.ok(issued.status === 200 || issued.status === 201, JSON.stringify(issued));
    const stops = await Promise.all(lines.map((line) => untilStatus(line, request, 403)));
    tookMs.ban.push(Math.max(...stops) - bannedMs);
    for (const line of lines) {
      for (let again = 0; again < 5; again++)
        assert.equal((await line.ask(request)).status, 403, "and stays");
    }

    const sanction = idOf(issued.body);
    const liftedMs = performance.now();
    const lifted = await fleet.replicas[(turn + 1) % fleet.replicas.length]!.api(
      "DELETE",
      `/api/sanctions/${sanction}`,
    );
    assert.equal(lifted.status, 200, JSON.stringify(lifted));
    const starts = await Promise.all(lines.map((line) => untilStatus(line, request, 200)));
    tookMs.lift.push(Math.max(...starts) - liftedMs);
    for (const line of lines) line.close();
  }
  const longest = { ban: Math.max(...tookMs.ban), lift: Math.max(...tookMs.lift) };
  t.diagnostic(
    `on the last of ${fleet.replicas.length} gateways after ${longest.ban.toFixed(0)} ms at most, ` +
      `lifted after ${longest.lift.toFixed(0)} ms at most`,
  );
  assert.ok(longest.ban < WITHIN_MS && longest.lift < WITHIN_MS);
});

it("a sanction ends by itself on every gateway", async () => {
  const { id, key } = await fleet.makeKey("brief");
  const request = chat({ key });
  const entity = { kind: "key", id };
  const issued = await fleet.replicas[0]!.api("POST", "/api/sanctions", {
    entity,
    act: "suspend",
    reason: "a test",
    forSec: 2,
  });
  assert.ok(issued.status < 300, JSON.stringify(issued));
  const issuedMs = performance.now();
  // At all of them at once: on the last the sanction would be over before the first was done.
  await Promise.all(
    fleet.replicas.map(async ({ port }) => {
      const line = new Line(port);
      await untilStatus(line, request, 403);
      const endedMs = await untilStatus(line, request, 200);
      assert.ok(endedMs - issuedMs > 1_900 && endedMs - issuedMs < 3_000, `after ${endedMs - issuedMs} ms`);
      line.close();
    }),
  );
});

it("a hot key whose limit is used up is refused from memory", async (t) => {
  const options = {
    replicas: 2,
    redis: redis.url,
    gateway: { stores: { redis: { prefix: "hot" } } },
    policy: policyWith(
      "  - { id: auth, use: auth }\n  - { id: rate-limit, use: rate-limit, with: { limits: " +
        "[{ name: key-requests, of: requests, per: [key], limit: 50, window: 10m }] } }\n",
    ),
  };
  await withFleet(options, async ({ replicas }) => {
    const lines = await openLines(
      replicas.map(({ port }) => port),
      32,
    );
    const forMs = 4_000;
    const told = await hammer(lines, forMs, () => chat());
    for (const line of lines) line.close();
    const found = statuses(told);
    assert.deepEqual(Object.keys(found).sort(), ["200", "429"]);
    assert.equal(found[200], 50);
    const by = async (name: string) => {
      let sum = 0;
      for (const replica of replicas)
        sum += await replica.metric("sallyport_limit_takes_total", { by: name });
      return sum;
    };
    const [known, shared] = [await by("known"), await by("shared")];
    const share = known / (known + shared);
    const perSecond = told.length / (forMs / 1000);
    t.diagnostic(
      `${perSecond.toFixed(0)} requests a second; ${known} answered from memory, ${shared} by Redis: ` +
        `${(100 * share).toFixed(2)} %`,
    );
    assert.equal(known + shared, told.length, "every try was counted by somebody");
    assert.ok(share >= 0.95, `${(100 * share).toFixed(1)} % were answered from memory`);
  });
});

/** Asks again and again; the time at which the first answer with this status was there. */
async function untilStatus(line: Line, request: string, status: number): Promise<number> {
  return eventually(async () => {
    const told = await line.ask(request);
    assert.equal(told.status, status);
    return told.gotMs;
  });
}

function idOf(body: Readonly<Record<string, unknown>>): string {
  const { id } = (body["sanction"] ?? body) as { id?: unknown };
  assert.equal(typeof id, "string", JSON.stringify(body));
  return String(id);
}
