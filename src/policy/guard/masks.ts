/**
 * Counts by *who found something*: the seats that a request was found by are a set of bits, and each set has a cell.
 * That is what lets a figure be charged to a change and to nothing else: a refusal counts against a change only
 * where every seat that found something is one that the change touched.
 *
 *   bits 0..26  seats, by first sight      27  all later seats together
 *   28  the policy itself (routes, fields that are not known)      29  the gateway's own failure
 */

const SEAT_BITS = 27;
const LATER_SEATS = 1 << SEAT_BITS;
export const POLICY_ITSELF = 1 << 28;
export const INTERNAL = 1 << 29;
export const EVERYTHING = (1 << 30) - 1;

/** Different sets that are told apart; what comes later counts as found by everybody. */
const CELLS_MAX = 24;

/** Bits of seat ids, for the life of the process. */
export class SeatBits {
  readonly #known = new Map<string, number>();

  of(seat: string): number {
    const bit = this.#known.get(seat);
    if (bit !== undefined) return bit;
    if (this.#known.size >= SEAT_BITS) return LATER_SEATS;
    const made = 1 << this.#known.size;
    this.#known.set(seat, made);
    return made;
  }
}

export interface Cell {
  readonly mask: number;
  /** Requests that exactly these seats found something in. */
  found: number;
  /** Of those: refused (blocked or throttled), ... */
  refused: number;
  /** ... or would be, had every seat its way. */
  would: number;
}

export class Masks {
  readonly #cells: Cell[] = [];

  get cells(): readonly Cell[] {
    return this.#cells;
  }

  cell(mask: number): Cell {
    const cells = this.#cells;
    for (let i = 0; i < cells.length; i++) if (cells[i]!.mask === mask) return cells[i]!;
    if (cells.length >= CELLS_MAX) return this.#everything();
    const made = { mask, found: 0, refused: 0, would: 0 };
    cells.push(made);
    return made;
  }

  /** The last cell is kept for what no longer fits. */
  #everything(): Cell {
    const last = this.#cells[CELLS_MAX - 1]!;
    if (last.mask === EVERYTHING) return last;
    const made = { ...last, mask: EVERYTHING };
    this.#cells[CELLS_MAX - 1] = made;
    return made;
  }

  /** Every count times a factor: how old counts fade. */
  scale(factor: number): void {
    for (const cell of this.#cells) {
      cell.found *= factor;
      cell.refused *= factor;
      cell.would *= factor;
    }
  }

  add(other: Masks): void {
    for (const { mask, found, refused, would } of other.cells) {
      const own = this.cell(mask);
      own.found += found;
      own.refused += refused;
      own.would += would;
    }
  }
}

/** Sum over the sets that lie within `touched`. */
export function within(masks: Masks, touched: number, column: "refused" | "would"): number {
  let sum = 0;
  for (const cell of masks.cells) if ((cell.mask & ~touched) === 0) sum += cell[column];
  return sum;
}

/** Requests in which somebody found something whom the change did not touch: the weather. */
export function beyond(masks: Masks, touched: number): number {
  let sum = 0;
  for (const { mask, found } of masks.cells) if ((mask & ~touched) !== 0) sum += found;
  return sum;
}
