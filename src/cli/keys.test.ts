import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openIdentities } from "../ports/identities.ts";
import { runKeys } from "./keys.ts";

function cli() {
  const out: string[] = [];
  const err: string[] = [];
  const io = {
    log: (text: string) => void out.push(text),
    error: (text: string) => void err.push(text),
    env: {},
  };
  return { out, err, run: (...args: string[]) => runKeys(args, io) };
}

test("create, list, revoke", async (context) => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-cli-"));
  context.after(() => rmSync(dir, { recursive: true, force: true }));
  const { out, err, run } = cli();
  assert.equal(await run("list", "--data", dir), 0);
  assert.match(out.pop() ?? "", /^no keys yet/);
  assert.equal(
    await run("create", "--org", "acme", "--name", "CI", "--expires", "2999-01-01", "--data", dir),
    0,
  );
  const key = out.pop() ?? "";
  assert.match(key, /^sp-\w{32}$/, "the key stands alone on standard output");
  const id = /^key_\w+/.exec(err.pop() ?? "")?.[0] ?? "";
  const store = await openIdentities({ dataDir: dir, env: {}, bootstrap: false, watch: false });
  const sinceMs = Date.parse(store.list()[0]!.createdAt);
  assert.deepEqual(store.find(key), {
    state: "active",
    identity: { org: "acme", project: "default", keyId: id, sinceMs },
  });
  assert.equal(await run("create", "--org", "acme", "--data", dir), 0, "a name is not needed");
  out.length = 0;
  assert.equal(await run("list", "--data", dir), 0);
  assert.match(
    out[0] ?? "",
    new RegExp(`^ID +KEY +ORG[^]*${id}  ${key.slice(0, 6)}… .*active until 2999-01-01`),
  );
  assert.ok(!out[0]?.includes(key));
  assert.equal(await run("revoke", id, "--data", dir), 0);
  assert.equal(await run("list", "--json", "--data", dir), 0);
  const listed = JSON.parse(out.at(-1) ?? "[]");
  assert.ok(listed[0].revokedAt && listed[0].hash === undefined);
  const scoped = [
    "--scope-routes",
    "openai.chat",
    "--scope-models",
    "gpt-5,gpt-5-*",
    "--scope-networks",
    "10.0.0.0/8",
  ];
  assert.equal(await run("create", "--org", "acme", ...scoped, "--data", dir), 0);
  const scopedId = /^key_\w+/.exec(err.at(-1) ?? "")?.[0] ?? "";
  assert.equal(await run("create", "--org", "acme", "--canary", "--data", dir), 0);
  assert.equal(await run("rotate", scopedId, "--overlap", "30m", "--data", dir), 0);
  assert.match(err.at(-1) ?? "", new RegExp(`takes the place of ${scopedId}, which works until 20`));
  assert.match(out.at(-1) ?? "", /^sp-\w{32}$/);
  assert.equal(await run("list", "--data", dir), 0);
  assert.match(out.at(-1) ?? "", /routes=openai.chat models=gpt-5,gpt-5-\* networks=10.0.0.0\/8/);
  assert.match(out.at(-1) ?? "", /canary, active +all/);
  assert.match(out.at(-1) ?? "", /active until 20\S+Z, replaced by key_\w+/);
  assert.equal(await run("revoke", "key_none", "--data", dir), 1);
  assert.match(err.at(-1) ?? "", /there is no key "key_none"/);
});

const WRONG: readonly (readonly [string, RegExp])[] = [
  ["", /say create, list, rotate or revoke/],
  ["delete", /there is no action "delete"/],
  ["create", /--org ORG is missing/],
  ["create --org", /--org/],
  ["create --org a/b --data DIR", /--org: must be 1 to 64/],
  ["create --org a --project a/b --data DIR", /--project: must be/],
  ["create --org a --expires soon --data DIR", /--expires: must be a date/],
  ["create --org a --expires 2001-01-01 --data DIR", /--expires: must lie in the future/],
  ["create --org a --colour red", /--colour/],
  ["create a", /unexpected argument "a"/],
  ["list all", /unexpected argument "all"/],
  [
    "create --org a --scope-routes openai.chatt --data DIR",
    /--scope-routes: there is no route "openai.chatt"; there are openai.chat,/,
  ],
  ["create --org a --scope-models gpt*5 --data DIR", /--scope-models, entry 1: must be a model/],
  [
    "create --org a --scope-networks ::1,10.0.0.0/40 --data DIR",
    /--scope-networks, entry 2: must be an address or a CIDR/,
  ],
  ["create --org a --scope-networks= --data DIR", /--scope-networks, entry 1: must be an address/],
  ["list --redis localhost:6379 --data DIR", /--redis: takes "redis:/],
  ["rotate", /give the ID of one key/],
  ["rotate key_none --data DIR", /ID: key_none is no key here/],
  ["rotate key_none --overlap soon --data DIR", /--overlap: takes a number and a unit/],
  ["rotate key_none --overlap 24 --data DIR", /--overlap: takes a number and a unit/],
  ["rotate key_none --overlap 31d --data DIR", /--overlap: must be whole seconds from 0/],
  ["revoke", /give the ID of one key/],
  ["revoke a b", /give the ID of one key/],
];

test("wrong usage is exit code 2, names the flag and shows the usage", async (context) => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-cli-"));
  context.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [line, expected] of WRONG) {
    const { out, err, run } = cli();
    const args = line.replace("DIR", dir).split(" ").filter(Boolean);
    assert.equal(await run(...args), 2, line);
    assert.match(err[0]!, expected, line);
    assert.match(err[0]!, /sallyport keys create --org ORG/, line);
    assert.equal(out.length, 0, line);
  }
  const { out, run } = cli();
  assert.equal(await run("--help"), 0);
  assert.equal(await run("create", "--help"), 0);
  assert.equal(out.length, 2);
});
