/** Personal data through the whole gateway and the official SDKs: redacted in answers, replaced in prompts. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { type House, KEY, openHouse, policyWith } from "../support/house.ts";

const SEATS = `
  - id: pii
    use: output-pii
    with: { placeholders: { kinds: [email, phone] } }
`;
const ANSWER = "I told [EMAIL_1] that eve@else.example is out, and «+49 30 901820» too.";
const EXPECTED = "I told ana@mail.example.pt that [redacted:email] is out, and «[redacted:phone]» too.";
const QUESTION = "Write to ana@mail.example.pt about it";

describe("output-pii", () => {
  let house: House;
  before(async () => {
    house = await openHouse({ policy: policyWith(SEATS) });
    for (const [model, script] of [
      ["told", { text: ANSWER, chunkChars: 2 }],
      [
        "tool",
        {
          toolCalls: [
            { name: "send", arguments: JSON.stringify({ to: "[EMAIL_1]", cc: "eve@else.example" }) },
          ],
        },
      ],
    ] as const) {
      const path = `${house.simulator.url}/_script?model=${model}`;
      await fetch(path, { method: "POST", body: JSON.stringify(script) });
    }
  });
  after(() => house.close());

  const openai = () => new OpenAI({ apiKey: KEY, baseURL: `${house.url}/v1`, maxRetries: 0 });
  const messages = [{ role: "user" as const, content: QUESTION }];
  const lastBody = () => String(house.simulator.received().at(-1)?.body);

  it("whole and streamed answers say the same, and the upstream saw marks alone", async () => {
    const whole = await openai().chat.completions.create({ model: "told", messages });
    assert.equal(whole.choices[0]?.message.content, EXPECTED);
    let streamed = "";
    const stream = await openai().chat.completions.create({ model: "told", messages, stream: true });
    for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? "";
    assert.equal(streamed, EXPECTED);
    assert.match(lastBody(), /Write to \[EMAIL_1\] about it/);
    assert.ok(!lastBody().includes("ana@mail"));
  });

  it("Anthropic's streams and tool arguments", async () => {
    const client = new Anthropic({ apiKey: KEY, baseURL: house.url, maxRetries: 0 });
    const stream = client.messages.stream({ model: "told", max_tokens: 100, messages });
    assert.equal(await stream.finalText(), EXPECTED);
    const tools = [{ type: "function" as const, function: { name: "send", parameters: { type: "object" } } }];
    const called = openai().chat.completions.stream({ model: "tool", messages, tools });
    const call = (await called.finalChatCompletion()).choices[0]?.message.tool_calls?.[0];
    const written = call?.type === "function" ? call.function.arguments : "";
    assert.deepEqual(JSON.parse(written), { to: "ana@mail.example.pt", cc: "[redacted:email]" });
  });

  it("the decision names what was found, never the text", async () => {
    const decision = (await house.decisions()).at(-1);
    const reasons = decision?.seats.find(({ seat }) => seat === "pii")?.findings.map(({ reason }) => reason);
    assert.deepEqual(reasons?.toSorted(), ["output.pii.email", "output.pii.restored", "prompt.pii.email"]);
    assert.ok(!JSON.stringify(decision).includes("ana@"));
  });
});
