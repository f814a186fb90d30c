import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { openAdmin } from "./admin.ts";
import { FailureWindows } from "./attempts.ts";
import { adminRoutes } from "./routes.ts";
import { type Console, openConsole, READ_TOKEN, standInParts, TOKEN } from "./stand-ins.ts";

type Problem = { code: string; detail: string; errors?: { path: string; message: string }[] };

async function consoleFor(
  context: { after(done: () => Promise<void>): void },
  ...rest: Parameters<typeof openConsole>
): Promise<Console> {
  const admin = await openConsole(...rest);
  context.after(() => admin.close());
  return admin;
}

test("without a token: probes are answered, all else is 401 and says how", async (context) => {
  const admin = await consoleFor(context);
  assert.equal((await admin.ask("GET /healthz", { token: "" })).status, 200);
  assert.equal((await admin.ask("GET /readyz", { token: "" })).status, 200);
  assert.equal((await admin.ask("GET /metrics", { token: "" })).body as unknown, "up 1\n");
  for (const call of [
    "GET /api/keys",
    "POST /api/keys",
    "GET /api/openapi.json",
    "GET /api/nothing",
    "PUT /healthz",
  ]) {
    const { status, headers, body } = await admin.ask<Problem>(call, { token: "" });
    assert.equal(status, 401, call);
    assert.match(headers.get("www-authenticate") ?? "", /^Bearer/);
    assert.match(body.detail, /Authorization: Bearer/);
  }
});

test("metrics need a token where gateway.yaml says so", async (context) => {
  const admin = await consoleFor(context, { ...standInParts(), metricsAccess: "token" });
  assert.equal((await admin.ask("GET /metrics", { token: "" })).status, 401);
  assert.equal((await admin.ask("GET /metrics", { token: READ_TOKEN })).status, 200);
});

test("the read token reads and changes nothing", async (context) => {
  const admin = await consoleFor(context);
  assert.equal((await admin.ask("GET /api/keys", { token: READ_TOKEN })).status, 200);
  for (const call of [
    "POST /api/keys",
    "DELETE /api/keys/key_1",
    "POST /api/sanctions",
    "POST /api/policy/reload",
  ]) {
    const { status, body } = await admin.ask<Problem>(call, { token: READ_TOKEN });
    assert.equal(status, 403, call);
    assert.equal(body.code, "forbidden");
    assert.match(body.detail, /takes the role .*you call as viewer/);
  }
  assert.equal(admin.audits.length, 4, "an attempt is on record too");
  assert.ok(admin.audits.every(({ outcome, status }) => outcome === "refused" && status === 403));
});

test("an empty token, or two that are the same, is refused at the start", async () => {
  const parts = standInParts();
  const base = { host: "127.0.0.1", port: 0, routes: adminRoutes(parts), operators: parts.operators };
  await assert.rejects(openAdmin({ ...base, token: "" }), /^RangeError: token: /);
  await assert.rejects(openAdmin({ ...base, token: "a", readToken: "a" }), /^RangeError: readToken: /);
  await assert.rejects(openAdmin({ ...base, token: "a", readToken: "" }), /^RangeError: readToken: /);
});

test("ten wrong tokens in a minute, then 429; the right one passes; no token is no guess", async (context) => {
  let nowMs = 0;
  const admin = await consoleFor(context, undefined, { clock: () => nowMs });
  for (let i = 0; i < 20; i++) assert.equal((await admin.ask("GET /api/keys", { token: "" })).status, 401);
  for (let i = 0; i < 10; i++)
    assert.equal((await admin.ask("GET /api/keys", { token: `wrong${i}` })).status, 401, `try ${i}`);
  nowMs = 20_000;
  const { status, headers, body } = await admin.ask<Problem>("GET /api/keys", { token: "wrong" });
  assert.equal(status, 429);
  assert.equal(headers.get("retry-after"), "40");
  assert.match(body.detail, /40 s/);
  assert.equal((await admin.ask("GET /api/keys")).status, 200, "the right token always passes");
  nowMs = 60_000;
  assert.equal((await admin.ask("GET /api/keys", { token: "wrong" })).status, 401, "a minute later");
});

test("failures: a window for each key, and a bound on keys", () => {
  const windows = new FailureWindows({ failuresMax: 1, windowMs: 1_000, keysMax: 3, clock: () => 0 });
  assert.equal(windows.count("a"), 0);
  assert.equal(windows.count("a"), 1_000);
  assert.equal(windows.waitMs("a"), 1_000);
  for (let i = 0; i < 100; i++) windows.count(`b${i}`);
  assert.equal(windows.keys, 3);
  assert.equal(windows.count("a"), 0, "the oldest was forgotten");
});

test("a path that is not there is 404, a method that it does not take 405 with allow; HEAD is GET", async (context) => {
  const admin = await consoleFor(context);
  assert.equal((await admin.ask("GET /api/nothing")).status, 404);
  assert.equal((await admin.ask("GET /api/keys/")).status, 404, "an empty id is not the list");
  const { status, headers } = await admin.ask("PUT /api/keys");
  assert.equal(status, 405);
  assert.equal(headers.get("allow"), "GET, HEAD, POST");
  const head = await admin.ask("HEAD /api/keys");
  assert.equal(head.status, 200);
  assert.equal(head.body as unknown, "");
});

const WRONG: readonly (readonly [call: string, text: string | undefined, path: string, message: RegExp])[] = [
  ["POST /api/keys", "{", "", /must be JSON/],
  ["POST /api/keys", "[]", "", /must be an object/],
  ["POST /api/keys", undefined, "org", /is missing/],
  ["POST /api/keys", '{"org":"a/b"}', "org", /must be 1 to 64/],
  ["POST /api/keys", '{"org":"a","nmae":"x"}', "nmae", /no such field; did you mean "name"/],
  ["POST /api/keys", '{"org":"a","__proto__":{}}', "__proto__", /no such field/],
  ["POST /api/keys", '{"org":"a","expiresAt":"soon"}', "expiresAt", /RFC 3339/],
  ["POST /api/keys", '{"org":"a","expiresAt":"2001-01-01T00:00:00Z"}', "expiresAt", /must lie in the future/],
  ["POST /api/keys", '{"org":"a","scopes":{"routes":[]}}', "scopes.routes", /at least one/],
  ["POST /api/keys", '{"org":"a","scopes":{"networks":["10.0.0.0/8","x"]}}', "scopes.networks[1]", /CIDR/],
  ["POST /api/keys", '{"org":"a","scopes":{"model":["x"]}}', "scopes.model", /did you mean "models"/],
  ["POST /api/keys", '{"org":"a","canary":"yes"}', "canary", /true or false/],
  ["GET /api/keys?state=lost", undefined, "state", /one of active, expired, revoked/],
  ["GET /api/keys?limit=0", undefined, "limit", /at least 1/],
  ["GET /api/keys?limit=x", undefined, "limit", /must be a number/],
  ["GET /api/keys?colour=red", undefined, "colour", /no such field/],
  ["GET /api/keys?org=a&org=b", undefined, "org", /given twice/],
  ["GET /api/keys?__proto__=a", undefined, "__proto__", /no such field/],
  ["GET /api/keys?cursor=abc", undefined, "cursor", /must be `next`/],
  ["GET /api/status?x=1", undefined, "x", /takes no query/],
  ["GET /api/keys/sp-secretsecret", undefined, "id", /it is the id, not the key/],
  ["GET /api/keys/%zz", undefined, "", /hex digits/],
  ["DELETE /api/keys/key_1", "{}", "", /takes no body/],
  ["POST /api/policy/reload", '{"now":true}', "", /takes no body/],
  ["GET /api/reputation/planet/mars", undefined, "kind", /one of org, key/],
  ["GET /api/reputation/address/nowhere", undefined, "id", /IPv4 address/],
  ["GET /api/reputation/network/10.0.0.1", undefined, "id", /CIDR/],
  ["GET /api/reputation/end_user/mia", undefined, "id", /organisation and its user/],
  ["GET /api/reputation/org/a%00b", undefined, "id", /control characters/],
  ["POST /api/reputation/org/acme", '{"points":0,"reason":"x"}', "points", /must not be 0/],
  ["POST /api/reputation/org/acme", '{"points":1,"reason":" "}', "reason", /at least 1 characters/],
  ["GET /api/sanctions?id=acme", undefined, "kind", /is missing/],
  [
    "POST /api/sanctions",
    '{"entity":{"kind":"org","id":"a"},"act":"baan","reason":"x"}',
    "act",
    /one of notice/,
  ],
  [
    "POST /api/sanctions",
    '{"entity":{"kind":"org","id":"a"},"act":"ban","reason":"x","forSec":1,"expiresAt":"2999-01-01T00:00:00Z"}',
    "forSec",
    /not both/,
  ],
  ["POST /api/limits/reset", '{"seat":"limits"}', "key", /is missing/],
];

test("what is wrong is 400 and names the field and the fix, never the value", async (context) => {
  const admin = await consoleFor(context);
  for (const [call, text, path, message] of WRONG) {
    const { status, headers, body } = await admin.ask<Problem>(call, text === undefined ? {} : { text });
    const where = `${call} ${text} ${JSON.stringify(body)}`;
    assert.equal(status, 400, where);
    assert.equal(headers.get("content-type"), "application/problem+json", where);
    assert.ok(
      body.errors?.some((one) => one.path === path && message.test(one.message)),
      where,
    );
    assert.doesNotMatch(JSON.stringify(body), /secretsecret|lost|mars/, where);
  }
});

test("a body past the bound is 413, with and without a length; not UTF-8 is 400", async (context) => {
  const admin = await consoleFor(context);
  const big = JSON.stringify({ org: "x".repeat(70_000) });
  assert.equal((await admin.ask("POST /api/keys", { text: big })).status, 413);
  const chunked = await fetch(`${admin.url}/api/keys`, {
    method: "POST",
    headers: { authorization: `Bearer ${TOKEN}` },
    body: new Blob([big]).stream(),
    duplex: "half",
  } as RequestInit);
  assert.equal(chunked.status, 413);
  const raw = await fetch(`${admin.url}/api/keys`, {
    method: "POST",
    headers: { authorization: `Bearer ${TOKEN}` },
    body: Buffer.from([0x22, 0xff, 0x22]),
  });
  assert.equal(raw.status, 400);
  assert.match(await raw.text(), /UTF-8/);
});

test("a caller who leaves in the middle of the body is no fault of ours", async (context) => {
  const admin = await consoleFor(context);
  const socket = connect(Number(new URL(admin.url).port), "127.0.0.1");
  socket.write(
    `POST /api/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TOKEN}\r\ncontent-length: 100\r\n\r\n{`,
  );
  // Once another call is answered, this one's head has been read and its body is waited for.
  await admin.ask("GET /healthz");
  socket.destroy();
  await once(socket, "close");
  for (let i = 0; i < 3; i++) await admin.ask("GET /healthz");
  assert.deepEqual(admin.faults, []);
});

test("who did it goes on record, and no key with it", async (context) => {
  const admin = await consoleFor(context);
  const made = await admin.ask<{ id: string; key: string }>("POST /api/keys", {
    body: { org: "acme" },
    headers: { "x-sallyport-actor": "mia@example.org" },
  });
  await admin.ask(`DELETE /api/keys/${made.body.id}`);
  await admin.ask("DELETE /api/keys/key_nobody");
  await admin.ask(`DELETE /api/keys/${made.body.key}`);
  await admin.ask("GET /api/keys");
  const bad = await admin.ask<Problem>("POST /api/keys", {
    body: { org: "acme" },
    headers: { "x-sallyport-actor": "mia & co" },
  });
  assert.equal(bad.status, 400);
  assert.equal(bad.body.errors?.[0]?.path, "x-sallyport-actor");
  const shown = admin.audits.map(({ actor, action, target, outcome, status }) => ({
    ...{ actor, action, target, outcome, status },
  }));
  const { id } = made.body;
  assert.deepEqual(shown, [
    { actor: "mia@example.org", action: "keys.create", target: id, outcome: "done", status: 201 },
    { actor: "admin", action: "keys.revoke", target: id, outcome: "done", status: 200 },
    { actor: "admin", action: "keys.revoke", target: "key_nobody", outcome: "refused", status: 404 },
    { actor: "admin", action: "keys.revoke", target: "", outcome: "refused", status: 400 },
    { actor: "unnamed", action: "keys.create", target: "", outcome: "refused", status: 400 },
  ]);
  const text = JSON.stringify(admin.audits);
  assert.ok(!text.includes(made.body.key) && !text.includes(TOKEN));
});

test("a store that is away is 503 with its reason; a bug is 500 without", async (context) => {
  const weather = { isAway: true };
  const away = await consoleFor(context, standInParts(weather));
  for (const [call, body] of [
    ["POST /api/keys", { org: "acme" }],
    ["GET /api/limits/live", undefined],
    ["POST /api/sanctions", { entity: { kind: "org", id: "a" }, act: "ban", reason: "x" }],
    ["POST /api/reputation/org/acme", { points: 1, reason: "x" }],
  ] as const) {
    const { status, headers, body: said } = await away.ask<Problem>(call, { body });
    assert.equal(status, 503, call);
    assert.match(said.detail, /Redis does not answer/);
    assert.equal(headers.get("retry-after"), "2");
  }
  assert.equal(away.faults.length, 4, "the log is told");
  assert.equal(away.audits.filter(({ outcome }) => outcome === "failed").length, 3);
  const broken = standInParts();
  const bug = () => {
    throw new TypeError("undefined is not a secret");
  };
  const admin = await consoleFor(context, { ...broken, identities: { ...broken.identities, create: bug } });
  const { status, body } = await admin.ask<Problem>("POST /api/keys", { body: { org: "acme" } });
  assert.equal(status, 500);
  assert.doesNotMatch(JSON.stringify(body), /secret/);
  assert.deepEqual(admin.faults, ["keys.create: undefined is not a secret"]);
});
