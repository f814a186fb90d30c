import assert from "node:assert/strict";
import { test } from "node:test";
import { LoginLimits } from "./attempts.ts";
import { standInOperators } from "./stand-in-operators.ts";
import { type Console, openConsole, standInParts, TOKEN } from "./stand-ins.ts";

type Problem = { code: string; detail: string; errors?: { path: string; message: string }[] };
interface Opened {
  readonly account: string;
  readonly role: string;
  readonly csrf: string;
  readonly expiresAt: string;
}

const PASSWORD = "correct horse battery";
const OTHER = "staple of another kind";

async function house(
  context: { after(done: () => Promise<void>): void },
  more: { clock?: () => number } = {},
) {
  const parts = { ...standInParts(), logins: new LoginLimits(more) };
  const admin = await openConsole(parts);
  context.after(() => admin.close());
  const { accounts } = parts.operators;
  await accounts.create({ name: "mia", password: PASSWORD, role: "admin" }, { by: "test" });
  await accounts.create({ name: "ben", password: PASSWORD, role: "analyst" }, { by: "test" });
  return { admin, parts };
}

async function login(admin: Console, name: string, password = PASSWORD) {
  const { status, headers, body } = await admin.ask<Opened & Problem>("POST /api/login", {
    token: "",
    body: { name, password },
  });
  const cookie = headers.get("set-cookie") ?? "";
  const sent = { cookie: cookie.split(";")[0]!, "x-sallyport-csrf": body.csrf };
  return { status, headers, body, cookie, sent };
}

test("log in, look, act, log out; the cookie is for the browser alone", async (context) => {
  const { admin } = await house(context);
  const { status, body, cookie, sent } = await login(admin, "Mia");
  assert.equal(status, 200);
  assert.deepEqual([body.account, body.role], ["mia", "admin"]);
  assert.match(cookie, /^sallyport=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43\d{3}$/);
  const seen = await admin.ask("GET /api/session", { token: "", headers: { cookie: sent.cookie } });
  assert.deepEqual(
    [seen.body["name"], seen.body["via"], seen.body["csrf"]],
    ["mia", "session", body.csrf],
    "a page that was loaded anew asks for it",
  );
  const made = await admin.ask("POST /api/keys", {
    token: "",
    body: { org: "acme" },
    headers: { ...sent, "x-sallyport-actor": "somebody-else" },
  });
  assert.equal(made.status, 201);
  assert.deepEqual(
    [admin.audits.at(-1)?.actor, admin.audits.at(-1)?.via],
    ["mia", "session"],
    "a session cannot act in another's name",
  );
  const out = await admin.ask("POST /api/logout", { token: "", headers: sent });
  assert.equal(out.status, 200);
  assert.match(out.headers.get("set-cookie") ?? "", /^sallyport=; .*Max-Age=0$/);
  assert.equal((await admin.ask("GET /api/session", { token: "", headers: sent })).status, 401);
  assert.equal((await admin.ask("POST /api/logout")).status, 409, "a token has no session");
  const text = JSON.stringify(admin.audits);
  assert.ok(!text.includes(PASSWORD) && !text.includes(sent.cookie.slice(10)) && !text.includes(body.csrf));
});

test("behind TLS the cookie is Secure and __Host-, and the plain one opens nothing", async (context) => {
  const parts = { ...standInParts(), isSecure: true };
  const admin = await openConsole(parts, { url: "https://sallyport.example.org" });
  context.after(() => admin.close());
  await parts.operators.accounts.create({ name: "mia", password: PASSWORD, role: "admin" }, { by: "test" });
  const { cookie, sent } = await login(admin, "mia");
  assert.match(cookie, /^__Host-sallyport=[\w-]{43}; Path=\/; HttpOnly; .*; Secure$/);
  const origin = "https://sallyport.example.org";
  assert.equal(
    (await admin.ask("POST /api/logout", { token: "", headers: { ...sent, origin: admin.url } })).status,
    403,
  );
  const plain = { ...sent, cookie: sent.cookie.replace("__Host-", "") };
  assert.equal((await admin.ask("GET /api/session", { token: "", headers: plain })).status, 401);
  const twice = { ...sent, cookie: `${sent.cookie}; ${sent.cookie}` };
  assert.equal((await admin.ask("GET /api/session", { token: "", headers: twice })).status, 401, "planted");
  assert.equal(
    (await admin.ask("POST /api/logout", { token: "", headers: { ...sent, origin } })).status,
    200,
  );
});

const FORGED: readonly (readonly [what: string, headers: Record<string, string | undefined>])[] = [
  ["no token against forgery", { "x-sallyport-csrf": undefined }],
  ["a wrong one", { "x-sallyport-csrf": "x".repeat(43) }],
  ["another origin", { origin: "https://evil.example" }],
  ["an origin that hides", { origin: "null" }],
  ["this host by another scheme's port", { origin: "http://127.0.0.1:1" }],
  ["another site, as the browser says", { "sec-fetch-site": "cross-site" }],
  ["a sibling site", { "sec-fetch-site": "same-site" }],
];

test("a change that another site's page makes is refused, whatever it can send", async (context) => {
  const { admin } = await house(context);
  const { sent } = await login(admin, "mia");
  for (const [what, more] of FORGED) {
    const headers = Object.fromEntries(
      Object.entries({ ...sent, ...more }).filter((pair): pair is [string, string] => pair[1] !== undefined),
    );
    const { status, body } = await admin.ask<Problem>("POST /api/keys", {
      token: "",
      body: { org: "acme" },
      headers,
    });
    assert.equal(status, 403, what);
    assert.equal(body.code, "forbidden", what);
    assert.equal(admin.audits.at(-1)?.outcome, "refused", what);
  }
  const own = { ...sent, origin: admin.url, "sec-fetch-site": "same-origin" };
  assert.equal(
    (await admin.ask("POST /api/keys", { token: "", body: { org: "acme" }, headers: own })).status,
    201,
  );
  const { status } = await admin.ask("POST /api/login", {
    token: "",
    body: { name: "mia", password: PASSWORD },
    headers: { origin: "https://evil.example" },
  });
  assert.equal(status, 403, "nobody is logged in by another site");
  const byToken = await admin.ask("POST /api/keys", {
    body: { org: "acme" },
    headers: { origin: "https://evil.example" },
  });
  assert.equal(byToken.status, 201, "a page that has the token needs no cookie of ours");
});

test("a wrong name, a wrong password and a disabled account get one answer; failures end in 429", async (context) => {
  let nowMs = 0;
  const { admin, parts } = await house(context, { clock: () => nowMs });
  await parts.operators.accounts.change("ben", { disabled: true });
  const answers = [
    await login(admin, "mia", "not the password"),
    await login(admin, "nobody-here", "not the password"),
    await login(admin, "ben"),
  ];
  assert.deepEqual(
    answers.map(({ status, body }) => [status, body]),
    answers.map(() => [401, answers[0]!.body]),
  );
  for (let i = 0; i < 4; i++) {
    assert.equal((await login(admin, "mia", `wrong ${i}`)).status, 401, `try ${i}`);
    assert.equal((await login(admin, "nobody-here", `wrong ${i}`)).status, 401, `try ${i}`);
  }
  const there = await login(admin, "mia");
  const not = await login(admin, "nobody-here");
  assert.deepEqual([there.status, there.body], [429, not.body], "neither tells whether it is there");
  assert.equal(there.headers.get("retry-after"), "900");
  nowMs = 900_000;
  assert.equal((await login(admin, "mia")).status, 200);
  const failed = admin.audits.filter(({ action, status }) => action === "session.login" && status === 401);
  assert.ok(failed.length === 11 && failed.every(({ via, target }) => via === "nobody" && target === ""));
});

test("limits: 20 logins at once find no gap; one address is bounded over all names; known addresses pass", async () => {
  const limits = new LoginLimits({ clock: () => 0 });
  const tries = Array.from({ length: 20 }, () => limits.try("mia", "192.0.2.1"));
  assert.equal(tries.filter(({ waitMs }) => waitMs === 0).length, 5);
  const names = Array.from({ length: 40 }, (_, i) => limits.try(`n${i}`, "192.0.2.2"));
  assert.equal(names.filter(({ waitMs }) => waitMs === 0).length, 20);
  const first = limits.try("eva", "198.51.100.1");
  assert.ok("succeeded" in first);
  first.succeeded();
  for (let i = 0; i < 100; i++) limits.try("eva", `203.0.113.${i}`);
  assert.ok(limits.try("eva", "198.51.100.2").waitMs > 0, "of one account from everywhere: 50");
  assert.equal(limits.try("eva", "198.51.100.1").waitMs, 0, "but from where it logged in before");
  const six = new LoginLimits({ clock: () => 0 });
  const subnet = Array.from({ length: 20 }, (_, i) => six.try("mia", `2001:db8::${i + 1}`));
  assert.equal(subnet.filter(({ waitMs }) => waitMs === 0).length, 5, "one subscriber's IPv6 is one address");
});

test("a login that the store could not take is no failure of whoever tried", async (context) => {
  const weather = { isAway: false };
  const parts = standInParts(weather);
  const admin = await openConsole(parts);
  context.after(() => admin.close());
  await parts.operators.accounts.create({ name: "mia", password: PASSWORD, role: "admin" }, { by: "test" });
  weather.isAway = true;
  for (let i = 0; i < 8; i++) assert.equal((await login(admin, "mia")).status, 503, `try ${i}`);
  weather.isAway = false;
  assert.equal((await login(admin, "mia")).status, 200);
});

test("another role, another password, being disabled: the sessions of before are over", async (context) => {
  const { admin } = await house(context);
  const see = async (sent: Record<string, string>) =>
    (await admin.ask("GET /api/session", { token: "", headers: sent })).status;
  const first = await login(admin, "ben");
  assert.equal(await see(first.sent), 200);
  const changes: readonly (readonly [call: string, body: object])[] = [
    ["PATCH /api/accounts/ben", { role: "sre" }],
    ["POST /api/accounts/ben/password", { password: OTHER }],
    ["PATCH /api/accounts/ben", { disabled: true }],
  ];
  for (const [call, body] of changes) {
    const before = await login(admin, "ben");
    assert.equal(before.status, 200, call);
    assert.equal((await admin.ask(call, { body })).status, 200, call);
    assert.equal(await see(before.sent), 401, call);
    if (call.startsWith("POST")) assert.equal((await login(admin, "ben")).status, 401, "the old password");
    await admin.ask("POST /api/accounts/ben/password", { body: { password: PASSWORD } });
  }
  assert.equal((await login(admin, "ben")).status, 401, "disabled");
  await admin.ask("PATCH /api/accounts/ben", { body: { disabled: false } });
  assert.equal((await login(admin, "ben")).status, 200);
});

test("one's own password: the other sessions end, this one goes on with a new cookie", async (context) => {
  const { admin } = await house(context);
  const here = await login(admin, "ben");
  const there = await login(admin, "ben");
  const ask = (body: object, sent = here.sent) =>
    admin.ask<Opened & Problem>("POST /api/session/password", { token: "", headers: sent, body });
  const wrong = await ask({ current: "not it", password: OTHER });
  assert.deepEqual([wrong.status, wrong.body.errors?.[0]?.path], [400, "current"]);
  const weak = await ask({ current: PASSWORD, password: "ben-ben-ben-ben" });
  assert.deepEqual([weak.status, weak.body.errors?.[0]?.path], [400, "password"]);
  const done = await ask({ current: PASSWORD, password: OTHER });
  assert.equal(done.status, 200);
  const sent = { cookie: (done.headers.get("set-cookie") ?? "").split(";")[0]! };
  assert.equal((await admin.ask("GET /api/session", { token: "", headers: sent })).status, 200);
  for (const old of [here, there])
    assert.equal((await admin.ask("GET /api/session", { token: "", headers: old.sent })).status, 401);
  assert.equal((await login(admin, "ben", OTHER)).status, 200);
  assert.equal(
    (await admin.ask("POST /api/session/password", { body: { current: "a", password: "b" } })).status,
    409,
  );
});

test("the one-time token makes one account, once; a bad name or password does not use it up", async (context) => {
  const operators = standInOperators(() => {});
  const admin = await openConsole({ ...standInParts(), operators });
  context.after(() => admin.close());
  const first = operators.issueSetup() ?? assert.fail();
  const { token } = operators.issueSetup() ?? assert.fail();
  const ask = (body: object) => admin.ask<Opened & Problem>("POST /api/setup", { token: "", body });
  const good = { token, name: "mia", password: PASSWORD };
  assert.equal((await ask({ ...good, token: "sp-setup-guess" })).status, 401);
  assert.equal((await ask({ ...good, token: first.token })).status, 401, "the one of before has ended");
  assert.equal((await ask({ ...good, name: "a b" })).status, 400);
  const short = await ask({ ...good, password: "short" });
  assert.deepEqual([short.status, short.body.errors?.[0]?.path], [400, "password"]);
  const both = await Promise.all([ask(good), ask({ ...good, name: "eva" })]);
  assert.deepEqual(both.map(({ status }) => status).sort(), [201, 401], "of two at once, one");
  assert.equal((await ask({ ...good, name: "ben" })).status, 401, "used up");
  assert.equal(operators.issueSetup(), undefined, "there is an account");
  const made = both.find(({ status }) => status === 201)!;
  const cookie = (made.headers.get("set-cookie") ?? "").split(";")[0]!;
  const seen = await admin.ask("GET /api/session", { token: "", headers: { cookie } });
  assert.equal(seen.body["role"], "admin");
  const done = admin.audits.filter(({ outcome }) => outcome === "done");
  assert.deepEqual(
    done.map(({ actor, action }) => [actor, action]),
    [[made.body.account, "session.setup"]],
  );
  assert.ok(!JSON.stringify(admin.audits).includes(token));
});

test("accounts: made, listed, shown, changed; the last admin stays; nothing shows a password", async (context) => {
  const { admin } = await house(context);
  const body = { name: "eva", password: OTHER, role: "viewer" };
  const made = await admin.ask("POST /api/accounts", { body });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), "/api/accounts/eva");
  assert.equal((await admin.ask("POST /api/accounts", { body })).status, 409);
  const wrong = await admin.ask<Problem>("POST /api/accounts", {
    body: { ...body, name: "eva2", role: "root" },
  });
  assert.match(wrong.body.detail, /^role: .*one of viewer, analyst/);
  const list = await admin.ask<{ accounts: { name: string }[] }>("GET /api/accounts");
  assert.deepEqual(list.body.accounts.map(({ name }) => name).sort(), ["ben", "eva", "mia"]);
  assert.doesNotMatch(JSON.stringify(list.body), /scrypt|epoch/);
  const shown = await admin.ask("GET /api/accounts/eva");
  const stale = { "if-match": '"another"' };
  assert.equal(
    (await admin.ask("PATCH /api/accounts/eva", { body: { role: "sre" }, headers: stale })).status,
    412,
  );
  const fresh = { "if-match": shown.headers.get("etag") ?? "" };
  assert.equal(
    (await admin.ask("PATCH /api/accounts/eva", { body: { role: "sre" }, headers: fresh })).status,
    200,
  );
  assert.equal(admin.audits.at(-1)?.target, "eva sre");
  assert.equal((await admin.ask("PATCH /api/accounts/eva", { body: {} })).status, 400);
  for (const change of [{ role: "sre" }, { disabled: true }]) {
    const last = await admin.ask<Problem>("PATCH /api/accounts/mia", { body: change });
    assert.equal(last.status, 409);
    assert.match(last.body.detail, /last account that may manage accounts: make another admin first/);
  }
  assert.equal((await admin.ask("PATCH /api/accounts/nobody", { body: { role: "sre" } })).status, 404);
});

test("tokens: made with a role, listed without their secret, expired, revoked; an actor of their own", async (context) => {
  const { admin } = await house(context);
  const made = await admin.ask<{ id: string; token: string }>("POST /api/tokens", {
    body: { name: "ci", role: "sre" },
  });
  assert.match(made.body.token, /^sp-admin-[\w-]{32}$/);
  const { token, id } = made.body;
  assert.equal((await admin.ask("POST /api/policy/reload", { token })).status, 200);
  assert.deepEqual([admin.audits.at(-1)?.actor, admin.audits.at(-1)?.via], ["token:ci", "token"]);
  const list = await admin.ask<{ tokens: { state: string }[] }>("GET /api/tokens");
  assert.ok(list.body.tokens[0]?.state === "active" && !JSON.stringify(list.body).includes(token));
  const twin = await admin.ask<Problem>("POST /api/tokens", { body: { name: "ci", role: "viewer" } });
  assert.deepEqual([twin.status, twin.body.errors?.[0]?.path], [400, "name"]);
  const late = { name: "old", role: "sre", expiresAt: "2001-01-01T00:00:00Z" };
  assert.equal((await admin.ask("POST /api/tokens", { body: late })).status, 400);
  assert.equal((await admin.ask(`DELETE /api/tokens/${id}`)).status, 200);
  assert.equal((await admin.ask("GET /api/status", { token })).status, 401);
  assert.equal((await admin.ask("DELETE /api/tokens/tok_none")).status, 404);
  assert.equal((await admin.ask("POST /api/tokens", { body: { name: "ci", role: "viewer" } })).status, 201);
  assert.equal((await admin.ask("GET /api/session", { token: TOKEN })).body["via"], "environment");
});
