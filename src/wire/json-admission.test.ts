/** Admission of request bodies against an independent, slow oracle; splicing of strings; hostile sizes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { admitJson, replaceStrings } from "./json-admission.ts";
import { type Json, lineAndColumn, parseJson, pointerToken } from "./json-text.ts";

const LIMITS = { depthMax: 16 };
const seed = Date.now() % 2 ** 31;

function code(body: string | Buffer, limits = LIMITS): string {
  const admission = admitJson(Buffer.isBuffer(body) ? body : Buffer.from(body), limits);
  return admission.ok ? "ok" : `${admission.problem.code} ${admission.problem.param ?? ""}`.trim();
}

test("refusals name what is wrong and where", () => {
  const rows: readonly (readonly [body: string | Buffer, code: string])[] = [
    ["{}", "ok"],
    [' \n{"a":[1,{"b":null}],"c":"\\ud83d\\ude00"}\t', "ok"],
    ["\ufeff{}", "body_bom"],
    [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), "body_utf8"],
    [Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), "body_utf8"],
    [Buffer.from("{}", "utf16le"), "body_json"],
    ["", "body_json"],
    ["[]", "body_not_object"],
    ["null", "body_not_object"],
    ['"a"', "body_not_object"],
    ["12", "body_not_object"],
    ['{"a":1,"a":2}', "body_duplicate_key /a"],
    ['{"x":[{"a/~":1,"b":2,"\\u0061/~":2}]}', "body_duplicate_key /x/0/a~1~0"],
    ['{"":1,"":1}', "body_duplicate_key /"],
    ['{"a":{"b":1},"b":2}', "ok"],
    ['{"a":":,{}[]\\":","b":1}', "ok"],
    ['{"__proto__":1}', "body_forbidden_key /__proto__"],
    ['{"a":[{"b":{"\\u005f_proto__":{}}}]}', "body_forbidden_key /a/0/b/__proto__"],
    ['{"a":"__proto__","constructor":1,"proto":"x"}', "ok"],
    ['{"a":["ok","\\ud800"]}', "body_surrogate /a/1"],
    ['{"a":{"\\udc00":1}}', "body_surrogate /a/\udc00"],
    ['{"a":"\\ude00\\ud83d"}', "body_surrogate /a"],
    [`{"a":${"[".repeat(15)}${"]".repeat(15)}}`, "ok"],
    [`{"a":${"[".repeat(16)}${"]".repeat(16)}}`, "body_too_deep"],
    [`{"a":"${"[".repeat(99)}"}`, "ok"],
    [`{"a":[${"[],".repeat(99)}1]}`, "ok"],
    ["[".repeat(100_000), "body_too_deep"],
  ];
  for (const [body, expected] of rows) assert.equal(code(body), expected, body.toString().slice(0, 80));
});

test("a JSON fault has line and column", () => {
  const rows: readonly (readonly [body: string, message: string])[] = [
    ['{"a":1,\n "b":tru}', 'at 2:6: expected a value, found "t"'],
    ["", "at 1:1: expected a value, found the end"],
    ['{"a":1', "at 1:7: expected ',' or '}', found the end"],
    ['{"a":"x\ny"}', 'at 1:8: expected an escaped control character, found "\\n"'],
    ['{"a":"x', "at 1:8: expected a closing quote, found the end"],
    ['{"a":"\\x"}', 'at 1:8: expected a JSON escape, found "x"'],
    ['{"a":"\\u12g4"}', 'at 1:8: expected four hex digits after \\u, found "u"'],
    ["{a:1}", 'at 1:2: expected a member name in double quotes, found "a"'],
    ['{"a":[1,]}', 'at 1:9: expected a value, found "]"'],
    ['{"a":01}', "at 1:7: expected ',' or '}', found \"1\""],
    ["{} x", 'at 1:4: expected the end of the text, found "x"'],
    ['{"a" 1}', "at 1:6: expected ':', found \"1\""],
  ];
  for (const [body, message] of rows) {
    const admission = admitJson(Buffer.from(body), LIMITS);
    assert.ok(!admission.ok);
    assert.equal(admission.problem.code, "body_json");
    assert.equal(admission.problem.message, `The body is not valid JSON ${message}.`);
  }
  assert.equal(lineAndColumn("a\nbc", 3), "2:2");
});

test("the bytes are what is forwarded: big integers and spelling stay in the text", () => {
  const body = '{"seed":9007199254740993,"x": 1e400, "s":"\\u0041"}';
  const admission = admitJson(Buffer.from(body), LIMITS);
  assert.ok(admission.ok);
  assert.equal(admission.text, body);
  assert.equal(replaceStrings(body, new Map([["/s", "B"]])), body.replace("\\u0041", "B"));
});

/** An independent reader: collects what JSON.parse's reviver cannot tell, with none of the module's shortcuts. */
function oracle(text: string, depthMax: number): boolean {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return false;
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return false;
  // Valid JSON from here on: tokens suffice.
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]/gs) ?? [];
  const open: (Set<string> | undefined)[] = [];
  for (const [i, token] of tokens.entries()) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    if (open.length > depthMax) return false;
    if (!token.startsWith('"')) continue;
    const string = JSON.parse(token) as string;
    for (const unit of string) if (unit.length === 1 && unit >= "\ud800" && unit <= "\udfff") return false;
    if (tokens[i + 1] !== ":") continue;
    const names = open.at(-1);
    assert.ok(names !== undefined);
    if (string === "__proto__" || names.has(string)) return false;
    names.add(string);
  }
  return true;
}

const spelling = fc.constantFrom(
  "a",
  "\\u0061",
  "b",
  "__proto__",
  "\\u005f_proto__",
  "",
  "\\\\",
  '\\"',
  ":",
  "é",
  "😀",
  "\\ud83d\\ude00",
  "\\ud83d",
  "x".repeat(80),
  `${"\\\\".repeat(50)}\\"`,
  "q".repeat(70),
);
const stringText = fc.array(spelling, { maxLength: 3 }).map((parts) => `"${parts.join("")}"`);
const { json: jsonText } = fc.letrec<{ json: string; leaf: string }>((tie) => ({
  leaf: fc.oneof(stringText, fc.constantFrom("1", "-0.5e3", "true", "null", "9007199254740993")),
  json: fc.oneof(
    { depthSize: "small", maxDepth: 6 },
    tie("leaf"),
    fc.array(tie("json"), { maxLength: 4 }).map((items) => `[${items.join(" , ")}]`),
    fc
      .array(fc.tuple(stringText, tie("json")), { maxLength: 4 })
      .map((members) => `{${members.map(([name, value]) => `${name}:${value}`).join(",\n")}}`),
  ),
}));

test("accepts exactly what the slow oracle accepts", (t) => {
  t.diagnostic(`seed ${seed}`);
  const body = fc.oneof(
    jsonText.map((value) => `{"top":${value}}`),
    jsonText,
    // Damaged: one unit replaced.
    fc
      .tuple(jsonText, fc.nat(), fc.constantFrom('"', "\\", "{", "]", ",", ":", "\n", "0"))
      .map(([text, at, unit]) => {
        const cut = at % (text.length + 1);
        return `{"top":${text.slice(0, cut)}${unit}${text.slice(cut + 1)}}`;
      }),
  );
  let accepted = 0;
  fc.assert(
    fc.property(body, fc.integer({ min: 1, max: 5 }), (text, depthMax) => {
      fc.pre(text.isWellFormed());
      const ok = code(text, { depthMax }) === "ok";
      if (ok) accepted += 1;
      assert.equal(ok, oracle(text, depthMax), text);
    }),
    { seed, numRuns: 4_000 },
  );
  assert.ok(accepted > 400, `only ${accepted} were accepted: the property says little`);
});

function strings(value: Json, pointer: string, out: Map<string, string>): Map<string, string> {
  if (typeof value === "string") out.set(pointer, value);
  else if (value !== null && typeof value === "object") {
    for (const [name, item] of Object.entries(value)) strings(item, `${pointer}/${pointerToken(name)}`, out);
  }
  return out;
}

test("a name spelled with an escape is read as the upstream reads it, whatever was parsed before", () => {
  const names = [
    "\\u0041",
    "\\n",
    '\\"',
    "\\ud83d\\ude00",
    "\\u005f_proto__",
    "m\\u006fdel",
    "\\u006dodel",
    "\\\\u",
  ];
  // What V8 keeps of a shape is what leads it astray: every beginning of every name, as an earlier body had it.
  for (const name of names) {
    for (let to = 1; to <= name.length; to++) {
      const before = { first: {}, [name.slice(0, to)]: 1 };
      admitJson(Buffer.from(JSON.stringify({ nested: before, ...before })), LIMITS);
    }
    const text = `{"first":{},"${name}" :1}`;
    const wanted = JSON.parse(`"${name}"`) as string;
    const admission = admitJson(Buffer.from(text), LIMITS);
    if (wanted === "__proto__") assert.equal(code(text), "body_forbidden_key /__proto__");
    else assert.deepEqual(admission.ok && Object.keys(admission.value), ["first", wanted]);
    assert.deepEqual(Object.keys(parseJson(text) as object), ["first", wanted]);
  }
  assert.equal(code('{"first":{},"\\ud83d":1}'), "body_surrogate /\ud83d");
});

test("replaced strings are read back, and the rest keeps every byte", (t) => {
  t.diagnostic(`seed ${seed}`);
  fc.assert(
    fc.property(jsonText, fc.string({ unit: "grapheme" }), fc.nat(), (inner, replacement, pick) => {
      const text = `{"top":${inner}}`;
      const admission = admitJson(Buffer.from(text), { depthMax: 32 });
      fc.pre(admission.ok);
      const before = strings(admission.value, "", new Map());
      const chosen = [...before.keys()].filter((_, i) => (pick >> (i % 31)) % 2 === 1);
      const edits = new Map(chosen.map((pointer, i) => [pointer, `${replacement}${i}"\\`]));
      const edited = replaceStrings(text, edits);
      if (edits.size === 0) assert.equal(edited, text);
      const after = strings(parseJson(edited), "", new Map());
      assert.deepEqual(after, new Map([...before].map(([k, v]) => [k, edits.get(k) ?? v])));
      // Put the original spellings back one by one: the same bytes come out.
      const identity = replaceStrings(
        text,
        new Map(chosen.map((pointer) => [pointer, before.get(pointer)!])),
      );
      assert.deepEqual(parseJson(identity), parseJson(text));
      assert.equal(edited.replace(/"(?:[^"\\]|\\.)*"/gs, '""'), text.replace(/"(?:[^"\\]|\\.)*"/gs, '""'));
    }),
    { seed, numRuns: 1_000 },
  );
});

test("an edit that leads nowhere is an error, not a silence", () => {
  assert.throws(() => replaceStrings('{"a":{"b":"x"}}', new Map([["/a", "y"]])), /no string/);
});

const M = 10 << 20;

test("10 MB of anything is linear and never stalls for long", (t) => {
  const rows: readonly (readonly [why: string, body: Buffer, code: string])[] = [
    ["text", Buffer.from(`{"m":"${"x".repeat(M)}"}`), "ok"],
    ["backslashes", Buffer.from(`{"m":"${"\\\\".repeat(M / 2)}"}`), "ok"],
    ["open backslashes", Buffer.from(`{"m":"${"\\".repeat(M)}`), "body_json"],
    ["escaped quotes", Buffer.from(`{"m":"${'\\"'.repeat(M / 2)}"}`), "ok"],
    ["quotes", Buffer.alloc(M, '"'), "body_json"],
    ["brackets", Buffer.alloc(M, "["), "body_too_deep"],
    ["values", Buffer.from(`{"m":[${"[],".repeat(M / 3)}1]}`), "body_too_large"],
    ["members", Buffer.from(`{"m":[${'{"a":1},'.repeat(M / 8)}1]}`), "body_too_large"],
    ["escaped names", Buffer.from(`{"m":[${'{"\\u0061":"\\n"},'.repeat(60_000)}1]}`), "ok"],
    ["too many escaped names", Buffer.from(`{"m":[${'{"\\u0061":1},'.repeat(70_000)}1]}`), "body_too_large"],
    ["one escaped name and text", Buffer.from(`{"\\u0061":1,"m":"${"\\n".repeat(M / 2)}"}`), "ok"],
    ["one escaped name and numbers", Buffer.from(`{"\\u0061":1,"m":[${"1,".repeat(240_000)}1]}`), "ok"],
  ];
  for (const [why, body, expected] of rows) {
    const started = performance.now();
    assert.equal(code(body), expected, why);
    const tookMs = performance.now() - started;
    t.diagnostic(`${why}: ${tookMs.toFixed(0)} ms`);
    assert.ok(tookMs < 500, `${why} took ${tookMs} ms`);
  }
});

test("a chat body of 1 KB is admitted in a few microseconds", (t) => {
  const messages = Array.from({ length: 6 }, (_, i) => ({
    role: i % 2 === 0 ? "user" : "assistant",
    content: 'Lorem ipsum "dolor" sit amet,\nconsectetur. '.repeat(3),
  }));
  const body = Buffer.from(JSON.stringify({ model: "claude", max_tokens: 1024, stream: true, messages }));
  let best = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 4; attempt++) {
    const started = performance.now();
    for (let i = 0; i < 5_000; i++) admitJson(body, LIMITS);
    best = Math.min(best, ((performance.now() - started) * 1_000) / 5_000);
  }
  t.diagnostic(`${best.toFixed(1)} µs for ${body.length} bytes`);
  assert.ok(best < 40, `${best} µs`);
});
