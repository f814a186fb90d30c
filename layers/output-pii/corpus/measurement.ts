/** How well national numbers are told: a number counts as found where a span covers it from its first unit to its last. */
import { findingsOf, type Held, type Ports, type RequestContext } from "../../../src/layer/index.ts";
import { NUMBER_ROWS } from "../kinds.ts";
import { outputPii } from "../layer.ts";
import type { Document } from "./national.ts";

export interface Judged {
  readonly document: Document;
  /** Kinds of the spans that were found. */
  readonly found: readonly string[];
  readonly right: number;
  readonly missed: number;
  readonly extra: number;
}

const PREFIX = "output.pii.";
const IDS: ReadonlySet<string> = new Set(
  NUMBER_ROWS.filter(({ kind }) => kind === "national-number").map(({ id }) => id),
);
const layer = outputPii.compile(outputPii.config.parse({}), {} as Ports);

export function judgeNational(document: Document): Judged {
  const { text, number } = document;
  const watch = layer.open({} as RequestContext);
  const held = watch.onChunk?.({ channel: "a", kind: "answer", choice: 0, start: 0, text, final: true });
  const findings = findingsOf(held as Held).filter(({ reason }) => IDS.has(reason.slice(PREFIX.length)));
  const spans = new Set(findings.map(({ where }) => `${where?.start} ${where?.end}`));
  const right = number !== undefined && spans.has(`${number.start} ${number.end}`) ? 1 : 0;
  return {
    document,
    found: findings.map(({ reason }) => reason.slice(PREFIX.length)),
    right,
    missed: number === undefined ? 0 : 1 - right,
    extra: spans.size - right,
  };
}

/** Of one kind of number, or of all: what was found as that kind anywhere, and how much of its own was found at all. */
export function figures(judged: readonly Judged[], of?: string) {
  const own = of === undefined ? judged : judged.filter(({ document }) => document.of === of);
  const right = own.reduce((total, one) => total + one.right, 0);
  const missed = own.reduce((total, one) => total + one.missed, 0);
  const extra = judged.filter(
    ({ extra: spans, found }) => spans > 0 && (of === undefined || found.includes(of)),
  ).length;
  return {
    documents: own.length,
    extra,
    precision: right + extra === 0 ? 1 : right / (right + extra),
    recall: right + missed === 0 ? 1 : right / (right + missed),
    f1: right + missed + extra === 0 ? 1 : (2 * right) / (2 * right + missed + extra),
  };
}
