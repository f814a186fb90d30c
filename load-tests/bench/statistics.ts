/** The bench's arithmetic: pure, and the same for every figure. */

/** The middle value; of an even number the mean of the middle two. NaN for none. */
export function median(values: Iterable<number>): number {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle]!;
  return ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** The smallest value that at least `share` (0..1] of the values do not exceed (nearest rank). NaN for none. */
export function percentile(values: Iterable<number>, share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** The order of one round: the list turned by the round's number, so that no one always comes first or last. */
export function rotated<T>(list: readonly T[], round: number): readonly T[] {
  const turn = list.length === 0 ? 0 : round % list.length;
  return [...list.slice(turn), ...list.slice(0, turn)];
}
