import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { startRedis } from "../../test/support/redis.ts";
import { runKeys } from "../cli/keys.ts";
import { type IdentitiesOptions, openIdentities } from "./identities.ts";
import { openRedis } from "./redis.ts";

interface Context {
  after(cleanup: () => void | Promise<void>): void;
}

const PEPPER = { SALLYPORT_KEY_PEPPER: "the same pepper everywhere" };
const OWNER = { org: "acme", project: "chat", name: "" };

async function fleet(context: Context) {
  const server = await startRedis();
  context.after(() => server.stop());
  const folder = mkdtempSync(join(tmpdir(), "sallyport-keys-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  let replicas = 0;
  async function replica(more: Partial<IdentitiesOptions> = {}) {
    const redis = await openRedis({ url: server.url, nodes: [], prefix: "test", timeoutMs: 100 });
    context.after(() => redis.close());
    const dataDir = join(folder, `replica-${replicas++}`);
    const store = await openIdentities({ dataDir, env: PEPPER, redis, bootstrap: false, ...more });
    context.after(() => store.close());
    return { store, dataDir, redis };
  }
  return { server, folder, replica };
}

async function within(ms: number, what: string, check: () => boolean): Promise<void> {
  await eventually(() => assert.ok(check(), `${what} within ${ms} ms`), ms);
}

test("two replicas on one Redis: a change at one holds at the other within a second", async (context) => {
  const { replica } = await fleet(context);
  const [{ store: one }, { store: two }] = [await replica(), await replica()];
  const { id, key } = await one.create({ ...OWNER, scopes: { models: ["gpt-5"] } });
  assert.equal(one.find(key).state, "active", "at once where it was made");
  await within(1_000, "created", () => two.find(key).state === "active");
  assert.deepEqual(two.find(key), one.find(key));
  const next = await two.rotate(id, { overlapSec: 0 });
  await within(
    1_000,
    "rotated",
    () => one.find(next.key).state === "active" && one.find(key).state === "expired",
  );
  await one.revoke(next.id);
  await within(1_000, "revoked", () => two.find(next.key).state === "revoked");
  assert.deepEqual(
    one.list().toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    two.list().toSorted((a, b) => (a.id < b.id ? -1 : 1)),
  );
  assert.equal(one.ownKeyId("sk-somebody-0123456789"), two.ownKeyId("sk-somebody-0123456789"));
  // Both rotate one key at once: one of them does.
  const made = await one.create(OWNER);
  await within(1_000, "created", () => two.find(made.key).state === "active");
  const both = await Promise.allSettled([one, two].map((store) => store.rotate(made.id, { overlapSec: 60 })));
  assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  await within(1_000, "nothing left behind", () => one.list().length === 4 && two.list().length === 4);
});

test("another pepper is an error at start that names the variable", async (context) => {
  const { replica } = await fleet(context);
  const { store } = await replica();
  await store.create(OWNER);
  const env = { SALLYPORT_KEY_PEPPER: "another pepper altogether" };
  await assert.rejects(
    replica({ env }),
    /another pepper.*set SALLYPORT_KEY_PEPPER.*the same for every gateway/,
  );
});

test("Redis away: known keys work, and a start finds the copy beside it", async (context) => {
  const { server, replica } = await fleet(context);
  const { store, dataDir } = await replica();
  const { key } = await store.create(OWNER);
  const copied = async () => {
    const redis = await openRedis({ url: "redis://127.0.0.1:1", nodes: [], prefix: "test", timeoutMs: 20 });
    const reader = await openIdentities({ dataDir, env: PEPPER, redis, bootstrap: false });
    const { state } = reader.find(key);
    await reader.close();
    await redis.close();
    return state;
  };
  await eventually(async () => assert.equal(await copied(), "active"));
  await server.kill();
  assert.equal(store.find(key).state, "active");
  await assert.rejects(store.create(OWNER), "a change says that it was not made");
  const problems: (string | undefined)[] = [];
  const late = await replica({
    bootstrap: true,
    bootstrapKey: "sp-given-while-away-1",
    onProblem: (problem) => problems.push(problem),
  });
  assert.deepEqual(late.store.bootstrap, { key: "sp-given-while-away-1", isNew: false });
  assert.equal(late.store.find("sp-given-while-away-1").state, "active");
  const empty = await replica({ bootstrap: true });
  assert.equal(empty.store.bootstrap, undefined, "nobody can tell whether there are keys: none is made");
  await server.restart();
  await eventually(() => {
    assert.deepEqual(
      late.store
        .list()
        .map(({ id }) => id)
        .filter((id) => id === "key_bootstrap"),
      ["key_bootstrap"],
    );
    assert.equal(store.find("sp-given-while-away-1").state, "active", "and every gateway knows it");
  }, 10_000);
});

test("what nobody can look up is held by the bootstrap key alone, and only until Redis answers", async (context) => {
  const { server, replica } = await fleet(context);
  const given = { bootstrap: true, bootstrapKey: "sp-given-and-revoked-1" };
  const { store } = await replica(given);
  const { key } = await store.create(OWNER);
  await store.revoke("key_bootstrap");
  server.freeze();
  context.after(() => server.thaw());
  const late = await replica(given);
  assert.equal(late.store.find(given.bootstrapKey).state, "active", "the operator gave it");
  assert.equal(late.store.find(key).state, "unknown");
  server.thaw();
  await eventually(() => {
    assert.equal(late.store.find(given.bootstrapKey).state, "revoked");
    assert.equal(late.store.find(key).state, "active");
  }, 10_000);
});

test("sallyport keys works on Redis, and makes no pepper that locks the gateways out", async (context) => {
  const { server, folder, replica } = await fleet(context);
  const { store } = await replica();
  const run = async (env: Record<string, string>, ...args: string[]) => {
    const out: string[] = [];
    const err: string[] = [];
    const io = {
      log: (text: string) => void out.push(text),
      error: (text: string) => void err.push(text),
      env,
    };
    const code = await runKeys(args, io);
    return { code, out: out.join("\n"), err: err.join("\n") };
  };
  const where = ["--data", join(folder, "cli"), "--redis", server.url];
  // Its prefix counts; its address gives way to the flag's.
  const config = join(folder, "config");
  mkdirSync(config);
  writeFileSync(
    join(config, "gateway.yaml"),
    'stores: { redis: { url: "redis://127.0.0.1:1", prefix: test } }\n',
  );
  const on = [...where, "--config", config];
  const without = await run({}, "create", "--org", "acme", ...on);
  assert.equal(without.code, 1);
  assert.match(without.err, /set SALLYPORT_KEY_PEPPER to what the gateways have/);
  const { code, out: key, err } = await run(PEPPER, "create", "--org", "acme", ...on);
  assert.equal(code, 0, err);
  await within(1_000, "made", () => store.find(key).state === "active");
  const id = store.list()[0]!.id;
  const rotated = await run(PEPPER, "rotate", id, "--overlap", "0", ...on);
  assert.equal(rotated.code, 0, rotated.err);
  await within(1_000, "rotated", () => store.find(key).state === "expired");
  assert.equal((await run(PEPPER, "revoke", store.list()[1]!.id, ...on)).code, 0);
  await within(1_000, "revoked", () => store.find(rotated.out).state === "revoked");
  assert.match((await run(PEPPER, "list", ...on)).out, /replaced by key_/);
  assert.match((await run(PEPPER, "revoke", "key_none", ...on)).err, /there is no key "key_none" in Redis/);
  const away = await run(PEPPER, "list", "--redis", "redis://127.0.0.1:1", "--data", join(folder, "cli"));
  assert.equal(away.code, 1);
  assert.match(away.err, /Redis does not answer \(.*\): check --redis, SALLYPORT_REDIS_URL/);
});
