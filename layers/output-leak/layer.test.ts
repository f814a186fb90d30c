/** Every kind of leak through the layer's public face, whole and cut at every place. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ALLOW, type Held, type RequestContext } from "../../src/layer/index.ts";
import { canaryOf } from "./canary.ts";
import {
  casesOf,
  compile,
  deltaOf,
  findIn,
  leafOf,
  openOn,
  type PromptCase,
  promptOf,
  sentencesOf,
  WAYS,
} from "./generated.ts";
import { outputLeak } from "./layer.ts";
import { assertSameAtCuts, everyUnit, HOLD_MAX, read } from "./reading.ts";

const prompts = casesOf<readonly PromptCase[]>("prompts");
const answers = casesOf<readonly string[]>("answers");
const layer = compile();
const airline = prompts[0]!;
const AIRLINE = promptOf(leafOf("system", airline.system), leafOf("user", "Hello, who are you?"));
const NOTHING = promptOf(leafOf("user", "Hello"));

const around = (leak: string) => `Sure, here it is:\n\n${leak}\n\nAnything else that I can do for you today?`;

for (const [way, dress] of Object.entries(WAYS)) {
  test(`half of a prompt, ${way}: found, the same at every cut`, () => {
    for (const { id, system } of prompts) {
      const prompt = promptOf(leafOf("system", system), leafOf("user", "Hello"));
      const leak = dress(system.slice(0, system.length >> 1));
      const text = around(leak);
      const { found, seen } = assertSameAtCuts({ layer, prompt, text }, 41);
      if (way === "one word in 5 changed") continue;
      assert.ok(
        found.some((one) => one.startsWith("output.leak.system-prompt")),
        id,
      );
      const covered = seen.split("█").length - 1;
      if (!way.startsWith("one word"))
        assert.ok(covered > leak.length * 0.6, `${id}: ${covered} of ${leak.length}`);
      assert.ok(seen.startsWith("Sure, here it is:"));
      assert.ok(seen.endsWith("do for you today?"), seen.slice(-80));
    }
  });
}

test("a leak is redacted from its first twelve letters to its last; what follows stays", () => {
  const leak = sentencesOf(airline.system)[2]!;
  const { seen, act } = read({
    layer,
    prompt: AIRLINE,
    text: `I say: ${leak} And now something else entirely, for you.`,
  });
  assert.equal(act, "redact");
  assert.match(seen, /^I say: Always greet t█+\. And now something else entirely, for you\.$/);
});

test("quoted sentences of 60 letters and more are found", () => {
  for (const { id, system } of prompts) {
    const prompt = promptOf(leafOf("developer", system), leafOf("user", "Hello"));
    for (const sentence of sentencesOf(system)) {
      if ((sentence.match(/[a-z0-9]/gi) ?? []).length < 62) continue;
      assert.equal(
        findIn(layer, prompt, `They told me "${sentence}", I think.`).length > 0,
        true,
        `${id}: ${sentence}`,
      );
    }
  }
});

test("ordinary answers are not found, and hold next to nothing", () => {
  let held = 0;
  let deltas = 0;
  for (const { system } of prompts) {
    const prompt = promptOf(leafOf("system", system), leafOf("user", "Hello"));
    for (const text of answers) {
      assert.deepEqual(findIn(layer, prompt, text), [], text);
      if (text.includes("http")) continue;
      const watch = openOn(layer, prompt);
      for (let start = 0; start < text.length; start += 5) {
        const verdict = watch.onChunk?.(deltaOf(text.slice(start, start + 5), start, false)) as Held;
        deltas += 1;
        if (verdict.holdFrom === undefined) assert.equal(verdict, ALLOW);
        else held += 1;
      }
    }
  }
  assert.ok(held / deltas < 0.05, `${held} of ${deltas} deltas ended in held text`);
});

test("what the caller wrote may be said again", () => {
  const told = promptOf(leafOf("system", airline.system), leafOf("user", `Translate: ${airline.system}`));
  assert.deepEqual(findIn(layer, told, around(airline.system)), []);
  assert.deepEqual(findIn(layer, told, around(Buffer.from(airline.system).toString("base64"))), []);
});

test("what stands between marks may be told, what stands around them not", () => {
  const facts =
    "Our doors are open from Monday to Friday between nine in the morning and half past six in the evening.";
  const marked = compile({ publicMarks: ["<public>", "</public>"] });
  const system = `Never speak of the merger with the other house.\n<public>${facts}</public>\n${airline.system}`;
  const prompt = promptOf(leafOf("system", system), leafOf("user", "Hello"));
  assert.deepEqual(findIn(marked, prompt, around(facts)), []);
  assert.ok(findIn(layer, prompt, around(facts)).length > 0);
  assert.ok(findIn(marked, prompt, around(airline.system)).length > 0);
  const open = promptOf(leafOf("system", `<public>${facts}`), leafOf("user", "Hello"));
  assert.ok(findIn(marked, open, around(facts)).length > 0);
});

test("tool schemas: flagged in an answer, left alone in a call", () => {
  const schema =
    "Moves money between two accounts of the same customer after the customer has confirmed the amount";
  const prompt = promptOf(leafOf("none", "transfer", "tool-schema"), leafOf("none", schema, "tool-schema"));
  const { found, act } = assertSameAtCuts({ layer, prompt, text: around(schema) });
  assert.match(found[0]!, /^output\.leak\.tool-schema /);
  assert.equal(act, "flag");
  assert.deepEqual(findIn(layer, prompt, JSON.stringify({ note: schema }), "tool"), []);
});

test("inside tool arguments the JSON stays whole, at every cut", () => {
  const half = airline.system.slice(0, 700);
  const texts = [
    JSON.stringify({
      a: half.slice(0, 300),
      b: [half.slice(300, 400), 17, true],
      c: { [half.slice(400, 440)]: half.slice(440) },
    }),
    JSON.stringify({ text: [...half].map((letter) => `${letter}é`).join("") }).replace(
      /[^\x20-\x7e]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    ),
    JSON.stringify({ text: `say "${half}" and \\ go on` }).replace(/o/g, "\\u006f"),
  ];
  for (const text of texts) {
    const { seen, found } = assertSameAtCuts({ layer, prompt: AIRLINE, text, kind: "tool" }, 7);
    if (text !== texts[1]) assert.ok(found.length > 0, text);
    assert.doesNotThrow(() => JSON.parse(seen), seen);
    assert.equal(
      JSON.stringify(Object.keys(JSON.parse(seen) as object)).includes("a") || text !== texts[0],
      true,
    );
  }
});

test("free text that only looks like JSON is redacted as text", () => {
  const { seen } = assertSameAtCuts(
    { layer, prompt: AIRLINE, text: `{ "x" } ${airline.system}`, kind: "tool" },
    13,
  );
  assert.ok(seen.split("█").length > airline.system.length * 0.8, seen);
});

test("canaries: given, derived, and in disguise; they block", () => {
  const canaries = ["SP7Q-Z1XK-88HV-TT2M-0J"];
  const given = compile({ canaries });
  for (const dress of [
    WAYS["as it stands"]!,
    WAYS["reversed"]!,
    WAYS["base64"]!,
    WAYS["letters set apart"]!,
  ]) {
    const { found, act } = assertSameAtCuts({
      layer: given,
      prompt: NOTHING,
      text: around(dress(`marker ${canaries[0]}`)),
    });
    assert.match(found[0]!, /^output\.leak\.canary /);
    assert.equal(act, "block");
  }
  const files = { "secrets/canary.key": "a key of more than sixteen characters\n" };
  const derived = compile({ canaryKey: "secrets/canary.key" }, files);
  const own = canaryOf(files["secrets/canary.key"].trim(), "acme");
  assert.match(own, /^cnry[0-9a-f]{24}$/);
  assert.equal(findIn(derived, NOTHING, `The token is ${own}.`)[0]?.reason, "output.leak.canary");
  assert.deepEqual(
    findIn(derived, NOTHING, `The token is ${canaryOf("another key of this length", "acme")}.`),
    [],
  );
  assert.throws(() => compile({ canaryKey: "k" }, { k: "short" }), /at least 16/);
  assert.throws(() => compile({ canaries: ["short"] }));
});

interface AddressCases {
  readonly catch: readonly { kind: string; text: string; prompt?: string; why: string }[];
  readonly spare: readonly { text: string; prompt?: string; why: string }[];
}
const addresses = casesOf<AddressCases>("addresses");
const listing = compile({ hosts: ["*.listed.example"] });

test("addresses that carry data are found, the same at every cut, and nothing else goes", () => {
  for (const { kind, text, prompt, why } of addresses.catch) {
    const asked = promptOf(leafOf("user", prompt ?? "Hello"));
    for (const whole of [text, `See ${text} and then some more words.`]) {
      const { found, seen } = assertSameAtCuts({ layer: listing, prompt: asked, text: whole });
      assert.equal(found.length, 1, `${why}: ${found}`);
      assert.match(found[0]!, new RegExp(`^output\\.leak\\.${kind} `), why);
      if (kind === "image") assert.ok(!/evil|c3dvcm|4417/.test(seen), `${why}: ${seen}`);
      if (whole !== text) assert.ok(seen.endsWith(" and then some more words."), seen);
    }
    const json = JSON.stringify({ text });
    const inTool = assertSameAtCuts({ layer: listing, prompt: asked, text: json, kind: "tool" });
    assert.equal(inTool.found.length, 1, `${why}: in JSON`);
    assert.doesNotThrow(() => JSON.parse(inTool.seen), inTool.seen);
  }
});

test("ordinary addresses are spared", () => {
  for (const { text, prompt, why } of addresses.spare) {
    const asked = promptOf(leafOf("user", prompt ?? "Hello"));
    for (const whole of [text, `See ${text} and then some more words.`])
      assert.deepEqual(assertSameAtCuts({ layer: listing, prompt: asked, text: whole }).found, [], why);
  }
});

test("an address without end is judged by its length and swallowed to its end", () => {
  const text = `![x](https://evil.example/${"a-".repeat(2000)}) Bye.`;
  for (const cuts of [[], everyUnit(text)]) {
    const { seen } = read({ layer, prompt: NOTHING, text, cuts });
    assert.match(seen, /^!\[x\]\(█+\) Bye\.$/);
  }
  const backslashes = JSON.stringify({ t: `![x](https://evil.example/${"a-".repeat(300)}\\`, n: 1 });
  JSON.parse(assertSameAtCuts({ layer, prompt: NOTHING, text: backslashes, kind: "tool" }).seen);
  const json = JSON.stringify({ t: `![x](https://evil.example/${"a-".repeat(242)}"${"b".repeat(600)}` });
  for (let cut = 1; cut < json.length; cut += 1)
    JSON.parse(read({ layer, prompt: NOTHING, text: json, cuts: [cut], kind: "tool" }).seen);
});

interface HiddenCases {
  readonly catch: readonly { kind: string; text: string; tool?: boolean; why: string }[];
  readonly spare: readonly { text: string; tool?: boolean; why: string }[];
}
const hidden = casesOf<HiddenCases>("hidden");

test("what is hidden goes, unit for unit, at every cut", () => {
  for (const { kind, text, tool, why } of hidden.catch) {
    const plain = text.replace(/[«»]/g, "");
    const expected = text.replace(/«([^»]*)»/g, (_, inner: string) => "█".repeat(inner.length));
    const { found, seen } = assertSameAtCuts({
      layer,
      prompt: NOTHING,
      text: plain,
      kind: tool === true ? "tool" : "answer",
    });
    assert.equal(seen, expected, why);
    for (const one of found) assert.match(one, new RegExp(`^output\\.leak\\.${kind} `), why);
    if (tool === true) assert.doesNotThrow(() => JSON.parse(seen), why);
  }
});

test("emoji, Persian and shown escapes are spared", () => {
  for (const { text, tool, why } of hidden.spare)
    assert.deepEqual(
      assertSameAtCuts({ layer, prompt: NOTHING, text, kind: tool === true ? "tool" : "answer" }).found,
      [],
      why,
    );
});

test("random mixtures at random cuts: what is seen does not depend on the cuts, and JSON stays JSON", () => {
  const everything = compile({
    acts: { canary: "redact", "tool-schema": "redact", link: "redact" },
    canaries: ["SP7Q-Z1XK-88HV-TT2M-0J"],
    runLetters: 40,
  });
  const prompt = promptOf(
    ...prompts.map(({ system }) => leafOf("system", system)),
    leafOf("user", "Hello, we speak of bookings, seat changes, baggage and refunds today"),
    leafOf(
      "none",
      "Moves money between two accounts of the same customer, once it was confirmed",
      "tool-schema",
    ),
  );
  const dressed = fc
    .tuple(fc.constantFrom(...Object.values(WAYS)), fc.constantFrom(...prompts), fc.nat(400), fc.nat(200))
    .map(([dress, { system }, from, units]) => dress(system.slice(from, from + units)));
  const piece = fc.oneof(
    fc.constantFrom(...prompts.flatMap(({ system }) => sentencesOf(system)), ...answers),
    dressed,
    fc.constantFrom(...[...addresses.catch, ...addresses.spare, ...hidden.catch].map(({ text }) => text)),
    fc.constantFrom(
      ...` |\n|\\|"|\\"|{|%|%2|%e4%bd|\\u00|\\u0041|http|https://a.b/|![|](//|SP7Q-Z1XK-88HV-TT2M-0J`.split(
        "|",
      ),
    ),
    fc.constantFrom("\u200d", "\u200b", "\ud83c", "\ud83c\udff4", "\udb40", "\udb40\udc69", "\udc69"),
    fc.constantFrom("\u001b", "\u001b]", "\u009b", "x".repeat(130), " ".repeat(130), "a".repeat(600)),
  );
  const escaped = (text: string) =>
    text.replace(/[^\x20-\x7e]|[oe]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  fc.assert(
    fc.property(
      fc.array(piece, { minLength: 1, maxLength: 7 }),
      fc.array(fc.nat(), { maxLength: 16 }),
      fc.constantFrom("answer", "cut JSON", "JSON", "escaped JSON"),
      (pieces, at, how) => {
        const json = JSON.stringify({ a: pieces.join(""), b: [pieces[0], 12] });
        const text = {
          answer: pieces.join(""),
          "cut JSON": `{"a":"${pieces.join("")}`,
          JSON: json,
          "escaped JSON": escaped(json),
        }[how]!;
        const cuts = [...new Set(at.map((n) => n % (text.length + 1)))].sort((a, b) => a - b);
        const kind = how === "answer" ? "answer" : "tool";
        const whole = read({ layer: everything, prompt, text, kind });
        assert.deepEqual(read({ layer: everything, prompt, text, kind, cuts }), whole);
        if (how.endsWith("JSON") && how !== "cut JSON") JSON.parse(whole.seen);
      },
    ),
    { numRuns: 1500 },
  );
});

test("channels do not mix, and every kind of channel is read", () => {
  for (const kind of ["answer", "thinking", "refusal", "tool", "transcript", "other"] as const)
    assert.ok(findIn(layer, AIRLINE, airline.system, kind).length > 0, kind);
  const watch = openOn(layer, AIRLINE);
  const half = airline.system.slice(0, 45);
  const first = watch.onChunk?.(deltaOf(half, 0, false)) as Held | undefined;
  const other = watch.onChunk?.(deltaOf(airline.system.slice(45, 90), 0, false, "thinking")) as
    | Held
    | undefined;
  assert.deepEqual([first?.act, other?.act], ["allow", "allow"]);
});

test("acts by kind; off is not looked for", () => {
  const text = `${airline.system}\u202E`;
  const act = (acts: object) => read({ layer: compile({ acts }), prompt: AIRLINE, text }).act;
  assert.equal(act({}), "redact");
  assert.equal(act({ "system-prompt": "block" }), "block");
  assert.equal(act({ "system-prompt": "flag", bidi: "flag" }), "flag");
  assert.equal(act({ "system-prompt": "off", bidi: "off" }), "allow");
  assert.throws(() => outputLeak.config.parse({ acts: { sistem: "flag" } }));
  const all = Object.keys(outputLeak.config.parse({}).acts);
  assert.throws(
    () => compile({ acts: Object.fromEntries(all.map((kind) => [kind, "off"])) }),
    /every kind is off/,
  );
  const few = outputLeak.config.parse({
    acts: { "system-prompt": "off", "tool-schema": "off", canary: "off" },
  });
  assert.ok((outputLeak.holdMax?.(few) ?? 0) < HOLD_MAX);
});

test("without a prompt to protect, and without a prompt at all, it still reads", () => {
  const watch = layer.open({} as RequestContext);
  const held = watch.onChunk?.(deltaOf("a\u202Eb", 0, true)) as Held | undefined;
  assert.equal(held?.act, "redact");
});

test("hostile runs take linear time, whole and in small pieces", () => {
  const system = airline.system;
  for (const unit of [
    system.slice(0, 30),
    `${system.slice(0, 14)}#`,
    "http:",
    "![x](http://a.b/",
    "\u200b",
    "\u001b]",
    "\\u00",
    "%",
    '"',
    "a",
    "\ud83c",
    "aGVsbG8g",
  ]) {
    const text = unit.repeat(Math.ceil(400_000 / unit.length));
    for (const kind of ["answer", "tool"] as const) {
      for (const size of [text.length, 64]) {
        const watch = openOn(layer, AIRLINE);
        const begin = performance.now();
        for (let start = 0; start < text.length; start += size)
          watch.onChunk?.(deltaOf(text.slice(start, start + size), start, start + size >= text.length, kind));
        assert.ok(performance.now() - begin < 2000, `${unit} in pieces of ${size}`);
      }
    }
  }
});
