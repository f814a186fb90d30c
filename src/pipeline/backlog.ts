/**
 * What a shadow seat has still to hear of an answer while it thinks about what it heard before. Nobody waits for a
 * shadow, so the answer goes on and the seat hears the rest in order, later: an ending waits for it as long as for one
 * question, and one that is still behind then, or too far behind before, has timed out.
 */
import type { Delta } from "../layer/index.ts";

/** UTF-16 units that wait for one seat at most; one that falls further behind has timed out. */
const UNITS_MAX = 262_144;

/** A part that waits takes memory beside its text: many short or empty ones must reach the bound too. */
const DELTA_UNITS = 64;

export class Backlog {
  #waiting: Delta[] = [];
  #units = 0;
  /** Resolves when the seat has heard everything; never rejects. */
  caughtUp: Promise<void> = Promise.resolve();

  /** False where it would be too much. */
  put(delta: Delta): boolean {
    this.#units += delta.text.length + DELTA_UNITS;
    if (this.#units > UNITS_MAX) return false;
    this.#waiting.push(delta);
    return true;
  }

  take(): Delta | undefined {
    const delta = this.#waiting.shift();
    if (delta !== undefined) this.#units -= delta.text.length + DELTA_UNITS;
    return delta;
  }

  get units(): number {
    return this.#units;
  }

  drop(): void {
    this.#waiting = [];
    this.#units = 0;
  }
}
