/** What came of a run: counts for each class, and every case that did not pass. */
import { CLASSES, type ClassName, type Outcome } from "./case.ts";
import type { Row } from "./suite.ts";

type Result = Outcome["result"];
export type Counts = Readonly<Record<Result, number>> & { readonly cases: number };

export interface Report {
  readonly target: string;
  readonly seconds: number;
  readonly totals: Counts;
  readonly classes: readonly (Counts & { readonly class: ClassName; readonly title: string })[];
  readonly cases: readonly {
    readonly id: string;
    readonly class: ClassName;
    readonly result: Result;
    /** How it passed, or what was wrong. */
    readonly detail: string;
  }[];
}

const SHOWN_MAX = 60;

export function reportOf(target: string, rows: readonly Row[], seconds: number): Report {
  const names = Object.keys(CLASSES) as ClassName[];
  return {
    target,
    seconds: Math.round(seconds * 10) / 10,
    totals: countsOf(rows),
    classes: names
      .map((name) => ({
        class: name,
        title: CLASSES[name],
        ...countsOf(rows.filter(({ cls }) => cls === name)),
      }))
      .filter(({ cases }) => cases > 0),
    cases: rows.map(({ id, cls, outcome }) => ({
      id,
      class: cls,
      result: outcome.result,
      detail: outcome.result === "passed" ? outcome.how : outcome.why,
    })),
  };
}

export function printed({ target, seconds, totals, classes, cases }: Report): string {
  const line = (name: string, counts: Counts) =>
    `${name.padEnd(20)}${[counts.cases, counts.passed, counts.leaked, counts.broken, counts.skipped].map((count) => String(count).padStart(9)).join("")}`;
  const bad = cases.filter(({ result }) => result === "leaked" || result === "broken");
  return [
    `${"class".padEnd(20)}    cases   passed   leaked   broken  skipped`,
    ...classes.map((counts) => line(counts.class, counts)),
    line("all", totals),
    "",
    ...bad.slice(0, SHOWN_MAX).map(({ id, result, detail }) => `${result}  ${id}: ${detail}`),
    ...(bad.length > SHOWN_MAX ? [`... and ${bad.length - SHOWN_MAX} more; --json FILE has them all`] : []),
    `${target}: ${totals.passed} passed, ${totals.leaked} leaked, ${totals.broken} broken (${seconds} s)`,
  ].join("\n");
}

function countsOf(rows: readonly Row[]): Counts {
  const count = (result: Result) => rows.filter(({ outcome }) => outcome.result === result).length;
  return {
    cases: rows.length,
    passed: count("passed"),
    leaked: count("leaked"),
    broken: count("broken"),
    skipped: count("skipped"),
  };
}
