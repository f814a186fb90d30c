/** The first gate on real sockets: what a caller is told, what the upstream sees, what the decision says. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { eventually, type House, KEY, openHouse, policyWith } from "../../test/support/house.ts";
import { startIssuer, type TestIssuer } from "../../test/support/issuer.ts";

const LIMIT = 4;

function seats(issuer: TestIssuer, more = ""): string {
  return policyWith(`  - id: auth
    use: auth
    mode: enforce
    onError: allow
    timeoutMs: 3000
    with:
      failures: { limit: ${LIMIT}, windowSec: 60 }
      issuers:
        - { issuer: "${issuer.url}", audience: sallyport, claims: { org: org, endUser: act } }
      ${more}
`);
}

describe("auth", () => {
  let house: House;
  let issuer: TestIssuer;
  before(async () => {
    issuer = await startIssuer();
  });
  after(() => issuer.close());

  async function open(more = ""): Promise<void> {
    house = await openHouse({ policy: seats(issuer, more) });
  }

  async function ask(key: string, body: Record<string, unknown> = {}, path = "/v1/chat/completions") {
    const chat = { model: "gpt-5", messages: [{ role: "user", content: "hello" }], ...body };
    const isGet = path !== "/v1/chat/completions";
    const response = await fetch(house.url + path, {
      method: isGet ? "GET" : "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      ...(!isGet && { body: JSON.stringify(chat) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, text };
  }

  async function lastDecision() {
    const decision = (await house.decisions()).at(-1);
    assert.ok(decision !== undefined);
    return decision;
  }

  describe("keys and tokens", () => {
    before(() => open());
    after(() => house.close());

    it("holds a key to its routes and models", async () => {
      const scopes = { routes: ["openai.chat"], models: ["gpt-5", "gpt-5-*"] };
      const { key } = await house.sallyport.identities.create({
        org: "acme",
        project: "p",
        name: "",
        scopes,
      });
      assert.equal((await ask(key)).status, 200);
      assert.equal((await ask(key, { model: "gpt-5-mini" })).status, 200);
      house.simulator.clearReceived();
      const model = await ask(key, { model: "o9" });
      assert.equal(model.status, 403);
      assert.match(model.text, /may not use this model/);
      const route = await ask(key, {}, "/v1/models");
      assert.equal(route.status, 403);
      assert.match(route.text, /may not use this route/);
      assert.equal(house.simulator.received().length, 0, "nothing of it reached the upstream");
      assert.equal((await lastDecision()).org, "acme");
    });

    it("holds a key to its networks", async () => {
      const make = (network: string) =>
        house.sallyport.identities.create({
          org: "acme",
          project: "p",
          name: "",
          scopes: { networks: [network] },
        });
      assert.equal((await ask((await make("127.0.0.0/8")).key)).status, 200);
      const outside = await ask((await make("192.0.2.0/24")).key);
      assert.equal(outside.status, 403);
      assert.match(outside.text, /may not be used from this network/);
    });

    it("takes a token in place of a key, also while its issuer is away", async () => {
      const token = await issuer.token({ org: "globex", act: "user-7" });
      assert.equal((await ask(token)).status, 200);
      issuer.mode = "down";
      assert.equal((await ask(token)).status, 200);
      assert.equal((await ask(await issuer.token({ org: "globex", jti: "2" }))).status, 200);
      issuer.mode = "ok";
      const decision = await lastDecision();
      assert.equal(decision.org, "globex");
      assert.match(decision.keyId, /^jwt_[\w-]{22}$/);
      const sent = house.simulator.received().at(-1)?.rawHeaders.join("\n") ?? "";
      assert.ok(!sent.includes(token.split(".")[2]!), "the token stays here");
    });

    it("answers a canary as it answers a key that nobody issued, and the decision names it", async () => {
      const { id, key } = await house.sallyport.identities.create({
        org: "acme",
        project: "p",
        name: "",
        canary: true,
      });
      const unknown = await ask(`sp-${"x".repeat(32)}`);
      const canary = await ask(key);
      const told = ({ status, headers, text }: typeof canary) => ({
        status,
        text: text.replace(/req_\w+/g, "req"),
        headers: [...headers].filter(([name]) => !/date|request-id/.test(name)),
      });
      assert.equal(canary.status, 401);
      assert.deepEqual(told(canary), told(unknown));
      const decision = await lastDecision();
      assert.equal(decision.keyId, id);
      assert.equal(decision.seats[0]?.findings[0]?.reason, "auth.canary");
    });

    it("slows guessing down, and locks out nobody who has shown a right key", async () => {
      const verified = await issuer.token({ org: "globex", jti: "3" });
      assert.equal((await ask(verified)).status, 200);
      // Two were used up by the canary and the unknown key above.
      for (let used = 2; used < LIMIT; used++) assert.equal((await ask("sp-guess")).status, 401);
      const over = await ask("sp-guess");
      assert.equal(over.status, 429);
      const retryAfterSec = Number(over.headers.get("retry-after"));
      // The window slides in steps of a few seconds.
      assert.ok(retryAfterSec >= 1 && retryAfterSec <= 66, `retry-after: ${retryAfterSec}`);
      assert.equal((await lastDecision()).seats[0]?.findings[0]?.reason, "auth.attempts");
      assert.equal(
        (await ask(await issuer.token({ jti: "4" }))).status,
        429,
        "a token that was never verified",
      );
      assert.equal((await ask(KEY)).status, 200);
      assert.equal((await ask(verified)).status, 200);
    });
  });

  describe("no keys of the issuer", () => {
    before(async () => {
      issuer.mode = "down";
      await open();
    });
    after(() => house.close());

    it("is our failure, and no way in, whatever the seat does on errors", async () => {
      const token = await issuer.token();
      assert.equal((await ask(token)).status, 503);
      issuer.mode = "ok";
      await eventually(async () => assert.equal((await ask(token)).status, 200));
    });
  });

  describe("callers' own keys", () => {
    before(() => open("ownKeys: true"));
    after(() => house.close());

    it("go to the upstream in place of ours, and what it refuses are attempts", async () => {
      const own = "sk-proj-0123456789abcdef";
      assert.equal((await ask(own)).status, 200);
      const sent = house.simulator.received().at(-1)?.rawHeaders ?? [];
      assert.equal(
        sent[sent.findIndex((name) => name.toLowerCase() === "authorization") + 1],
        `Bearer ${own}`,
      );
      const { org, keyId } = await lastDecision();
      assert.match(keyId, /^own_[\w-]{22}$/);
      assert.equal(org, keyId, "an organisation of its own");
      assert.equal((await ask(KEY)).status, 200);
      const ours = house.simulator.received().at(-1)?.rawHeaders.join("\n") ?? "";
      assert.ok(!ours.includes(KEY) && !ours.includes(own));
      house.simulator.setScript({ fault: { kind: "status", status: 401 } });
      for (let used = 0; used < LIMIT; used++) assert.equal((await ask(own)).status, 401);
      assert.equal((await ask(own)).status, 429);
      house.simulator.setScript({});
      assert.equal(
        (await ask("sk-proj-another-0123456789")).status,
        200,
        "another caller behind the same address",
      );
    });
  });
});
