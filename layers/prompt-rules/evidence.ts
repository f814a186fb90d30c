/**
 * Where one rule must look in one view: the stretches around its literals, merged as they come, so that however
 * many candidates a hostile text brings, each unit is looked at once. What is looked at is counted in units, and
 * a rule that asks for more than its share looks at the first and the last of it.
 */

/** Offsets in a view. */
interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** Stretches of one rule; grows by pairs of numbers. */
export class Evidence {
  readonly #edges: number[] = [];
  units = 0;

  /** A candidate at [start, end) of a rule whose longest match has `reach` units. Candidates come by their ends. */
  add(start: number, end: number, reach: number): void {
    const from = Math.max(0, start - reach);
    const to = end + reach;
    const last = this.#edges.length - 1;
    if (last > 0 && from <= this.#edges[last]!) {
      this.units += Math.max(0, to - this.#edges[last]!);
      if (to > this.#edges[last]!) this.#edges[last] = to;
      return;
    }
    this.#edges.push(from, to);
    this.units += to - from;
  }

  /** Within `unitsMax`: all of them, or the first and the last that fit. */
  stretches(length: number, unitsMax: number): Stretch[] {
    const all: Stretch[] = [];
    for (let i = 0; i < this.#edges.length; i += 2)
      all.push({ start: this.#edges[i]!, end: Math.min(length, this.#edges[i + 1]!) });
    return this.units <= unitsMax ? all : ends(all, unitsMax);
  }
}

function ends(all: readonly Stretch[], unitsMax: number): Stretch[] {
  const half = Math.floor(unitsMax / 2);
  const kept: Stretch[] = [];
  let left = half;
  let first = 0;
  for (; first < all.length && left > 0; first++) {
    const { start, end } = all[first]!;
    kept.push({ start, end: Math.min(end, start + left) });
    left -= end - start;
  }
  const fromHere = kept.at(-1)?.end ?? 0;
  left = half;
  const late: Stretch[] = [];
  for (let i = all.length - 1; i >= 0 && left > 0 && all[i]!.end > fromHere; i--) {
    const { start, end } = all[i]!;
    late.push({ start: Math.max(start, fromHere, end - left), end });
    left -= end - start;
  }
  return [...kept, ...late.reverse()];
}
