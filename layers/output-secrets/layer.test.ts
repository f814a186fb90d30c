/**
 * Each kind's cases, cut at every place: nothing of a secret is released, and what is found does not depend
 * on the cuts. The reader below releases as the runner does, so a leak shows as a released unit.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { parse } from "yaml";
import {
  ALLOW,
  type Delta,
  findingsOf,
  type Held,
  type Ports,
  type RequestContext,
  spansOf,
} from "../../src/layer/index.ts";
import { isBasicCredential, isJwtHead } from "./checks.ts";
import { KINDS } from "./kinds.ts";
import { outputSecrets } from "./layer.ts";
import { readShape } from "./shape.ts";

const CASES = parse(readFileSync(new URL("./cases/kinds.yaml", import.meta.url), "utf8")) as Record<
  string,
  { catch: string[]; spare: string[] }
>;

const LOWER = "abcdefghijklmnopqrstuvwxyz";
const DIGITS = "0123456789";
const SETS: Readonly<Record<string, string>> = {
  alnum: LOWER + LOWER.toUpperCase() + DIGITS,
  alpha: LOWER + LOWER.toUpperCase(),
  lower: LOWER + DIGITS,
  upper: LOWER.toUpperCase() + DIGITS,
  digit: DIGITS,
  hex: "0123456789abcdef",
  b64: `${LOWER}${LOWER.toUpperCase()}${DIGITS}+/`,
  url: `${LOWER}${LOWER.toUpperCase()}${DIGITS}_-`,
};

/** A template's text; the same each time, because its units come from its own seed. */
function fill(template: string): string {
  let seed = 7;
  const draw = (set: string, count: number) => {
    let text = "";
    for (let i = 0; i < count; i++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      text += set[(seed >>> 16) % set.length];
    }
    return text;
  };
  return template.replaceAll(/\{(\w+)(?::(\d+))?\}/g, (whole, name: string, count: string | undefined) => {
    if (name === "pem") {
      return Array.from({ length: Number(count) }, () => draw(SETS["b64"]!, 64)).join("\n");
    }
    if (name === "jwthead") return Buffer.from('{"alg":"HS256","typ":"JWT"}').toString("base64url");
    if (name === "jsonhead") return Buffer.from('{"sub":"someone","x":"y"}').toString("base64url");
    if (name === "basic") return Buffer.from(`joe:${draw(SETS["alnum"]!, 13)}`).toString("base64");
    if (name === "short") return Buffer.from("a:b").toString("base64");
    const set = SETS[name];
    return set === undefined || count === undefined ? whole : draw(set, Number(count));
  });
}

interface Case {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

function caught(template: string, before: string, after: string): Case {
  const text = before + fill(template) + after;
  const open = text.indexOf("«");
  if (open < 0) return { text, start: before.length, end: text.length - after.length };
  return { text: text.replace("«", "").replace("»", ""), start: open, end: text.indexOf("»") - 1 };
}

function compile(config: unknown = {}) {
  return outputSecrets.compile(outputSecrets.config.parse(config), {} as Ports);
}

const layer = compile();
const HOLD_MAX = outputSecrets.holdMax?.(outputSecrets.config.parse({})) ?? 0;

interface Reading {
  /** "reason start end", abutting and overlapping ones of one reason joined, sorted. */
  readonly found: readonly string[];
  /** What left before it was covered by a span. */
  readonly released: boolean[];
}

function read(text: string, cuts: readonly number[], watched = layer): Reading {
  const watch = watched.open({} as RequestContext);
  const spans: { reason: string; start: number; end: number }[] = [];
  const released = new Array<boolean>(text.length).fill(false);
  let from = 0;
  let start = 0;
  for (const end of [...cuts, text.length]) {
    const final = end === text.length;
    const delta: Delta = {
      channel: "answer:0",
      kind: "answer",
      choice: 0,
      start,
      text: text.slice(start, end),
      final,
    };
    const held = watch.onChunk?.(delta) as Held;
    for (const { reason, where } of findingsOf(held)) {
      assert.ok(where);
      assert.ok(where.start >= from, "a span must not reach back into what was released");
      spans.push({ reason, start: where.start, end: where.end });
    }
    const until = final ? end : Math.min(end, held.holdFrom ?? end);
    assert.ok(until >= from || final, "holdFrom must not fall behind what was released");
    assert.ok(final || end - until <= HOLD_MAX, `holds ${end - until} units`);
    for (let i = from; i < until; i++) released[i] = !spans.some((span) => i >= span.start && i < span.end);
    from = Math.max(from, until);
    start = end;
    if (final) break;
  }
  return { found: merge(spans), released };
}

function merge(spans: readonly { reason: string; start: number; end: number }[]): string[] {
  const sorted = spans.toSorted((a, b) =>
    a.reason < b.reason ? -1 : a.reason > b.reason ? 1 : a.start - b.start,
  );
  const merged: { reason: string; start: number; end: number }[] = [];
  for (const span of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && last.reason === span.reason && span.start <= last.end) {
      last.end = Math.max(last.end, span.end);
    } else merged.push({ ...span });
  }
  return merged.map((span) => `${span.reason} ${span.start} ${span.end}`);
}

const AROUND: readonly (readonly [string, string])[] = [
  ["Here it is: ", ' "as asked".'],
  ['{"note":"A=1\\n', '","b":2}'],
  ["(", ")"],
  ["", ""],
];

test("every kind has cases, and every case a kind", () => {
  assert.deepEqual(Object.keys(CASES).sort(), KINDS.map((kind) => kind.id).sort());
  for (const [id, { catch: catches, spare }] of Object.entries(CASES)) {
    assert.ok(catches.length >= 1 && spare.length >= 2, id);
  }
});

for (const kind of KINDS) {
  const cases = CASES[kind.id] ?? { catch: [], spare: [] };
  test(`${kind.id}: caught whole and at every cut, nothing leaves`, () => {
    for (const template of cases.catch) {
      for (const [before, after] of AROUND) {
        const { text, start, end } = caught(template, before, after);
        const expected = [`${kind.reason} ${start} ${end}`];
        assert.deepEqual(read(text, []).found, expected, text);
        const check = (cuts: readonly number[]) => {
          const { found, released } = read(text, cuts);
          assert.deepEqual(found, expected, `cut at ${cuts.slice(0, 3)}`);
          for (let i = start; i < end; i++)
            assert.ok(!released[i], `unit ${i} left, cut at ${cuts.slice(0, 3)}`);
        };
        check(Array.from({ length: text.length - 1 }, (_, i) => i + 1));
        if (before !== "" || text.length < 200)
          for (let cut = 0; cut < text.length; cut += text.length > 400 ? 7 : 1) check([cut]);
      }
    }
  });

  test(`${kind.id}: look-alikes are spared`, () => {
    for (const template of cases.spare) {
      const text = `It says ${fill(template)} there.`;
      assert.ok(!read(text, []).found.some((found) => found.startsWith(`${kind.reason} `)), text);
    }
  });
}

test("random texts at random cuts: the same spans, nothing of them leaves", () => {
  const texts = Object.values(CASES).flatMap((entry) => [...entry.catch, ...entry.spare]);
  const piece = fc.oneof(
    fc.constantFrom(...texts).map((template) => fill(template).replaceAll(/[«»]/g, "")),
    fc.constantFrom(
      " ",
      "\n",
      "\\n",
      ".",
      "-",
      "and then ",
      "sk-",
      "eyJ",
      "-----BEGIN ",
      "https://a:b",
      "AKIA",
      "é",
      "x",
    ),
  );
  fc.assert(
    fc.property(
      fc.array(piece, { minLength: 1, maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      (pieces, at) => {
        const text = pieces.join("");
        const cuts = [...new Set(at.map((n) => n % (text.length + 1)))].sort((a, b) => a - b);
        const whole = read(text, []);
        const { found, released } = read(text, cuts);
        assert.deepEqual(found, whole.found);
        for (let i = 0; i < text.length; i++) assert.equal(released[i], whole.released[i], `unit ${i}`);
      },
    ),
    { numRuns: 1500 },
  );
});

test("prose is not held: the shared ALLOW, and little waits", () => {
  const prose =
    "The task-force asked whether desks are risky. It is a keynote; please skim the assets. ".repeat(40);
  const watch = layer.open({} as RequestContext);
  let waiting = 0;
  for (let start = 0; start < prose.length; start += 5) {
    const text = prose.slice(start, start + 5);
    const held = watch.onChunk?.({
      channel: "answer:0",
      kind: "answer",
      choice: 0,
      start,
      text,
      final: false,
    }) as Held;
    if (held.holdFrom === undefined) assert.equal(held, ALLOW);
    else waiting += start + text.length - held.holdFrom;
  }
  assert.ok(waiting / prose.length < 0.1, `${waiting} of ${prose.length} units waited for one event`);
});

test("channels do not mix", () => {
  const secret = fill("ghp_{alnum:36}");
  const watch = layer.open({} as RequestContext);
  const send = (channel: string, start: number, text: string, final = false) =>
    watch.onChunk?.({ channel, kind: "answer", choice: 0, start, text, final }) as Held;
  assert.equal(send("answer:0", 0, secret.slice(0, 20)).holdFrom, 0);
  assert.equal(send("answer:1", 0, secret.slice(20)), ALLOW);
  assert.deepEqual(spansOf(send("answer:0", 20, secret.slice(20), true)), [
    { channel: "answer:0", start: 0, end: secret.length },
  ]);
});

test("acts by kind; the strictest wins; flagged text is not redacted", () => {
  const text = `${fill("ghp_{alnum:36}")} ${fill("AKIA{upper:16}")}`;
  const send = (config: unknown) =>
    compile(config)
      .open({} as RequestContext)
      .onChunk?.({ channel: "a", kind: "answer", choice: 0, start: 0, text, final: true }) as Held;
  assert.equal(send({ act: "block" }).act, "block");
  assert.equal(send({ kinds: { "aws-access-key": "block" } }).act, "block");
  const mixed = send({ kinds: { "aws-access-key": "flag" } });
  assert.equal(mixed.act, "redact");
  assert.equal(findingsOf(mixed).length, 2);
  assert.deepEqual(spansOf(mixed), [{ channel: "a", start: 0, end: 40 }]);
  assert.equal(send({ act: "flag" }).act, "flag");
  assert.equal(findingsOf(send({ kinds: { "aws-access-key": "off" } })).length, 1);
});

test("allowed examples pass whole, and only whole", () => {
  const open = fill("ghp_{alnum:60}");
  const watched = compile({ allow: [open, "AKIAIOSFODNN7EXAMPLE"] });
  const units = (text: string) => Array.from({ length: text.length - 1 }, (_, i) => i + 1);
  for (const cuts of [[], units(`${open} AKIAIOSFODNN7EXAMPLE.`)]) {
    assert.deepEqual(read(`${open} AKIAIOSFODNN7EXAMPLE.`, cuts, watched).found, []);
  }
  for (const text of [`${open.slice(0, -1)}!`, `${open}X!`]) {
    for (const cuts of [[], units(text)]) {
      assert.deepEqual(read(text, cuts, watched).found, [`output.secret.github-token 0 ${text.length - 1}`]);
    }
  }
});

test("examples that vendors print pass, unless the policy says otherwise; their neighbours do not", () => {
  const examples = (
    parse(readFileSync(new URL("./examples.yaml", import.meta.url), "utf8")) as string[][]
  ).map((parts) => parts.join(""));
  const strict = compile({ examples: false });
  const around = (secret: string) =>
    !secret.endsWith("=")
      ? [`SECRET_KEY="${secret}"`, `Use ${secret} here`]
      : secret.length < 40
        ? [`Authorization: Basic ${secret}`]
        : [`AccountKey=${secret};`, `account_key: x, api_key: ${secret}`];
  for (const example of examples) {
    const units = Array.from({ length: example.length }, (_, i) => i + 1);
    for (const text of around(example)) {
      for (const cuts of [[], units]) assert.deepEqual(read(text, cuts).found, [], text);
    }
    assert.ok(around(example).some((text) => read(text, [], strict).found.length > 0));
    const at = example.length - 6;
    const other = `${example.slice(0, at)}${example[at] === "q" ? "r" : "q"}${example.slice(at + 1)}`;
    assert.ok(
      around(other).some((text) => read(text, []).found.length > 0),
      other,
    );
  }
});

test("configuration: unknown kinds and empty lists are refused, holdMax follows the kinds", () => {
  assert.throws(() => compile({ kinds: { "github-tokn": "flag" } }), /no kind "github-tokn"/);
  assert.throws(
    () => compile({ kinds: Object.fromEntries(KINDS.map((kind) => [kind.id, "off"])) }),
    /every kind is off/,
  );
  assert.throws(() => outputSecrets.config.parse({ action: "block" }));
  const without = outputSecrets.config.parse({ kinds: { jwt: "off" }, allow: [] });
  assert.ok((outputSecrets.holdMax?.(without) ?? 0) < HOLD_MAX);
});

test("hostile runs take linear time, whole and in small pieces", () => {
  for (const unit of [
    "sk-",
    "eyJ",
    "eyJ-",
    "-----BEGIN ",
    "sk-proj-",
    "https://a:",
    "xoxb-1",
    "dp.st.",
    "eyJabcdefgh.",
  ]) {
    const text = unit.repeat(Math.ceil(1_000_000 / unit.length));
    for (const size of [text.length, 64]) {
      const watch = layer.open({} as RequestContext);
      const begin = performance.now();
      for (let start = 0; start < text.length; start += size) {
        const end = start + size;
        watch.onChunk?.({
          channel: "a",
          kind: "answer",
          choice: 0,
          start,
          text: text.slice(start, end),
          final: end >= text.length,
        });
      }
      assert.ok(performance.now() - begin < 4000, `${unit} in pieces of ${size}`);
    }
  }
});

test("decoders: a JWT's head, a basic credential", () => {
  assert.ok(isJwtHead(`${Buffer.from('{"alg":"none"}').toString("base64url")}.x`));
  assert.ok(!isJwtHead("eyJhbGci.x"));
  assert.ok(isBasicCredential(Buffer.from("joe:secret").toString("base64")));
  assert.ok(!isBasicCredential(Buffer.from([0, 1, 2, 3, 4, 5]).toString("base64")));
});

test("shapes: what they refuse", () => {
  assert.throws(() => readShape("a{2,}b"), /only the last part/);
  assert.throws(() => readShape("(a"), /not closed/);
  assert.throws(() => readShape(""), /no parts/);
  assert.throws(() => readShape("a|b"), /no meaning/);
});
