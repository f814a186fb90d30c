/**
 * The routes over the stores as they are, alone and on Redis: what a call says it did is what the gateway then sees.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { eventually } from "../../test/support/house.ts";
import { startRedis } from "../../test/support/redis.ts";
import { MemoryCounters } from "../ports/counters-memory.ts";
import { openIdentities } from "../ports/identities.ts";
import { openRedis, type SharedRedis } from "../ports/redis.ts";
import { openReputation } from "../ports/reputation.ts";
import { openSanctions } from "../ports/sanctions.ts";
import { openConsole, standInParts } from "./stand-ins.ts";

async function openStores(context: TestContext, redis?: SharedRedis) {
  const dataDir = mkdtempSync(join(tmpdir(), "sallyport-console-"));
  // The pepper of one house: several gateways share their keys.
  const env = { SALLYPORT_KEY_PEPPER: "0123456789abcdef0123456789abcdef" };
  const identities = await openIdentities({ dataDir, env, bootstrap: false, redis });
  const sanctions = await openSanctions({ dataDir, redis });
  const reputation = await openReputation({ dataDir, redis, sanctions });
  const counters = new MemoryCounters();
  const parts = { identities, sanctions, reputation, counters };
  const admin = await openConsole({
    ...standInParts(),
    ...parts,
    redis,
  });
  context.after(async () => {
    await admin.close();
    for (const part of Object.values(parts)) await part.close();
    rmSync(dataDir, { recursive: true, force: true });
  });
  return { admin, ...parts };
}

const HALF_LIFE_MS = 86_400_000;
const ADDRESS = "192.0.2.7";

test("keys: what is made opens, what is rotated opens for the overlap, what is revoked does not", async (context) => {
  const { admin, identities } = await openStores(context);
  const made = await admin.ask<{ id: string; key: string }>("POST /api/keys", {
    body: { org: "acme", scopes: { models: ["gpt-*"], networks: ["::ffff:10.0.0.0/104"] } },
  });
  const found = identities.find(made.body.key);
  assert.equal(found.state, "active");
  assert.ok(found.state === "active" && found.scope?.networks?.has("10.1.2.3"));
  const shown = await admin.ask<{ scopes: { networks: string[] } }>(`GET /api/keys/${made.body.id}`);
  assert.deepEqual(shown.body.scopes.networks, ["10.0.0.0/8"], "in its one spelling");
  const next = await admin.ask<{ id: string; key: string }>(`POST /api/keys/${made.body.id}/rotate`, {
    body: { overlapSec: 60 },
  });
  assert.equal(identities.find(made.body.key).state, "active");
  assert.equal(identities.find(next.body.key).state, "active");
  const again = await admin.ask<{ detail: string }>(`POST /api/keys/${made.body.id}/rotate`);
  assert.equal(again.status, 409);
  assert.match(again.body.detail, /replaced already/);
  await admin.ask(`DELETE /api/keys/${next.body.id}`);
  assert.equal(identities.find(next.body.key).state, "revoked");
  const bait = await admin.ask<{ id: string; key: string }>("POST /api/keys", {
    body: { org: "bait", canary: true },
  });
  const lookup = identities.find(bait.body.key);
  assert.ok(lookup.state === "active" && lookup.canary === true);
  assert.equal((await admin.ask(`POST /api/keys/${bait.body.id}/rotate`)).status, 409);
  assert.equal((await admin.ask<{ keys: unknown[] }>("GET /api/keys")).body.keys.length, 3);
});

test("limits: a counter is seen, reset, and the caller goes on", async (context) => {
  const { admin, counters } = await openStores(context);
  const claim = {
    key: "key-requests|key=key_1",
    group: "acme",
    limit: 3,
    windowSec: 60,
    cost: 1,
    reserve: 0,
  };
  const seat = counters.forSeat("limits");
  for (let i = 0; i < 3; i++) (await seat.take([claim], "share")).lease?.settle([1]);
  assert.equal((await seat.take([claim], "share")).admitted, false);
  type Live = { counters: { seat: string; key: string; used: number; windowSec: number }[] };
  const live = await admin.ask<Live>("GET /api/limits/live?seat=limits&contains=key_1");
  assert.deepEqual(
    live.body.counters.map(({ key, used, windowSec }) => [key, used, windowSec]),
    [[claim.key, 3, 60]],
  );
  const reset = await admin.ask("POST /api/limits/reset", { body: { seat: "limits", key: claim.key } });
  assert.equal(reset.status, 200);
  assert.equal((await seat.take([claim], "share")).admitted, true);
  assert.equal(
    (await admin.ask("POST /api/limits/reset", { body: { seat: "limits", key: "x" } })).status,
    404,
  );
});

test("reputation and sanctions: a ruling and a ban are what the next request sees", async (context) => {
  const { admin, reputation, sanctions } = await openStores(context);
  const identity = { org: "acme", project: "p", keyId: "key_1", endUser: "mia/1", proof: "key" as const };
  const look = () => reputation.look({ identity, address: ADDRESS }, HALF_LIFE_MS);
  await admin.ask(`POST /api/reputation/end_user/${encodeURIComponent("acme/mia/1")}`, {
    body: { points: 4, reason: "resold access" },
  });
  assert.ok(Math.abs(look().points.end_user - 4) < 0.01);
  await admin.ask("POST /api/reputation/address/::ffff:192.0.2.7", { body: { points: 1, reason: "x" } });
  assert.ok(Math.abs(look().points.address - 1) < 0.01, "however it is written");
  type Why = { points: number; sanctions: { act: string }[]; because: { by: string; reason: string }[] };
  const ban = await admin.ask<{ id: string }>("POST /api/sanctions", {
    body: { entity: { kind: "end_user", id: "acme/mia/1" }, act: "ban", reason: "resold access" },
    headers: { "x-sallyport-actor": "mia" },
  });
  assert.deepEqual(
    look().sanctions.map(({ act }) => act),
    ["ban"],
  );
  assert.equal(sanctions.get(ban.body.id)?.by, "mia");
  const why = await admin.ask<Why>(`GET /api/reputation/end_user/${encodeURIComponent("acme/mia/1")}`);
  assert.deepEqual(why.body.sanctions[0]?.act, "ban");
  assert.deepEqual(why.body.because[0]?.by, "admin");
  await admin.ask(`DELETE /api/sanctions/${ban.body.id}`);
  assert.equal(look().sanctions.length, 0);
  await admin.ask(`POST /api/reputation/end_user/${encodeURIComponent("acme/mia/1")}`, {
    body: { points: -100, reason: "it was not them" },
  });
  assert.equal(look().points.end_user, 0, "never below nothing");
  type Worst = { entities: { entity: { kind: string } }[] };
  const worst = await admin.ask<Worst>("GET /api/reputation");
  assert.deepEqual(
    worst.body.entities.map(({ entity }) => entity.kind),
    ["address"],
  );
  const wide = await admin.ask<{ errors: { path: string; message: string }[] }>("POST /api/sanctions", {
    body: { entity: { kind: "network", id: "0.0.0.0/0" }, act: "ban", reason: "x" },
  });
  assert.equal(wide.status, 400);
  assert.equal(wide.body.errors[0]?.path, "entity.id");
});

test("on Redis: what one gateway's operator does, the other gateway sees within a second; away is 503", async (context) => {
  const server = await startRedis();
  context.after(() => server.stop());
  const settings = { url: server.url, nodes: [], prefix: "console", timeoutMs: 50 };
  const gateway = async () => {
    const redis = await openRedis(settings);
    context.after(() => redis.close());
    return { redis, ...(await openStores(context, redis)) };
  };
  const here = await gateway();
  const there = await gateway();
  const made = await here.admin.ask<{ id: string; key: string }>("POST /api/keys", { body: { org: "acme" } });
  await eventually(() => assert.equal(there.identities.find(made.body.key).state, "active"), 1_000);
  await here.admin.ask("POST /api/sanctions", {
    body: { entity: { kind: "org", id: "acme" }, act: "ban", reason: "x" },
  });
  await eventually(() => assert.equal(there.sanctions.inForce({ org: "acme" }).length, 1), 1_000);
  type Stores = { redis: { up: boolean; liveReplicas: number } | null; keys: number; sanctions: number };
  await eventually(async () => {
    const { body } = await there.admin.ask<Stores>("GET /api/stores");
    assert.deepEqual([body.redis?.up, body.redis?.liveReplicas, body.keys, body.sanctions], [true, 2, 1, 1]);
  });
  await server.stop();
  const refused = await eventually(async () => {
    const answer = await here.admin.ask<{ code: string }>("POST /api/keys", { body: { org: "acme" } });
    assert.equal(answer.status, 503);
    return answer;
  });
  assert.equal(refused.body.code, "store_away");
  const away = await here.admin.ask<Stores>("GET /api/stores");
  assert.equal(away.body.redis?.up, false);
  assert.equal(
    (await here.admin.ask<{ keys: unknown[] }>("GET /api/keys")).body.keys.length,
    1,
    "still listed",
  );
  assert.equal(here.sanctions.inForce({ org: "acme" }).length, 1, "still in force");
});
