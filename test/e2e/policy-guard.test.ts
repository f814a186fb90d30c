/** A real gateway under traffic: a seat that refuses one tenant is withdrawn by itself, and the reason is filed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ADMIN_TOKEN, eventually, openHouse, policyWith } from "../support/house.ts";

const AUTH = "  - { id: auth, use: auth }\n";
const BAD =
  "  - { id: tight, use: rate-limit, when: 'org == \"victim\"', with: { limits: " +
  "[{ name: few, of: requests, per: [org], limit: 1, window: 1h }] } }\n";

test("a seat that refuses one tenant goes within 10 s of its floor, and is filed", async (context) => {
  const house = await openHouse({ policy: policyWith(AUTH) });
  context.after(() => house.close());
  const api = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(house.adminUrl + path, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    assert.ok(response.ok, `${method} ${path} ${response.status}`);
    return response.json() as Promise<Record<string, unknown>>;
  };
  const keys: string[] = [];
  for (const org of ["victim", "other"]) keys.push(String((await api("POST", "/api/keys", { org }))["key"]));
  const ask = async (key: string | undefined) => {
    const response = await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "Hello" }] }),
    });
    await response.arrayBuffer();
    return response.status;
  };
  const traffic = setInterval(() => {
    for (const key of keys) ask(key).catch(() => {});
  }, 20);
  context.after(() => clearInterval(traffic));

  const good = house.sallyport.policy.current().revision;
  await eventually(async () => {
    assert.ok(
      Number((await api("GET", "/api/policy/guard"))["segments"]) >= 2,
      "the tenants are not known yet",
    );
  }, 120_000);

  house.writePolicy(policyWith(AUTH + BAD));
  const bad = await eventually(() => {
    const { revision } = house.sallyport.policy.current();
    assert.notEqual(revision, good);
    return revision;
  });
  await eventually(() => assert.equal(house.sallyport.policy.current().revision, good), 30_000);

  // Filed once the change is written.
  const withdrawals = await eventually(async () => {
    const { withdrawals: listed } = (await api("GET", "/api/policy/guard")) as unknown as {
      withdrawals: {
        figure: string;
        revision: string;
        outcome: string;
        afterSec: number;
        floorSec: number;
      }[];
    };
    assert.equal(listed.length, 1);
    return listed;
  });
  const [filed] = withdrawals;
  assert.deepEqual([filed?.figure, filed?.revision, filed?.outcome], ["block", bad, "withdrawn"]);
  assert.ok(filed!.afterSec - filed!.floorSec <= 10, JSON.stringify(filed));
  context.diagnostic(`${filed!.afterSec} s after the change, ${filed!.floorSec} s to the floor`);
  const { revisions } = (await api("GET", "/api/policy/revisions?limit=1")) as unknown as {
    revisions: { by: string; source: string; reason: string; revision: string }[];
  };
  assert.equal(revisions[0]?.revision, good);
  assert.deepEqual([revisions[0]?.by, revisions[0]?.source], ["guard", "guard"]);
  assert.match(revisions[0]!.reason, /withdrew [0-9a-f]{12}: block of .*touched tight/);
  const metrics = await (await fetch(`${house.adminUrl}/metrics`)).text();
  assert.match(metrics, /sallyport_policy_withdrawals_total\{figure="block",outcome="withdrawn"\} 1/);
  assert.equal(await ask(keys[0]), 200, "the tenant is served again");
});
