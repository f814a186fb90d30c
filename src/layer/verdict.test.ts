/** `join` is a lattice join: commutative, associative, idempotent, with ALLOW as its identity. */
import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import { ACTS, ALLOW, compareActs, type Finding, join, type Span, type Verdict } from "./verdict.ts";

/** Spans and findings are plain objects everywhere; two that differ in their prototype alone are no case. */
const PLAIN = { noNullPrototype: true };
const span: fc.Arbitrary<Span> = fc.record(
  { channel: fc.constantFrom("answer:0", "prompt:1"), start: fc.nat(3), end: fc.nat(5) },
  PLAIN,
);
const finding: fc.Arbitrary<Finding> = fc
  .record(
    {
      reason: fc.constantFrom("a.b", "a.c"),
      score: fc.constantFrom(0.1, 0.5, 1),
      where: fc.option(span, { nil: undefined }),
    },
    PLAIN,
  )
  .map(({ where, ...rest }) => (where === undefined ? rest : { ...rest, where }));
const findings = fc.array(finding, { minLength: 1, maxLength: 4 });
const verdict: fc.Arbitrary<Verdict> = fc.oneof(
  fc.constant<Verdict>(ALLOW),
  findings.map((list): Verdict => ({ act: "flag", findings: list })),
  fc
    .tuple(findings, fc.array(span, { maxLength: 3 }))
    .map(([list, spans]): Verdict => ({ act: "redact", findings: list, spans })),
  fc
    .tuple(findings, fc.nat(9))
    .map(([list, retryAfterMs]): Verdict => ({ act: "throttle", findings: list, retryAfterMs })),
  findings.map((list): Verdict => ({ act: "block", findings: list })),
);
/** Joining a verdict with itself sorts and de-duplicates, which is the form that joins have. */
const normal = (v: Verdict): Verdict => join(v, structuredClone(v));

it("is commutative", () => {
  fc.assert(
    fc.property(verdict, verdict, (a, b) => assert.deepEqual(normal(join(a, b)), normal(join(b, a)))),
  );
});
it("is associative", () => {
  fc.assert(
    fc.property(verdict, verdict, verdict, (a, b, c) =>
      assert.deepEqual(normal(join(join(a, b), c)), normal(join(a, join(b, c)))),
    ),
  );
});
it("is idempotent, with allow as identity", () => {
  fc.assert(
    fc.property(verdict, (a) => {
      assert.deepEqual(normal(normal(a)), normal(a));
      assert.equal(join(a, ALLOW), a);
      assert.equal(join(ALLOW, a), a);
    }),
  );
});
it("takes the stricter act", () => {
  for (const a of ACTS)
    for (const b of ACTS) assert.equal(compareActs(a, b) > 0, ACTS.indexOf(a) > ACTS.indexOf(b));
});
