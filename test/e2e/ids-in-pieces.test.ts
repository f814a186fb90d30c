/**
 * Ids and names of one place that come in pieces over successive events, as some clients join them: a secret cut over
 * them does not arrive whole, and neither does its front.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type House, KEY, openHouse, policyWith } from "../support/house.ts";
import { chatEvent, openUpstream, type RawUpstream } from "../support/raw-upstream.ts";

/** Built here so that no scanner takes this file for a leak. */
const SECRET = ["AKIA", "Q7XJ2M4N", "5P6R3STU"].join("");
const DONE = `${chatEvent({}, "tool_calls")}data: [DONE]\n\n`;
const called = (call: object) => chatEvent({ tool_calls: [{ index: 0, ...call }] });

/** How a client sees a piece: alone or with others in its place. */
const PLACES: Readonly<Record<string, (piece: string) => string>> = {
  "a tool call's id": (id) => called({ id, type: "function", function: { arguments: "" } }),
  "a tool call's id with arguments": (id) => called({ id, function: { arguments: "1" } }),
  "a function's name": (name) => called({ function: { name } }),
  "a custom tool's name": (name) => called({ custom: { name } }),
  "a legacy call's name": (name) => chatEvent({ function_call: { name } }),
  "an audio's id": (id) => chatEvent({ audio: { id } }),
};
/** What may stand between two pieces. */
const BETWEEN: Readonly<Record<string, string>> = {
  nothing: "",
  "text of the answer": chatEvent({ content: "Well, " }),
  "arguments of the call": called({ function: { arguments: "2" } }),
};

let house: House;
let upstream: RawUpstream;
let body = "";
before(async () => {
  upstream = await openUpstream((response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(body);
  });
  house = await openHouse({
    policy: policyWith("  - { id: secrets, use: output-secrets }\n"),
    gateway: { upstreams: { openai: { url: upstream.url }, anthropic: { url: upstream.url } } },
  });
});
after(async () => {
  await house.close();
  await upstream.close();
});

async function ask(path = "/v1/chat/completions"): Promise<string> {
  const response = await fetch(`${house.url}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${KEY}`,
      "content-type": "application/json",
      "anthropic-version": "2023-06-01",
    },
    body: JSON.stringify({
      model: "m",
      stream: true,
      max_tokens: 9,
      messages: [{ role: "user", content: "x" }],
    }),
  });
  return response.text();
}

/** All ids and names of calls and audio in the order in which they came, joined. */
function joined(stream: string): string {
  let text = "";
  for (const [, data] of stream.matchAll(/^data: (\{.*)$/gm)) {
    const { delta = {} } = JSON.parse(data!).choices?.[0] ?? {};
    const [call = {}] = delta.tool_calls ?? [];
    const holders = [call, call.function, call.custom, delta.function_call, delta.audio];
    for (const holder of holders) text += `${holder?.id ?? ""}${holder?.name ?? ""}`;
  }
  return text;
}

for (const [place, event] of Object.entries(PLACES)) {
  describe(place, () => {
    for (const [what, between] of Object.entries(BETWEEN)) {
      it(`cut in two at every place, with ${what} between: the secret is not joined`, async () => {
        for (let cut = 1; cut < SECRET.length; cut++) {
          body = event(SECRET.slice(0, cut)) + between + event(SECRET.slice(cut)) + DONE;
          const seen = joined(await ask());
          assert.ok(!seen.includes(SECRET), `${cut}: ${seen}`);
          if (what === "nothing")
            assert.ok(!seen.includes(SECRET.slice(0, cut)), `${cut}: its front left: ${seen}`);
        }
      });
    }

    it("one character in each event", async () => {
      body = [...SECRET].map(event).join("") + DONE;
      assert.ok(!joined(await ask()).includes(SECRET));
    });

    it("a piece that is a secret by itself, behind one that is not", async () => {
      body = event("x") + event(SECRET) + DONE;
      assert.ok(!joined(await ask()).includes(SECRET));
    });

    it("a value said twice, of which end and beginning are a secret", async () => {
      body = event(`${SECRET.slice(9)}.${SECRET.slice(0, 9)}`).repeat(4) + DONE;
      assert.ok(!joined(await ask()).includes(SECRET));
    });

    it("harmless pieces, the same again, and others arrive as they came", async () => {
      body =
        event("get_") +
        event("weather") +
        BETWEEN["text of the answer"] +
        event("get_") +
        event("more").repeat(9) +
        DONE;
      assert.equal(await ask(), body);
    });
  });
}

describe("a content block that starts again", () => {
  const event = (data: { readonly type: string; readonly [member: string]: unknown }) =>
    `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;
  const usage = { input_tokens: 1, output_tokens: 1 };
  const message = { id: "msg_1", type: "message", role: "assistant", model: "m", content: [], usage };
  const started = (block: object) =>
    event({
      type: "content_block_start",
      index: 0,
      content_block: { type: "tool_use", id: "toolu_1", name: "weather", input: {}, ...block },
    });
  const opening = event({ type: "message_start", message });
  const closing =
    event({ type: "content_block_stop", index: 0 }) +
    event({ type: "message_delta", delta: { stop_reason: "tool_use", stop_sequence: null }, usage }) +
    event({ type: "message_stop" });

  for (const member of ["id", "name"]) {
    it(`another ${member} ends the answer: the secret is not joined`, async () => {
      for (let cut = 1; cut < SECRET.length; cut++) {
        const pieces = [SECRET.slice(0, cut), SECRET.slice(cut)].map((piece) => started({ [member]: piece }));
        body = opening + pieces.join("") + closing;
        const stream = await ask("/v1/messages");
        assert.ok(!stream.includes(SECRET.slice(cut)), stream);
        assert.match(stream, /"type":"error"/);
      }
    });
  }

  it("the same again arrives as it came", async () => {
    body = opening + started({}) + started({}) + closing;
    assert.equal(await ask("/v1/messages"), body);
  });
});
