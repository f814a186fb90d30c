/** Turns to ask: so many at once, so many waiting in order of arrival, and the rest is refused at once. */
export class Turns {
  readonly #concurrencyMax: number;
  readonly #queueMax: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor({ concurrencyMax, queueMax }: { readonly concurrencyMax: number; readonly queueMax: number }) {
    this.#concurrencyMax = concurrencyMax;
    this.#queueMax = queueMax;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A turn is given back by `leave`. Nobody waits longer than `signal` says. */
  async enter(signal: AbortSignal): Promise<"turn" | "full" | "aborted"> {
    if (this.#running < this.#concurrencyMax) {
      this.#running += 1;
      return "turn";
    }
    if (this.#waiting.length >= this.#queueMax) return "full";
    return new Promise((resolve) => {
      const onTurn = (): void => {
        signal.removeEventListener("abort", onAbort);
        resolve("turn");
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(onTurn), 1);
        resolve("aborted");
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(onTurn);
    });
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}
