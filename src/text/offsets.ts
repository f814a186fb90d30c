/**
 * Where the units of a made text came from. A text that is folded, decoded or cut to excerpts is described by
 * stretches: within one, each made unit came from the same number of source units. Most texts have none (they
 * are their source) or a few, so nothing is kept by unit.
 *
 *   made    | hello_ | ignore |        stretches    0..6 <- 0..6   one to one
 *   source  | hello_ | %69%67%6e... |               6..12 <- 6..24 one to three
 */

export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Fields of a stretch in `#cells`. A `to` below `from` is a stretch that was written backwards. */
const MADE = 0;
const FROM = 1;
const TO = 2;
const WIDTH = 3;

/** Cells of a new map; grows by doubling. */
const CELLS_FIRST = 48;

export class OffsetMap {
  #cells = new Int32Array(CELLS_FIRST);
  #count = 0;
  #length = 0;

  /** `units` more made units that came from source [from, to); backwards when `to` is below `from`. */
  add(units: number, from: number, to: number): void {
    if (units === 0) return;
    const last = (this.#count - 1) * WIDTH;
    if (this.#count > 0 && this.#cells[last + TO] === from) {
      const size = this.#length - this.#cells[last + MADE]!;
      // One ratio, one stretch.
      if ((from - this.#cells[last + FROM]!) * units === (to - from) * size && to > from) {
        this.#cells[last + TO] = to;
        this.#length += units;
        return;
      }
    }
    const at = this.#count * WIDTH;
    if (at === this.#cells.length) {
      const grown = new Int32Array(at * 2);
      grown.set(this.#cells);
      this.#cells = grown;
    }
    this.#cells[at + MADE] = this.#length;
    this.#cells[at + FROM] = from;
    this.#cells[at + TO] = to;
    this.#count += 1;
    this.#length += units;
  }

  get length(): number {
    return this.#length;
  }

  /** The source of made units [start, end): exact where a stretch has a whole ratio, a unit wider where not. */
  span(start: number, end: number): Range {
    if (this.#count === 0) return { start: 0, end: 0 };
    const first = this.#at(start);
    const last = Math.max(first, this.#at(Math.max(start, end - 1)));
    let low = Number.POSITIVE_INFINITY;
    let high = 0;
    // Stretches that were written backwards need not rise: every one in between has a say.
    for (let i = first; i <= last; i++) {
      const made = this.#cells[i * WIDTH + MADE]!;
      const size = (i + 1 < this.#count ? this.#cells[(i + 1) * WIDTH + MADE]! : this.#length) - made;
      const a = Math.min(Math.max(start - made, 0), size);
      const b = Math.min(Math.max(end - made, a), size);
      const from = this.#cells[i * WIDTH + FROM]!;
      const to = this.#cells[i * WIDTH + TO]!;
      const source = Math.abs(to - from);
      const slack = source % size === 0 ? 0 : 1;
      const near = Math.max(0, Math.floor((a * source) / size) - slack);
      const far = Math.min(source, Math.ceil((b * source) / size) + slack);
      low = Math.min(low, to >= from ? from + near : from - far);
      high = Math.max(high, to >= from ? from + far : from - near);
    }
    return { start: low, end: Math.max(low, high) };
  }

  /** Index of the stretch that holds made unit `unit`. */
  #at(unit: number): number {
    let low = 0;
    let high = this.#count - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#cells[middle * WIDTH + MADE]! <= unit) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
