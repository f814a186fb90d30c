/**
 * Cuts of a text that is too long to be looked at in one piece. All windows together cover the text, each overlaps
 * the next, and the last and the first come first: a budget that ends early has seen where attacks stand most.
 */
export interface WindowOptions {
  /** Units of one window. */
  readonly unitsMax: number;
  /** Units that a window shares with the next; less than half of `unitsMax`. */
  readonly overlap: number;
  /** Most windows; where they do not cover the text, those in the middle stand apart. Default: as many as it takes. */
  readonly countMax?: number;
}

export interface Window {
  readonly start: number;
  readonly end: number;
}

/** Windows over a text of `length` units: the last, the first, then those between, from the end. */
export function windows(length: number, options: WindowOptions): Window[] {
  const { unitsMax, overlap, countMax = Number.POSITIVE_INFINITY } = options;
  if (length <= unitsMax) return [{ start: 0, end: length }];
  const last = { start: length - unitsMax, end: length };
  const needed = Math.ceil((length - overlap) / (unitsMax - overlap));
  const count = Math.max(1, Math.min(needed, countMax));
  if (count === 1) return [last];
  const step = last.start / (count - 1);
  const cuts = [last, { start: 0, end: unitsMax }];
  for (let i = count - 2; i > 0; i--) {
    const start = Math.round(i * step);
    cuts.push({ start, end: start + unitsMax });
  }
  return cuts;
}
