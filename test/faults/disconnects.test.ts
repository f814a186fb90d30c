/**
 * 1,000 clients leave at random moments, mid-stream and before the answer. Each time the upstream is
 * cancelled, a decision is written, and nothing is left behind: no watch, socket, or counter.
 */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, it } from "node:test";
import { z } from "zod";
import { ALLOW, defineLayer, type LayerKind } from "../../src/layer/index.ts";
import { eventually, type House, KEY, openHouse, policyWith, seeded } from "../support/house.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
const CLIENTS = 1_000;
const AT_ONCE = 10;
/** Left out of the timing: code that has not run yet is slow, and says nothing of cancelling. */
const WARM_UP = 100;

let open = 0;
let opened = 0;
const counting = defineLayer({
  kind: "counting",
  summary: "Counts open watches.",
  config: z.strictObject({}),
  phases: ["onRequest", "onPrompt", "onChunk", "onEnd"],
  compile: () => ({
    open() {
      open += 1;
      opened += 1;
      return {
        onRequest: () => ALLOW,
        onEnd() {
          open -= 1;
          return ALLOW;
        },
      };
    },
  }),
});

let house: House;
const leftAt = new Map<string, number>();
const delays: number[] = [];
before(async () => {
  house = await openHouse({
    policy: policyWith("  - { id: counting, use: counting }\n  - { id: secrets, use: output-secrets }\n"),
    layers: [counting as LayerKind],
    simulator: {
      onAbort: ({ body }) => {
        const name = /"user":"([cw]\d+)"/.exec(Buffer.from(body).toString())?.[1];
        const left = name === undefined ? undefined : leftAt.get(name);
        if (left !== undefined) delays.push(performance.now() - left);
      },
    },
  });
  await fetch(`${house.simulator.url}/_script?model=slow`, {
    method: "POST",
    body: JSON.stringify({ text: "word ".repeat(60), firstByteDelayMs: 15, eventGapMs: 2 }),
  });
});
after(() => house.close());

function leave(name: string, stream: boolean, afterMs: number): Promise<void> {
  return new Promise((resolve) => {
    const body = JSON.stringify({
      model: "slow",
      stream,
      user: name,
      messages: [{ role: "user", content: "x" }],
    });
    const client = request(`${house.url}/v1/chat/completions`, {
      method: "POST",
      agent: false,
      headers: {
        authorization: `Bearer ${KEY}`,
        "content-type": "application/json",
        "content-length": body.length,
      },
    });
    client.on("response", (response) => response.resume());
    client.on("error", () => {});
    client.on("close", () => resolve());
    client.end(body);
    setTimeout(() => {
      leftAt.set(name, performance.now());
      client.destroy();
    }, afterMs);
  });
}

it(`${CLIENTS} clients leave at random moments (seed ${SEED})`, async () => {
  const random = seeded(SEED);
  for (let i = 0; i < WARM_UP; i += AT_ONCE) {
    await Promise.all(
      Array.from({ length: AT_ONCE }, (_, k) => leave(`w${i + k}`, k % 2 === 0, random() * 60)),
    );
  }
  delays.length = 0;
  let next = 0;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < CLIENTS) {
        const name = `c${next}`;
        next += 1;
        await leave(name, random() < 0.7, random() * 110);
      }
    }),
  );
  await eventually(() => {
    assert.equal(house.sallyport.gateway.active, 0);
    assert.equal(house.sallyport.gateway.connections, 0);
    assert.equal(open, 0, "watches left open");
    assert.equal(house.simulator.openStreams(), 0, "upstreams left running");
  }, 10_000);
  assert.ok(opened > CLIENTS / 2);
  const decisions = await house.decisions();
  const gone = decisions.filter(({ cause }) => cause === "client_gone");
  const causes = new Set(decisions.map(({ cause }) => cause));
  assert.deepEqual(
    [...causes].filter((cause) => cause !== "client_gone" && cause !== "complete"),
    [],
  );
  assert.equal(new Set(decisions.map(({ id }) => id)).size, decisions.length, "one decision each");
  assert.ok(
    decisions.length >= opened && gone.length > CLIENTS / 2,
    `${decisions.length} decisions, ${gone.length} gone`,
  );
  delays.sort((a, b) => a - b);
  const p99 = delays[Math.floor(delays.length * 0.99)] ?? Number.POSITIVE_INFINITY;
  console.log(
    `upstream cancelled after ${p99.toFixed(1)} ms at p99 (${delays.length} cancelled, ${gone.length} gone)`,
  );
  assert.ok(delays.length > CLIENTS / 3, "most left while the upstream was at work");
  assert.ok(p99 < 50, `p99 ${p99} ms`);
});
