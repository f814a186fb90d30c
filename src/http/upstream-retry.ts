/**
 * How much may be tried again: retries are a small share of the requests of the last seconds, so that an
 * upstream that fails is never pressed on by more than that. The small floor lets a quiet gateway retry at all.
 */
import { WindowCount } from "./upstream-window.ts";

export interface RetrySettings {
  /** Attempts of one request, the first included. */
  readonly attemptsMax: number;
  /** Share of the window's requests. */
  readonly budget: number;
  /** Retries of a window that are allowed whatever the share says. */
  readonly retriesMin: number;
  readonly windowMs: number;
  /** Whether a 429 is tried at another target. */
  readonly rateLimited: boolean;
}

export class RetryBudget {
  readonly #settings: RetrySettings;
  readonly #requests: WindowCount;
  readonly #retries: WindowCount;

  constructor(settings: RetrySettings) {
    this.#settings = settings;
    this.#requests = new WindowCount(settings.windowMs);
    this.#retries = new WindowCount(settings.windowMs);
  }

  request(nowMs: number): void {
    this.#requests.add(nowMs);
  }

  has(nowMs: number): boolean {
    const { budget, retriesMin } = this.#settings;
    return (
      this.#retries.total(nowMs) < Math.max(retriesMin, Math.floor(this.#requests.total(nowMs) * budget))
    );
  }

  spend(nowMs: number): void {
    this.#retries.add(nowMs);
  }
}
