import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Claim,
  type Counters,
  findingsOf,
  type Identities,
  type Identity,
  type KeyLookup,
  type Leaf,
  type Ports,
  type Prompt,
  type RequestContext,
  reasonEntry,
  type Taken,
  type TokenCheck,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import admissionCases from "./cases/admission.json" with { type: "json" };
import scopeCases from "./cases/scopes.json" with { type: "json" };
import { auth } from "./layer.ts";

const owner = (keyId: string): Identity => ({ org: "acme", project: "chat", keyId });
const KEYS: Readonly<Record<string, KeyLookup>> = {
  "sp-live": { state: "active", identity: owner("key_live") },
  "sp-revoked": { state: "revoked", identity: owner("key_revoked") },
  "sp-expired": { state: "expired", identity: owner("key_expired") },
  "sp-canary": { state: "active", identity: owner("key_canary"), canary: true },
};

const ISSUER = "https://id.example";
const valid = (sub: string): TokenCheck => ({
  state: "valid",
  identity: { ...owner(`jwt_${sub}`), proof: "token" },
});
const CHECKS: Readonly<Record<string, TokenCheck | Promise<TokenCheck>>> = {
  good: valid("good"),
  slow: Promise.resolve(valid("slow")),
  bad: { state: "invalid", why: "signature" },
  old: { state: "expired", why: "the token has expired" },
  early: { state: "no_keys", why: "no keys" },
};

interface Worked {
  verified: number;
}

function identitiesFor(worked: Worked): Identities {
  const known = new Map<string, TokenCheck>();
  return {
    find: (presented) => KEYS[presented] ?? { state: "unknown" },
    ownKeyId: (presented) => `own_${presented.slice(0, 4)}`,
    issuer: () => ({
      known: (token) => known.get(token),
      verify(token) {
        worked.verified += 1;
        const check = CHECKS[claimsOf(token).sub] ?? { state: "invalid", why: "nobody" };
        if (!(check instanceof Promise) && check.state === "valid") known.set(token, check);
        return check;
      },
    }),
  };
}

/** Counts exactly and for ever; answers late where that is asked for. */
function countersWith({ late }: { readonly late: boolean }) {
  const used = new Map<string, number>();
  const fits = (claim: Claim) => (used.get(claim.key) ?? 0) + claim.cost <= claim.limit;
  const answer = (claims: readonly Claim[], refusedBy: number): Taken => ({
    admitted: refusedBy < 0,
    by: "memory",
    refusedBy,
    retryAfterMs: refusedBy < 0 ? 0 : 1_500,
    levels: claims.map(() => ({ remaining: 0, resetMs: 0 })),
    lease: undefined,
  });
  const counters: Counters = {
    take(claims) {
      const refusedBy = claims.findIndex((claim) => !fits(claim));
      if (refusedBy < 0) for (const { key, cost } of claims) used.set(key, (used.get(key) ?? 0) + cost);
      const taken = answer(claims, refusedBy);
      return late ? Promise.resolve(taken) : taken;
    },
    known(claims) {
      const refusedBy = claims.findIndex((claim) => !fits(claim));
      return refusedBy < 0 ? undefined : answer(claims, refusedBy);
    },
  };
  return { counters, used };
}

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const tokenOf = (claims: unknown) => `${part({ alg: "ES256" })}.${part(claims)}.AAAA`;
const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as { sub: string };

interface Ask {
  readonly credential?: string;
  readonly address?: string;
  readonly route?: string;
  readonly operation?: Prompt["operation"];
}

function open(given: Readonly<Record<string, unknown>> = {}, { late = false } = {}) {
  const worked: Worked = { verified: 0 };
  const { counters, used } = countersWith({ late });
  const ports = { seat: "auth", identities: identitiesFor(worked), counters } as unknown as Ports;
  const issuers = [{ issuer: ISSUER, audience: "sallyport", claims: { org: "org" } }];
  const layer = auth.compile(auth.config.parse({ issuers, ...given }), ports);
  function watchFor(ask: Ask): { watch: Watch; identified: Identity[] } {
    const identified: Identity[] = [];
    const request = {
      address: ask.address ?? "192.0.2.7",
      route: ask.route ?? "openai.chat",
      operation: ask.operation ?? "chat",
      identify: (identity: Identity) => identified.push(identity),
    } as unknown as RequestContext;
    return { watch: layer.open(request), identified };
  }
  async function ask(request: Ask) {
    const { watch, identified } = watchFor(request);
    const head = { method: "POST", path: "/", headers: {}, address: request.address ?? "192.0.2.7" };
    const { credential } = request;
    const verdict: Verdict | undefined = await watch.onRequest?.(
      credential === undefined ? head : { ...head, credential },
    );
    assert.ok(verdict !== undefined);
    return {
      verdict,
      identity: identified.at(-1),
      watch,
      reasons: findingsOf(verdict).map((one) => one.reason),
    };
  }
  return { ask, used, worked };
}

for (const { why, credential, token, expect, ...rest } of admissionCases) {
  test(why, async () => {
    const { ask } = open(rest.with ?? {});
    const presented = token === undefined ? credential : tokenOf(token);
    const { verdict, identity, reasons } = await ask(
      presented === undefined ? {} : { credential: presented },
    );
    assert.deepEqual(
      { act: verdict.act, reason: reasons[0], keyId: identity?.keyId },
      { act: expect.act, reason: expect.reason, keyId: expect.keyId },
    );
    if (expect.proof !== undefined) assert.equal(identity?.proof, expect.proof);
    if (expect.org !== undefined) assert.equal(identity?.org, expect.org);
    if (expect.reason !== undefined && expect.reason !== "auth.unchecked") {
      assert.equal(reasonEntry(expect.reason)?.problem, "unauthenticated");
    }
  });
}

for (const { why, scope, request, expect } of scopeCases) {
  test(`scope: ${why}`, async () => {
    const { routes, models, networks } = scope as Record<string, string[] | undefined>;
    const found: KeyLookup = {
      state: "active",
      identity: owner("key_scoped"),
      scope: {
        ...(routes && { routes: new Set(routes) }),
        ...(models && { models }),
        ...(networks && { networks: { has: (address) => networks.includes(address) } }),
      },
    };
    const ports = { identities: { find: () => found }, counters: {} } as unknown as Ports;
    const layer = auth.compile(auth.config.parse({}), ports);
    const {
      operation = "chat",
      route = "openai.chat",
      model = "gpt-5",
      leaves = [],
    } = request as Partial<Prompt> & Ask;
    const named: Identity[] = [];
    const context = { address: "192.0.2.7", route, operation, identify: (who: Identity) => named.push(who) };
    const watch = layer.open(context as unknown as RequestContext);
    const head = { method: "POST", path: "/", headers: {}, address: "192.0.2.7", credential: "sp-scoped" };
    let verdict = await watch.onRequest?.(head);
    const prompt = { operation, model, leaves: leaves as readonly Leaf[] } as unknown as Prompt;
    if (verdict?.act === "allow") verdict = await watch.onPrompt?.(prompt);
    assert.ok(verdict !== undefined);
    assert.equal(findingsOf(verdict)[0]?.reason ?? null, expect);
    assert.equal(verdict.act, expect === null ? "allow" : "block");
    assert.equal(named[0]?.keyId, "key_scoped", "the refusal is booked on the key");
    if (expect !== null) assert.equal(reasonEntry(expect)?.problem, "forbidden");
  });
}

for (const late of [false, true]) {
  test(`failed attempts of one network are limited (counters ${late ? "far" : "near"})`, async () => {
    const { ask, worked } = open({ failures: { limit: 3, windowSec: 60 } }, { late });
    const bad = tokenOf({ iss: ISSUER, sub: "bad" });
    const good = tokenOf({ iss: ISSUER, sub: "good" });
    const verified = tokenOf({ iss: ISSUER, sub: "good", jti: 2 });
    assert.equal((await ask({ credential: verified })).verdict.act, "allow");
    assert.deepEqual((await ask({ credential: "sp-guess-1" })).reasons, ["auth.unknown"]);
    assert.deepEqual((await ask({ credential: bad })).reasons, ["auth.token"]);
    // No attempts: what is missing, what was good once, what is ours to fix.
    for (const credential of [undefined, "sp-revoked", "sp-expired", tokenOf({ iss: ISSUER, sub: "old" })]) {
      assert.equal((await ask(credential === undefined ? {} : { credential })).verdict.act, "block");
    }
    assert.deepEqual((await ask({ credential: "sp-canary" })).reasons, ["auth.canary"]);
    const over = await ask({ credential: "sp-guess-2" });
    assert.deepEqual(over.verdict, {
      act: "throttle",
      findings: [{ reason: "auth.attempts", score: 1 }],
      retryAfterMs: 1_500,
    });
    assert.equal(reasonEntry("auth.attempts")?.problem, "rate_limited");
    const before = worked.verified;
    assert.deepEqual((await ask({ credential: bad })).reasons, ["auth.attempts"]);
    assert.deepEqual((await ask({ credential: good })).reasons, ["auth.attempts"], "not yet verified");
    assert.equal(worked.verified, before, "nothing is verified any more");
    const canary = await ask({ credential: "sp-canary" });
    assert.equal(canary.verdict.act, "throttle", "as an unknown key");
    assert.deepEqual(canary.reasons, ["auth.canary", "auth.attempts"], "and still told");
    assert.equal(canary.identity?.keyId, "key_canary");
    // Who has shown a right one goes on.
    assert.equal((await ask({ credential: "sp-live" })).verdict.act, "allow");
    assert.equal((await ask({ credential: verified })).verdict.act, "allow");
    assert.deepEqual((await ask({ credential: "sp-revoked" })).reasons, ["auth.revoked"]);
    // Another network has its own attempts.
    assert.deepEqual((await ask({ credential: "sp-guess", address: "192.0.2.8" })).reasons, ["auth.unknown"]);
  });
}

test("an IPv6 subscriber's attempts count together, however they are spelt", async () => {
  const { ask } = open({ failures: { limit: 2, windowSec: 60 } });
  await ask({ credential: "sp-a", address: "2001:db8:1:2::1" });
  await ask({ credential: "sp-b", address: "2001:DB8:1:2:ffff::9" });
  assert.equal((await ask({ credential: "sp-c", address: "2001:db8:1:2:3::" })).verdict.act, "throttle");
  assert.equal((await ask({ credential: "sp-c", address: "2001:db8:1:3::1" })).verdict.act, "block");
  await ask({ credential: "sp-a", address: "::ffff:192.0.2.9" });
  await ask({ credential: "sp-b", address: "192.0.2.9" });
  assert.equal((await ask({ credential: "sp-c", address: "::ffff:192.0.2.9" })).verdict.act, "throttle");
});

test("own keys: what the upstream refuses are attempts, a wrong key's own first", async () => {
  const { ask } = open({ ownKeys: true, failures: { limit: 3, windowSec: 60 } });
  async function use(credential: string, status: number, address = "192.0.2.7") {
    const { verdict, watch } = await ask({ credential, address });
    if (verdict.act !== "allow") return verdict.act;
    assert.equal((await watch.onResponseHead?.({ status, headers: {}, stream: false }))?.act, "allow");
    return "allow";
  }
  const keys = ["aaaa", "bbbb", "cccc", "dddd"].map((start) => `${start}-0123456789abcdef`);
  // One misconfigured client: its key is stopped, the others behind its address are not.
  for (let i = 0; i < 3; i++) assert.equal(await use(keys[0]!, 401), "allow");
  assert.equal(await use(keys[0]!, 401), "throttle");
  assert.equal(await use(keys[1]!, 200), "allow");
  // Answers that say nothing of the key are no attempts.
  for (const status of [200, 400, 404, 429, 500]) assert.equal(await use(keys[1]!, status), "allow");
  // Many keys from one address are guesses.
  assert.equal(await use(keys[1]!, 403), "allow");
  assert.equal(await use(keys[2]!, 401), "allow");
  assert.equal(await use(keys[3]!, 200), "throttle");
  assert.equal(await use("sp-live", 401), "allow", "a virtual key is ours: the upstream never saw it");
  assert.equal(await use(keys[3]!, 200, "192.0.2.8"), "allow", "another network");
});

test("phases: answers are looked at for callers' own keys alone", () => {
  const parse = (given: unknown) => auth.phasesOf?.(auth.config.parse(given));
  assert.deepEqual(parse({}), ["onRequest", "onPrompt"]);
  assert.deepEqual(parse({ ownKeys: true }), ["onRequest", "onPrompt", "onResponseHead"]);
});

const GOOD_ISSUER = { issuer: ISSUER, audience: "sallyport", claims: { org: "org" } };
const WRONG: readonly (readonly [string, unknown, RegExp])[] = [
  ["an unknown field", { allowAnonymus: true }, /allowAnonymus/],
  ["none", { issuers: [{ ...GOOD_ISSUER, algorithms: ["none"] }] }, /issuers\.0\.algorithms\.0/],
  ["a symmetric algorithm", { issuers: [{ ...GOOD_ISSUER, algorithms: ["HS256"] }] }, /algorithms\.0/],
  ["no algorithm", { issuers: [{ ...GOOD_ISSUER, algorithms: [] }] }, /algorithms/],
  [
    "keys over an open network",
    { issuers: [{ ...GOOD_ISSUER, jwksUrl: "http://id.example/jwks" }] },
    /jwksUrl.*https/,
  ],
  ["a password in a URL", { issuers: [{ ...GOOD_ISSUER, jwksUrl: "https://u:p@id.example/" }] }, /jwksUrl/],
  [
    "discovery of what is no URL",
    { issuers: [{ ...GOOD_ISSUER, issuer: "acme" }] },
    /issuers\.0\.issuer.*jwksUrl/,
  ],
  ["no audience", { issuers: [{ ...GOOD_ISSUER, audience: "" }] }, /audience/],
  ["no claim for the organisation", { issuers: [{ ...GOOD_ISSUER, claims: {} }] }, /claims\.org/],
  ["an issuer twice", { issuers: [GOOD_ISSUER, GOOD_ISSUER] }, /issuers.*twice/],
  [
    "nine issuers",
    { issuers: Array.from({ length: 9 }, (_, i) => ({ ...GOOD_ISSUER, issuer: `${ISSUER}/${i}` })) },
    /issuers/,
  ],
  ["no attempt at all", { failures: { limit: 0 } }, /failures\.limit/],
];

test("configuration: nothing is needed, and what cannot be is refused by name", () => {
  assert.deepEqual(auth.config.parse({}), {
    allowAnonymous: false,
    ownKeys: false,
    issuers: [],
    failures: { limit: 30, windowSec: 60 },
  });
  const loopback = { ...GOOD_ISSUER, issuer: "acme", jwksUrl: "http://[::1]:8080/jwks" };
  assert.equal(auth.config.safeParse({ issuers: [loopback] }).success, true, "http on loopback");
  for (const [why, given, expected] of WRONG) {
    const parsed = auth.config.safeParse(given);
    assert.equal(parsed.success, false, why);
    const words = parsed.error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("\n");
    assert.match(words ?? "", expected, why);
  }
});
