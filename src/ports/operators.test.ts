import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { startRedis } from "../../test/support/redis.ts";
import { type OperatorsOptions, openOperators } from "./operators.ts";
import { Passwords, PasswordsBusy, passwordFault } from "./operators-password.ts";
import { SESSIONS_PER_ACCOUNT_MAX } from "./operators-record.ts";
import { Pepper } from "./pepper.ts";
import { openRedis } from "./redis.ts";

const PASSWORD = "correct horse battery";
const CHEAP = { ln: 4, r: 8, p: 1 };
const ENV = { SALLYPORT_KEY_PEPPER: "0123456789abcdef0123456789abcdef" };

function folder(context: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-operators-"));
  context.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function open(context: TestContext, dataDir: string, more: Partial<OperatorsOptions> = {}) {
  const operators = await openOperators({ dataDir, env: ENV, cost: CHEAP, ...more });
  context.after(() => operators.close());
  return operators;
}

const MIA = { name: "mia", password: PASSWORD, role: "admin" } as const;
const BEN = { name: "ben", password: PASSWORD, role: "analyst" } as const;
const BY = { by: "test" };

test("passwords: what is taken", () => {
  const rows: readonly (readonly [password: string, fault: RegExp | undefined])[] = [
    [PASSWORD, undefined],
    ["mia likes horses", undefined],
    ["short", /at least 12/],
    ["x".repeat(257), /at most 256/],
    ["ababababababab", /5 different/],
    ["mia-mia-mia-2026", /more than the account's name/],
    ["MiaMiaMia12345", /more than the account's name/],
  ];
  for (const [password, fault] of rows) {
    const found = passwordFault(password, "mia");
    if (fault === undefined) assert.equal(found, undefined, password);
    else assert.match(found ?? "", fault, password);
  }
});

test("passwords: parameters are stored; another pepper, another password, a spoilt or greedy hash are refused", async () => {
  const passwords = new Passwords(new Pepper(ENV.SALLYPORT_KEY_PEPPER), CHEAP);
  const stored = await passwords.hash(PASSWORD);
  assert.match(stored, /^\$scrypt\$ln=4,r=8,p=1\$[\w-]{22}\$[\w-]{43}$/);
  assert.equal(await passwords.verify(PASSWORD, stored), true);
  assert.equal(await passwords.verify("ﬁne horse battery", await passwords.hash("fine horse battery")), true);
  assert.equal(await passwords.verify(`${PASSWORD} `, stored), false);
  assert.equal(await passwords.verify(PASSWORD, undefined), false);
  assert.equal(await passwords.verify(PASSWORD, stored.replace("ln=4", "ln=30")), false, "128 GiB");
  assert.equal(await passwords.verify(PASSWORD, "plain"), false);
  const others = new Passwords(new Pepper("another pepper altogether"), CHEAP);
  assert.equal(await others.verify(PASSWORD, stored), false);
  const dearer = new Passwords(new Pepper(ENV.SALLYPORT_KEY_PEPPER), { ln: 5, r: 8, p: 1 });
  assert.equal(await dearer.verify(PASSWORD, stored), true, "of before the parameters were raised");
  assert.ok(dearer.isDated(stored) && !passwords.isDated(stored));
});

test("passwords: 2 run, 16 wait, the next is refused; the event loop turns meanwhile", async () => {
  const passwords = new Passwords(new Pepper(ENV.SALLYPORT_KEY_PEPPER), { ln: 14, r: 8, p: 1 });
  let turns = 0;
  const turning = setInterval(() => turns++, 1);
  const all = await Promise.allSettled(
    Array.from({ length: 30 }, () => passwords.verify(PASSWORD, undefined)),
  );
  clearInterval(turning);
  const refused = all.filter((one) => one.status === "rejected");
  assert.equal(refused.length, 12);
  assert.ok(refused.every(({ reason }) => reason instanceof PasswordsBusy));
  assert.ok(turns > 10, `${turns} turns`);
  assert.equal(await passwords.verify(PASSWORD, undefined), false, "there is room again");
});

test("a login renews a hash of older parameters, and a session of before goes on", async (context) => {
  const dir = folder(context);
  const before = await open(context, dir);
  await before.accounts.create(MIA, BY);
  const session = (await before.sessions.open("mia")) ?? assert.fail();
  const after = await open(context, dir, { cost: { ln: 5, r: 8, p: 1 } });
  const account = await after.accounts.login("MIA", PASSWORD);
  assert.ok(account?.lastLoginAt);
  assert.match(readFileSync(join(dir, "accounts.json"), "utf8"), /ln=5/);
  assert.ok(after.sessions.find(session.secret));
});

test("sessions: idle and absolute ends, uses that push the first; a clock set back gives nothing", async (context) => {
  let nowMs = Date.parse("2030-01-01T00:00:00Z");
  const times = { idleMs: 600_000, absoluteMs: 3_600_000 };
  const { accounts, sessions } = await open(context, folder(context), { now: () => nowMs, times });
  await accounts.create(MIA, BY);
  const used = (await sessions.open("mia")) ?? assert.fail();
  const idle = (await sessions.open("mia")) ?? assert.fail();
  for (let i = 0; i < 5; i++) {
    nowMs += 599_999;
    assert.ok(sessions.find(used.secret), `use ${i}`);
  }
  assert.equal(sessions.find(idle.secret), undefined);
  nowMs += 599_999;
  assert.ok(sessions.find(used.secret));
  nowMs += 10;
  assert.equal(sessions.find(used.secret), undefined, "an hour, used or not");
  const later = (await sessions.open("mia")) ?? assert.fail();
  nowMs -= 7_200_000;
  assert.equal(sessions.find(later.secret), undefined);
  for (const secret of ["", "x", "x".repeat(43), `${used.secret}x`, "__proto__"])
    assert.equal(sessions.find(secret), undefined);
});

test("sessions: ten of an account, the longest unused makes room; a file holds no id of them", async (context) => {
  let nowMs = Date.parse("2030-01-01T00:00:00Z");
  const dir = folder(context);
  const { accounts, sessions } = await open(context, dir, { now: () => nowMs });
  await accounts.create(MIA, BY);
  await accounts.create(BEN, BY);
  const opened = [];
  for (let i = 0; i <= SESSIONS_PER_ACCOUNT_MAX; i++) {
    nowMs += 1_000;
    opened.push((await sessions.open("mia")) ?? assert.fail());
    if (i === 0) await sessions.open("ben");
  }
  assert.equal(sessions.size, SESSIONS_PER_ACCOUNT_MAX + 1);
  assert.equal(sessions.find(opened[0]!.secret), undefined);
  assert.ok(opened.slice(1).every(({ secret }) => sessions.find(secret)?.account.id === "mia"));
  const file = readFileSync(join(dir, "sessions.json"), "utf8");
  assert.ok(opened.every(({ secret }) => !file.includes(secret)));
});

test("two processes on one file: what one does, the other sees; of two first accounts, one is made", async (context) => {
  const dir = folder(context);
  const here = await open(context, dir);
  const there = await open(context, dir);
  const [one, other] = [here.issueSetup() ?? assert.fail(), there.issueSetup() ?? assert.fail()];
  const made = await Promise.allSettled([here.setUp(one.token, MIA), there.setUp(other.token, BEN)]);
  assert.equal(made.filter(({ status }) => status === "fulfilled").length, 1);
  await eventually(() => assert.deepEqual([here.accounts.size, there.accounts.size], [1, 1]));
  assert.ok(!here.isSetup(one.token) && !there.isSetup(other.token));
});

test("the one-time token ends after an hour", async (context) => {
  let nowMs = Date.parse("2030-01-01T00:00:00Z");
  const operators = await open(context, folder(context), { now: () => nowMs });
  const { token } = operators.issueSetup() ?? assert.fail();
  nowMs += 3_599_999;
  assert.ok(operators.isSetup(token));
  nowMs += 1;
  assert.equal(await operators.setUp(token, MIA), undefined);
  assert.equal(operators.accounts.size, 0);
});

test("on Redis: disabled, signed out, revoked here is out there within two seconds; away, nobody is let in anew", async (context) => {
  const server = await startRedis();
  context.after(() => server.stop());
  const replica = async () => {
    const redis = await openRedis({ url: server.url, nodes: [], prefix: "operators", timeoutMs: 50 });
    context.after(() => redis.close());
    return open(context, folder(context), { redis });
  };
  const here = await replica();
  const there = await replica();
  await here.accounts.create(MIA, BY);
  await here.accounts.create(BEN, BY);
  const { token, id } = await here.tokens.create({ name: "ci", role: "sre" }, BY);
  const ben = (await here.sessions.open("ben")) ?? assert.fail();
  const mia = (await here.sessions.open("mia")) ?? assert.fail();
  await eventually(() => {
    assert.ok(there.sessions.find(ben.secret) && there.sessions.find(mia.secret) && there.tokens.find(token));
  }, 2_000);
  await here.accounts.change("ben", { disabled: true });
  await here.tokens.revoke(id);
  await here.sessions.close(here.sessions.find(mia.secret)!.id);
  await eventually(() => {
    assert.equal(there.sessions.find(ben.secret), undefined);
    assert.equal(there.sessions.find(mia.secret), undefined);
    assert.equal(there.tokens.find(token), undefined);
  }, 2_000);
  const kept = (await there.sessions.open("mia")) ?? assert.fail();
  await server.stop();
  await eventually(() => assert.rejects(here.accounts.login("mia", PASSWORD)));
  assert.ok(there.sessions.find(kept.secret), "who is in stays in");
});
