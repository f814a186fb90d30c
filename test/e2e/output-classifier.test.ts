/** Harm in answers through the whole gateway and the official SDKs: what leaves, how it ends, what is recorded. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import OpenAI from "openai";
import { type House, KEY, openHouse, policyWith } from "../support/house.ts";
import { EVERYDAY, EVERYDAY_ASK, HARM, makeResponseModel } from "../support/response-model.ts";

const MODEL = makeResponseModel({ doubt: [1, 1] });
const seats = (mode: string) => `
  - { id: harm, use: output-classifier, mode: ${mode},
      with: { model: models/test.safetensors, signers: ["${MODEL.signer}"], calm: { sentences: 1 } } }
`;
const FRONT = EVERYDAY.slice(0, 2).join("");

async function open(mode: string): Promise<House> {
  const house = await openHouse({
    policy: policyWith(seats(mode)),
    files: { "models/test.safetensors": MODEL.bytes, "models/test.safetensors.sig": MODEL.signature },
  });
  for (const [model, text] of [
    ["harm", FRONT + HARM.join("")],
    ["calm", EVERYDAY.join("")],
  ]) {
    const script = JSON.stringify({ text, chunkChars: 3 });
    await fetch(`${house.simulator.url}/_script?model=${model}`, { method: "POST", body: script });
  }
  return house;
}

/** What a client has of a streamed answer, and how it ended. */
async function streamed(house: House, model: string) {
  const openai = new OpenAI({ apiKey: KEY, baseURL: `${house.url}/v1`, maxRetries: 0 });
  const messages = [{ role: "user" as const, content: EVERYDAY_ASK }];
  let [text, finish]: [string, string | null] = ["", null];
  for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  return { text, finish };
}

describe("output-classifier", () => {
  let enforcing: House;
  let watching: House;
  before(async () => {
    enforcing = await open("enforce");
    watching = await open("shadow");
  });
  after(async () => {
    await enforcing.close();
    await watching.close();
  });

  it("ends a harmful stream before any of the harm, in a way that the SDK parses", async () => {
    const { text, finish } = await streamed(enforcing, "harm");
    assert.ok(FRONT.startsWith(text) || text.startsWith(FRONT), text);
    assert.ok(!text.includes(HARM[0]!.slice(0, 12)), text);
    assert.equal(finish, "content_filter");
    const seat = (await enforcing.decisions()).at(-1)?.seats.find(({ seat: id }) => id === "harm");
    assert.deepEqual(
      seat?.findings.map(({ reason }) => reason),
      ["output.classifier.harmful"],
    );
  });

  it("lets a calm stream through whole, and in shadow the harmful one too", async () => {
    assert.deepEqual(await streamed(enforcing, "calm"), { text: EVERYDAY.join(""), finish: "stop" });
    assert.equal((await streamed(watching, "harm")).text, FRONT + HARM.join(""));
    const seat = (await watching.decisions()).at(-1)?.seats.find(({ seat: id }) => id === "harm");
    assert.ok(seat?.findings.some(({ reason }) => reason === "output.classifier.harmful"));
  });
});
