/**
 * F1 by entity type on labelled documents: `node layers/output-pii/measure.bench.ts --data FILE.json[.gz] [--misses TYPE]`.
 * The file is a list of `{ full_text, spans: [{ entity_type, start_position, end_position }] }`, as Presidio's
 * research generator writes it. Kinds with a form must match a labelled span from its first unit to its last;
 * persons and addresses are counted by word, as that is what a redaction takes out, and by whole span beside it.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { z } from "zod";
import { findingsOf, type Held, type Ports, type RequestContext } from "../../src/layer/index.ts";
import { KINDS, type Kind } from "./kinds.ts";
import { outputPii } from "./layer.ts";

const { values: args } = parseArgs({
  options: {
    data: { type: "string" },
    misses: { type: "string" },
    even: { type: "boolean" },
    odd: { type: "boolean" },
  },
});
if (args.data === undefined) throw new Error("--data FILE.json[.gz] is missing");

const Documents = z.array(
  z.object({
    full_text: z.string(),
    template_id: z.number().optional(),
    spans: z.array(
      z.object({ entity_type: z.string(), start_position: z.number(), end_position: z.number() }),
    ),
  }),
);

/** What the documents call each kind, and how it is counted. */
const TYPES: readonly { type: string; ids: RegExp; by: "span" | "word" }[] = [
  { type: "EMAIL_ADDRESS", ids: /^email$/, by: "span" },
  { type: "CREDIT_CARD", ids: /^card$/, by: "span" },
  { type: "IBAN_CODE", ids: /^iban$/, by: "span" },
  { type: "US_SSN", ids: /^us-ssn$/, by: "span" },
  { type: "IP_ADDRESS", ids: /^ip$/, by: "span" },
  { type: "PHONE_NUMBER", ids: /^phone$/, by: "span" },
  { type: "PERSON", ids: /^person$/, by: "word" },
  { type: "ADDRESS", ids: /^address$/, by: "word" },
  { type: "(other numbers)", ids: /^(?:[a-z]{2}-(?!ssn).*|mac|imei)$/, by: "span" },
];

const file = readFileSync(args.data);
const text = (args.data.endsWith(".gz") ? gunzipSync(file) : file).toString("utf8");
const documents = Documents.parse(JSON.parse(text)).filter(
  ({ template_id: id = 0 }) => (!args.even || id % 2 === 0) && (!args.odd || id % 2 === 1),
);

const kinds = Object.fromEntries(KINDS.map((kind: Kind) => [kind, "flag"]));
const layer = outputPii.compile(outputPii.config.parse({ kinds, allow: [] }), {} as Ports);

interface Range {
  readonly id: string;
  readonly start: number;
  readonly end: number;
}

function found(whole: string): Range[] {
  const delta = { channel: "a", kind: "answer", choice: 0, start: 0, text: whole, final: true } as const;
  const held = layer.open({} as RequestContext).onChunk?.(delta) as Held;
  return findingsOf(held).map(({ reason, where }) => ({
    id: reason.slice(reason.lastIndexOf(".") + 1),
    start: where?.start ?? 0,
    end: where?.end ?? 0,
  }));
}

/** The positions of words that a range covers, at least in part. */
function wordsOf(whole: string, ranges: readonly { start: number; end: number }[]): Set<number> {
  const words = new Set<number>();
  for (const word of whole.matchAll(/[\p{L}\p{M}\p{N}]+/gu)) {
    const end = word.index + word[0].length;
    if (ranges.some((range) => range.start < end && word.index < range.end)) words.add(word.index);
  }
  return words;
}

class Count {
  right = 0;
  extra = 0;
  missed = 0;
  add(wanted: ReadonlySet<string | number>, got: ReadonlySet<string | number>): void {
    for (const one of got)
      if (wanted.has(one)) this.right++;
      else this.extra++;
    for (const one of wanted) if (!got.has(one)) this.missed++;
  }
  toString(): string {
    const precision = this.right / (this.right + this.extra || 1);
    const recall = this.right / (this.right + this.missed || 1);
    const f1 = (2 * this.right) / (2 * this.right + this.extra + this.missed || 1);
    return `F1 ${f1.toFixed(3)}  precision ${precision.toFixed(3)}  recall ${recall.toFixed(3)}  (${this.right} right, ${this.extra} extra, ${this.missed} missed)`;
  }
}

const spanCounts = new Map(TYPES.map(({ type }) => [type, new Count()]));
const wordCounts = new Map(TYPES.map(({ type }) => [type, new Count()]));
for (const { full_text: whole, spans, template_id: template } of documents) {
  const all = found(whole);
  for (const { type, ids } of TYPES) {
    const wanted = spans
      .filter((span) => span.entity_type === type)
      .map((span) => ({ start: span.start_position, end: span.end_position }));
    const got = all.filter(({ id }) => ids.test(id));
    const names = (ranges: readonly { start: number; end: number }[]) =>
      new Set(ranges.map(({ start, end }) => `${start} ${end}`));
    spanCounts.get(type)?.add(names(wanted), names(got));
    const [wantedWords, gotWords] = [wordsOf(whole, wanted), wordsOf(whole, got)];
    wordCounts.get(type)?.add(wantedWords, gotWords);
    if (args.misses === type && [...names(wanted)].sort().join() !== [...names(got)].sort().join()) {
      const show = (ranges: readonly { start: number; end: number }[]) =>
        ranges.map(({ start, end }) => JSON.stringify(whole.slice(start, end))).join(" ");
      console.log(`${template} ${JSON.stringify(whole)}\n   wanted ${show(wanted)}\n   got    ${show(got)}`);
    }
  }
}
for (const { type, by } of TYPES) {
  const [span, word] = [spanCounts.get(type), wordCounts.get(type)];
  console.log(`${type.padEnd(16)} by ${by}: ${by === "span" ? span : word}`);
  if (by === "word") console.log(`${"".padEnd(16)} by span: ${span}`);
}
