/** The layer through its face, the shipped packs against their proofs and each other, and the bounds that keep a rule cheap. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { parse } from "yaml";
import {
  ALLOW,
  ConfigProblem,
  findingsOf,
  type Leaf,
  type Ports,
  type RequestContext,
} from "../../src/layer/index.ts";
import { promptRules } from "./layer.ts";
import { boundRegex } from "./regex-bound.ts";
import { matchText, openRulebook } from "./rulebook.ts";

const FOLDER = new URL("../../config/", import.meta.url);
const SHIPPED = promptRules.config.parse({}).packs;
const shippedText = (path: string) => readFileSync(new URL(path, FOLDER), "utf8");
const shipped = openRulebook(SHIPPED.map((path) => ({ path, text: shippedText(path) })));
const BENIGN = parse(readFileSync(new URL("./cases/benign.yaml", import.meta.url), "utf8")) as string[];

function leaf(text: string, more: Partial<Leaf> = {}): Leaf {
  return {
    channel: "prompt:0",
    path: "/messages/0/content",
    role: "user",
    kind: "text",
    turn: 0,
    text,
    ...more,
  };
}

/** A watch over packs given as text by path. */
function open(packs: Readonly<Record<string, string>>, config: object = {}) {
  const ports = { artifacts: { text: (ref: { path: string }) => packs[ref.path] } } as unknown as Ports;
  const layer = promptRules.compile(
    promptRules.config.parse({ packs: Object.keys(packs), ...config }),
    ports,
  );
  const watch = layer.open({} as RequestContext);
  return (given: Leaf) => watch.onLeaf?.(given) ?? ALLOW;
}

const PACK = `pack: test
version: 1
roles: [user, tool]
rules:
  - id: alpha-beta
    title: Alpha before beta
    method: test
    literals: [beta]
    regex: 'alpha.{0,10}\\bbeta\\b'
    score: 0.9
    catch: [alpha and beta]
    spare: [beta and alpha]
  - id: gamma
    title: The words of gamma
    method: test
    literals: ["gamma ray"]
    score: 0.4
    act: flag
    catch: [a Gamma Ray burst]
    spare: [gamma rays]
`;

test("a match blocks and names rule, score and place in the leaf as it was sent", () => {
  const onLeaf = open({ "p.yaml": PACK });
  const text = "so  ALPHA \n\t then   Beta!";
  assert.deepEqual(onLeaf(leaf(text, { channel: "prompt:7" })), {
    act: "block",
    findings: [
      {
        reason: "prompt.rule.alpha-beta",
        score: 0.9,
        where: { channel: "prompt:7", start: 4, end: text.length - 1 },
        method: "test",
      },
    ],
  });
  assert.equal(onLeaf(leaf("nothing here")), ALLOW);
  const two = onLeaf(leaf("gamma ray, alpha beta"));
  assert.equal(two.act, "block");
  assert.equal(findingsOf(two).length, 2);
});

test("acts: the rule's own, the seat's, the operator's for one rule; disabled rules are silent", () => {
  const text = "a gamma  ray";
  assert.equal(open({ "p.yaml": PACK })(leaf(text)).act, "flag");
  assert.equal(open({ "p.yaml": PACK }, { rules: { gamma: "block" } })(leaf(text)).act, "block");
  assert.equal(open({ "p.yaml": PACK }, { disable: ["gamma"] })(leaf(text)), ALLOW);
  assert.equal(open({ "p.yaml": PACK }, { act: "flag" })(leaf("alpha beta")).act, "flag");
});

test("roles and media: what a rule does not read", () => {
  const onLeaf = open({ "p.yaml": PACK });
  assert.equal(onLeaf(leaf("alpha beta", { role: "system" })), ALLOW);
  assert.equal(onLeaf(leaf("alpha beta", { role: "tool" })).act, "block");
  assert.equal(onLeaf(leaf("alpha beta", { kind: "media" })), ALLOW);
  assert.equal(
    open({ "p.yaml": PACK }, { skipMedia: false })(leaf("alpha beta", { kind: "media" })).act,
    "block",
  );
});

test("a literal alone stands as a whole word", () => {
  const onLeaf = open({ "p.yaml": PACK });
  for (const text of ["gamma rayon", "xgamma ray"]) assert.equal(onLeaf(leaf(text)), ALLOW);
  assert.equal(onLeaf(leaf("(gamma ray)")).act, "flag");
});

const BROKEN: readonly (readonly [change: (pack: string) => string, expected: RegExp])[] = [
  [
    (pack) => pack.replace("catch: [alpha and beta]", "catch: [delta]"),
    /^p\.yaml:11:13: rules\[0\]\.catch\[0\]: rule "alpha-beta" does not catch "delta"$/,
  ],
  [
    (pack) => pack.replace("spare: [gamma rays]", "spare: [the gamma ray]"),
    /rules\[1\]\.spare\[0\]: rule "gamma" does not spare "the gamma ray"/,
  ],
  [
    (pack) => pack.replace(".{0,10}", ".*"),
    /^p\.yaml:9:5: rules\[0\]\.regex: rule "alpha-beta", pattern \/alpha\.\*.*has no bound/,
  ],
  [(pack) => pack.replace("'alpha.{0,10}", "'(?<=x)alpha"), /lookaround and named groups are not allowed/],
  [(pack) => pack.replace("id: gamma", "id: alpha-beta"), /"alpha-beta" is used twice/],
  [(pack) => pack.replace("score: 0.4", "score: 4"), /^p\.yaml:17:5: rules\[1\]\.score/],
  [(pack) => pack.replace("method: test", "methods: test"), /rules\[0\]/],
  [(pack) => pack.replace("[beta]", "[be]"), /rules\[0\]\.literals\[0\]/],
  [(pack) => `${pack}  - {`, /^p\.yaml:\d+:\d+: /],
  [() => "", /p\.yaml:1:1/],
];

test("a broken pack is a problem that names file, place, rule and reason", () => {
  for (const [change, expected] of BROKEN) {
    assert.throws(
      () => open({ "p.yaml": change(PACK) }),
      (error) => {
        assert.ok(error instanceof ConfigProblem);
        assert.match(error.message, expected);
        assert.deepEqual([error.path, error.artifact], [["packs", 0], "p.yaml"]);
        return true;
      },
    );
  }
});

test("ids are unique over packs, and configuration names only rules that exist", () => {
  assert.throws(
    () => open({ "a.yaml": PACK, "b.yaml": `${PACK}\n` }),
    /b\.yaml:5:5: rules\[0\]\.id: "alpha-beta" stands in a\.yaml too/,
  );
  const unknown = (config: object) => () => open({ "p.yaml": PACK }, config);
  assert.throws(
    unknown({ disable: ["gama"] }),
    (error) => error instanceof ConfigProblem && error.path.join() === "disable,0",
  );
  assert.throws(unknown({ rules: { gama: "flag" } }), /no pack has a rule "gama"/);
});

test("shipped packs: at least 40 rules, each with two proofs of each kind; no rule matches what another spares", () => {
  assert.ok(shipped.rules.length >= 40);
  for (const rule of shipped.rules) {
    assert.ok(rule.catches.length >= 2 && rule.spares.length >= 2, rule.id);
    for (const text of [...rule.spares, ...BENIGN]) {
      for (const kind of ["text", "tool-result"] as const) {
        const found = matchText(shipped, text, { role: kind === "text" ? "user" : "tool", kind });
        assert.deepEqual(found?.matches.map((match) => shipped.rules[match.rule]?.id) ?? [], [], text);
      }
    }
  }
});

test("windows find what the regex finds in the whole canonical text", () => {
  const word = fc.constantFrom(
    "alpha",
    "beta",
    "gamma",
    "x",
    "yz ",
    "\n",
    "  ",
    " \t ",
    "long-filling-word",
    "ALPHA",
    "abeta",
  );
  const rulebook = openRulebook([{ path: "p.yaml", text: PACK }]);
  const regex = /alpha.{0,10}\bbeta\b/i;
  fc.assert(
    fc.property(fc.array(word, { maxLength: 60 }), fc.constantFrom(" ", "", "   "), (words, gap) => {
      const text = words.join(gap);
      const found = matchText(rulebook, text, { role: "user", kind: "text" })?.matches.find(
        (match) => match.rule === 0,
      );
      const expected = regex.exec(text.replace(/\s+/g, " "));
      assert.equal(found !== undefined, expected !== null, JSON.stringify(text));
      if (found && expected) {
        const { start, end } = found.view.span(found.start, found.end);
        assert.match(text.slice(start, end).replace(/\s+/g, " "), /^alpha.{0,10}beta$/i);
      }
    }),
    { numRuns: 2000 },
  );
});

test("the bound of a regex: ways and length", () => {
  const table: readonly (readonly [source: string, ways: number, length: number])[] = [
    ["abc", 1, 3],
    ["(?: all)?(?: of)? the", 1, 11],
    ["(?:ab|a)b?c", 2, 4],
    ["x.{0,39}rules", 8, 45],
    ["x.{0,39}.y", 40, 42],
    ["(?:a|a)(?:b|b)", 4, 2],
    ["(?:ab?){2,3}c", 1, 7],
  ];
  for (const [source, ways, length] of table) assert.deepEqual(boundRegex(source), { ways, length }, source);
  const refused: readonly (readonly [source: string, why: RegExp])[] = [
    ["a+", /has no bound/],
    ["a{2,}", /no bounded repetition/],
    ["(a)\\1", /backreferences/],
    ["a(?=b)", /lookaround/],
    ["^a", /edge of a window/],
    ["a?", /empty text/],
    ["a{0,500}b", /more than 400/],
    ["(?:a{0,30}){0,30}b", /longest match/],
    ["(?:a?){9}a{9}.{0,90}.{0,90}b", /ways/],
    ["(a", /not closed/],
    ["a)", /unmatched/],
    ["[a", /not closed/],
    ["a{0,3}{0,3}", /repeated/],
    ["(?:\\b){5}a", /without length/],
  ];
  for (const [source, why] of refused) assert.throws(() => boundRegex(source), why, source);
});

test("hostile text: a rule's own words, over and over, stay linear", () => {
  for (const rule of shipped.rules) {
    const unit = `${rule.literals.join(" ")} ${rule.also.join(" ")} ${rule.catches.map((text) => text.slice(0, -8)).join(" ")} `;
    const text = unit.repeat(Math.ceil(100_000 / unit.length));
    const begin = performance.now();
    matchText(shipped, text, { role: [...rule.roles][0] as Leaf["role"], kind: "tool-result" });
    assert.ok(performance.now() - begin < 1500, rule.id);
  }
});
