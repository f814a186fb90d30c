/**
 * A bound on how many answers are worked on at once, so that overload can be shown: what comes beyond it waits in
 * a queue, as a model API's scheduler lets it wait, and beyond the queue it is refused.
 */
import type { Script } from "./script.ts";

export type CapacitySettings = NonNullable<Script["capacity"]>;

/** One request's place: waiting, at work, or over. */
export interface Place {
  /** Ends it, wherever it stands; more than once does no harm. */
  leave(): void;
}

export class Capacity {
  #busy = 0;
  readonly #queue = new Set<() => void>();

  get busy(): number {
    return this.#busy;
  }

  get waiting(): number {
    return this.#queue.size;
  }

  /** Calls `begin` when the request is at work; undefined: the queue is full. */
  enter(
    { concurrency, queueMax = Number.POSITIVE_INFINITY }: CapacitySettings,
    begin: () => void,
  ): Place | undefined {
    let isAtWork = false;
    let isOver = false;
    const work = () => {
      isAtWork = true;
      this.#busy += 1;
      begin();
    };
    if (this.#busy < concurrency) work();
    else if (this.#queue.size < queueMax) this.#queue.add(work);
    else return undefined;
    return {
      leave: () => {
        if (isOver) return;
        isOver = true;
        this.#queue.delete(work);
        if (!isAtWork) return;
        this.#busy -= 1;
        for (const next of this.#queue) {
          if (this.#busy >= concurrency) return;
          this.#queue.delete(next);
          next();
        }
      },
    };
  }
}
