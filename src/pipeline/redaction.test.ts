/** Redactions are independent of how the channel is cut into regions. */
import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import { Redactions } from "./redaction.ts";

const FINDINGS = [{ reason: "output.secret.x", score: 1 }];

function redactionsOf(spans: readonly (readonly [number, number])[]): Redactions {
  const redactions = new Redactions("<{kind}>");
  for (const [start, end] of spans) redactions.add({ channel: "c", start, end }, FINDINGS);
  return redactions;
}

/** By definition: mark each unit, then print a mark once per run. */
function oracle(text: string, spans: readonly (readonly [number, number])[]): string {
  const hidden = Array.from(text, () => false);
  for (const [start, end] of spans) for (let i = start; i < Math.min(end, text.length); i++) hidden[i] = true;
  // Abutting spans are one run; that is what marking does by itself.
  let out = "";
  for (let i = 0; i < text.length; i++) {
    if (!hidden[i]) out += text[i];
    else if (i === 0 || !hidden[i - 1]) out += "<x>";
  }
  return out;
}

it("any spans, any cuts: the same text as marking unit by unit", () => {
  const span = fc.tuple(fc.nat(40), fc.nat(12)).map(([start, length]) => [start, start + length] as const);
  fc.assert(
    fc.property(
      fc.string({ unit: "grapheme-ascii", maxLength: 40 }),
      fc.array(span, { maxLength: 6 }),
      fc.array(fc.nat(40), { maxLength: 5 }),
      (text, spans, cuts) => {
        const within = spans
          .filter(([start]) => start < text.length)
          .map(([s, e]) => [s, Math.min(e, text.length)] as const);
        const redactions = redactionsOf(within);
        const edges = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length];
        let out = "";
        for (let i = 1; i < edges.length; i++)
          out += redactions.apply(text.slice(edges[i - 1], edges[i]), edges[i - 1]!);
        assert.equal(out, oracle(text, within));
      },
    ),
    { numRuns: 2000 },
  );
});

it("a span that grows as it arrives leaves one mark", () => {
  const redactions = redactionsOf([[3, 6]]);
  assert.equal(redactions.apply("abcdef", 0), "abc<x>");
  redactions.add({ channel: "c", start: 6, end: 9 }, FINDINGS);
  assert.equal(redactions.apply("ghijk", 6), "jk");
});

it("a span with its own text stays by itself, and gives way to a mark that overlaps it", () => {
  const span = (start: number, end: number, by?: string) => ({ channel: "c", start, end, ...(by && { by }) });
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    const redactions = new Redactions("<{kind}>");
    const spans = [span(1, 3, "one"), span(3, 5, "two"), span(5, 6)];
    for (const at of order) redactions.add(spans[at]!, FINDINGS);
    assert.equal(redactions.apply("abcdefg", 0), "aonetwo<x>g");
    assert.equal(redactions.apply("abcd", 0) + redactions.apply("efg", 4), "aonetwo<x>g");
    redactions.add(span(4, 5), FINDINGS);
    assert.equal(redactions.apply("abcdefg", 0), "aone<x>g");
  }
});
