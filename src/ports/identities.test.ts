import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type IdentitiesOptions, type IdentityStore, openIdentities } from "./identities.ts";

interface Context {
  after(cleanup: () => void | Promise<void>): void;
}

function folder(context: Context): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-keys-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return join(dir, "data");
}

async function opened(context: Context, dataDir: string, more: Partial<IdentitiesOptions> = {}) {
  const store = await openIdentities({ dataDir, env: {}, bootstrap: false, ...more });
  context.after(() => store.close());
  return store;
}

async function within(ms: number, what: string, check: () => boolean): Promise<void> {
  const until = performance.now() + ms;
  while (!check()) {
    assert.ok(performance.now() < until, `${what} within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const OWNER = { org: "acme", project: "chat", name: "Ann's laptop" };

test("a key is found from its creation on, revoked at once, and never stored in clear", async (context) => {
  const dataDir = folder(context);
  const store = await opened(context, dataDir);
  const { id, key } = await store.create(OWNER);
  assert.match(key, /^sp-[0-9A-Za-z]{32}$/);
  assert.deepEqual(store.find(key), {
    state: "active",
    identity: { org: "acme", project: "chat", keyId: id, sinceMs: Date.parse(store.list()[0]!.createdAt) },
  });
  for (const wrong of ["", "sp-", key.slice(0, -1), `${key}x`, key.toUpperCase(), "x".repeat(2_000_000)]) {
    assert.deepEqual(store.find(wrong), { state: "unknown" });
  }
  const text = fs.readFileSync(join(dataDir, "keys.json"), "utf8");
  assert.ok(!text.includes(key) && !text.includes(key.slice(3)));
  assert.equal(fs.statSync(join(dataDir, "keys.json")).mode & 0o777, 0o600);
  assert.equal(fs.statSync(join(dataDir, "pepper")).mode & 0o777, 0o600);
  assert.equal(fs.statSync(dataDir).mode & 0o777, 0o700);
  assert.deepEqual(store.list(), [
    { ...OWNER, id, prefix: `${key.slice(0, 6)}…`, createdAt: store.list()[0]?.createdAt },
  ]);
  assert.equal(await store.revoke(id), true);
  assert.equal(store.find(key).state, "revoked");
  const { revokedAt } = store.list()[0] ?? {};
  assert.equal(await store.revoke(id), true);
  assert.equal(store.list()[0]?.revokedAt, revokedAt, "the first revocation stands");
  assert.equal(await store.revoke("key_none"), false);
  const again = await opened(context, dataDir);
  assert.equal(again.find(key).state, "revoked");
  assert.deepEqual(
    fs.readdirSync(dataDir).sort(),
    ["keys.json", "pepper"],
    "no lock or temporary file is left",
  );
});

test("a key expires without any change to the file", async (context) => {
  const store = await opened(context, folder(context));
  const expiresMs = Date.now() + 80;
  const { key } = await store.create({ ...OWNER, expiresAt: new Date(expiresMs).toISOString() });
  if (Date.now() < expiresMs) assert.equal(store.find(key).state, "active");
  await within(1000, "expired", () => store.find(key).state === "expired");
});

test("changes by another process are seen within a second", async (context) => {
  const dataDir = folder(context);
  const store = await opened(context, dataDir);
  const module = JSON.stringify(new URL("./identities.ts", import.meta.url).href);
  const other = await run(`
    const { openIdentities } = await import(${module});
    const store = await openIdentities({ dataDir: ${JSON.stringify(dataDir)}, env: {}, bootstrap: false, watch: false });
    console.log(JSON.stringify(await store.create({ org: "o", project: "p", name: "n" })));`);
  const { id, key } = JSON.parse(other);
  await within(1000, "created key known", () => store.find(key).state === "active");
  const unwatched = await opened(context, dataDir, { watch: false });
  await unwatched.revoke(id);
  await within(1000, "revocation known", () => store.find(key).state === "revoked");
});

test("writers in several processes at once lose nothing", async (context) => {
  const dataDir = folder(context);
  const module = JSON.stringify(new URL("./identities.ts", import.meta.url).href);
  const program = `
    const { openIdentities } = await import(${module});
    const store = await openIdentities({ dataDir: ${JSON.stringify(dataDir)}, env: {}, bootstrap: false, watch: false });
    const keys = [];
    for (let i = 0; i < 8; i++) keys.push((await store.create({ org: "o", project: "p", name: "n" })).key);
    console.log(JSON.stringify(keys));`;
  const outputs = await Promise.all([run(program), run(program), run(program)]);
  const store = await opened(context, dataDir);
  await Promise.all(Array.from({ length: 5 }, () => store.create(OWNER)));
  const keys = outputs.flatMap((output) => JSON.parse(output) as string[]);
  assert.equal(keys.length, 24);
  for (const key of keys) assert.equal(store.find(key).state, "active");
  assert.equal(store.list().length, 29);
});

test("a broken or vanished file leaves the last good keys in place and says where it is wrong", async (context) => {
  const dataDir = folder(context);
  const problems: (string | undefined)[] = [];
  const store = await opened(context, dataDir, { onProblem: (problem) => problems.push(problem) });
  const { key } = await store.create(OWNER);
  const path = join(dataDir, "keys.json");
  const good = fs.readFileSync(path, "utf8");
  const cases: readonly [string, RegExp][] = [
    [good.slice(0, -20), /keys\.json is not valid JSON/],
    ['{"version":2,"pepper":"","keys":[]}', /keys\.json: version: /],
    [good.replace(/"org":"acme"/, '"org":"a/b"'), /keys\.json: rows\.0\.org: must be 1 to 64/],
    [good.replace(/"stamp":"[^"]+"/, '"stamp":"x"'), /written with another pepper.*SALLYPORT_KEY_PEPPER/],
  ];
  for (const [text, expected] of cases) {
    fs.writeFileSync(path, text);
    await within(1000, "problem reported", () => expected.test(problems.at(-1) ?? ""));
    assert.equal(store.find(key).state, "active");
    await assert.rejects(store.create(OWNER), expected);
    await assert.rejects(openIdentities({ dataDir, env: {}, watch: false }), expected);
  }
  fs.rmSync(path);
  await within(1000, "loss reported", () => /is gone/.test(problems.at(-1) ?? ""));
  assert.equal(store.find(key).state, "active");
  fs.writeFileSync(path, good);
  await within(1000, "recovery reported", () => problems.at(-1) === undefined);
  assert.equal(store.find(key).state, "active");
});

test("the bootstrap key: made at first start, or given; a new value replaces the old one", async (context) => {
  const dataDir = folder(context);
  const first = await opened(context, dataDir, { bootstrap: true });
  const made = first.bootstrap;
  assert.ok(made?.isNew && made.key.startsWith("sp-"));
  const sinceMs = Date.parse(first.list()[0]!.createdAt);
  const identity = { org: "default", project: "default", keyId: "key_bootstrap", sinceMs };
  assert.deepEqual(first.find(made.key), { state: "active", identity });
  const second = await opened(context, dataDir, { bootstrap: true });
  assert.equal(second.bootstrap, undefined, "its clear text is not known any more");
  assert.equal(second.find(made.key).state, "active");

  const env = { SALLYPORT_BOOTSTRAP_KEY: "sp-from-the-environment-1" };
  const third = await opened(context, dataDir, { bootstrap: true, env });
  assert.deepEqual(third.bootstrap, { key: env.SALLYPORT_BOOTSTRAP_KEY, isNew: true });
  assert.equal(third.find(env.SALLYPORT_BOOTSTRAP_KEY).state, "active");
  assert.equal(third.find(made.key).state, "unknown");
  await third.revoke("key_bootstrap");
  const fourth = await opened(context, dataDir, { bootstrap: true, env });
  assert.equal(fourth.find(env.SALLYPORT_BOOTSTRAP_KEY).state, "revoked", "a restart forgives nobody");
  await assert.rejects(
    openIdentities({ dataDir, env: {}, bootstrapKey: "short", watch: false }),
    /SALLYPORT_BOOTSTRAP_KEY: a key has 16 to 512/,
  );
});

test("the pepper may come from the environment", async (context) => {
  const dataDir = folder(context);
  const env = { SALLYPORT_KEY_PEPPER: "a pepper of the operator's own" };
  const { key } = await (await opened(context, dataDir, { env })).create(OWNER);
  assert.deepEqual(fs.readdirSync(dataDir), ["keys.json"]);
  assert.equal((await opened(context, dataDir, { env })).find(key).state, "active");
  await assert.rejects(openIdentities({ dataDir, env: { SALLYPORT_KEY_PEPPER: "short" } }), /too short/);
  await assert.rejects(openIdentities({ dataDir, env: {} }), /another pepper/);
});

test("what cannot be a key's data is refused by name", async (context) => {
  const store: IdentityStore = await opened(context, folder(context));
  await assert.rejects(store.create({ ...OWNER, org: "" }), /^RangeError: org: /);
  await assert.rejects(store.create({ ...OWNER, project: "a b" }), /^RangeError: project: /);
  await assert.rejects(store.create({ ...OWNER, name: "a\nb" }), /^RangeError: name: /);
  await assert.rejects(
    store.create({ ...OWNER, expiresAt: "soon" }),
    /^RangeError: expiresAt: must be a date/,
  );
  await assert.rejects(
    store.create({ ...OWNER, expiresAt: "2020-01-01" }),
    /^RangeError: expiresAt: .*future/,
  );
});

test("what a key may be used for is kept in one spelling, and compiled", async (context) => {
  const dataDir = folder(context);
  const store = await opened(context, dataDir);
  const scopes = {
    routes: ["openai.chat", "openai.chat"],
    models: ["gpt-5", "claude-*"],
    networks: ["192.0.2.77/24", "2001:DB8::/32"],
  };
  const { key } = await store.create({ ...OWNER, scopes });
  const { key: free } = await store.create({ ...OWNER, scopes: {} });
  for (const reader of [store, await opened(context, dataDir)]) {
    const found = reader.find(key);
    assert.ok(found.state === "active");
    assert.deepEqual(found.scope?.routes, new Set(["openai.chat"]));
    assert.deepEqual(found.scope?.models, ["gpt-5", "claude-*"]);
    assert.equal(found.scope?.networks?.has("::ffff:192.0.2.1"), true);
    assert.equal(found.scope?.networks?.has("192.0.3.1"), false);
    assert.deepEqual(reader.list()[0]?.scopes, {
      routes: ["openai.chat"],
      models: ["gpt-5", "claude-*"],
      networks: ["192.0.2.0/24", "2001:db8::/32"],
    });
    const unrestricted = reader.find(free);
    assert.ok(unrestricted.state === "active" && unrestricted.scope === undefined);
    assert.equal(reader.find(key), reader.find(key), "compiled once");
  }
  for (const [wrong, expected] of [
    [{ networks: ["192.0.2.0/24", "192.0.2.0/33"] }, /^RangeError: scopes\.networks\.1: must be an address/],
    [{ networks: [] }, /^RangeError: scopes\.networks: must name at least one/],
    [{ models: ["gpt-*-mini"] }, /^RangeError: scopes\.models\.0: must be a model/],
    [{ routes: ["/v1/chat"] }, /^RangeError: scopes\.routes\.0: must be a route id/],
    [
      { routes: Array.from({ length: 51 }, (_, i) => `r${i}`) },
      /^RangeError: scopes\.routes: must name at most 50/,
    ],
  ] as const) {
    await assert.rejects(store.create({ ...OWNER, scopes: wrong as { routes?: string[] } }), expected);
  }
});

test("the largest scopes that are admitted can be written", async (context) => {
  const store = await opened(context, folder(context));
  const fifty = (text: (i: number) => string) => Array.from({ length: 50 }, (_, i) => text(i));
  const scopes = {
    routes: fifty((i) => `r${i}`.padEnd(64, "x")),
    models: fifty((i) => `m${i}`.padEnd(128, "\u{1f600}")),
    networks: fifty((i) => `2001:db8:1111:2222:3333:4444:5555:${(4096 + i).toString(16)}/128`),
  };
  const { key } = await store.create({ ...OWNER, scopes });
  assert.equal(store.find(key).state, "active");
});

test("a canary is found, told apart, and laid aside without a trace", async (context) => {
  const store = await opened(context, folder(context));
  const { id, key } = await store.create({ ...OWNER, canary: true });
  for (let i = 0; i < 2; i++) {
    const found = store.find(key);
    assert.ok(found.state === "active" && found.canary === true && found.identity.keyId === id);
  }
  assert.equal(store.list()[0]?.canary, true);
  await assert.rejects(store.rotate(id, { overlapSec: 0 }), /^RangeError: id: .* is a canary/);
  await store.revoke(id);
  assert.deepEqual(store.find(key), { state: "unknown" }, "nobody learns that it was one");
});

test("rotation: both keys work for the overlap, then the new one alone", async (context) => {
  const store = await opened(context, folder(context));
  const scopes = { models: ["gpt-5"] };
  const { id, key } = await store.create({ ...OWNER, scopes });
  const next = await store.rotate(id, { overlapSec: 1 });
  const [old, made] = store.list();
  assert.equal(old?.replacedBy, next.id);
  assert.deepEqual(
    { ...made, prefix: "", createdAt: "" },
    { ...OWNER, id: next.id, prefix: "", createdAt: "", scopes, rotatedFrom: id },
  );
  const found = store.find(next.key);
  assert.ok(found.state === "active");
  assert.equal(found.identity.sinceMs, Date.parse(old!.createdAt), "a new key makes nobody a newcomer");
  if (Date.now() < Date.parse(old!.expiresAt!)) assert.equal(store.find(key).state, "active");
  await within(2_000, "the old one ended", () => store.find(key).state === "expired");
  assert.equal(store.find(next.key).state, "active");

  // What cannot be rotated says why, and leaves nothing behind.
  const brief = await store.create({ ...OWNER, expiresAt: new Date(Date.now() + 60_000).toISOString() });
  const replaced = await store.rotate(brief.id, { overlapSec: 86_400 });
  const rows = new Map(store.list().map((row) => [row.id, row]));
  assert.ok(Date.parse(rows.get(brief.id)!.expiresAt!) <= Date.now() + 60_000, "never past its own expiry");
  const lifeMs = Date.parse(rows.get(replaced.id)!.expiresAt!) - Date.parse(rows.get(replaced.id)!.createdAt);
  assert.ok(Math.abs(lifeMs - 60_000) < 1_000, "the new one lives as long as the old one was given");
  const { id: revoked } = await store.create(OWNER);
  await store.revoke(revoked);
  const count = store.list().length;
  for (const [wrong, expected] of [
    ["key_none", /^RangeError: id: key_none is no key here/],
    [revoked, /^RangeError: id: .* was revoked/],
    [id, /^RangeError: id: .* has expired/],
    [brief.id, /^RangeError: id: .* was replaced already: rotate key_/],
  ] as const) {
    await assert.rejects(store.rotate(wrong, { overlapSec: 1 }), expected);
  }
  for (const overlapSec of [-1, 0.5, Number.NaN, 2_592_001]) {
    await assert.rejects(store.rotate(next.id, { overlapSec }), /^RangeError: overlapSec: must be/);
  }
  assert.equal(store.list().length, count);
  // Two who rotate one key at once: one of them does.
  const both = await Promise.allSettled([1, 2].map(() => store.rotate(next.id, { overlapSec: 0 })));
  assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  assert.equal(store.list().length, count + 1);
  assert.equal(store.find(next.key).state, "expired", "no overlap: at once");
});

test("keys.json as it was before is read, and nothing of it is lost", async (context) => {
  const dataDir = folder(context);
  const store = await opened(context, dataDir);
  const { id, key } = await store.create(OWNER);
  const { id: second, key: other } = await store.create({ ...OWNER, expiresAt: "2999-01-01" });
  await store.revoke(second);
  const path = join(dataDir, "keys.json");
  const { stamp, rows } = JSON.parse(fs.readFileSync(path, "utf8")) as { stamp: string; rows: unknown[] };
  fs.writeFileSync(path, `${JSON.stringify({ version: 1, pepper: stamp, keys: rows }, null, 1)}\n`);
  const before = await opened(context, dataDir);
  assert.equal(before.find(key).state, "active");
  assert.equal(before.find(other).state, "revoked");
  assert.deepEqual(before.list(), store.list());
  await before.revoke(id);
  const after = await opened(context, dataDir);
  assert.equal(after.find(key).state, "revoked");
  assert.deepEqual(after.list(), before.list());
  fs.writeFileSync(path, JSON.stringify({ version: 1, pepper: "x", keys: rows }));
  await assert.rejects(openIdentities({ dataDir, env: {}, watch: false }), /another pepper/);
});

test("an organisation is as old as its oldest key", async (context) => {
  const dataDir = folder(context);
  const env = { SALLYPORT_BOOTSTRAP_KEY: "sp-from-the-environment-1" };
  const store = await opened(context, dataDir, { bootstrap: true, env });
  const since = (presented: string) => {
    const found = store.find(presented);
    return found.state === "active" ? found.identity.sinceMs : undefined;
  };
  const first = Date.parse(store.list()[0]!.createdAt);
  const { key } = await store.create({ ...OWNER, org: "default" });
  assert.equal(since(key), first);
  assert.notEqual(since((await store.create(OWNER)).key), undefined);
  // Another bootstrap key takes the place of the oldest.
  const next = { SALLYPORT_BOOTSTRAP_KEY: "sp-from-the-environment-2" };
  await opened(context, dataDir, { bootstrap: true, env: next });
  await within(1000, "followed", () => store.find(env.SALLYPORT_BOOTSTRAP_KEY).state === "unknown");
  const own = store.list().find(({ id }) => id !== "key_bootstrap" && id !== "")!;
  assert.equal(since(key), Date.parse(own.createdAt));
});

test("a caller's own key has one name, and is never taken for a virtual key", async (context) => {
  const dataDir = folder(context);
  const store = await opened(context, dataDir);
  const own = "sk-proj-0123456789abcdef";
  const name = store.ownKeyId(own);
  assert.match(name, /^own_[\w-]{22}$/);
  assert.equal(store.ownKeyId(own), name);
  assert.notEqual(store.ownKeyId(`${own}x`), name);
  assert.deepEqual(store.find(own), { state: "unknown" });
  assert.equal((await opened(context, dataDir)).ownKeyId(own), name, "in every process");
  const { key } = await store.create(OWNER);
  assert.match(store.ownKeyId(key), /^own_/);
  assert.equal(store.find(key).state, "active", "asking for its name hides no key");
  // A key that is made later is found, though its text was seen as somebody's own before.
  const later = "sk-later-0123456789abcdef";
  store.ownKeyId(later);
  const env = { SALLYPORT_BOOTSTRAP_KEY: later };
  await opened(context, dataDir, { bootstrap: true, env });
  await within(1000, "found", () => store.find(later).state === "active");
});

async function run(program: string): Promise<string> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  return output;
}
