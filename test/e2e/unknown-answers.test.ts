/**
 * What no dialect models, answered by an upstream that breaks its grammar: under `scan` its text is judged like any
 * other, under `cut` the answer ends there, and under neither does a secret in it pass.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { eventually, type House, KEY, openHouse, policyWith } from "../support/house.ts";
import { chatEvent, openUpstream, type RawUpstream } from "../support/raw-upstream.ts";

/** Built here so that no scanner takes this file for a leak. */
const SECRET = ["AKIA", "Q7XJ2M4N", "5P6R3STU"].join("");
const MARK = "[redacted:aws-access-key]";
const DONE = `${chatEvent({}, "stop")}data: [DONE]\n\n`;
const WORDS = `the key ${SECRET} ends`;

interface Row {
  readonly name: string;
  readonly body: string;
  readonly contentType?: string;
  /** The cause of the decision under each policy. */
  readonly scan: string;
  readonly cut: string;
  /** What must arrive under `scan`, beside no secret. */
  readonly shows?: string;
}

const whole = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: WORDS }, finish_reason: "stop" }],
};
const rows: readonly Row[] = [
  {
    name: "an event kind that is not modelled",
    body: `data: ${JSON.stringify({ type: "novelty", words: WORDS })}\n\n${DONE}`,
    scan: "complete",
    cut: "upstream_event_unknown",
  },
  {
    name: "a harmless event of such a kind",
    body: `data: ${JSON.stringify({ type: "novelty", words: "fine" })}\n\n${DONE}`,
    scan: "complete",
    cut: "upstream_event_unknown",
    shows: "fine",
  },
  {
    name: "data that is not JSON",
    body: `data: ${WORDS}\n\n${DONE}`,
    scan: "complete",
    cut: "upstream_event_unknown",
  },
  {
    name: "one text over two events that are not JSON",
    body: `data: ${WORDS.slice(0, 15)}\n\ndata: ${WORDS.slice(15)}\n\n${DONE}`,
    scan: "complete",
    cut: "upstream_event_unknown",
  },
  {
    name: "an event in several data lines",
    body: `${chatEvent({ content: WORDS }).replace('"choices"', '\ndata: "choices"')}${DONE}`,
    scan: "complete",
    cut: "complete",
    shows: MARK,
  },
  {
    name: "a last event without its end",
    body: `${chatEvent({ content: "Fine, " })}data: ${JSON.stringify({ words: WORDS })}`,
    scan: "upstream_truncated",
    cut: "upstream_truncated",
    shows: "Fine, ",
  },
  {
    name: "JSON answered to stream: true",
    body: JSON.stringify(whole),
    contentType: "application/json",
    scan: "complete",
    cut: "complete",
    shows: MARK,
  },
  {
    name: "such JSON that is not modelled",
    body: JSON.stringify({ ...whole, novelty: { words: WORDS } }),
    contentType: "application/json",
    scan: "complete",
    cut: "upstream_event_unknown",
    shows: MARK,
  },
  ...["text/plain", "text/html", "application/x-ndjson", "multipart/mixed", ""].map((contentType) => ({
    name: `an event stream that says it is "${contentType}"`,
    body: chatEvent({ content: WORDS }) + DONE,
    contentType,
    scan: "upstream_content_type",
    cut: "upstream_content_type",
  })),
];

for (const policy of ["scan", "cut"] as const) {
  describe(`unknown answers, unknownEvents: ${policy}`, () => {
    let house: House;
    let upstream: RawUpstream;
    let row = rows[0]!;
    before(async () => {
      upstream = await openUpstream((response) => {
        const { contentType = "text/event-stream", body } = row;
        response.writeHead(200, contentType === "" ? {} : { "content-type": contentType });
        response.end(body);
      });
      house = await openHouse({
        policy: policyWith("  - { id: secrets, use: output-secrets }\n", `unknownEvents: ${policy}\n`),
        gateway: { upstreams: { openai: { url: upstream.url } } },
      });
    });
    after(async () => {
      await house.close();
      await upstream.close();
    });

    for (const [i, each] of rows.entries()) {
      it(`${each.name}: ${each[policy]}`, async () => {
        row = each;
        const response = await fetch(`${house.url}/v1/chat/completions`, {
          method: "POST",
          headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
          body: JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "x" }] }),
        });
        const body = await response.text();
        assert.ok(!body.includes(SECRET.slice(0, 12)), body);
        const decisions = await eventually(async () => {
          const found = await house.decisions();
          assert.equal(found.length, i + 1);
          return found;
        });
        assert.equal(decisions[i]!.cause, each[policy]);
        if (each[policy] !== "complete") assert.match(body, new RegExp(`"code":"${each[policy]}"`));
        if (each.shows !== undefined && (policy === "scan" || each.cut !== "upstream_event_unknown"))
          assert.ok(body.includes(each.shows), body);
      });
    }
  });
}
