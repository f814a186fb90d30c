/** Counts what happened in the last seconds, in ten parts that are emptied one by one as time goes on. */

const PARTS = 10;

export class WindowCount {
  readonly #partMs: number;
  readonly #parts = new Uint32Array(PARTS);
  #total = 0;
  #last = 0;

  constructor(windowMs: number) {
    this.#partMs = windowMs / PARTS;
  }

  add(nowMs: number): void {
    this.#turn(nowMs);
    this.#parts[this.#last % PARTS]! += 1;
    this.#total += 1;
  }

  total(nowMs: number): number {
    this.#turn(nowMs);
    return this.#total;
  }

  clear(): void {
    this.#parts.fill(0);
    this.#total = 0;
  }

  #turn(nowMs: number): void {
    const part = Math.floor(nowMs / this.#partMs);
    if (part <= this.#last) return;
    for (let i = Math.max(this.#last + 1, part - PARTS + 1); i <= part; i++) {
      this.#total -= this.#parts[i % PARTS]!;
      this.#parts[i % PARTS] = 0;
    }
    this.#last = part;
  }
}
