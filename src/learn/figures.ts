/**
 * How well scores tell two classes apart: area under the ROC curve, and recall at a fixed rate of false positives,
 * with bootstrap intervals. Thresholds are taken from benign rows alone.
 */
import { Random } from "./random.ts";

export interface Scored {
  readonly score: number;
  readonly malicious: boolean;
}

/** Mann-Whitney U, ties counted half; NaN where a class is missing. */
export function areaUnderCurve(rows: readonly Scored[]): number {
  const sorted = rows.toSorted((a, b) => a.score - b.score);
  let positives = 0;
  let ranks = 0;
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (j < sorted.length && sorted[j]!.score === sorted[i]!.score) j += 1;
    for (let k = i; k < j; k++) {
      if (!sorted[k]!.malicious) continue;
      positives += 1;
      ranks += (i + j + 1) / 2;
    }
    i = j;
  }
  return (ranks - (positives * (positives + 1)) / 2) / (positives * (sorted.length - positives));
}

/** The least score that flags at most `rate` of the benign rows: flagged is what lies above it. */
export function thresholdAt(rows: readonly Scored[], rate: number): number {
  const benign = rows.filter((row) => !row.malicious).map((row) => row.score);
  benign.sort((a, b) => b - a);
  return benign[Math.min(benign.length - 1, Math.floor(rate * benign.length))] ?? Number.POSITIVE_INFINITY;
}

/** Share of the rows of one class that lie above the threshold; NaN where there are none. */
export function shareAbove(rows: readonly Scored[], threshold: number, malicious: boolean): number {
  let count = 0;
  let above = 0;
  for (const row of rows) {
    if (row.malicious !== malicious) continue;
    count += 1;
    if (row.score > threshold) above += 1;
  }
  return above / count;
}

export interface Interval {
  readonly value: number;
  /** 2.5th and 97.5th percentile over resamples. */
  readonly low: number;
  readonly high: number;
}

/** Percentile bootstrap (Efron 1979), classes resampled apart, so that no resample lacks one. */
export function bootstrap(
  rows: readonly Scored[],
  figure: (rows: readonly Scored[]) => number,
  options: { readonly resamples: number; readonly seed: number },
): Interval {
  const random = new Random(options.seed);
  const classes = [rows.filter((row) => row.malicious), rows.filter((row) => !row.malicious)];
  const values: number[] = [];
  for (let i = 0; i < options.resamples; i++) {
    values.push(figure(classes.flatMap((list) => list.map(() => list[random.below(list.length)]!))));
  }
  values.sort((a, b) => a - b);
  const at = (share: number) => values[Math.floor(share * (values.length - 1))] ?? Number.NaN;
  return { value: figure(rows), low: at(0.025), high: at(0.975) };
}

/** Wilson's interval for a share (E. B. Wilson 1927), 95%. */
export function wilson(share: number, count: number): readonly [number, number] {
  const z = 1.96;
  const scale = 1 + (z * z) / count;
  const middle = (share + (z * z) / (2 * count)) / scale;
  const half = (z / scale) * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
