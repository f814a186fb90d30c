/**
 * Sentences for a seat that judges whole ones: the same portions wherever the text is cut, a bound on what waits, and,
 * through passage and hold-back, text that leaves sentence by sentence once it was judged.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { openRelay, seatOf } from "../../test/support/relayed.ts";
import {
  ALLOW,
  type ChannelKind,
  type Delta,
  defineLayer,
  type Held,
  PORTIONS,
  type Watch,
} from "../layer/index.ts";
import { SENTENCE_UNITS_MAX, sentencesOf } from "../text/sentences.ts";
import { PortionReader } from "./portions.ts";

const KINDS: readonly ChannelKind[] = ["answer", "thinking"];

function delta(text: string, start = 0, more: Partial<Delta> = {}): Delta {
  return { channel: "answer:0", kind: "answer", choice: 0, start, text, final: false, ...more };
}

/** The portions of `text` when it comes in pieces of `size`. */
function portionsOf(text: string, size: number, by: "sentence" | "units" = "sentence", unitsMax = 40) {
  const reader = new PortionReader({ by, unitsMax, kinds: KINDS });
  const told: string[] = [];
  let at = 0;
  const take = (piece: Delta) => {
    for (const { start, text: portion } of reader.take(piece)) {
      assert.equal(start, at, "portions come without gaps");
      assert.ok(portion.length <= unitsMax);
      at += portion.length;
      told.push(portion);
    }
    const came = piece.start + piece.text.length;
    if (!piece.final && at < came) assert.equal(reader.holdsFrom("answer:0"), at);
    assert.ok(came - at < unitsMax, "what waits has a bound");
  };
  for (let start = 0; start < text.length; start += size) take(delta(text.slice(start, start + size), start));
  take(delta("", text.length, { final: true }));
  return told;
}

describe("portions", () => {
  const rows: readonly (readonly [string, readonly string[]])[] = [
    [
      "This is one. Here are two! Are they three? Four",
      ["This is one. ", "Here are two! ", "Are they three? ", "Four"],
    ],
    ["One. Two! Three? Dr. Ott came. Four", ["One. Two! Three? ", "Dr. Ott came. ", "Four"]],
    ["It costs 3.50 at a.example.com now. Yes", ["It costs 3.50 at a.example.com now. ", "Yes"]],
    ['Then he said "no." And then (he left.) Gone', ['Then he said "no." ', "And then (he left.) ", "Gone"]],
    ["- the first\n- the second\n\nthree", ["- the first\n", "- the second\n", "\nthree"]],
    [
      "今日は晴れです。明日は雨です！「はい。」そう",
      ["今日は晴れです。", "明日は雨です！", "「はい。」そう"],
    ],
    ["هل هذا صحيح؟ نعم", ["هل هذا صحيح؟ ", "نعم"]],
    ["यह पहला वाक्य है। यह दूसरा", ["यह पहला वाक्य है।", " यह दूसरा"]],
    ["Wait a moment... what was that?! Oh", ["Wait a moment... ", "what was that?! ", "Oh"]],
  ];
  for (const [text, portions] of rows) {
    it(`${JSON.stringify(text)} at every piece size`, () => {
      for (let size = 1; size <= text.length; size++)
        assert.deepEqual(portionsOf(text, size).filter(Boolean), portions, `size ${size}`);
    });
  }

  it("a sentence that never ends is told at the bound: at a blank, else anywhere but in a surrogate pair", () => {
    const words = "word ".repeat(40).trimEnd();
    for (const size of [1, 3, 7, 200]) {
      assert.deepEqual(portionsOf(words, size)[0], "word ".repeat(8));
      assert.equal(portionsOf(words, size).join(""), words);
      const faces = "😀".repeat(60);
      for (const portion of portionsOf(`x${faces}`, size)) assert.ok(portion.isWellFormed());
    }
  });

  it("of a seat that takes the longest sentence, they are the sentences that models are trained on", () => {
    const piece = fc.constantFrom(
      "a word ",
      "end. ",
      "?!",
      "\n",
      "。",
      '" ',
      "1.5",
      "x".repeat(200),
      "😀",
      "\ud83d",
    );
    fc.assert(
      fc.property(
        fc.array(piece, { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 400 }),
        (pieces, size) => {
          const text = pieces.join("");
          const told = portionsOf(text, size, "sentence", SENTENCE_UNITS_MAX + 1);
          assert.deepEqual(told.filter(Boolean), sentencesOf(text));
        },
      ),
    );
  });

  it("what rests is told as it stands, and what goes on then begins a sentence", () => {
    const reader = new PortionReader({ by: "sentence", unitsMax: 40 });
    const told = (text: string, start: number, more: Partial<Delta> = {}) =>
      reader.take(delta(text, start, more)).map((portion) => [portion.start, portion.text]);
    assert.deepEqual(told("It begins.", 0), []);
    assert.deepEqual(told("", 10, { rests: true }), [[0, "It begins."]]);
    assert.deepEqual(told("", 10, { rests: true }), [], "nothing is told twice");
    assert.deepEqual(told(" And goes on. ", 10), [[10, " And goes on. "]]);
  });

  it("by units, as much as may wait is told at once, cut between words", () => {
    assert.deepEqual(portionsOf("One. Two. Three. Four. Five. Six.", 5, "units", 16), [
      "One. Two. ",
      "Three. Four. ",
      "Five. Six.",
    ]);
  });

  it("100,000 events of one unit without an end take linear time", () => {
    const spent = (events: number) => {
      const reader = new PortionReader({ by: "sentence", unitsMax: 4_096, kinds: KINDS });
      const from = performance.now();
      for (let i = 0; i < events; i++) reader.take(delta("x", i));
      return performance.now() - from;
    };
    spent(20_000);
    const [few, many] = [spent(25_000), spent(100_000)];
    assert.ok(many < few * 4 * 4 + 50, `${few.toFixed(1)} ms, then ${many.toFixed(1)} ms`);
  });
});

/** Redacts each sentence that says "bad", and holds nothing itself. */
function sentenceLayer(told: string[], watch?: (delta: Delta) => Held) {
  return defineLayer({
    kind: "sentences",
    summary: "Judges whole sentences.",
    config: z.strictObject({ portions: PORTIONS.prefault({}) }),
    phases: ["onChunk"],
    portions: (config) => ({ ...config.portions, kinds: KINDS }),
    compile: () => ({
      open: (): Watch => ({
        onChunk(chunk) {
          if (!KINDS.includes(chunk.kind)) return ALLOW;
          told.push(chunk.text);
          if (watch !== undefined) return watch(chunk);
          if (!chunk.text.includes("bad")) return ALLOW;
          const { channel, start, text } = chunk;
          const where = { channel, start, end: start + text.length };
          const findings = [{ reason: "output.harm", score: 1, where }];
          return { act: "redact", findings, spans: [where] };
        },
      }),
    }),
  });
}

function chunk(content: string, more: object = {}, index = 0): Buffer {
  const choices = [{ index, delta: { content, ...more }, finish_reason: null }];
  return Buffer.from(`data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", choices })}\n\n`);
}

const DONE = Buffer.from("data: [DONE]\n\n");

describe("a seat that judges sentences", () => {
  it("holds each until it was judged, and only that", () => {
    const told: string[] = [];
    const relay = openRelay([seatOf(sentenceLayer(told))]);
    const text = "This is fine. This is bad! And so on";
    const left: number[] = [];
    for (const unit of text) {
      relay.push(chunk(unit));
      left.push(relay.released);
    }
    assert.equal(left[13], 14, "the first sentence leaves with its blank");
    assert.equal(left[12], 0, "nothing of it before");
    assert.equal(relay.text, "This is fine. [redacted:harm]");
    relay.push(DONE);
    assert.deepEqual(told.filter(Boolean), ["This is fine. ", "This is bad! ", "And so on"]);
    assert.equal(relay.text, "This is fine. [redacted:harm]And so on");
  });

  it("gets a long event sentence by sentence, in order, with offsets of the whole text", () => {
    const told: string[] = [];
    const relay = openRelay([seatOf(sentenceLayer(told))]);
    relay.push(chunk("This is one. The second is bad. This is three. Fo"));
    assert.deepEqual(told, ["This is one. ", "The second is bad. ", "This is three. "]);
    relay.push(chunk("ur."));
    relay.push(DONE);
    assert.equal(relay.text, "This is one. [redacted:harm]This is three. Four.");
  });

  it("may go on holding what it was told, while the next sentence comes", () => {
    const told: string[] = [];
    const doubts = sentenceLayer(told, ({ start, text }) =>
      text.startsWith("A doubt") ? { act: "allow", holdFrom: start } : ALLOW,
    );
    const relay = openRelay([seatOf(doubts)]);
    relay.push(chunk("This is fine. A doubt is here. The ne"));
    assert.equal(relay.released, 0, "a short event leaves whole or not at all");
    relay.push(chunk("xt"));
    assert.equal(relay.released, 0);
    relay.push(chunk(" one. "));
    assert.equal(relay.text, "This is fine. A doubt is here. The next one. ");
  });

  it("hears of thinking that stands still, and holds no answer up for it", () => {
    const told: string[] = [];
    const relay = openRelay([seatOf(sentenceLayer(told))]);
    relay.push(chunk("", { reasoning_content: "I think that" }));
    relay.push(chunk("Yes, it is so. "));
    assert.deepEqual(told, ["Yes, it is so. ", "I think that"]);
    assert.equal(relay.text, "Yes, it is so. ");
  });

  it("a choice that stands still in the middle of a sentence lets the other go on after 64 events", () => {
    const told: string[] = [];
    const relay = openRelay([seatOf(sentenceLayer(told))]);
    relay.push(chunk("It begins", {}, 1));
    for (let i = 0; i < 62; i++) relay.push(chunk(i % 2 === 0 ? "Word" : ". "));
    assert.equal(relay.released, 0);
    relay.push(chunk("End. "));
    relay.push(chunk("End. "));
    assert.ok(relay.released > 100, `${relay.released} units`);
    assert.ok(told.includes("It begins"));
  });

  it("in shadow, or with nothing to say of this answer, it holds nothing", () => {
    const told: string[] = [];
    const shadow = { ...seatOf(sentenceLayer(told)), mode: "shadow" as const };
    const left = { ...seatOf(sentenceLayer([])), when: () => false };
    for (const seat of [shadow, left]) {
      const relay = openRelay([seat]);
      relay.push(chunk("It beg"));
      assert.equal(relay.released, 6);
    }
  });

  it("one that asks for nothing to be held is told whole sentences of text that has left", () => {
    const told: string[] = [];
    const kind = {
      ...sentenceLayer(told),
      portions: () => ({ by: "sentence", unitsMax: 40, holds: false }) as const,
    };
    const relay = openRelay([seatOf(kind)]);
    for (const unit of "This is one. And") relay.push(chunk(unit));
    assert.equal(relay.released, 16);
    assert.deepEqual(told, ["This is one. "]);
    relay.push(DONE);
    assert.deepEqual(told.filter(Boolean), ["This is one. ", "And"]);
  });

  it("nothing is told after a portion that ends the answer, late or at once", async () => {
    for (const isLate of [false, true]) {
      const told: string[] = [];
      const reader = new PortionReader({ by: "sentence", unitsMax: 40 });
      const held = await reader.tell(delta("This is one. This is two. "), ({ text }) => {
        told.push(text);
        const block: Held = { act: "block", findings: [] };
        return isLate ? Promise.resolve(block) : block;
      });
      assert.equal(held.act, "block");
      assert.deepEqual(told, ["This is one. "]);
    }
  });

  it("one that fails in the middle lets go what waited, as its onError says", () => {
    const fails = sentenceLayer([], () => {
      throw new Error("broken");
    });
    const open = openRelay([{ ...seatOf(fails), onError: "allow" }]);
    open.push(chunk("This is one. Tw"));
    assert.equal(open.released, 15);
    const closed = openRelay([seatOf(fails)]);
    closed.push(chunk("This is one. Tw"));
    assert.equal(closed.state.state, "blocked");
    assert.equal(closed.released, 0);
  });

  it("by units, text waits for at most so many", () => {
    const seat = seatOf(sentenceLayer([]), { portions: { by: "units", unitsMax: 64 } });
    const relay = openRelay([seat]);
    let sent = 0;
    for (let i = 0; i < 500; i++) {
      const word = `word${i} `;
      relay.push(chunk(word));
      sent += word.length;
      assert.ok(sent - relay.released <= 64 + word.length);
    }
  });
});
