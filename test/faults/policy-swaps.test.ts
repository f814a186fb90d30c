/**
 * The policy is swapped again and again while requests come at 500 a second over kept connections. None may
 * fail, and each must be on exactly one revision: both of its seats speak for the same one.
 */
import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { after, before, it } from "node:test";
import { z } from "zod";
import { defineLayer, type LayerKind } from "../../src/layer/index.ts";
import { type House, KEY, openHouse, policyWith } from "../support/house.ts";

const SWAPS = Number(process.env["SALLYPORT_SWAPS"] ?? 10_000);
const PER_SECOND = 500;

/** Flags every phase with its own generation, so that a decision shows which revisions spoke in it. */
const generation = defineLayer({
  kind: "generation",
  summary: "Says which generation it is.",
  config: z.strictObject({ number: z.int() }),
  phases: ["onRequest", "onPrompt", "onChunk"],
  compile({ number }) {
    const flag = { act: "flag", findings: [{ reason: `custom.generation-${number}`, score: 1 }] } as const;
    return { open: () => ({ onRequest: () => flag, onPrompt: () => flag, onChunk: () => flag }) };
  },
});

const policyOf = (number: number) =>
  policyWith(
    `  - { id: one, use: generation, with: { number: ${number} } }\n  - { id: two, use: generation, with: { number: ${number} } }\n`,
  );

let house: House;
before(async () => {
  house = await openHouse({
    policy: policyOf(0),
    layers: [generation as LayerKind],
    gateway: { policyPollMs: 60_000 },
  });
});
after(() => house.close());

it(`${SWAPS} swaps under ${PER_SECOND} requests a second`, async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 50 });
  const body = JSON.stringify({ model: "m", messages: [{ role: "user", content: "hello" }] });
  const failures: string[] = [];
  let sent = 0;
  let answered = 0;
  const send = () => {
    sent += 1;
    const call = request(
      `${house.url}/v1/chat/completions`,
      {
        method: "POST",
        agent,
        headers: {
          authorization: `Bearer ${KEY}`,
          "content-type": "application/json",
          "content-length": body.length,
        },
      },
      (response) => {
        response.resume();
        response.on("end", () => {
          answered += 1;
          if (response.statusCode !== 200) failures.push(`status ${response.statusCode}`);
        });
      },
    );
    call.on("error", (error) => {
      answered += 1;
      failures.push(error.message);
    });
    call.end(body);
  };
  const startedMs = performance.now();
  const ticker = setInterval(() => {
    while (sent < ((performance.now() - startedMs) / 1000) * PER_SECOND) send();
  }, 4);
  for (let swap = 1; swap <= SWAPS; swap++) {
    house.writePolicy(policyOf(swap));
    const result = await house.sallyport.policy.reload();
    if (result.result === "refused") assert.fail(JSON.stringify(result));
  }
  clearInterval(ticker);
  const until = performance.now() + 10_000;
  while (answered < sent && performance.now() < until)
    await new Promise((resolve) => setTimeout(resolve, 20));
  const seconds = (performance.now() - startedMs) / 1000;
  agent.destroy();
  assert.deepEqual(failures.slice(0, 5), []);
  assert.equal(answered, sent);
  const decisions = await house.decisions();
  assert.equal(decisions.length, sent);
  const revisions = new Set<string>();
  for (const { seats, revision } of decisions) {
    const spoke = new Set(seats.flatMap(({ findings }) => findings.map(({ reason }) => reason)));
    assert.equal(spoke.size, 1, `one generation in a request, not ${[...spoke].join(" and ")}`);
    revisions.add(revision);
  }
  console.log(
    `${SWAPS} swaps and ${sent} requests in ${seconds.toFixed(1)} s, on ${revisions.size} revisions, 0 failed`,
  );
  assert.ok(revisions.size > Math.min(SWAPS, sent) / 20, "requests met many revisions");
});
