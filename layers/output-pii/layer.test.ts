/**
 * Each kind's cases, cut at every place: nothing of it is released, and what is found does not depend on the cuts.
 * The reader below releases and redacts as the runner does, so a leak shows as a unit that left.
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
} from "../../src/layer/index.ts";
import { KINDS, NUMBER_ROWS } from "./kinds.ts";
import { outputPii } from "./layer.ts";
import { matchAt, readPattern, WAITS } from "./partial.ts";

type Cases = Record<string, { catch: string[]; spare: string[] }>;

function casesOf(name: string): Cases {
  return parse(readFileSync(new URL(`./cases/${name}`, import.meta.url), "utf8")) as Cases;
}
const CASES: Cases = { ...casesOf("kinds.yaml"), ...casesOf("words.yaml") };

const ALL_REDACTED = { kinds: Object.fromEntries(KINDS.map((kind) => [kind, "redact"])) };

function compile(config: unknown = ALL_REDACTED) {
  return outputPii.compile(outputPii.config.parse(config), {} as Ports);
}
const holdMaxOf = (config: unknown) => outputPii.holdMax?.(outputPii.config.parse(config)) ?? 0;

const layer = compile();
const HOLD_MAX = holdMaxOf(ALL_REDACTED);

interface Reading {
  /** "id start end", in order. */
  readonly found: readonly string[];
  /** By unit: whether it left before a span covered it. */
  readonly released: readonly boolean[];
}

function read(text: string, cuts: readonly number[], watched = layer): Reading {
  const watch = watched.open({} as RequestContext);
  const found: { id: string; start: number; end: number }[] = [];
  const released = new Array<boolean>(text.length).fill(false);
  let from = 0;
  let start = 0;
  for (const end of [...cuts, text.length]) {
    const final = end === text.length;
    const piece = text.slice(start, end);
    const delta: Delta = { channel: "answer:0", kind: "answer", choice: 0, start, text: piece, final };
    const held = watch.onChunk?.(delta) as Held;
    for (const { reason, where } of findingsOf(held)) {
      assert.ok(where);
      assert.ok(where.start >= from, `${reason}: a span must not reach back into what was released`);
      found.push({ id: reason.slice(reason.lastIndexOf(".") + 1), start: where.start, end: where.end });
    }
    const until = final ? end : Math.min(end, held.holdFrom ?? end);
    assert.ok(final || end - until <= HOLD_MAX, `holds ${end - until} units of ${JSON.stringify(text)}`);
    for (let i = from; i < until; i++) released[i] = !found.some((one) => i >= one.start && i < one.end);
    from = Math.max(from, until);
    start = end;
    if (final) break;
  }
  const inOrder = found.toSorted((a, b) => a.start - b.start || a.end - b.end || (a.id < b.id ? -1 : 1));
  return { found: inOrder.map(({ id, start: at, end }) => `${id} ${at} ${end}`), released };
}

const everywhere = (text: string) => Array.from({ length: Math.max(0, text.length - 1) }, (_, i) => i + 1);

function marked(template: string): { text: string; spans: { start: number; end: number }[] } {
  let text = "";
  const spans: { start: number; end: number }[] = [];
  for (const [part] of template.matchAll(/[«»]|[^«»]+/g)) {
    if (part === "«") spans.push({ start: text.length, end: -1 });
    else if (part === "»") spans[spans.length - 1]!.end = text.length;
    else text += part;
  }
  return { text, spans: spans.length > 0 ? spans : [{ start: 0, end: text.length }] };
}

const AROUND: readonly (readonly [string, string])[] = [
  ["Here it is: ", ' "as asked".'],
  ['{"note":"A\\n', '","b":2}'],
  ["(", ")"],
  ["", ""],
];

function checkCaught(id: string, template: string, before: string, after: string): void {
  const { text: inner, spans } = marked(template);
  const text = before + inner + after;
  const expected = spans.map(({ start, end }) => `${id} ${start + before.length} ${end + before.length}`);
  const ofId = (found: readonly string[]) => found.filter((one) => one.startsWith(`${id} `));
  const whole = read(text, []);
  assert.deepEqual(ofId(whole.found), expected, text);
  const cuts = [everywhere(text), ...everywhere(text).map((cut) => [cut])];
  for (const cut of cuts) {
    const { found, released } = read(text, cut);
    assert.deepEqual(found, whole.found, `${text} cut at ${cut.slice(0, 3)}`);
    assert.deepEqual(released, whole.released, `${text} cut at ${cut.slice(0, 3)}`);
  }
  for (const { start, end } of spans) {
    for (let i = start; i < end; i++)
      assert.ok(!whole.released[i + before.length], `unit ${i} of ${text} left`);
  }
}

test("every number has cases, and so have the other kinds", () => {
  const ids = new Set([...NUMBER_ROWS.map((row) => row.id), "email", "phone", "iban", "person", "address"]);
  assert.deepEqual(Object.keys(CASES).sort(), [...ids].sort());
  for (const [id, { catch: catches, spare }] of Object.entries(CASES)) {
    assert.ok(catches.length >= 1 && spare.length >= 2, id);
  }
});

for (const [id, cases] of Object.entries(CASES)) {
  test(`${id}: caught whole and at every cut, nothing leaves`, () => {
    for (const template of cases.catch) {
      for (const [before, after] of AROUND) checkCaught(id, template, before, after);
    }
  });

  test(`${id}: look-alikes are spared`, () => {
    for (const template of cases.spare) {
      const text = `It says ${template} there.`;
      assert.ok(!read(text, []).found.some((found) => found.startsWith(`${id} `)), text);
    }
  });
}

test("random texts at random cuts: the same spans, nothing of them leaves", () => {
  const texts = Object.values(CASES).flatMap((entry) => [...entry.catch, ...entry.spare]);
  const piece = fc.oneof(
    fc.constantFrom(...texts).map((template) => template.replaceAll(/[«»]/g, "")),
    fc.constantFrom(
      " ",
      "\n",
      "\\n",
      "\\u00e9",
      ".",
      "-",
      "@",
      ":",
      "::",
      "+",
      "(",
      ")",
      "x",
      "/",
      ", ",
      "é",
      "中",
    ),
    fc.constantFrom(
      "call ",
      "ssn ",
      "and then ",
      "12",
      "2024",
      "GB82",
      "fe80",
      "Dr. ",
      "Maria",
      "12 Rue ",
      "a.b",
    ),
    fc.string({ unit: fc.constantFrom(..."0123456789abF-. :@(+"), maxLength: 24 }),
  );
  const pieces = fc.array(piece, { minLength: 1, maxLength: 8 });
  const at = fc.array(fc.nat(), { maxLength: 12 });
  fc.assert(
    fc.property(pieces, at, (parts, places) => {
      const text = parts.join("");
      const cuts = [...new Set(places.map((n) => n % (text.length + 1)))].sort((a, b) => a - b);
      const whole = read(text, []);
      for (const cut of [cuts, everywhere(text)]) {
        const { found, released } = read(text, cut);
        assert.deepEqual(found, whole.found);
        assert.deepEqual(released, whole.released);
      }
    }),
    { numRuns: 1500 },
  );
});

test("no secret of a kind is spread over channels, and channels do not mix", () => {
  const watch = layer.open({} as RequestContext);
  const send = (channel: string, start: number, text: string, final = false) =>
    watch.onChunk?.({ channel, kind: "answer", choice: 0, start, text, final }) as Held;
  assert.equal(send("answer:0", 0, "ana@mail.exa").holdFrom, 0);
  assert.equal(send("tool:0", 0, " and ").holdFrom, undefined);
  const held = send("answer:0", 12, "mple.pt", true);
  assert.deepEqual(
    findingsOf(held).map(({ where }) => where),
    [{ channel: "answer:0", start: 0, end: 19 }],
  );
});

test("acts by kind; the strictest wins; what is flagged is neither held nor redacted", () => {
  const text = "a@b.io 203.0.113.77";
  const send = (config: unknown, final = true) =>
    compile(config)
      .open({} as RequestContext)
      .onChunk?.({ channel: "a", kind: "answer", choice: 0, start: 0, text, final }) as Held;
  const mixed = send({});
  assert.equal(mixed.act, "redact");
  assert.deepEqual(mixed.act === "redact" && mixed.spans, [{ channel: "a", start: 0, end: 6 }]);
  assert.equal(findingsOf(mixed).length, 2);
  assert.equal(send({ kinds: { ip: "block" } }).act, "block");
  assert.deepEqual(
    findingsOf(send({ kinds: { ip: "allow" } })).map(({ reason }) => reason),
    ["output.pii.email"],
  );
  const flags = { kinds: Object.fromEntries(KINDS.map((kind) => [kind, "flag"])) };
  assert.equal(send(flags, false).holdFrom, undefined);
  assert.equal(holdMaxOf(flags), 0);
});

test("allowed texts pass whole, in any case, and only whole", () => {
  const watched = compile({ allow: ["Help@Example.com"] });
  assert.deepEqual(read("write help@example.COM or", [], watched).found, []);
  assert.equal(read("write xhelp@example.com or", [], watched).found.length, 1);
  assert.deepEqual(read("at 127.0.0.1:8080 and ::1", []).found, []);
});

test("configuration: regions that no numbers are known of, and seats with nothing to do, are refused", () => {
  assert.throws(() => compile({ regions: ["GB", "ZZ"] }), /no phone numbers are known of "ZZ"/);
  assert.throws(
    () => compile({ kinds: Object.fromEntries(KINDS.map((kind) => [kind, "allow"])) }),
    /turn the seat off/,
  );
  assert.throws(() => outputPii.config.parse({ kinds: { mail: "redact" } }));
  assert.ok(holdMaxOf({ kinds: { email: "allow" } }) < holdMaxOf({}));
});

test("prose: the shared ALLOW where nothing waits, and what waits is a word", () => {
  const prose =
    "The task was done in the morning; nobody asked for more, and so it went on for weeks. ".repeat(40);
  const watch = compile({}).open({} as RequestContext);
  for (let start = 0; start < prose.length; start += 5) {
    const text = prose.slice(start, start + 5);
    const held = watch.onChunk?.({
      channel: "a",
      kind: "answer",
      choice: 0,
      start,
      text,
      final: false,
    }) as Held;
    if (held.holdFrom === undefined) assert.equal(held, ALLOW);
    else assert.match(prose.slice(held.holdFrom, start + 5), /^[A-Za-z.]{1,9}$/);
  }
});

test("hostile runs take linear time, whole and in small pieces", () => {
  const units = [
    "a@",
    "1 ",
    "12-",
    "(1) ",
    "+",
    "aa:",
    "GB82 ",
    "a.",
    "555-123-4567 ",
    "1.1.1.",
    "::",
    "Maria ",
    "A ",
    "x",
  ];
  for (const unit of units) {
    const text = unit.repeat(Math.ceil(60_000 / unit.length));
    for (const size of [text.length, 64]) {
      const watch = layer.open({} as RequestContext);
      const begin = performance.now();
      for (let start = 0; start < text.length; start += size) {
        const end = start + size;
        const piece = text.slice(start, end);
        const final = end >= text.length;
        watch.onChunk?.({ channel: "a", kind: "answer", choice: 0, start, text: piece, final });
      }
      assert.ok(performance.now() - begin < 5000, `${unit} in pieces of ${size}`);
    }
  }
});

test("patterns: what may still grow, and what they refuse", () => {
  const pattern = readPattern("\\d{3}-\\d{2}(?:x|yz)?");
  for (const text of ["", "3", "308", "308-", "517-42", "517-42y"])
    assert.equal(matchAt(pattern, text, 0, true), WAITS);
  assert.equal(matchAt(pattern, "517-42 ", 0, true), 6);
  assert.equal(matchAt(pattern, "517-42", 0, false), 6);
  assert.equal(matchAt(pattern, "517-42q", 0, true), -1);
  for (const source of ["a+", "(a)", "a(?=b)", "^a", "a.b"])
    assert.throws(() => readPattern(source), /no meaning/);
});
