import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestAttributes } from "./snapshot.ts";
import { compileWhen } from "./when.ts";

const ATTRIBUTES: RequestAttributes = {
  route: "openai.chat",
  dialect: "openai",
  operation: "chat",
  address: "10.0.0.7",
  org: "acme",
  project: "web",
  key: "key_1",
  model: "gpt-4.1",
  stream: true,
  endUser: "u1",
  proof: "key",
  tier: "risky",
  risk: 0.7,
  stepUp: false,
  country: "DE",
  asn: "AS64500",
};

const rows: readonly (readonly [expression: string, expected: boolean])[] = [
  ["true", true],
  ['route == "openai.chat"', true],
  ['route in ["openai.chat", "anthropic.messages"]', true],
  ['!(org in ["acme"]) || stream', true],
  ['model.startsWith("gpt-") && !stream', false],
  ['address.startsWith("10.") && size(endUser) > 0', true],
  ['["a", "acme"].exists(x, x == org)', true],
  ['tier == "risky" && risk > 0.5 && !stepUp', true],
  ['country in ["DE", "FR"] && asn == "AS64500" && proof == "key"', true],
  ['endUser == "" ? false : project == "web"', true],
];
for (const [expression, expected] of rows) {
  test(`when: ${expression}`, () => {
    const compiled = compileWhen(expression, { beforeBody: false });
    assert.ok(compiled.ok);
    assert.equal(compiled.when(ATTRIBUTES), expected);
  });
}

const bad: readonly (readonly [expression: string, message: RegExp, index: number])[] = [
  ["plan == 'free'", /unknown attribute "plan" \(known: route/, 0],
  ["stream && constructor == 'x'", /unknown attribute "constructor"/, 10],
  ["__proto__ == 'x'", /cannot be used/, 0],
  ["route.length == 3", /cannot be used/, 6],
  ["1 + 1", /true or false; this one gives int/, 0],
  ["stream &&", /ends too early/, 9],
  ["model.matches('^(a+)+$')", /regular expressions/, 0],
  ["['a'].all(x, ['b'].all(y, x == y))", /inside another loop/, 13],
  [`stream${" && stream".repeat(600)}`, /cannot be used/, 0],
  ["(".repeat(2000), /cannot be used/, 0],
];
for (const [expression, message, index] of bad) {
  test(`when refuses: ${expression.slice(0, 60)}`, () => {
    const compiled = compileWhen(expression, { beforeBody: false });
    assert.ok(!compiled.ok);
    assert.match(compiled.faults[0]!.message, message);
    if (expression.length < 100) assert.equal(compiled.faults[0]!.index, index);
  });
}

test("what comes from the body is not offered before the body", () => {
  for (const name of ["model == ''", "stream", "endUser == ''", "route == 'x' && [1].exists(i, stream)"]) {
    const compiled = compileWhen(name, { beforeBody: true });
    assert.ok(!compiled.ok, name);
    assert.match(compiled.faults[0]!.message, /comes from the body/);
  }
  assert.ok(compileWhen("org == 'acme' && address != ''", { beforeBody: true }).ok);
});

test("compiling costs microseconds, evaluating less than one", () => {
  const expression =
    'route in ["openai.chat", "anthropic.messages"] && model.startsWith("gpt-") && org != "red-team"';
  const compile = () => compileWhen(expression, { beforeBody: false });
  for (let i = 0; i < 200; i++) compile();
  let started = process.hrtime.bigint();
  for (let i = 0; i < 2_000; i++) compile();
  const compileMicros = Number(process.hrtime.bigint() - started) / 2_000_000;
  const compiled = compile();
  assert.ok(compiled.ok);
  let hits = 0;
  started = process.hrtime.bigint();
  for (let i = 0; i < 200_000; i++) if (compiled.when(ATTRIBUTES)) hits += 1;
  const evaluateNs = Number(process.hrtime.bigint() - started) / 200_000;
  console.log(`when: ${compileMicros.toFixed(1)} us to compile, ${evaluateNs.toFixed(0)} ns to evaluate`);
  assert.equal(hits, 200_000);
  assert.ok(compileMicros < 2_000 && evaluateNs < 20_000);
});
