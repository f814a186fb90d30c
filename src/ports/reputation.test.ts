import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { eventually } from "../../test/support/house.ts";
import { mmdb } from "../../test/support/mmdb.ts";
import type { Caller, Identity, RiskEntry, Sanction } from "../layer/index.ts";
import { openGeo } from "./geo.ts";
import { openReputation, type ReputationOptions } from "./reputation.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const T0 = Date.UTC(2030, 0, 1);
const ACME: Identity = { org: "acme", project: "chat", keyId: "key_1" };
const CALLER: Caller = { identity: ACME, address: "192.0.2.7" };

const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function folder(): string {
  folders.push(mkdtempSync(join(tmpdir(), "sallyport-reputation-")));
  return folders.at(-1)!;
}

async function open(options: Partial<ReputationOptions> = {}) {
  const clock = { ms: T0 };
  const dataDir = options.dataDir ?? folder();
  const store = await openReputation({ now: () => clock.ms, ...options, dataDir });
  return { store, clock, dataDir };
}

function entry(points: number, reason = "prompt.rule.x", requestId = "req_1"): RiskEntry {
  return { finding: { reason, score: 1 }, points, requestId };
}

function near(actual: number, expected: number, why = ""): void {
  assert.ok(Math.abs(actual - expected) < 1e-9, `${why}: ${actual}, not ${expected}`);
}

test("points halve with each half-life, and add up", async () => {
  const { store, clock } = await open();
  store.feed(CALLER, [entry(4)], DAY);
  near(store.look(CALLER, DAY).points.key, 4, "at once");
  clock.ms += DAY;
  near(store.look(CALLER, DAY).points.key, 2, "one half-life");
  clock.ms += DAY / 2;
  near(store.look(CALLER, DAY).points.key, 2 * Math.SQRT1_2, "half of one more");
  store.feed(CALLER, [entry(1, "prompt.rule.y", "req_2")], DAY);
  near(store.look(CALLER, DAY).points.key, 1 + Math.SQRT2, "a new finding");
  clock.ms += 30 * DAY;
  assert.equal(store.look(CALLER, DAY).points.key, 0, "in the end nothing is left");
  clock.ms = T0;
  assert.ok(store.look(CALLER, DAY).points.key < 3, "a clock that is set back makes nothing grow");
  await store.close();
});

test("points end at 32, so that a flood is not held against anybody for months", async () => {
  const { store, clock } = await open();
  for (let i = 0; i < 5_000; i++) store.feed(CALLER, [entry(0.02, "rate.requests", `req_${i}`)], DAY);
  near(store.look(CALLER, DAY).points.key, 32);
  clock.ms += 6 * DAY;
  near(store.look(CALLER, DAY).points.key, 0.5);
  await store.close();
});

test("a finding falls on each entity by its share: wholly on the nearest", async () => {
  const { store } = await open();
  store.feed(CALLER, [entry(1)], DAY);
  assert.deepEqual(store.look(CALLER, DAY).points, {
    org: 0.25,
    key: 1,
    end_user: 0,
    address: 1,
    network: 0.25,
  });
  const bob: Caller = {
    identity: { ...ACME, org: "other", keyId: "key_2", endUser: "bob" },
    address: "198.51.100.1",
  };
  store.feed(bob, [entry(1)], DAY);
  assert.deepEqual(store.look(bob, DAY).points, {
    org: 0.1,
    key: 0.25,
    end_user: 1,
    address: 1,
    network: 0.25,
  });
  await store.close();
});

test("an end user of another organisation with the same name is another", async () => {
  const { store } = await open();
  const caller = (org: string, endUser: string, address: string): Caller => ({
    identity: { org, project: "p", keyId: `key_${org}`, endUser },
    address,
  });
  store.feed(caller("acme", "bob", "192.0.2.1"), [entry(3)], DAY);
  assert.equal(store.look(caller("acme", "bob", "203.0.113.1"), DAY).points.end_user, 3);
  assert.equal(store.look(caller("globex", "bob", "203.0.113.1"), DAY).points.end_user, 0);
  assert.equal(store.look(caller("acme", "alice", "203.0.113.1"), DAY).points.end_user, 0);
  await store.close();
});

test("a neighbour shares the network and nothing else; IPv6 shares its /64; a stranger has an address alone", async () => {
  const { store } = await open();
  store.feed({ identity: undefined, address: "192.0.2.7" }, [entry(2)], DAY);
  const look = (address: string, identity?: Identity) => store.look({ identity, address }, DAY).points;
  assert.deepEqual(look("192.0.2.7"), { org: 0, key: 0, end_user: 0, address: 2, network: 0.5 });
  assert.deepEqual(look("192.0.2.8", ACME), { org: 0, key: 0, end_user: 0, address: 0, network: 0.5 });
  assert.equal(look("192.0.3.7").network, 0);
  assert.equal(look("::ffff:192.0.2.7").address, 2, "the same address, mapped into IPv6");
  store.feed({ identity: undefined, address: "2001:db8:1:2::1" }, [entry(1)], DAY);
  assert.deepEqual([look("2001:db8:1:2::9").address, look("2001:db8:1:3::1").address], [1, 0]);
  assert.deepEqual([look("2001:db8:1:3::1").network, look("2001:db8:2::1").network], [0.25, 0]);
  await store.close();
});

test("who proved nothing is held to their address, not to the name that all such callers share", async () => {
  const { store } = await open();
  const anonymous: Identity = { org: "anonymous", project: "anonymous", keyId: "anonymous", proof: "none" };
  store.feed({ identity: anonymous, address: "192.0.2.7" }, [entry(5)], DAY);
  const other = store.look({ identity: anonymous, address: "198.51.100.1" }, DAY);
  assert.deepEqual(other.points, { org: 0, key: 0, end_user: 0, address: 0, network: 0 });
  assert.equal(other.ageMs, Number.POSITIVE_INFINITY, "never trusted for the age of that name");
  await store.close();
});

test("age: the organisation's first sight, or an older key's making", async () => {
  const { store, clock } = await open();
  assert.equal(store.look(CALLER, DAY).ageMs, 0);
  clock.ms += 3 * DAY;
  assert.equal(store.look(CALLER, DAY).ageMs, 3 * DAY);
  const older: Caller = {
    identity: { ...ACME, keyId: "key_2", sinceMs: T0 - 100 * DAY },
    address: "192.0.2.7",
  };
  assert.equal(store.look(older, DAY).ageMs, 103 * DAY);
  assert.equal(store.look(CALLER, DAY).ageMs, 103 * DAY, "it is the organisation's age");
  const younger: Caller = { identity: { ...ACME, keyId: "key_3", sinceMs: T0 + DAY }, address: "192.0.2.7" };
  assert.equal(store.look(younger, DAY).ageMs, 103 * DAY);
  assert.equal(
    store.look({ identity: undefined, address: "192.0.2.7" }, DAY).ageMs,
    Number.POSITIVE_INFINITY,
  );
  await store.close();
});

test("a network is new where a settled key comes from it for the first time", async () => {
  const { store, clock } = await open();
  const age = (address: string) => store.look({ identity: ACME, address }, DAY).networkAgeMs;
  assert.equal(age("192.0.2.7"), Number.POSITIVE_INFINITY, "the first");
  clock.ms += 2 * HOUR;
  assert.equal(age("198.51.100.1"), Number.POSITIVE_INFINITY, "its first day");
  clock.ms += 2 * DAY;
  assert.equal(age("203.0.113.1"), 0, "a new one");
  assert.equal(age("203.0.113.200"), 0, "the same /24");
  clock.ms += HOUR;
  assert.equal(age("203.0.113.1"), HOUR);
  assert.equal(age("192.0.2.9"), Number.POSITIVE_INFINITY, "where it lives");
  // 32 later, the first are forgotten, oldest first.
  for (let i = 0; i < 30; i++) {
    clock.ms += 1_000;
    assert.equal(age(`10.0.${i}.1`), 0);
  }
  assert.equal(age("203.0.113.1"), HOUR + 30_000, "the third is kept");
  assert.equal(age("192.0.2.7"), 0, "the first was dropped, and is new again");
  await store.close();
});

test("country and operator come from the databases, and the operator is the network", async () => {
  const data = folder();
  const path = join(data, "asn.mmdb");
  const rows = { autonomous_system_number: 64500, country_code: "SE" };
  writeFileSync(path, mmdb({ "192.0.2.0/24": rows, "198.51.100.0/24": rows }));
  const geo = await openGeo({ country: path, asn: path });
  const { store } = await open({ geo });
  store.feed({ identity: undefined, address: "192.0.2.7" }, [entry(4)], DAY);
  const record = store.look({ identity: undefined, address: "198.51.100.9" }, DAY);
  assert.deepEqual([record.country, record.asn, record.points.network], ["SE", "AS64500", 1]);
  const elsewhere = store.look({ identity: undefined, address: "203.0.113.1" }, DAY);
  assert.deepEqual([elsewhere.country, elsewhere.asn, elsewhere.points.network], ["", "", 0]);
  geo.close();
  await store.close();
});

test("sanctions in force are the record's, asked for with every name the caller has", async () => {
  const asked: unknown[] = [];
  const ban: Sanction = {
    id: "s",
    entity: { kind: "org", id: "acme" },
    act: "ban",
    reason: "",
    limitScale: 1,
  };
  const sanctions = {
    inForce(caller: { readonly org?: string | undefined }) {
      asked.push({ ...caller });
      return caller.org === "acme" ? [ban] : [];
    },
  };
  const { store } = await open({ sanctions });
  assert.deepEqual(store.look(CALLER, DAY).sanctions, [ban]);
  store.look({ identity: { ...ACME, org: "o", endUser: "bob" }, address: "192.0.2.7" }, DAY);
  assert.deepEqual(store.look({ identity: undefined, address: "192.0.2.7" }, DAY).sanctions, []);
  assert.deepEqual(asked, [
    { org: "acme", key: "key_1", address: "192.0.2.7" },
    { org: "o", key: "key_1", endUser: "o/bob", address: "192.0.2.7" },
    { address: "192.0.2.7" },
  ]);
  assert.deepEqual((await store.explain({ kind: "org", id: "acme" }, DAY)).sanctions, [ban]);
  store.feed(CALLER, [entry(1)], DAY);
  const mapped = await store.explain({ kind: "address", id: "::ffff:192.0.2.7" }, DAY);
  assert.equal(mapped.points, 1, "however a person writes an address");
  await store.close();
});

test("an explanation: what gave how much, when and in which request; a flood of one reason hides no other", async () => {
  const { store, clock } = await open();
  store.feed(CALLER, [entry(1, "prompt.rule.jailbreak", "req_a")], DAY);
  clock.ms += DAY;
  for (let i = 0; i < 1_000; i++) store.feed(CALLER, [entry(0.001, "rate.requests", `req_${i}`)], DAY);
  const why = await store.explain({ kind: "key", id: "key_1" }, DAY);
  near(why.points, 1.5);
  near(why.risk, 1 - Math.exp(-1.5));
  assert.equal(why.firstSeenMs, undefined, "nobody has looked at it yet");
  assert.deepEqual(
    why.causes.map(({ reason, atMs, requestId, times }) => ({ reason, atMs, requestId, times })),
    [
      { reason: "rate.requests", atMs: T0 + DAY, requestId: "req_999", times: 1_000 },
      { reason: "prompt.rule.jailbreak", atMs: T0, requestId: "req_a", times: 1 },
    ],
  );
  near(why.causes[0]!.points, 1);
  near(why.causes[1]!.points, 0.5, "as of now");
  for (let i = 0; i < 10; i++) store.feed(CALLER, [entry(0.1, `prompt.rule.${i}`, "req_z")], DAY);
  const { causes } = await store.explain({ kind: "key", id: "key_1" }, DAY);
  assert.deepEqual(
    causes.map(({ reason }) => reason),
    [9, 8, 7, 6, 5, 4, 3, 2].map((i) => `prompt.rule.${i}`),
  );
  const nobody = await store.explain({ kind: "key", id: "key_x" }, DAY);
  assert.deepEqual([nobody.points, nobody.risk, nobody.causes], [0, 0, []]);
  await store.close();
});

test("two seats that feed one finding of one request count it once", async () => {
  const { store } = await open();
  store.feed(CALLER, [entry(1, "prompt.rule.x", "req_1")], DAY);
  store.feed(CALLER, [entry(1, "prompt.rule.x", "req_1")], DAY);
  assert.equal(store.look(CALLER, DAY).points.key, 1);
  store.feed(CALLER, [entry(1, "prompt.rule.x", "req_2")], DAY);
  assert.equal(store.look(CALLER, DAY).points.key, 2);
  await store.close();
});

test("a person's word adds or forgives, never below nothing, and stands in the explanation", async () => {
  const { store } = await open();
  const key = { kind: "key", id: "key_1" } as const;
  store.feed(CALLER, [entry(3)], DAY);
  await store.adjust(key, -1, { reason: "ruling.mistake", by: "ada" });
  near(store.look(CALLER, DAY).points.key, 2);
  await store.adjust(key, -100, { reason: "ruling.pardon", by: "ada" });
  assert.equal(store.look(CALLER, DAY).points.key, 0);
  await store.adjust(key, 5, { reason: "ruling.abuse", by: "grace" });
  near(store.look(CALLER, DAY).points.key, 5);
  const [latest] = (await store.explain(key, DAY)).causes;
  assert.deepEqual([latest?.reason, latest?.by, latest?.requestId], ["ruling.abuse", "grace", undefined]);
  await store.close();
});

test("the worst, of all kinds or of one", async () => {
  const { store } = await open();
  for (let i = 1; i <= 5; i++) {
    const identity = { ...ACME, org: `org_${i}`, keyId: `key_${i}` };
    store.feed({ identity, address: `10.0.${i}.1` }, [entry(i)], DAY);
  }
  assert.deepEqual(store.worst({ kind: "key", max: 2 }), [
    { entity: { kind: "key", id: "key_5" }, points: 5 },
    { entity: { kind: "key", id: "key_4" }, points: 4 },
  ]);
  assert.equal(store.worst({ max: 100 }).length, 20);
  await store.close();
});

test("a restart forgives nobody", async () => {
  const { store, dataDir, clock } = await open();
  const bob: Caller = { identity: { ...ACME, endUser: "bob" }, address: "2001:db8::1" };
  store.look(bob, DAY);
  store.feed(bob, [entry(4)], DAY);
  clock.ms += 2 * DAY;
  store.look({ identity: ACME, address: "203.0.113.1" }, DAY);
  await store.close();

  const again = await open({ dataDir });
  again.clock.ms = T0 + 3 * DAY;
  const record = again.store.look(bob, DAY);
  near(record.points.end_user, 0.5, "it decayed over the restart");
  assert.equal(record.ageMs, 3 * DAY);
  assert.equal(again.store.look({ identity: ACME, address: "203.0.113.1" }, DAY).networkAgeMs, DAY);
  const [cause] = (await again.store.explain({ kind: "end_user", id: "acme/bob" }, DAY)).causes;
  assert.deepEqual([cause?.reason, cause?.requestId, cause?.atMs], ["prompt.rule.x", "req_1", T0]);
  await again.store.close();
});

test("it is written while it runs, where something changed, and only then", async () => {
  const { store, dataDir } = await open({ writeMs: 10 });
  const path = join(dataDir, "reputation.json");
  store.feed(CALLER, [entry(1)], DAY);
  await eventually(() => assert.match(readFileSync(path, "utf8"), /key_1/));
  rmSync(path);
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.throws(() => readFileSync(path), /ENOENT/, "nothing has changed since");
  store.feed(CALLER, [entry(1, "prompt.rule.y")], DAY);
  await eventually(() => assert.match(readFileSync(path, "utf8"), /prompt\.rule\.y/));
  await store.close();
});

test("a file that cannot be written is a problem that is told, and told to be over", async () => {
  const problems: (string | undefined)[] = [];
  const dataDir = folder();
  const { store } = await open({ dataDir, writeMs: 10, onProblem: (problem) => problems.push(problem) });
  rmSync(dataDir, { recursive: true });
  store.feed(CALLER, [entry(1)], DAY);
  await eventually(() => assert.match(problems[0] ?? "", /reputation\.json cannot be written: ENOENT/));
  assert.equal(store.problem, problems[0]);
  mkdirSync(dataDir);
  await eventually(() => assert.equal(store.problem, undefined));
  assert.deepEqual(problems, [problems[0], undefined], "once each, however many writes failed");
  await store.close();
});

test("a file that cannot be read names itself, the place and the fix", async () => {
  for (const [text, words] of [
    ["{", /reputation\.json is not valid JSON: .*move it away/],
    ['{"version":1,"entities":[{"kind":"key"}]}', /reputation\.json: entities\.0\.id: /],
    ['{"version":2,"entities":[]}', /reputation\.json: version: /],
  ] as const) {
    const dataDir = folder();
    writeFileSync(join(dataDir, "reputation.json"), text);
    await assert.rejects(open({ dataDir }), words);
  }
});

test("each kind has a bound of its own; the least recently touched go first", async () => {
  const { store } = await open({ entitiesMax: 100 });
  const at = (i: number) => ({ identity: undefined, address: `10.${i >> 8}.${i & 255}.1` });
  store.feed(CALLER, [entry(1)], DAY);
  store.feed(at(0), [entry(1)], DAY);
  for (let i = 1; i <= 500; i++) {
    store.feed(at(i), [entry(1)], DAY);
    store.look(at(0), DAY);
  }
  const { address, network, key, org, entities, evicted } = store.stats();
  assert.deepEqual({ address, network, key, org }, { address: 30, network: 10, key: 1, org: 1 });
  assert.equal(entities, 42);
  assert.equal(evicted, 502 - 30 + 502 - 10);
  assert.equal(store.look(CALLER, DAY).points.key, 1, "a flood of addresses pushes no key out");
  assert.equal(store.look(at(0), DAY).points.address, 1, "it was touched all the time");
  assert.equal(store.look(at(400), DAY).points.address, 0);
  assert.equal(store.look(at(500), DAY).points.address, 1);
  await store.close();
});

test("a million entities are fed: no more than the bound are held, in 700 bytes each with their reasons", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const before = process.memoryUsage().heapUsed;
  const { store } = await open();
  for (let i = 0; i < 250_000; i++) {
    const identity = { org: `org_${i}`, project: "p", keyId: `key_${i}`, endUser: "u" };
    const address = `${10 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}.7`;
    store.feed(
      { identity, address },
      [entry(0.3, "prompt.rule.x", `req_${i.toString(16).padStart(32, "0")}`)],
      DAY,
    );
  }
  collect();
  const { entities, evicted, org } = store.stats();
  assert.equal(entities + evicted, 1_250_000);
  assert.equal(entities, 200_000);
  assert.equal(org, 20_000);
  const bytes = process.memoryUsage().heapUsed - before;
  assert.ok(bytes < entities * 700, `${Math.round(bytes / entities)} bytes an entity`);
  rmSync(folders.at(-1)!, { recursive: true }); // not worth writing out
  await store.close();
});

test("a very long end user is known by its beginning", async () => {
  const { store } = await open();
  const caller = (endUser: string): Caller => ({ identity: { ...ACME, endUser }, address: "192.0.2.7" });
  store.feed(caller("x".repeat(100_000)), [entry(1)], DAY);
  assert.equal(store.look(caller("x".repeat(100_000)), DAY).points.end_user, 1);
  const [row] = store.worst({ kind: "end_user", max: 1 });
  assert.equal(row?.entity.id.length, 600);
  await store.close();
});
