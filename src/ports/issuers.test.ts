import assert from "node:assert/strict";
import { createHmac, type webcrypto } from "node:crypto";
import { test } from "node:test";
import { exportSPKI, importJWK } from "jose";
import { eventually } from "../../test/support/eventually.ts";
import { startIssuer, type TestIssuer } from "../../test/support/issuer.ts";
import type { IssuerConfig, TokenCheck } from "../layer/index.ts";
import { Issuers, type IssuersOptions } from "./issuers.ts";

interface Context {
  after(cleanup: () => void | Promise<void>): void;
}

const SINCE_MS = Date.UTC(2026, 0, 1);

async function opened(context: Context, more: Partial<IssuersOptions> = {}) {
  const server = await startIssuer();
  const problems: (string | undefined)[] = [];
  const issuers = new Issuers({
    subjectId: (issuer, subject) => `jwt_${issuer.length}_${subject}`,
    sinceMs: (org) => (org === "acme" ? SINCE_MS : undefined),
    onProblem: (_issuer, problem) => problems.push(problem),
    ...more,
  });
  context.after(async () => {
    issuers.close();
    await server.close();
  });
  return { server, issuers, problems };
}

function configOf(server: TestIssuer, more: Partial<IssuerConfig> = {}): IssuerConfig {
  return {
    issuer: server.url,
    audience: "sallyport",
    jwksUrl: server.jwksUrl,
    algorithms: ["RS256", "ES256"],
    claims: { org: "org", project: "team", endUser: "act" },
    leewaySec: 5,
    ...more,
  };
}

/** Left out of the header. */
const NO_KID = { kid: undefined } as unknown as { kid: string };

const nowSec = () => Math.floor(Date.now() / 1000);

test("a good token names its caller, and is known from then on", async (context) => {
  const { server, issuers } = await opened(context);
  const issuer = issuers.issuer(configOf(server));
  const token = await server.token({ team: "search", act: "user-7" });
  assert.equal(issuer.known(token), undefined, "not before it was verified");
  const check = await issuer.verify(token);
  assert.deepEqual(check, {
    state: "valid",
    identity: {
      org: "acme",
      project: "search",
      keyId: `jwt_${server.url.length}_ann`,
      proof: "token",
      endUser: "user-7",
      sinceMs: SINCE_MS,
    },
  });
  assert.equal(issuer.known(token), check, "at once, from memory");
  assert.equal(issuer.verify(token), check);
  const other = await issuer.verify(await server.token({ org: "other" }));
  assert.deepEqual(other.state === "valid" && other.identity, {
    org: "other",
    project: "default",
    keyId: `jwt_${server.url.length}_ann`,
    proof: "token",
  });
  assert.equal(issuers.issuer(configOf(server)), issuer, "the same settings, the same object");
  assert.notEqual(issuers.issuer(configOf(server, { audience: "else" })), issuer);
  assert.deepEqual(
    server.asked,
    ["/jwks"],
    "one fetch, whatever was asked: two settings of one issuer share its keys",
  );
});

const CLAIMS: readonly (readonly [string, Record<string, unknown>, TokenCheck["state"], RegExp])[] = [
  ["another issuer", { iss: "http://127.0.0.1:1" }, "invalid", /"iss"/],
  ["another audience", { aud: "else" }, "invalid", /"aud"/],
  ["no audience", { aud: undefined }, "invalid", /"aud"/],
  ["one audience of several", { aud: ["else", "sallyport"] }, "valid", /^$/],
  ["no expiry", { exp: undefined }, "invalid", /"exp"/],
  ["expired", { exp: nowSec() - 60 }, "expired", /expired/],
  ["expired within the leeway", { exp: nowSec() - 1 }, "valid", /^$/],
  ["not valid yet", { nbf: nowSec() + 60 }, "invalid", /"nbf"/],
  ["an expiry that is no number", { exp: "tomorrow" }, "invalid", /"exp"/],
  ["no organisation", { org: undefined }, "invalid", /^org: /],
  ["an organisation that is no name", { org: "a/b" }, "invalid", /^org: /],
  ["an organisation that is no string", { org: ["acme"] }, "invalid", /^org: /],
  ["a project that is no name", { team: "" }, "invalid", /^team: /],
  ["an end user that is no string", { act: { sub: "x" } }, "invalid", /^act: /],
  ["an end user that is too long", { act: "x".repeat(257) }, "invalid", /^act: /],
  ["no subject", { sub: undefined }, "invalid", /sub/],
  ["an empty subject", { sub: "" }, "invalid", /sub/],
  ["a token that is too long", { more: "x".repeat(9000) }, "invalid", /8192 bytes/],
];

test("claims", async (context) => {
  const { server, issuers } = await opened(context);
  const issuer = issuers.issuer(configOf(server));
  for (const [why, claims, state, expected] of CLAIMS) {
    const token = await server.token(claims);
    const check = await issuer.verify(token);
    assert.equal(check.state, state, why);
    assert.match(check.state === "valid" ? "" : check.why, expected, why);
    if (state === "invalid") assert.equal(issuer.known(token), undefined, `${why}: never remembered`);
    if (state === "expired")
      assert.equal(issuer.known(token)?.state, "expired", "once good, now over for ever");
  }
});

test("signatures: only a listed algorithm, only the issuer's key", async (context) => {
  const { server, issuers } = await opened(context);
  server.keys = [];
  const rsa = await server.rotate("rsa", { alg: "RS256" });
  const issuer = issuers.issuer(configOf(server));
  const good = await server.token();
  assert.equal((await issuer.verify(good)).state, "valid");

  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const payload = good.split(".")[1]!;
  const none = `${part({ alg: "none" })}.${payload}.`;
  assert.equal((await issuer.verify(none)).state, "invalid", "none");
  assert.equal((await issuer.verify(`${none}AA`)).state, "invalid", "none with a signature");

  // The public key taken as an HMAC's secret, in each spelling that a library could read.
  const pem = await exportSPKI((await importJWK(rsa, "RS256")) as webcrypto.CryptoKey);
  for (const secret of [pem, pem.trim(), JSON.stringify(rsa), rsa.n!]) {
    const signed = `${part({ alg: "HS256", kid: "rsa" })}.${payload}`;
    const forged = `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
    assert.equal((await issuer.verify(forged)).state, "invalid", "HS256 with the public key");
  }
  const es = issuers.issuer(configOf(server, { algorithms: ["ES256"] }));
  assert.match(String(Object.values(await es.verify(good))), /invalid.*alg/i, "RS256 is not listed here");
  assert.throws(() => issuers.issuer(configOf(server, { algorithms: ["HS256"] })), /algorithms: HS256/);
  assert.throws(() => issuers.issuer(configOf(server, { algorithms: ["none"] })), /algorithms: none/);

  const [header, body, signature] = good.split(".") as [string, string, string];
  const altered = part({ ...JSON.parse(Buffer.from(body, "base64url").toString()), org: "victim" });
  assert.equal((await issuer.verify(`${header}.${altered}.${signature}`)).state, "invalid", "altered claims");
  // A key of the attacker's own, brought along in the header or published under the same id elsewhere.
  const { keys } = server;
  const own = await server.rotate("rsa", { alg: "RS256", publish: false });
  server.keys = keys;
  assert.equal((await issuer.verify(await server.token())).state, "invalid", "another key under a known id");
  assert.equal(
    (await issuer.verify(await server.token({}, { jwk: own }))).state,
    "invalid",
    "jwk in the header",
  );
  for (const junk of ["a.b.c", "..", "eyJ.eyJ.eyJ", `${good}x`, good.slice(0, -9)]) {
    assert.equal((await issuer.verify(junk)).state, "invalid", junk.slice(0, 20));
  }
});

test("a token without a key id is tried against the keys that fit", async (context) => {
  const { server, issuers } = await opened(context);
  await server.rotate("second");
  const issuer = issuers.issuer(configOf(server));
  assert.equal((await issuer.verify(await server.token({}, NO_KID))).state, "valid");
  await server.rotate("third", { publish: false });
  assert.equal((await issuer.verify(await server.token({}, NO_KID))).state, "invalid");
});

test("a key that is not known yet is fetched behind the request, once in a while", async (context) => {
  const { server, issuers } = await opened(context, { retryMs: 200 });
  const issuer = issuers.issuer(configOf(server));
  const old = await server.token();
  assert.equal((await issuer.verify(old)).state, "valid");
  await server.rotate("second");
  const fresh = await server.token();
  assert.equal((await issuer.verify(fresh)).state, "no_keys", "come again");
  await eventually(async () => assert.equal((await issuer.verify(fresh)).state, "valid"));
  assert.deepEqual(server.asked, ["/jwks", "/jwks"]);
  const invented = await server.token({}, { kid: "invented" });
  for (let i = 0; i < 20; i++) assert.equal((await issuer.verify(invented)).state, "invalid");
  assert.equal(server.asked.length, 2, "invented ids make no more calls within the time");
  await eventually(async () => assert.equal((await issuer.verify(invented)).state, "no_keys"));
  assert.equal(server.asked.length <= 3, true);
});

test("a key that is withdrawn takes its tokens with it, verified ones too", async (context) => {
  const { server, issuers } = await opened(context, { refreshMs: 50 });
  const issuer = issuers.issuer(configOf(server));
  const token = await server.token();
  assert.equal((await issuer.verify(token)).state, "valid");
  server.keys = [];
  await server.rotate("second");
  await eventually(async () => assert.notEqual((await issuer.verify(token)).state, "valid"));
});

test("the last good keys stay while the issuer is away or says nonsense, and the state says so", async (context) => {
  const { server, issuers, problems } = await opened(context, { refreshMs: 40, retryMs: 40 });
  const issuer = issuers.issuer(configOf(server));
  assert.equal((await issuer.verify(await server.token())).state, "valid");
  const faults: readonly [TestIssuer["mode"], RegExp][] = [
    ["down", /answered 503/],
    [{ body: "{" }, /is not JSON/],
    [{ body: '{"keys":[]}' }, /holds no "keys"/],
    [{ body: "null" }, /holds no "keys"/],
    [{ body: JSON.stringify({ keys: server.keys, more: "x".repeat(300_000) }) }, /longer than 262144 bytes/],
    [
      { body: JSON.stringify({ keys: Array.from({ length: 101 }, () => server.keys[0]) }) },
      /more than 100 keys/,
    ],
  ];
  for (const [mode, expected] of faults) {
    server.mode = mode;
    await eventually(() => assert.match(problems.at(-1) ?? "", expected));
    assert.equal((await issuer.verify(await server.token())).state, "valid", String(expected));
    const [status] = issuers.status();
    assert.equal(status?.keys, 1);
    assert.match(status?.problem ?? "", expected);
  }
  server.mode = "ok";
  await eventually(() => assert.equal(problems.at(-1), undefined));
  assert.equal(issuers.status()[0]?.problem, undefined);
});

test("before any key was loaded a request waits a second at most", async (context) => {
  const { server, issuers } = await opened(context);
  server.mode = "hang";
  const issuer = issuers.issuer(configOf(server));
  const token = await server.token();
  const startedMs = performance.now();
  const checks = await Promise.all([issuer.verify(token), issuer.verify(await server.token({ sub: "bob" }))]);
  const tookMs = performance.now() - startedMs;
  assert.deepEqual(new Set(checks.map(({ state }) => state)), new Set(["no_keys"]));
  assert.ok(tookMs >= 900 && tookMs < 1900, `${Math.round(tookMs)} ms`);
  assert.equal(server.asked.length, 1, "one fetch for all who wait");
  assert.equal(issuers.status()[0]?.keys, 0);
  server.mode = "ok";
  await eventually(async () => assert.equal((await issuer.verify(token)).state, "valid"));
});

test("discovery: the document must be the issuer's own", async (context) => {
  const { server, issuers, problems } = await opened(context, { retryMs: 20, refreshMs: 20 });
  const { jwksUrl: _, ...config } = configOf(server);
  const issuer = issuers.issuer(config);
  assert.equal((await issuer.verify(await server.token())).state, "valid");
  assert.deepEqual(server.asked.slice(0, 2), ["/.well-known/openid-configuration", "/jwks"]);
  const good = server.discovery;
  for (const [discovery, expected] of [
    [{ ...good, issuer: `${server.url}/` }, /names another issuer/],
    [{ issuer: server.url }, /has no jwks_uri/],
    [{ ...good, jwks_uri: "http://192.0.2.1/jwks" }, /is not https/],
    [{ ...good, jwks_uri: "file:///etc/passwd" }, /is not https/],
  ] as const) {
    server.discovery = discovery;
    await eventually(() => assert.match(problems.at(-1) ?? "", expected));
  }
});

test("many who show one token at once cost one signature; signatures at once are bounded", async (context) => {
  const { server, issuers } = await opened(context);
  const issuer = issuers.issuer(configOf(server));
  await issuer.verify(await server.token());
  const token = await server.token({ sub: "crowd" });
  const first = issuer.verify(token);
  assert.ok(first instanceof Promise);
  assert.equal(issuer.verify(token), first, "the same check is waited for");
  await first;
  const crowd = await Promise.all(Array.from({ length: 400 }, (_, i) => server.token({ sub: `user-${i}` })));
  const checks = await Promise.all(crowd.map((one) => issuer.verify(one)));
  const busy = checks.filter((check) => check.state === "no_keys");
  assert.equal(busy.length, 400 - 256, "beyond the bound a token is answered: not now");
});
