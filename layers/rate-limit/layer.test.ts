import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  Counted,
  Identity,
  Limit,
  Ports,
  RequestContext,
  RequestHead,
  Verdict,
} from "../../src/layer/index.ts";
import cases from "./cases/counter-keys.json" with { type: "json" };
import { counterKey, type Per, rateLimit, verdictOn } from "./layer.ts";

const IDENTITY: Identity = { org: "acme", project: "chat", keyId: "key_1" };

for (const { why, per, anonymous, address, expect } of cases) {
  test(why, () => {
    assert.equal(counterKey(per as Per, anonymous ? undefined : IDENTITY, address), expect);
  });
}

test("a refused take throttles until the window resets", () => {
  assert.equal(verdictOn({ admitted: true, remaining: 0, resetMs: 5 }).act, "allow");
  assert.deepEqual(verdictOn({ admitted: false, remaining: 0, resetMs: 1234 }), {
    act: "throttle",
    findings: [{ reason: "rate.requests", score: 1 }],
    retryAfterMs: 1234,
  });
});

test("the layer takes one point a request, from a port that answers at once or later", async () => {
  for (const isLate of [false, true]) {
    const taken: [string, Limit][] = [];
    const counters = {
      take(key: string, limit: Limit): Counted | Promise<Counted> {
        taken.push([key, limit]);
        const counted = { admitted: taken.length <= 2, remaining: 0, resetMs: 700 };
        return isLate ? Promise.resolve(counted) : counted;
      },
    };
    const ports = { seat: "limits", counters } as unknown as Ports;
    const layer = rateLimit.compile(rateLimit.config.parse({ requests: { limit: 2 } }), ports);
    const request = { identity: IDENTITY, address: "192.0.2.7" } as RequestContext;
    const acts: (Verdict["act"] | undefined)[] = [];
    for (let i = 0; i < 3; i++) {
      const watch = layer.open(request);
      acts.push((await watch.onRequest?.({} as RequestHead))?.act);
    }
    assert.deepEqual(acts, ["allow", "allow", "throttle"]);
    assert.deepEqual(taken, Array(3).fill(["k:key_1", { limit: 2, windowSec: 60 }]));
  }
});

test("configuration: defaults, and clear bounds", () => {
  assert.deepEqual(rateLimit.config.parse({}), { requests: { limit: 600, windowSec: 60 }, per: "key" });
  for (const bad of [
    { requests: { limit: 0 } },
    { requests: { windowSec: 0.5 } },
    { per: "user" },
    { limit: 5 },
  ]) {
    assert.equal(rateLimit.config.safeParse(bad).success, false, JSON.stringify(bad));
  }
});
