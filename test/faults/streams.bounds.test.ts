/**
 * What no stream may take: an event without an end, more held back than one stream or all of them may keep. Each ends
 * the answer with its own code, which the decision records, and nothing that was held leaves.
 */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, describe, it } from "node:test";
import { z } from "zod";
import { ALLOW, defineLayer, type LayerKind } from "../../src/layer/index.ts";
import { eventually, type House, KEY, openHouse, policyWith } from "../support/house.ts";
import { chatEvent, openUpstream, type RawUpstream } from "../support/raw-upstream.ts";

const MIB = 1_048_576;

/** Holds all that comes. */
const holdsAll = defineLayer({
  kind: "holds-all",
  summary: "Holds whatever it is told.",
  config: z.strictObject({}),
  phases: ["onChunk"],
  compile: () => ({
    open: () => ({
      onChunk: ({ kind }) => (kind === "answer" ? { act: "allow", holdFrom: 0 } : ALLOW),
    }),
  }),
});

let house: House;
let upstream: RawUpstream;
let answer: (response: ServerResponse, body: string) => void;
/** Calls whose caller left before the answer had ended. */
let left = 0;

async function open(policy: string, limits: object): Promise<void> {
  upstream = await openUpstream((response, body) => {
    response.on("close", () => {
      if (!response.writableEnded) left += 1;
    });
    response.writeHead(200, { "content-type": "text/event-stream" });
    answer(response, body);
  });
  house = await openHouse({
    policy,
    layers: [holdsAll as LayerKind],
    gateway: { upstreams: { openai: { url: upstream.url } }, limits },
  });
}

async function close(): Promise<void> {
  await house.close();
  await upstream.close();
}

async function ask(user = "u"): Promise<string> {
  const response = await fetch(`${house.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "m", stream: true, user, messages: [{ role: "user", content: "x" }] }),
  });
  return response.text();
}

async function causes(count: number): Promise<string[]> {
  return eventually(async () => {
    const found = await house.decisions();
    assert.ok(found.length >= count);
    return found.map(({ cause }) => cause);
  });
}

describe("an event without a line end", () => {
  before(() => open(policyWith("  - { id: secrets, use: output-secrets }\n"), { eventBytesMax: MIB }));
  after(close);

  /** Writes `bytes` of one line, in pieces, and tells how long the gateway took to cut or end it. */
  async function timed(bytes: number, pieceBytes: number): Promise<number> {
    answer = (response) => {
      response.write(chatEvent({ content: "All is fine, \n" }));
      response.write("data: ");
      const piece = Buffer.alloc(pieceBytes, "x");
      let sent = 0;
      const go = (): void => {
        while (sent < bytes && !response.destroyed) {
          sent += piece.length;
          if (!response.write(piece)) return void response.once("drain", go);
        }
        response.end();
      };
      go();
    };
    const from = performance.now();
    const body = await ask();
    const spent = performance.now() - from;
    assert.match(body, /"content":"All is fine, /);
    assert.ok(!body.includes("xxxx"), "nothing of it leaves");
    if (bytes > MIB) assert.match(body, /"code":"upstream_event_too_large"/);
    return spent;
  }

  it("of 10 MB is cut at the limit, and the upstream left", async (t) => {
    const before = left;
    const spent = await timed(10 * MIB, 65_536);
    t.diagnostic(`cut after ${spent.toFixed(0)} ms`);
    assert.ok(spent < 2_000, `${spent} ms`);
    await eventually(() => assert.equal(left, before + 1));
    assert.equal((await causes(1)).at(-1), "upstream_event_too_large");
  });

  it("takes linear time in small pieces", async (t) => {
    const best = async (bytes: number) => {
      const runs: number[] = [];
      for (let i = 0; i < 3; i++) runs.push(await timed(bytes, 64));
      return Math.min(...runs);
    };
    await timed(65_536, 64);
    const [quarter, whole] = [await best(MIB / 4), await best(MIB - 64)];
    t.diagnostic(
      `${quarter.toFixed(0)} ms for 256 KiB, ${whole.toFixed(0)} ms for 1 MiB, in pieces of 64 bytes`,
    );
    // Four times as much; in quadratic time it would be sixteen.
    assert.ok(whole < quarter * 9 + 30, `${quarter} ms, then ${whole} ms`);
  });
});

for (const posture of ["fail", "end"] as const) {
  describe(`more held back than may be, holdFull: ${posture}`, () => {
    before(() =>
      open(policyWith("  - { id: all, use: holds-all }\n", `holdFull: ${posture}\n`), {
        holdBytesMax: 200_000,
        holdTotalBytesMax: 300_000,
      }),
    );
    after(close);

    const assertEnded = (body: string, code: string) => {
      assert.ok(!body.includes("held text"), "nothing that was held leaves");
      if (posture === "fail") assert.match(body, new RegExp(`"code":"${code}"`));
      else assert.match(body, /"finish_reason":"length".*\n\ndata: \[DONE\]\n\n$/s);
    };

    it("by one stream", async () => {
      answer = (response) => {
        for (let i = 0; i < 40; i++) response.write(chatEvent({ content: "held text ".repeat(1_000) }));
      };
      assertEnded(await ask(), "hold_overflow");
      assert.deepEqual(await causes(1), ["hold_overflow"]);
      assert.equal(house.sallyport.held.bytes, 0, "all is given back");
    });

    it("by all of them together: the stream that needs more ends, the others go on", async () => {
      const waiting = new Map<string, ServerResponse>();
      answer = (response, body) => {
        waiting.set(/"user":"(\w+)"/.exec(body)![1]!, response);
        response.write(chatEvent({ content: "held text ".repeat(12_000) }));
      };
      const first = ask("first");
      const second = ask("second");
      await eventually(() => assert.ok(house.sallyport.held.bytes > 240_000));
      const third = await ask("third");
      assertEnded(third, "hold_exhausted");
      const kept = house.sallyport.held.bytes;
      assert.ok(kept > 240_000 && kept <= 300_000, `${kept} bytes`);
      for (const name of ["first", "second"]) {
        waiting.get(name)!.end(`${chatEvent({}, "stop")}data: [DONE]\n\n`);
      }
      for (const body of await Promise.all([first, second])) assert.match(body, /held text.*\[DONE\]/s);
      assert.deepEqual((await causes(4)).slice(1).sort(), ["complete", "complete", "hold_exhausted"]);
      assert.equal(house.sallyport.held.bytes, 0);
      const metrics = await (await fetch(`${house.adminUrl}/metrics`)).text();
      assert.match(metrics, /^sallyport_held_bytes 0$/m);
      assert.match(metrics, /^sallyport_held_bytes_peak 2\d{5}$/m);
      assert.match(metrics, /^sallyport_requests_total\{[^}]*cause="hold_exhausted"[^}]*\} 1$/m);
    });
  });
}
