import assert from "node:assert/strict";
import { test } from "node:test";
import {
  findingsOf,
  type Identity,
  type KeyLookup,
  type Ports,
  type RequestContext,
  reasonEntry,
} from "../../src/layer/index.ts";
import cases from "./cases/admission.json" with { type: "json" };
import { admit, auth } from "./layer.ts";

const owner = (keyId: string): Identity => ({ org: "acme", project: "chat", keyId });
const KEYS: Readonly<Record<string, KeyLookup>> = {
  "sp-live": { state: "active", identity: owner("key_live") },
  "sp-revoked": { state: "revoked", identity: owner("key_revoked") },
  "sp-expired": { state: "expired", identity: owner("key_expired") },
};
const find = (presented: string): KeyLookup => KEYS[presented] ?? { state: "unknown" };

for (const { why, credential, allowAnonymous, expect } of cases) {
  test(why, () => {
    const { identity, verdict } = admit(credential, find, allowAnonymous ?? false);
    const [finding] = findingsOf(verdict);
    assert.deepEqual(
      { act: verdict.act, reason: finding?.reason, keyId: identity?.keyId },
      { act: expect.act, reason: expect.reason, keyId: expect.keyId },
    );
    if (finding !== undefined) assert.equal(reasonEntry(finding.reason)?.problem, "unauthenticated");
  });
}

test("the layer identifies the caller before the next seat runs", async () => {
  const ports = { seat: "auth", identities: { find } } as unknown as Ports;
  const layer = auth.compile(auth.config.parse({}), ports);
  const identified: Identity[] = [];
  const request = {
    identify: (identity: Identity) => identified.push(identity),
  } as unknown as RequestContext;
  const head = { method: "POST", path: "/v1/chat/completions", headers: {}, address: "127.0.0.1" };
  const watch = layer.open(request);
  assert.equal((await watch.onRequest?.({ ...head, credential: "sp-live" }))?.act, "allow");
  assert.deepEqual(identified, [owner("key_live")]);
  assert.equal((await watch.onRequest?.(head))?.act, "block");
  assert.equal(identified.length, 1, "nobody is named for a request without a key");
});

test("configuration: nothing is needed, and nothing unknown is taken", () => {
  assert.deepEqual(auth.config.parse({}), { allowAnonymous: false });
  assert.equal(auth.config.safeParse({ allowAnonymus: true }).success, false);
});
