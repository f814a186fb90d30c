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
    identity: { org: "acme", project: "chat", keyId: id },
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
    [good.replace(/"org": "acme"/, '"org": "a/b"'), /keys\.json: keys\.0\.org: must be 1 to 64/],
    [good.replace(/"pepper": "[^"]+"/, '"pepper": "x"'), /written with another pepper/],
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
  const identity = { org: "default", project: "default", keyId: "key_bootstrap" };
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
