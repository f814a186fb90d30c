import assert from "node:assert/strict";
import * as fs from "node:fs";
import { BlockList, isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { type RedisServer, startRedis } from "../../test/support/redis.ts";
import { parseAddress } from "../text/network.ts";
import { openRedis, type SharedRedis } from "./redis.ts";
import { type NewSanction, openSanctions, type Sanctions, type SanctionsOptions } from "./sanctions.ts";
import { SanctionIndex } from "./sanctions-index.ts";
import { entityId, newRow } from "./sanctions-row.ts";

interface Context {
  diagnostic(message: string): void;
  after(cleanup: () => void | Promise<void>): void;
}

let server: RedisServer;
before(async () => {
  server = await startRedis();
});
after(() => server.stop());

function folder(context: Context): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-sanctions-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function opened(context: Context, more: Partial<SanctionsOptions> = {}): Promise<Sanctions> {
  const sanctions = await openSanctions({ dataDir: more.dataDir ?? folder(context), ...more });
  context.after(() => sanctions.close());
  return sanctions;
}

async function shared(context: Context): Promise<SharedRedis> {
  const redis = await openRedis({ url: server.url, nodes: [], prefix: "sp", timeoutMs: 25 });
  context.after(() => redis.close());
  return redis;
}

async function within(ms: number, what: string, check: () => boolean): Promise<number> {
  const start = performance.now();
  while (!check()) {
    assert.ok(performance.now() < start + ms, `${what} within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now() - start;
}

type Kind = NewSanction["entity"]["kind"];
const ban = (kind: Kind, id: string, more: Partial<NewSanction> = {}): NewSanction => ({
  entity: { kind, id },
  act: "ban",
  reason: "resells access",
  by: "ann",
  ...more,
});
const ids = (found: readonly { readonly id: string }[]) => found.map(({ id }) => id);
const NOBODY = {
  org: "acme",
  key: "key_1",
  endUser: "acme/u1",
  address: "192.0.2.1",
};

test("a sanction is in force on its entity, under every spelling, and on nobody else", async (context) => {
  const dataDir = folder(context);
  const sanctions = await opened(context, { dataDir });
  const none = sanctions.inForce(NOBODY);
  assert.deepEqual([none.length, Object.isFrozen(none)], [0, true]);
  for (const [kind, id, is, isNot] of [
    ["org", "acme", { org: "acme" }, { org: "Acme", key: "acme", address: "acme" }],
    ["key", "key_1", { key: "key_1" }, { org: "key_1", key: "key_2" }],
    ["end_user", "acme/u/1 ü", { endUser: "acme/u/1 ü" }, { endUser: "acme/u" }],
    ["address", "192.0.2.1", { address: "::ffff:192.0.2.1" }, { address: "192.0.2.2" }],
    ["address", "2001:DB8:0::7", { address: "2001:db8::9" }, { address: "2001:db8:0:1::7" }],
    ["address", "2001:db8:9::/64", { address: "2001:db8:9::/64" }, { address: "2001:db8:8::/64" }],
    ["network", "198.51.100.77/24", { address: "::FFFF:198.51.100.1" }, { address: "198.51.101.1" }],
    ["network", "2001:db8:AA::/47", { address: "2001:db8:ab:ffff::1" }, { address: "2001:db8:ac::" }],
    ["network", "2001:db8:77::8/125", { address: "2001:db8:77::f" }, { address: "2001:db8:77::7" }],
  ] as const) {
    const row = await sanctions.impose(ban(kind, id));
    assert.match(row.id, /^sanc_\w+$/);
    const [found, ...more] = sanctions.inForce(is);
    assert.deepEqual([found?.id, more.length, found?.limitScale], [row.id, 0, 1], id);
    assert.deepEqual(found?.entity, row.entity);
    assert.equal(sanctions.inForce(isNot), none, id);
    const again = await opened(context, { dataDir });
    assert.deepEqual(ids(again.inForce(is)), [row.id], "after a restart");
    assert.deepEqual(sanctions.list({ active: true, entity: { kind, id } }), [row]);
    await sanctions.lift(row.id, "bob");
    assert.equal(sanctions.inForce(is), none);
    assert.deepEqual(sanctions.list({ active: true, entity: { kind, id } }), []);
    assert.equal(sanctions.get(row.id)?.liftedBy, "bob");
  }
  assert.equal(sanctions.list().length, 9);
  assert.equal(sanctions.list({ active: false }).length, 9);
  assert.equal(await sanctions.lift("sanc_none", "bob"), undefined);
});

test("the most severe comes first, from whichever entity", async (context) => {
  const sanctions = await opened(context);
  const forSec = 60;
  const imposed = [
    await sanctions.impose(ban("org", "acme", { act: "notice", forSec })),
    await sanctions.impose(ban("key", "key_1", { act: "throttle", forSec })),
    await sanctions.impose(ban("org", "acme", { act: "throttle", forSec, limitScale: 0.1 })),
    await sanctions.impose(ban("network", "192.0.2.0/24", { act: "ban" })),
    await sanctions.impose(ban("end_user", "acme/u1", { act: "step-up", forSec })),
    await sanctions.impose(ban("address", "192.0.2.1", { act: "suspend", forSec })),
    await sanctions.impose(ban("network", "192.0.0.0/16", { act: "notice", forSec: 30 })),
  ];
  assert.deepEqual(ids(sanctions.inForce(NOBODY)), ids([3, 5, 2, 1, 4, 0, 6].map((at) => imposed[at]!)));
  assert.deepEqual(
    sanctions.inForce({ key: "key_1", org: "acme" }).map(({ act, limitScale }) => [act, limitScale]),
    [
      ["throttle", 0.1],
      ["throttle", 0.5],
      ["notice", 1],
    ],
  );
});

test("expiry holds to the millisecond, and a lifted one is over whatever the clocks say", async (context) => {
  let nowMs = Date.UTC(2027, 0, 1);
  const dataDir = folder(context);
  const sanctions = await opened(context, { dataDir, now: () => nowMs });
  const none = sanctions.inForce({});
  const long = await sanctions.impose(ban("address", "192.0.2.1", { forSec: 100 }));
  const short = await sanctions.impose(
    ban("address", "192.0.2.1", { act: "suspend", expiresAt: new Date(nowMs + 10_001).toISOString() }),
  );
  const on = () => ids(sanctions.inForce(NOBODY));
  assert.deepEqual(on(), [long.id, short.id]);
  nowMs += 10_000;
  assert.deepEqual(on(), [long.id, short.id]);
  nowMs += 1;
  assert.deepEqual(on(), [long.id]);
  assert.equal((await sanctions.lift(short.id, "bob"))?.liftedAt, undefined, "it is over already");
  nowMs += 89_998;
  assert.deepEqual(on(), [long.id]);
  nowMs += 1;
  assert.equal(sanctions.inForce(NOBODY), none);
  const third = await sanctions.impose(ban("org", "acme"));
  const ahead = await opened(context, { dataDir, now: () => nowMs + 300_000 });
  await ahead.lift(third.id, "bob");
  await within(1_000, "lifted here too", () => sanctions.inForce(NOBODY) === none);
});

test("what is no sanction is refused with the field and the fix", async (context) => {
  const sanctions = await opened(context);
  const day = 86_400;
  for (const [wanted, message] of [
    [ban("org", ""), /^entity\.id: must be 1 to 64/],
    [ban("org", "a b"), /^entity\.id/],
    [ban("key", "x".repeat(200)), /^entity\.id/],
    [ban("end_user", "u1"), /^entity\.id: must be the organisation and its user/],
    [ban("end_user", "acme/"), /^entity\.id/],
    [ban("end_user", "acme/a\nb"), /^entity\.id/],
    [ban("address", "192.0.2.0/24"), /^entity\.id: must be an IPv4 address/],
    [ban("address", "192.0.2.256"), /^entity\.id/],
    [ban("network", "192.0.2.1"), /^entity\.id: must be a CIDR/],
    [ban("network", "AS64500"), /^entity\.id: must be a CIDR/],
    [ban("network", "0.0.0.0/0"), /^entity\.id: must have a prefix of at least \/8/],
    [ban("network", "2000::/3"), /^entity\.id: must have a prefix of at least \/16/],
    [ban("planet" as "org", "earth"), /^entity\.kind: must be one of org, key/],
    [ban("org", "acme", { act: "hang" as "ban" }), /^act: must be one of notice/],
    [ban("org", "acme", { reason: "" }), /^reason: must not be empty/],
    [ban("org", "acme", { reason: "x".repeat(501) }), /^reason: must be at most 500/],
    [ban("org", "acme", { by: "a\u0000" }), /^by: must be printable/],
    [ban("org", "acme", { act: "suspend" }), /^expiresAt: a suspend needs an end/],
    [ban("org", "acme", { act: "throttle" }), /^expiresAt/],
    [ban("org", "acme", { act: "throttle", forSec: 90 * day + 1 }), /^forSec: .*at most 90 days/],
    [ban("org", "acme", { forSec: 0 }), /^forSec: must lie in the future/],
    [ban("org", "acme", { forSec: Number.NaN }), /^forSec: must be a number/],
    [ban("org", "acme", { forSec: 1e13 }), /^forSec: is too far away/],
    [ban("org", "acme", { expiresAt: "soon" }), /^expiresAt: must be a time/],
    [ban("org", "acme", { expiresAt: "2020-01-01T00:00:00Z" }), /^expiresAt: must lie in the future/],
    [ban("org", "acme", { expiresAt: "2999-01-01T00:00:00Z", forSec: 1 }), /^forSec: give it or expiresAt/],
    [ban("org", "acme", { act: "throttle", forSec: 1, limitScale: 0 }), /^limitScale: must be at least/],
    [ban("org", "acme", { act: "throttle", forSec: 1, limitScale: 1 }), /^limitScale: .*below 1/],
    [ban("org", "acme", { limitScale: 0.5 }), /^limitScale: is for a throttle/],
  ] as const) {
    await assert.rejects(sanctions.impose(wanted), (error) => {
      assert.ok(error instanceof RangeError);
      assert.match(error.message, message);
      return true;
    });
  }
  assert.equal(sanctions.list().length, 0);
  await sanctions.impose(ban("org", "acme", { act: "suspend", forSec: 90 * day, source: "case_1" }));
  assert.equal(sanctions.list()[0]?.source, "case_1");
  await assert.rejects(sanctions.lift("sanc_1", ""), /^RangeError: by: must not be empty/);
  assert.throws(() => sanctions.list({ entity: { kind: "network", id: "x" } }), /^RangeError: entity\.id/);
});

test("what ended long ago leaves with a later write; a full table makes room from what has ended", async (context) => {
  let nowMs = Date.UTC(2027, 0, 1);
  const sanctions = await opened(context, { now: () => nowMs, rowsMax: 4 });
  const lifted = await sanctions.impose(ban("org", "a"));
  await sanctions.lift(lifted.id, "bob");
  const expiring = await sanctions.impose(ban("org", "b", { forSec: 10 }));
  const standing = await sanctions.impose(ban("org", "c"));
  nowMs += 30 * 86_400_000 + 5_000;
  const fourth = await sanctions.impose(ban("org", "d"));
  await within(1_000, "swept", () => sanctions.get(lifted.id) === undefined);
  assert.deepEqual(ids(sanctions.list()).sort(), ids([expiring, standing, fourth]).sort());
  const fifth = await sanctions.impose(ban("org", "e"));
  const sixth = await sanctions.impose(ban("org", "f"));
  assert.deepEqual(ids(sanctions.list()).sort(), ids([standing, fourth, fifth, sixth]).sort());
  await assert.rejects(sanctions.impose(ban("org", "g")), /already holds 4 rows/);
  await sanctions.lift(fifth.id, "bob");
  assert.equal(sanctions.inForce({ org: "g" }).length, 0);
  await sanctions.impose(ban("org", "g"));
  assert.equal(sanctions.inForce({ org: "g" }).length, 1);
});

test("networks match as node:net's BlockList does, however sanctions come and go", () => {
  const address = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter((text) => isIP(text) === 6 && parseAddress(text)?.length === 8),
  );
  const near = fc.tuple(
    fc.constantFrom("10.0.", "10.1.", "2001:db8:0:", "2001:db8:1:"),
    fc.nat(255),
    fc.nat(255),
  );
  const close = near.map(([front, a, b]) =>
    front.includes(":") ? `${front}${a.toString(16)}::${b}` : `${front}${a}.${b}`,
  );
  const base = fc.oneof(address, close);
  const prefix = fc.nat(128);
  const nowMs = Date.UTC(2027, 0, 1);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(base, prefix, fc.boolean()), { maxLength: 12 }),
      fc.array(base, { minLength: 1, maxLength: 12 }),
      (networks, addresses) => {
        const index = new SanctionIndex(() => nowMs);
        // One for each family: to BlockList an IPv4 address is also in ::/16, to us it is IPv4 alone.
        const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
        const rows = networks.flatMap(([text, length, stays], i) => {
          const family = isIP(text) === 4 ? "ipv4" : "ipv6";
          const cut = family === "ipv4" ? 8 + (length % 25) : 16 + (length % 113);
          if (stays) lists[family].addSubnet(text, cut, family);
          const id = `${text}/${cut}`;
          const row = newRow(ban("network", id), `sanc_${i}`, nowMs);
          return [{ row, stays }];
        });
        index.follow(rows.map(({ row }) => ({ id: row.id, before: undefined, after: row })));
        for (const text of addresses) index.inForce({ address: text });
        const gone = rows.filter(({ stays }) => !stays);
        index.follow(gone.map(({ row }) => ({ id: row.id, before: row, after: undefined })));
        for (let round = 0; round < 2; round++)
          for (const text of addresses) {
            const isIn = index.inForce({ address: text }).length > 0;
            const family = isIP(text) === 4 ? "ipv4" : "ipv6";
            assert.equal(isIn, lists[family].check(text, family), text);
          }
      },
    ),
    { numRuns: 500 },
  );
});

test("more addresses than are remembered are still told apart", async (context) => {
  const sanctions = await opened(context);
  await sanctions.impose(ban("network", "10.0.128.0/17"));
  for (let i = 0; i < 40_000; i++) {
    const address = `10.0.${(i >> 8) & 255}.${i & 255}`;
    assert.equal(sanctions.inForce({ address }).length, i >= 32_768 ? 1 : 0);
  }
  assert.equal(sanctions.inForce({ address: "10.0.200.1" }).length, 1);
  assert.equal(sanctions.inForce({ address: `10.0.200.1${" ".repeat(1_000)}` }).length, 0);
});

test("an entity's id is the same once it was made one", () => {
  for (const [kind, id] of [
    ["address", "2001:DB8::1"],
    ["network", "10.1.2.3/9"],
    ["network", "::ffff:10.1.2.3/120"],
  ] as const) {
    const once = entityId(kind, id);
    assert.ok("id" in once);
    assert.deepEqual(entityId(kind, once.id), once);
  }
});

test("a ban on one replica is in force on the others within a second", async (context) => {
  await server.command("FLUSHALL");
  const replicas = await Promise.all(
    [1, 2, 3].map(async () => opened(context, { redis: await shared(context) })),
  );
  const [one, two, three] = replicas as [Sanctions, Sanctions, Sanctions];
  const times: number[] = [];
  for (let i = 0; i < 100; i++) {
    const started = performance.now();
    const caller = { org: "acme", key: `key_${i}`, address: "192.0.2.1" };
    const isSeen = () => two.inForce(caller).length > 0 && three.inForce(caller).length > 0;
    const imposing = one.impose(ban("key", `key_${i}`));
    await within(1_000, "in force", isSeen);
    times.push(performance.now() - started);
    await imposing;
    assert.equal(one.inForce(caller).length, 1, "at once on its own replica");
  }
  times.sort((a, b) => a - b);
  context.diagnostic(`imposed to visible: p50 ${times[50]?.toFixed(1)} ms, max ${times[99]?.toFixed(1)} ms`);

  const lost: number[] = [];
  for (let i = 0; i < 6; i++) {
    await server.command("CLIENT", "KILL", "TYPE", "pubsub");
    const row = await one.impose(ban("network", `10.${i}.0.0/16`));
    const caller = { address: `10.${i}.3.4` };
    const isSeen = () => two.inForce(caller).length > 0 && three.inForce(caller).length > 0;
    lost.push(await within(1_000, "in force without a message", isSeen));
    await three.lift(row.id, "bob");
    const isLifted = () => one.inForce(caller).length + two.inForce(caller).length === 0;
    await within(1_000, "lifted everywhere", isLifted);
  }
  context.diagnostic(`with subscriptions killed: max ${Math.max(...lost).toFixed(0)} ms`);
});

test("what was in force stays in force while Redis is away, and after it came back empty", async (context) => {
  await server.command("FLUSHALL");
  const problems: (string | undefined)[] = [];
  const one = await opened(context, {
    redis: await shared(context),
    onProblem: (said) => problems.push(said),
  });
  const two = await opened(context, { redis: await shared(context) });
  const row = await one.impose(ban("org", "acme"));
  await within(1_000, "in force", () => two.inForce(NOBODY).length === 1);
  await server.kill();
  await within(2_000, "the outage is said", () => one.problem !== undefined && two.problem !== undefined);
  for (const replica of [one, two]) {
    assert.deepEqual(ids(replica.inForce(NOBODY)), [row.id]);
    await assert.rejects(replica.impose(ban("org", "evil")), /the table "sanctions" cannot be changed now/);
    await assert.rejects(replica.lift(row.id, "bob"), /cannot be changed now/);
  }
  await server.restart();
  await within(3_000, "back", () => one.problem === undefined && two.problem === undefined);
  const three = await opened(context, { redis: await shared(context) });
  for (const replica of [one, two, three])
    await within(1_000, "still banned", () => replica.inForce(NOBODY)[0]?.id === row.id);
  assert.match(problems[0] ?? "", /the table "sanctions": the last good rows stay in force/);
});
