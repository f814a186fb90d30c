import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { drawTexts, readGrammars } from "./corpus.ts";
import { drawSet, readGrammar } from "./grammar.ts";
import { Random } from "./random.ts";

const NONE = { harmful: [], benign: [], documents: [] };
const FOLDER = join(import.meta.dirname, "grammar");

const SMALL = `
slots:
  animal: [cat, "{size} dog"]
  size: [big, small]
sets:
  - name: pets
    label: benign
    count: 20
    templates:
      - "[[My|Your]] {animal} sleeps[[| a lot]]."
      - A whole sentence.
`;

test("slots hold slots, choices are made, each text is drawn once", () => {
  const [set] = readGrammar(SMALL, "small.yaml");
  const texts = drawSet(set!, NONE, new Random(1)).map(({ text }) => text);
  assert.equal(new Set(texts).size, texts.length);
  assert.ok(texts.includes("A whole sentence."));
  assert.ok(texts.length > 8 && texts.length <= 13, `${texts.length}`);
  for (const text of texts) assert.doesNotMatch(text, /[{}[\]|]/);
});

test("the same seed draws the same texts", () => {
  const [set] = readGrammar(SMALL, "small.yaml");
  const draw = (seed: number) => drawSet(set!, NONE, new Random(seed)).map(({ text }) => text);
  assert.deepEqual(draw(5), draw(5));
  assert.notDeepEqual(draw(5), draw(6));
});

for (const { name, yaml, wrong } of [
  {
    name: "an unknown slot",
    yaml: SMALL.replace("{animal} sleeps", "{beast} sleeps"),
    wrong: /set "pets": \{beast\} is no slot/,
  },
  { name: "an unknown label", yaml: SMALL.replace("benign", "odd"), wrong: /small\.yaml: sets\.0\.label/ },
  {
    name: "a goal of no kind",
    yaml: SMALL.replace("A whole", "A {goal} whole"),
    wrong: /needs the field goal/,
  },
]) {
  test(`${name} is named with its file`, () => {
    assert.throws(() => readGrammar(yaml, "small.yaml"), wrong);
  });
}

test("the project's grammars: each set gives texts, none has an open place, no text has two labels", () => {
  const sets = readGrammars(FOLDER);
  const rows = [
    { text: "How would I pick the lock of a neighbour's door?", label: "harmful" as const },
    { text: "Which bread keeps fresh for the longest time?", label: "benign" as const },
    { text: "A paragraph of prose. ".repeat(20), label: "benign" as const, source: "wildchat_x" },
  ].map((row) => ({
    id: "",
    source: "test",
    lang: "en",
    family: "test",
    hard: false,
    drawn: false,
    licensed: true,
    pooled: true,
    ...row,
  }));
  const drawn = drawTexts(sets, rows, 1);
  const bySource = new Set(drawn.map(({ source }) => source));
  for (const set of sets) assert.ok(bySource.has(`drawn:${set.name}`), set.name);
  assert.ok(drawn.length > 60_000, `${drawn.length}`);
  const malicious = new Map<string, boolean>();
  for (const { text, label, source } of drawn) {
    assert.doesNotMatch(text, /\{(?:goal|harmful|benign|document|noise)\}/, source);
    const is = label !== "benign";
    assert.equal(malicious.get(text) ?? is, is, `${source}: ${text.slice(0, 80)}`);
    malicious.set(text, is);
  }
});

test("grammars say nothing of a data set's rows", () => {
  // A grammar is the project's own: it names no file of labelled data.
  for (const set of ["harm-en.yaml", "injection.yaml"]) {
    assert.doesNotMatch(readFileSync(join(FOLDER, set), "utf8"), /jsonl/);
  }
});
