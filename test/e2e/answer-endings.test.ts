/**
 * An answer that a layer blocks, streamed and whole, on every route, as the official SDKs read it: its own content-filter
 * ending without a throw, or their typed error where the policy says so. Either tells the public reason and a reference
 * that is the decision's id.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { eventually, type House, KEY, openHouse, policyWith } from "../support/house.ts";

const SECRET = ["AKIA", "Q7XJ2M4N", "5P6R3STU"].join("");
const TOLD = /^The answer holds a credential\. Reference: (req_[0-9a-f]{32})\.$/;
const messages = [{ role: "user" as const, content: "x" }];

for (const posture of ["end", "fail"] as const) {
  describe(`blocked answers, answerBlocked: ${posture}`, () => {
    let house: House;
    let openai: OpenAI;
    let anthropic: Anthropic;
    before(async () => {
      house = await openHouse({
        policy: policyWith(
          "  - { id: secrets, use: output-secrets, with: { act: block } }\n",
          `answerBlocked: ${posture}\n`,
        ),
      });
      openai = new OpenAI({ apiKey: KEY, baseURL: `${house.url}/v1`, maxRetries: 0 });
      anthropic = new Anthropic({ apiKey: KEY, baseURL: house.url, maxRetries: 0 });
      await fetch(`${house.simulator.url}/_script?model=m`, {
        method: "POST",
        body: JSON.stringify({ text: `Of course, here it is: ${SECRET} and so on.`, chunkChars: 5 }),
      });
    });
    after(() => house.close());

    /** What each route's caller is told of the block: read from the answer, or thrown. */
    const routes: Readonly<Record<string, (stream: boolean) => Promise<string | undefined>>> = {
      async chat(stream) {
        if (!stream) {
          const { choices } = await openai.chat.completions.create({ model: "m", messages });
          assert.equal(choices[0]?.finish_reason, "content_filter");
          return toldOf(choices[0]);
        }
        const runner = openai.chat.completions.stream({ model: "m", messages });
        const [choice] = (await runner.finalChatCompletion()).choices;
        assert.equal(choice?.finish_reason, "content_filter");
        return toldOf(choice);
      },
      async completions(stream) {
        if (!stream) {
          const { choices } = await openai.completions.create({ model: "m", prompt: "x" });
          return toldOf(choices[0]);
        }
        let told: string | undefined;
        for await (const { choices } of await openai.completions.create({ model: "m", prompt: "x", stream }))
          if (choices[0]?.finish_reason) told = toldOf(choices[0]);
        return told;
      },
      async responses(stream) {
        const asked = { model: "m", input: "x" };
        const response = stream
          ? await openai.responses.stream(asked).finalResponse()
          : await openai.responses.create(asked);
        assert.equal(response.status, "incomplete");
        return (response.incomplete_details as { message?: string } | null)?.message;
      },
      async messages(stream) {
        const asked = { model: "m", max_tokens: 100, messages };
        const message = stream
          ? await anthropic.messages.stream(asked).finalMessage()
          : await anthropic.messages.create(asked);
        assert.equal(message.stop_reason, "refusal");
        return message.stop_details?.explanation ?? undefined;
      },
    };

    let asked = 0;
    for (const [route, ask] of Object.entries(routes)) {
      for (const stream of [true, false]) {
        it(`${route}, ${stream ? "streamed" : "whole"}`, async () => {
          let told: string | undefined;
          let thrown: unknown;
          try {
            told = await ask(stream);
          } catch (error) {
            thrown = error;
          }
          if (posture === "end") assert.equal(thrown, undefined);
          else {
            assert.ok(thrown instanceof OpenAI.APIError || thrown instanceof Anthropic.APIError, `${thrown}`);
            told = /The answer holds a credential\. Reference: req_[0-9a-f]+\./.exec(thrown.message)?.[0];
          }
          const reference = TOLD.exec(told ?? "")?.[1];
          asked += 1;
          const decision = await eventually(async () => {
            const found = await house.decisions();
            assert.equal(found.length, asked);
            return found.at(-1)!;
          });
          assert.equal(reference, decision.id, `${told}`);
          assert.equal(decision.act, "block");
          assert.equal(decision.cause, posture === "end" ? "answer_blocked" : "answer_refused");
          await eventually(() => assert.equal(house.simulator.openStreams(), 0, "the upstream is left"));
        });
      }
    }
  });
}

function toldOf(choice: object | undefined): string | undefined {
  const { content_filter_result: result } = choice as {
    content_filter_result?: { error: { message: string } };
  };
  return result?.error.message;
}
