/** What guards answer, what they are shown of a prompt, and how a text is kept from speaking to them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Leaf, REASONS, reasonEntry } from "../layer/index.ts";
import cases from "./answers.cases.json" with { type: "json" };
import {
  httpReader,
  policyReader,
  type Reader,
  readLlamaGuard,
  readQwen3Answer,
  readQwen3Guard,
} from "./answers.ts";
import { reasonMatcher } from "./guard.ts";
import hazards from "./hazards.json" with { type: "json" };
import { withoutMarks } from "./questions.ts";
import { completion, leaf, prompt } from "./stand-ins.ts";
import { windowsOf } from "./windows.ts";

describe("answers", () => {
  const readers: Readonly<Record<string, Reader>> = {
    "openai-policy": policyReader(Object.keys(hazards.categories)),
    "llama-guard": readLlamaGuard,
    qwen3guard: readQwen3Guard,
    "qwen3guard-answer": readQwen3Answer,
  };
  for (const [format, rows] of Object.entries(cases)) {
    it(`${format}: what is in the grammar is a verdict, everything else is none`, () => {
      for (const { why, say, is, score } of rows as readonly {
        why: string;
        say: string;
        is?: string[];
        score?: number;
      }[]) {
        const judgement = readers[format]!(completion(say));
        assert.deepEqual(judgement?.categories, is, why);
        if (is !== undefined) assert.equal(judgement?.isViolation, is.length > 0, why);
        if (score !== undefined) assert.equal(judgement?.score, score, why);
      }
    });
  }

  it("a completion that is not one whole answer is no verdict", () => {
    assert.ok(readLlamaGuard(completion("safe")));
    const broken = [
      "",
      "safe",
      "{}",
      '{"choices":[]}',
      '{"choices":[{"message":{"content":null}}]}',
      completion("safe", { refusal: "I cannot judge this." }),
      completion("safe", { tool_calls: [{ id: "c" }] }),
      completion("safe", {}, { finish_reason: "length" }),
      completion("safe", {}, { finish_reason: "content_filter" }),
      completion("safe").replace('"choices":[', '"choices":[{"message":{"content":"safe"}},'),
    ];
    for (const answer of broken) assert.equal(readLlamaGuard(answer), undefined, answer);
  });

  it("http: numbers and labels by pointer; a label that nobody named is no verdict", () => {
    const places = { unsafe: { hate: "hte" }, safe: ["ok"], category: "harmful" };
    const score = httpReader({ ...places, unsafe: {}, safe: [], score: "/r/0/s~1c" });
    assert.deepEqual(score('{"r":[{"s/c":0.9}]}'), {
      isViolation: true,
      score: 0.9,
      categories: ["harmful"],
    });
    assert.equal(score('{"r":[{"s/c":0.2}]}')?.isViolation, false);
    for (const answer of ['{"r":[]}', '{"r":[{"s/c":"0.2"}]}', '{"r":[{"s/c":2}]}', "[", "null"])
      assert.equal(score(answer), undefined, answer);
    const label = httpReader({ ...places, label: "/label" });
    assert.deepEqual(label('{"label":"hate"}'), { isViolation: true, score: 1, categories: ["hte"] });
    assert.equal(label('{"label":"ok"}')?.isViolation, false);
    for (const answer of ['{"label":"HATE"}', '{"label":1}', "{}"])
      assert.equal(label(answer), undefined, answer);
    const both = httpReader({ ...places, label: "/label", score: "/score" });
    assert.equal(both('{"label":"hate","score":0.6}')?.score, 0.6);
    assert.equal(both('{"label":"ok"}'), undefined, "a number was promised");
  });

  it("every category has a reason in the table, and none takes a word of the layer's own", () => {
    const codes = [
      ...Object.keys(hazards.categories),
      ...Object.values(hazards.llamaGuard),
      ...Object.values(hazards.qwen3guard),
    ];
    for (const code of codes) {
      for (const family of ["prompt.judge", "output.judge"]) {
        assert.ok(reasonEntry(`${family}.${code}`), code);
        assert.equal(REASONS[`${family}.${code}`], undefined, code);
      }
    }
  });
});

describe("windows", () => {
  const roles = new Set(["system", "user", "assistant", "tool", "none", "developer"] as const);
  const rules = { units: 1_000, overlap: 100, max: 3 };
  const turns = (texts: readonly string[], more: Partial<Leaf> = {}) =>
    prompt(texts.map((text, turn) => leaf(text, { turn, ...more })));

  it("one text stands bare, several stand with their labels in the order they were sent", () => {
    assert.deepEqual(windowsOf(turns(["hello"]), roles, rules), { texts: ["hello"], leftOut: 0 });
    const { texts } = windowsOf(turns(["one", "two"]), roles, rules);
    assert.deepEqual(texts, ["[turn 0, user, text]\none\n\n[turn 1, user, text]\ntwo"]);
  });

  it("the newest turn is whole before older ones get room; tool results are read; what is left out is counted", () => {
    const many = prompt([
      ...Array.from({ length: 9 }, (_, turn) => leaf(`old${turn} ${"x".repeat(700)}`, { turn })),
      leaf("from the tool", { turn: 9, role: "tool", kind: "tool-result" }),
      leaf("the newest", { turn: 9 }),
    ]);
    const { texts, leftOut } = windowsOf(many, roles, rules);
    const all = texts.join("\n");
    assert.equal(texts.length, 3);
    for (const shown of ["the newest", "from the tool", "old8", "old7", "old6"])
      assert.ok(all.includes(shown), shown);
    assert.ok(!all.includes("old5"));
    assert.ok(leftOut > 0.6 && leftOut < 0.7, String(leftOut));
    for (const text of texts) assert.ok(text.length <= rules.units);
  });

  it("of one long text head and tail come first; with room for all, all is shown, with overlap", () => {
    const words = Array.from({ length: 2_000 }, (_, i) => `w${i}`);
    const text = words.join(" ");
    const few = windowsOf(turns([text]), roles, { ...rules, max: 2 }).texts;
    assert.ok(few[0]!.startsWith("w0 ") && few[1]!.endsWith("w1999"));
    const whole = windowsOf(turns([text]), roles, { ...rules, max: 32 });
    assert.equal(whole.leftOut, 0);
    for (const word of words) {
      assert.ok(
        whole.texts.some((one) => ` ${one} `.includes(` ${word} `)),
        `${word} is whole in some window`,
      );
    }
  });

  it("never shares are outside 0..1, whatever the lengths", () => {
    for (let length = 1; length < 6_000; length += 37) {
      const { leftOut, texts } = windowsOf(turns(["y".repeat(length)]), roles, rules);
      assert.ok(leftOut >= 0 && leftOut < 1, String(length));
      assert.equal(leftOut === 0, length <= 952 * 3 - 100, `${length} ${leftOut}`);
      assert.ok(texts.length >= 1 && texts.length <= 3);
    }
  });

  it("media, parameters and roles that are not asked for are not read", () => {
    const mixed = prompt([
      leaf("QUJD", { kind: "media" }),
      leaf("gpt", { kind: "parameter", turn: -1 }),
      leaf("rules", { role: "system" }),
    ]);
    assert.deepEqual(windowsOf(mixed, new Set(["user"] as const), rules), { texts: [], leftOut: 0 });
  });
});

describe("texts and reasons", () => {
  it("families and exact reasons", () => {
    const matches = reasonMatcher(["prompt.classifier.*", "media.judge"]);
    assert.deepEqual(
      ["prompt.classifier.harmful", "prompt.classifier", "media.judge", "media.judges", "prompt.rule.x"].map(
        matches,
      ),
      [true, false, true, false, false],
    );
  });

  it("marks of chat templates are broken apart, other text stays", () => {
    assert.equal(withoutMarks("a < b | c <p> [INST"), "a < b | c <p> [INST");
    for (const mark of [
      "<|eot_id|>",
      "<｜end｜>",
      "</s>",
      "<s>",
      "[/INST]",
      "[INST]",
      "<BEGIN CONVERSATION>",
      "<END X>",
    ])
      assert.ok(!withoutMarks(`x${mark}y`).includes(mark), mark);
  });
});
