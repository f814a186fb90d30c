/**
 * Finds the nearest of some ten thousand exemplars in a fraction of a millisecond, on one thread and without a
 * library. By meaning: every vector is turned at random and kept as the signs of its numbers too; the nearest by
 * signs are compared in full. By wording: a copy shares at least one byte of its SimHash, and only those are looked at.
 *
 *   embedding -> turn -> 512 signs -> popcount over all -> the nearest 64 of each label -> cosine -> the nearest
 */
import type { ExemplarLabel, ExemplarMatch, TextPrint } from "../layer/index.ts";
import { distanceOf, ones } from "../text/simhash.ts";
import { type ExemplarRow, printOf, unitVector, unpackVector, VECTOR_SIZE } from "./exemplars-row.ts";

const SIGN_WORDS = VECTOR_SIZE / 32;
/** Of each label, compared in full. */
const SHORTLIST = 64;
const BANDS = 8;
/** Fewer than the bands, so that a copy shares one whole. */
const COPY_DISTANCE_MAX = BANDS - 1;
/** A copy's length is within this factor. */
const COPY_LENGTH_FACTOR = 1.25;
const SLOTS_FIRST = 64;

export class ExemplarIndex {
  readonly #slots: ExemplarRow[] = [];
  readonly #slotOf = new Map<string, number>();
  readonly #prints = new Map<string, TextPrint>();
  /** By band and byte: ids. */
  readonly #bands = Array.from({ length: BANDS }, () => new Map<number, Set<string>>());
  #vectors = new Float32Array(SLOTS_FIRST * VECTOR_SIZE);
  #signs = new Int32Array(SLOTS_FIRST * SIGN_WORDS);
  /** By slot: bits in which the signs differ from those that are asked for. */
  #distances = new Uint16Array(SLOTS_FIRST);

  get size(): number {
    return this.#slots.length;
  }

  put(row: ExemplarRow): void {
    this.remove(row.id);
    const slot = this.#slots.length;
    this.#slots.push(row);
    this.#slotOf.set(row.id, slot);
    if (slot * VECTOR_SIZE === this.#vectors.length) this.#grow();
    const vector = unpackVector(row.vector);
    this.#vectors.set(vector, slot * VECTOR_SIZE);
    signsOf(vector, this.#signs, slot * SIGN_WORDS);
    const print = printOf(row);
    if (print === undefined) return;
    this.#prints.set(row.id, print);
    for (let band = 0; band < BANDS; band++) {
      const byte = byteOf(print, band);
      const ids = this.#bands[band]!.get(byte);
      if (ids === undefined) this.#bands[band]!.set(byte, new Set([row.id]));
      else ids.add(row.id);
    }
  }

  /** The last slot takes the place of the one that goes. */
  remove(id: string): void {
    const slot = this.#slotOf.get(id);
    if (slot === undefined) return;
    const lastSlot = this.#slots.length - 1;
    const last = this.#slots.pop()!;
    this.#slotOf.delete(id);
    if (slot !== lastSlot) {
      this.#slots[slot] = last;
      this.#slotOf.set(last.id, slot);
      this.#vectors.copyWithin(slot * VECTOR_SIZE, lastSlot * VECTOR_SIZE, (lastSlot + 1) * VECTOR_SIZE);
      this.#signs.copyWithin(slot * SIGN_WORDS, lastSlot * SIGN_WORDS, (lastSlot + 1) * SIGN_WORDS);
    }
    const print = this.#prints.get(id);
    if (print === undefined) return;
    this.#prints.delete(id);
    for (let band = 0; band < BANDS; band++) {
      const byte = byteOf(print, band);
      const ids = this.#bands[band]!.get(byte);
      ids?.delete(id);
      if (ids?.size === 0) this.#bands[band]!.delete(byte);
    }
  }

  /** The nearest copy; of equally near ones a good one, as it was added to spare just this. */
  copyOf(print: TextPrint): ExemplarMatch | undefined {
    let found: ExemplarRow | undefined;
    let least = COPY_DISTANCE_MAX + 1;
    for (let band = 0; band < BANDS; band++) {
      const ids = this.#bands[band]!.get(byteOf(print, band));
      if (ids === undefined) continue;
      for (const id of ids) {
        const other = this.#prints.get(id)!;
        const factor = print.units > other.units ? print.units / other.units : other.units / print.units;
        if (factor > COPY_LENGTH_FACTOR) continue;
        const distance = distanceOf(print, other);
        if (distance > least) continue;
        const row = this.#slots[this.#slotOf.get(id)!]!;
        if (distance === least && row.label !== "good") continue;
        least = distance;
        found = row;
      }
    }
    return found === undefined ? undefined : matchOf(found, 1 - least / 32);
  }

  nearest(embedding: Float32Array): { readonly bad?: ExemplarMatch; readonly good?: ExemplarMatch } {
    const count = this.#slots.length;
    if (count === 0) return {};
    const vector = unitVector(embedding);
    const wanted = new Int32Array(SIGN_WORDS);
    signsOf(vector, wanted, 0);
    const [signs, distances] = [this.#signs, this.#distances];
    for (let slot = 0; slot < count; slot++) {
      const at = slot * SIGN_WORDS;
      let differ = 0;
      for (let word = 0; word < SIGN_WORDS; word++) differ += ones(signs[at + word]! ^ wanted[word]!);
      distances[slot] = differ;
    }
    const bad = this.#best("bad", vector);
    const good = this.#best("good", vector);
    return { ...(bad !== undefined && { bad }), ...(good !== undefined && { good }) };
  }

  /** In full, over those whose signs are among the nearest of their label. */
  #best(label: ExemplarLabel, vector: Float32Array): ExemplarMatch | undefined {
    const within = this.#shortlistBound(label);
    let found = -1;
    let most = Number.NEGATIVE_INFINITY;
    for (let slot = 0; slot < this.#slots.length; slot++) {
      if (this.#distances[slot]! > within || this.#slots[slot]!.label !== label) continue;
      const similarity = this.#cosine(slot, vector);
      if (similarity <= most) continue;
      most = similarity;
      found = slot;
    }
    return found < 0 ? undefined : matchOf(this.#slots[found]!, Math.max(0, Math.min(1, most)));
  }

  /** The distance that about SHORTLIST of a label lie within, from their histogram. */
  #shortlistBound(label: ExemplarLabel): number {
    const histogram = new Int32Array(VECTOR_SIZE + 1);
    for (let slot = 0; slot < this.#slots.length; slot++) {
      if (this.#slots[slot]!.label !== label) continue;
      const distance = this.#distances[slot]!;
      histogram[distance] = histogram[distance]! + 1;
    }
    let sum = 0;
    for (let distance = 0; distance <= VECTOR_SIZE; distance++) {
      sum += histogram[distance]!;
      if (sum >= SHORTLIST) return distance;
    }
    return VECTOR_SIZE;
  }

  #cosine(slot: number, vector: Float32Array): number {
    const vectors = this.#vectors;
    const at = slot * VECTOR_SIZE;
    let sum = 0;
    for (let i = 0; i < VECTOR_SIZE; i++) sum += vectors[at + i]! * vector[i]!;
    return sum;
  }

  #grow(): void {
    const [vectors, signs] = [this.#vectors, this.#signs];
    this.#vectors = new Float32Array(vectors.length * 2);
    this.#vectors.set(vectors);
    this.#signs = new Int32Array(signs.length * 2);
    this.#signs.set(signs);
    this.#distances = new Uint16Array(this.#distances.length * 2);
  }
}

function matchOf({ id, label, mode }: ExemplarRow, similarity: number): ExemplarMatch {
  return { id, label, mode, similarity };
}

function byteOf({ low, high }: TextPrint, band: number): number {
  return ((band < 4 ? low : high) >>> ((band % 4) * 8)) & 0xff;
}

const turned = new Float32Array(VECTOR_SIZE);

/** +1 or -1 by place, the same in every process. */
const flips = Float32Array.from({ length: VECTOR_SIZE }, (_, i) =>
  (Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(i + 1, 0x85ebca6b)) & 0x10000 ? 1 : -1,
);

/** Signs of the vector turned by random flips and a Walsh-Hadamard transform, which spreads each number over all. */
function signsOf(vector: Float32Array, into: Int32Array, at: number): void {
  for (let i = 0; i < VECTOR_SIZE; i++) turned[i] = vector[i]! * flips[i]!;
  for (let half = 1; half < VECTOR_SIZE; half *= 2) {
    for (let from = 0; from < VECTOR_SIZE; from += 2 * half) {
      for (let i = from; i < from + half; i++) {
        const [a, b] = [turned[i]!, turned[i + half]!];
        turned[i] = a + b;
        turned[i + half] = a - b;
      }
    }
  }
  for (let word = 0; word < SIGN_WORDS; word++) {
    let bits = 0;
    for (let bit = 0; bit < 32; bit++) if (turned[word * 32 + bit]! > 0) bits |= 1 << bit;
    into[at + word] = bits;
  }
}
