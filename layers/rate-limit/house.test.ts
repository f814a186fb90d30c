/**
 * The layer in its house, over real sockets: the official clients in front, the model simulator behind, counters
 * in memory. What several gateways count together on Redis is tested in test/faults.
 */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { estimateTokens } from "../../src/text/tokens.ts";
import { eventually, type House, KEY, openHouse, policyWith } from "../../test/support/house.ts";

let house: House;
let openai: OpenAI;
let anthropic: Anthropic;
let limitId = 0;

before(async () => {
  house = await openHouse({ policy: policy("[{ name: start, limit: 1000000 }]") });
  openai = new OpenAI({ apiKey: KEY, baseURL: `${house.url}/v1`, maxRetries: 0 });
  anthropic = new Anthropic({ apiKey: KEY, baseURL: house.url, maxRetries: 0 });
  await script("long", { words: 3_000 });
  await script("slow", { words: 60, eventGapMs: 5 });
  await script("dear", { text: "One two three.", usage: { inputTokens: 300, outputTokens: 200 } });
});
after(() => house.close());

function policy(limits: string, more = ""): string {
  return policyWith(
    `  - { id: auth, use: auth }\n  - { id: limits-${limitId}, use: rate-limit, with: { limits: ${limits}${more} } }\n`,
  );
}

/** Seats fresh limits and waits until they are served; a new id has new counters. */
async function seat(limits: string, more = ""): Promise<void> {
  limitId += 1;
  const before = house.sallyport.policy.current().revision;
  house.writePolicy(policy(limits, more));
  await eventually(() => assert.notEqual(house.sallyport.policy.current().revision, before));
}

async function script(model: string, body: object): Promise<void> {
  const answer = await fetch(`${house.simulator.url}/_script?model=${model}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  assert.equal(answer.status, 200, await answer.text());
}

const messages = [{ role: "user" as const, content: "Tell me a story." }];

/** `"name";r=12;t=34` -> 12. */
function remaining(headers: Headers, name: string): number {
  const match = new RegExp(`"${name}";r=(\\d+)`).exec(headers.get("ratelimit") ?? "");
  assert.ok(match, `no ${name} in ${headers.get("ratelimit")}`);
  return Number(match[1]);
}

test("requests: exactly the limit passes, then 429 with the time to wait, in the client's own class", async () => {
  await seat("[{ name: key-requests, limit: 3, window: 1h }]");
  const left: number[] = [];
  for (let i = 0; i < 3; i++) {
    const { response } = await openai.chat.completions.create({ model: "m", messages }).withResponse();
    left.push(remaining(response.headers, "key-requests"));
    assert.equal(response.headers.get("ratelimit-policy"), '"key-requests";q=3;w=3600');
    assert.equal(response.headers.get("x-ratelimit-limit-requests"), "3");
  }
  assert.deepEqual(left, [2, 1, 0]);
  const asked = await countOfCalls();
  await assert.rejects(openai.chat.completions.create({ model: "m", messages }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.ok(Number(error.headers.get("retry-after")) > 3_000);
    assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
    return true;
  });
  await assert.rejects(anthropic.messages.create({ model: "m", max_tokens: 9, messages }), (error) => {
    assert.ok(error instanceof Anthropic.RateLimitError);
    assert.equal(error.headers?.get("anthropic-ratelimit-requests-remaining"), "0");
    return true;
  });
  assert.equal(await countOfCalls(), asked, "a refused request is not made upstream");
  const last = (await house.decisions()).at(-1);
  assert.equal(last?.cause, "rate_limited");
});

async function countOfCalls(): Promise<number> {
  const answer = await fetch(`${house.simulator.url}/_received/count`);
  return ((await answer.json()) as { readonly count: number }).count;
}

test("tokens: reserved before, settled to what the upstream counted, streamed or not", async () => {
  await seat("[{ name: key-tokens, of: tokens, limit: 5000, window: 1h }]");
  const ask = async () => {
    const call = openai.chat.completions.create({ model: "dear", messages, max_tokens: 400 });
    return remaining((await call.withResponse()).response.headers, "key-tokens");
  };
  const first = await ask();
  assert.ok(first > 4_550 && first < 4_600, `${first} left: input and a reserve of 400 are kept back`);
  assert.equal(await ask(), first - 500, "300 and 200 were used, the reserve came back");
  const stream = await openai.chat.completions.create({
    model: "dear",
    messages,
    max_tokens: 400,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const _ of stream);
  assert.equal(await ask(), first - 3 * 500);
  const said = await anthropic.messages.create({ model: "dear", max_tokens: 400, messages }).withResponse();
  assert.equal(remaining(said.response.headers, "key-tokens"), first - 4 * 500);
});

test("an answer that reaches its limit while it streams ends there, as the vendor would end it", async () => {
  for (const dialect of ["openai", "anthropic"] as const) {
    await seat("[{ name: out, of: output_tokens, limit: 300, window: 1h }]", ", cutAtLimit: true");
    let text = "";
    if (dialect === "openai") {
      const stream = await openai.chat.completions.create({ model: "long", messages, stream: true });
      let finish: string | null = null;
      for await (const { choices } of stream) {
        text += choices[0]?.delta.content ?? "";
        finish = choices[0]?.finish_reason ?? finish;
      }
      assert.equal(finish, "length");
    } else {
      const stream = anthropic.messages.stream({ model: "long", max_tokens: 4_000, messages });
      const message = await stream.finalMessage();
      assert.equal(message.stop_reason, "max_tokens");
      text = message.content.map((block) => (block.type === "text" ? block.text : "")).join("");
    }
    const tokens = estimateTokens(text);
    assert.ok(tokens > 250 && tokens <= 330, `${dialect}: ${tokens} tokens left of 300`);
    assert.equal((await house.decisions()).at(-1)?.cause, "answer_cut");
    const again = fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "m", messages }),
    });
    assert.equal((await again).status, 429, "and the limit is used up");
  }
});

test("without cutAtLimit the answer runs over, and is booked whole", async () => {
  await seat("[{ name: out, of: output_tokens, limit: 300, window: 1h }]");
  const stream = await openai.chat.completions.create({ model: "long", messages, stream: true });
  let text = "";
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
  assert.ok(estimateTokens(text) > 2_000);
  await assert.rejects(openai.chat.completions.create({ model: "m", messages }), OpenAI.RateLimitError);
});

test("concurrency: slots come back when an answer ends, and when its reader leaves", async () => {
  await seat("[{ name: slots, of: concurrency, limit: 2 }]");
  const leave = (afterMs: number) =>
    new Promise<number>((resolve) => {
      const call = request(
        `${house.url}/v1/chat/completions`,
        {
          method: "POST",
          headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
        },
        (response) => {
          response.on("error", () => {});
          response.resume();
          setTimeout(() => {
            call.destroy();
            resolve(response.statusCode ?? 0);
          }, afterMs);
        },
      );
      call.on("error", () => resolve(0));
      call.end(JSON.stringify({ model: "slow", messages, stream: true }));
    });
  assert.deepEqual(
    await Promise.all([leave(20), leave(20), leave(20)]).then((all) => all.sort()),
    [200, 200, 429],
  );
  for (let i = 0; i < 50; i++) await Promise.all([leave(i % 7), leave(i % 5)]);
  await eventually(async () => {
    const { response } = await openai.chat.completions.create({ model: "m", messages }).withResponse();
    assert.equal(remaining(response.headers, "slots"), 1, "both slots are free but for this request's own");
  });
});

test("an edit of a limit holds at once and forgives nobody", async () => {
  await seat("[{ name: key-requests, limit: 2, window: 1h }]");
  await openai.chat.completions.create({ model: "m", messages });
  const edit = async (limit: number) => {
    const before = house.sallyport.policy.current().revision;
    house.writePolicy(policy(`[{ name: key-requests, limit: ${limit}, window: 1h }]`));
    await eventually(() => assert.notEqual(house.sallyport.policy.current().revision, before));
  };
  await edit(1);
  await assert.rejects(openai.chat.completions.create({ model: "m", messages }), OpenAI.RateLimitError);
  await edit(3);
  const { response } = await openai.chat.completions.create({ model: "m", messages }).withResponse();
  assert.equal(remaining(response.headers, "key-requests"), 1);
});
