/**
 * From the rounds' figures to the report: medians, times added to `direct`, ratios to the named peers, bars,
 * and the tables that a person reads. Pure; the JSON file is this report as it stands.
 */
import { median } from "./statistics.ts";
import type { Bar } from "./suites.ts";

export type Figures = Readonly<Record<string, number>>;

/** Figures of one variant, one entry per round. */
export type Rounds = ReadonlyMap<string, readonly Figures[]>;

export interface BarResult {
  readonly bar: string;
  /** Null where it is itself a figure, and that was not measured. */
  readonly limit: number | null;
  /** Null where a variant of the comparison did not run. */
  readonly measured: number | null;
  readonly holds: boolean | null;
}

export interface VariantReport {
  readonly name: string;
  readonly [figure: string]: string | number | readonly Figures[];
  readonly perRound: readonly Figures[];
}

export interface Report {
  readonly machine: Readonly<Record<string, string | number>>;
  readonly node: string;
  readonly rounds: number;
  readonly variants: readonly VariantReport[];
  readonly skipped: readonly { readonly name: string; readonly note: string }[];
  /** ratios["http-proxy"]["nginx"].cpuMicrosPerRequest: nginx's figure divided by http-proxy's, per round. */
  readonly ratios: Readonly<Record<string, Readonly<Record<string, Figures>>>>;
  readonly bars: readonly BarResult[];
}

const RATIO_BASES = ["http-proxy", "portkey"] as const;
const RATIO_FIGURES = [
  "cpuMicrosPerRequest",
  "cpuMicrosPerEvent",
  "requestsPerSecond",
  "p50Ms",
  "p99Ms",
] as const;

/** Name of a time added to that of `direct`, by the figure that it is the difference of. */
const ADDED: Readonly<Record<string, string>> = {
  firstByteP50Ms: "addedFirstByteP50Ms",
  streamFirstByteP50Ms: "addedStreamFirstByteP50Ms",
};

export type ReportBasis = Pick<Report, "machine" | "node" | "rounds" | "skipped">;

export function makeReport(basis: ReportBasis, measured: Rounds, bars: readonly Bar[]): Report {
  const rounds = withAdded(measured);
  const names = [...rounds.keys()];
  return {
    ...basis,
    variants: names.map((name) => ({
      name,
      ...mediansOf(rounds.get(name)!),
      perRound: rounds.get(name)!.map((round) => mapped(round, rounded)),
    })),
    ratios: Object.fromEntries(
      RATIO_BASES.filter((base) => rounds.has(base)).map((base) => [
        base,
        Object.fromEntries(names.map((name) => [name, ratiosOf(rounds, name, base)])),
      ]),
    ),
    bars: bars.map((bar) => judge(bar, rounds)),
  };
}

/** Adds to each round what a variant's times are above those of `direct` in that same round. */
function withAdded(rounds: Rounds): Rounds {
  const direct = rounds.get("direct");
  const added = (round: Figures, index: number) =>
    Object.entries(ADDED).flatMap(([figure, name]) => {
      const [own, base] = [round[figure], direct?.[index]?.[figure]];
      return own === undefined || base === undefined ? [] : [[name, own - base] as const];
    });
  return new Map(
    [...rounds].map(([name, list]) => [
      name,
      list.map((round, index) => ({ ...round, ...Object.fromEntries(added(round, index)) })),
    ]),
  );
}

function mediansOf(rounds: readonly Figures[]): Figures {
  const names = new Set(rounds.flatMap((round) => Object.keys(round)));
  return Object.fromEntries(
    [...names].map((name) => [name, rounded(median(rounds.flatMap((round) => round[name] ?? [])))] as const),
  );
}

function ratiosOf(rounds: Rounds, name: string, base: string): Figures {
  return Object.fromEntries(
    RATIO_FIGURES.flatMap((figure) => {
      const ratio = medianRatio(rounds, figure, name, base);
      return ratio === undefined ? [] : [[figure, rounded(ratio)] as const];
    }),
  );
}

/**
 * The median of the rounds' own ratios, and not the ratio of the medians: within a round two variants ran
 * moments apart, so that a neighbour who slowed the machine for a while slowed both. The same for differences.
 */
function medianRatio(rounds: Rounds, figure: string, name: string, base: string): number | undefined {
  return medianOfPairs(rounds, figure, name, base, (part, whole) => part / whole);
}

function medianOfPairs(
  rounds: Rounds,
  figure: string,
  name: string,
  base: string,
  compare: (own: number, other: number) => number,
): number | undefined {
  const found = (rounds.get(name) ?? []).flatMap((round, index) => {
    const [own, other] = [round[figure], rounds.get(base)?.[index]?.[figure]];
    return own === undefined || other === undefined ? [] : [compare(own, other)];
  });
  return found.length === 0 ? undefined : median(found);
}

function judge(bar: Bar, rounds: Rounds): BarResult {
  const own = mediansOf(rounds.get(bar.variant) ?? []);
  const limit = typeof bar.limit === "number" ? bar.limit : own[bar.limit];
  const measured = measuredFor(bar, rounds, own);
  if (measured === undefined || limit === undefined) {
    return { bar: bar.bar, limit: limit ?? null, measured: null, holds: null };
  }
  const holds = bar.strict === true ? measured < limit : measured <= limit;
  return { bar: bar.bar, limit, measured: rounded(measured), holds };
}

function measuredFor(bar: Bar, rounds: Rounds, own: Figures): number | undefined {
  const { figure, variant, against, addedTo } = bar;
  if (against !== undefined) return medianRatio(rounds, figure, variant, against);
  if (addedTo !== undefined)
    return medianOfPairs(rounds, figure, variant, addedTo, (mine, base) => mine - base);
  return own[figure];
}

/** Four digits say all that the measurement can. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function mapped(figures: Figures, change: (value: number) => number): Figures {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, change(value)]));
}

const COLUMNS: readonly (readonly [figure: string, heading: string, digits: number])[] = [
  ["cpuMicrosPerRequest", "CPU µs/req", 1],
  ["storeCpuMicrosPerRequest", "Redis' CPU µs/req", 1],
  ["requestsPerSecond", "req/s", 0],
  ["p50Ms", "p50 ms", 2],
  ["p99Ms", "p99 ms", 2],
  ["firstByteP50Ms", "1st byte ms", 3],
  ["addedFirstByteP50Ms", "added ms", 3],
  ["aloneP50Ms", "p50 alone ms", 3],
  ["pingP50Ms", "PING ms", 3],
  ["takeP50Ms", "take ms", 3],
  ["cpuMicrosPerEvent", "CPU µs/event", 2],
  ["readsPerEvent", "reads/event", 2],
  ["streamFirstByteP50Ms", "1st byte ms (stream)", 3],
  ["addedStreamFirstByteP50Ms", "added ms (stream)", 3],
];

/** The report as text: one table of medians, one of ratios for each peer, the bars, and what was left out. */
export function printed(report: Report): string {
  const sections = [
    table(
      ["variant", ...headings()],
      report.variants.map((row) => [row.name, ...cells(row)]),
    ),
  ];
  for (const [base, rows] of Object.entries(report.ratios)) {
    const figures = RATIO_FIGURES.filter((figure) =>
      Object.values(rows).some((row) => row[figure] !== undefined),
    );
    const names = figures.map((figure) => COLUMNS.find(([name]) => name === figure)![1]);
    const body = Object.entries(rows).map(([name, row]) => [
      name,
      ...figures.map((figure) => shown(row[figure], 2)),
    ]);
    sections.push(table([`÷ ${base}`, ...names], body));
  }
  const bars = report.bars.map((bar) => [
    bar.bar,
    bar.limit === null ? "-" : String(bar.limit),
    bar.measured === null ? "-" : String(bar.measured),
    bar.holds === null ? "not measured" : bar.holds ? "holds" : "falls short",
  ]);
  if (bars.length > 0) sections.push(table(["bar", "at most", "measured", ""], bars));
  if (report.skipped.length > 0) {
    sections.push(report.skipped.map(({ name, note }) => `left out: ${name}: ${note}`).join("\n"));
  }
  return sections.join("\n\n");

  function measuredColumns() {
    return COLUMNS.filter(([figure]) => report.variants.some((row) => row[figure] !== undefined));
  }
  function headings(): readonly string[] {
    return measuredColumns().map(([, heading]) => heading);
  }
  function cells(row: VariantReport): readonly string[] {
    return measuredColumns().map(([figure, , digits]) => shown(row[figure], digits));
  }
}

function shown(value: unknown, digits: number): string {
  return typeof value === "number" ? value.toFixed(digits) : "-";
}

/** Columns as wide as their widest cell; the first flush left, the others right. */
function table(head: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((row) => row[column]!.length)));
  return [head, widths.map((width) => "-".repeat(width)), ...body]
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
