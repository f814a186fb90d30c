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
  assert.deepEqual(store.find(key), {
    state: "active",
    identity: { org: "acme", project: "default", keyId: id },
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
  assert.equal(await run("revoke", "key_none", "--data", dir), 1);
  assert.match(err.at(-1) ?? "", /there is no key "key_none"/);
});

const WRONG: readonly (readonly [string, RegExp])[] = [
  ["", /say create, list or revoke/],
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
