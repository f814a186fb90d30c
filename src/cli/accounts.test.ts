import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openOperators } from "../ports/operators.ts";
import { runAccounts } from "./accounts.ts";
import { runTokens } from "./tokens.ts";

const PASSWORD = "correct horse battery";

function cli(context: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-cli-"));
  context.after(() => rmSync(dir, { recursive: true, force: true }));
  const out: string[] = [];
  const err: string[] = [];
  const typed = { line: PASSWORD };
  const io = {
    log: (text: string) => void out.push(text),
    error: (text: string) => void err.push(text),
    env: {},
    readLine: async () => typed.line,
  };
  return {
    ...{ dir, out, err, typed },
    accounts: (...args: string[]) => runAccounts([...args, "--data", dir], io),
    tokens: (...args: string[]) => runTokens([...args, "--data", dir], io),
  };
}

test("accounts: create, list, role, password, disable, enable; the store holds no password", async (context) => {
  const { dir, out, err, typed, accounts } = cli(context);
  assert.equal(await accounts("list"), 0);
  assert.match(out.pop() ?? "", /^no accounts yet/);
  assert.equal(await accounts("create", "mia", "--role", "admin"), 0, err.join());
  assert.equal(await accounts("create", "mia", "--role", "admin"), 1);
  assert.match(err.pop() ?? "", /there is an account mia already/);
  assert.equal(await accounts("create", "ben"), 2);
  assert.match(err.pop() ?? "", /--role: say one of viewer/);
  assert.equal(await accounts("create", "a b", "--role", "sre"), 2);
  assert.match(err.pop() ?? "", /name: must be 1 to 64/);
  typed.line = "short";
  assert.equal(await accounts("password", "mia"), 2);
  assert.match(err.pop() ?? "", /password: must have at least 12/);
  typed.line = "staple of another kind";
  assert.equal(await accounts("password", "mia"), 0);
  assert.equal(await accounts("password", "nobody"), 1);
  assert.equal(await accounts("disable", "mia"), 1);
  assert.match(err.pop() ?? "", /last account that may manage accounts/);
  assert.equal(await accounts("create", "ben", "--role", "viewer"), 0);
  assert.equal(await accounts("role", "ben", "--role", "admin"), 0);
  assert.equal(await accounts("disable", "mia"), 0);
  assert.equal(await accounts("list"), 0);
  assert.match(out.at(-1) ?? "", /^NAME +ROLE +STATE[\s\S]*mia +admin +disabled[\s\S]*ben +admin +active/);
  assert.equal(await accounts("enable", "mia"), 0);
  const file = readFileSync(join(dir, "accounts.json"), "utf8");
  assert.match(file, /\$scrypt\$ln=15,r=8,p=3\$/);
  assert.ok(!file.includes("staple") && !file.includes("horse"));
  const store = await openOperators({ dataDir: dir, env: {}, watch: false });
  context.after(() => store.close());
  assert.equal(await store.accounts.login("mia", PASSWORD), undefined);
  assert.equal((await store.accounts.login("mia", "staple of another kind"))?.role, "admin");
  for (const args of [["nonsense"], [], ["list", "x"], ["role"], ["list", "--loud"]])
    assert.equal(await accounts(...args), 2, args.join(" "));
});

test("tokens: create prints it alone, list hides it, revoke ends it", async (context) => {
  const { dir, out, err, tokens } = cli(context);
  assert.equal(await tokens("create", "ci", "--role", "sre", "--expires", "2999-01-01"), 0);
  const token = out.pop() ?? "";
  assert.match(token, /^sp-admin-[\w-]{32}$/);
  const id = /^tok_\w+/.exec(err.pop() ?? "")?.[0] ?? "";
  const store = await openOperators({ dataDir: dir, env: {} });
  context.after(() => store.close());
  assert.equal(store.tokens.find(token)?.role, "sre");
  assert.equal(await tokens("list"), 0);
  assert.match(out.at(-1) ?? "", new RegExp(`^ID +TOKEN[\\s\\S]*${id} .*ci +sre .*active until 2999-01-01`));
  assert.ok(
    !out.at(-1)?.includes(token) && !readFileSync(join(dir, "admin-tokens.json"), "utf8").includes(token),
  );
  assert.equal(await tokens("create", "ci", "--role", "sre"), 2);
  assert.match(err.pop() ?? "", /there is a token ci already/);
  assert.equal(await tokens("create", "x", "--role", "root"), 2);
  assert.equal(await tokens("create", "x", "--role", "sre", "--expires", "soon"), 2);
  assert.equal(await tokens("revoke", id), 0);
  assert.equal(await tokens("revoke", "tok_none"), 1);
});
