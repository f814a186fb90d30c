/**
 * Failed logins on the admin port, counted by address, so that a token cannot be guessed at the speed of the
 * network. A right token always passes: nobody can lock the operator out by failing in their name.
 */
import { addressEntity } from "../text/network.ts";

export interface AttemptsOptions {
  readonly failuresMax: number;
  readonly windowMs: number;
  /** Beyond it the address whose window is the oldest is forgotten. */
  readonly addressesMax: number;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
}

interface Window {
  readonly untilMs: number;
  failures: number;
}

export class LoginAttempts {
  readonly #options: AttemptsOptions;
  /** In the order in which the windows opened. */
  readonly #windows = new Map<string, Window>();

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  get addresses(): number {
    return this.#windows.size;
  }

  /** Counts one failure; the time until the window ends, where there were too many in it, or 0. */
  failed(address: string): number {
    const { failuresMax, windowMs, addressesMax, clock } = this.#options;
    const nowMs = clock();
    // All of one subscriber's addresses are one.
    const key = addressEntity(address);
    const window = this.#windows.get(key);
    if (window !== undefined && nowMs < window.untilMs) {
      window.failures += 1;
      return window.failures > failuresMax ? window.untilMs - nowMs : 0;
    }
    this.#windows.delete(key);
    if (this.#windows.size >= addressesMax) {
      const [oldest] = this.#windows.keys();
      if (oldest !== undefined) this.#windows.delete(oldest);
    }
    this.#windows.set(key, { untilMs: nowMs + windowMs, failures: 1 });
    return 0;
  }
}
