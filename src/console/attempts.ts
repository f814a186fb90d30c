/**
 * Failed logins on the admin port, so that neither a token nor a password is guessed at the speed of the network.
 * Nobody can lock the operator out by failing in their name: a right token always passes, and so does a right
 * password from where its account has logged in before.
 *
 *     account and address   5 \
 *     address              20  } failures in 15 minutes, counted before the password is looked at
 *     account              50 /  (not asked where the account logged in from this address before)
 *
 * What is counted is the name that was typed, so that an account which is there and one which is not are alike.
 */
import { addressEntity } from "../text/network.ts";

export interface WindowOptions {
  readonly failuresMax: number;
  readonly windowMs: number;
  /** Beyond it the key whose window is the oldest is forgotten. */
  readonly keysMax: number;
  /** Milliseconds, monotonic. */
  readonly clock: () => number;
}

interface Window {
  readonly untilMs: number;
  failures: number;
}

/** Failures by key, each in a window that opens with the first of them. */
export class FailureWindows {
  readonly #options: WindowOptions;
  /** In the order in which the windows opened. */
  readonly #windows = new Map<string, Window>();

  constructor(options: WindowOptions) {
    this.#options = options;
  }

  get keys(): number {
    return this.#windows.size;
  }

  /** Until the next may be tried; 0 while there is room. */
  waitMs(key: string): number {
    const window = this.#open(key);
    if (window === undefined || window.failures < this.#options.failuresMax) return 0;
    return window.untilMs - this.#options.clock();
  }

  /** Counts one failure; the time until the window ends, where there were too many in it, or 0. */
  count(key: string): number {
    const { failuresMax, windowMs, keysMax, clock } = this.#options;
    const window = this.#open(key);
    if (window !== undefined) {
      window.failures += 1;
      return window.failures > failuresMax ? window.untilMs - clock() : 0;
    }
    this.#windows.delete(key);
    if (this.#windows.size >= keysMax) {
      const [oldest] = this.#windows.keys();
      if (oldest !== undefined) this.#windows.delete(oldest);
    }
    this.#windows.set(key, { untilMs: clock() + windowMs, failures: 1 });
    return 0;
  }

  /** It was no failure after all. */
  undo(key: string): void {
    const window = this.#open(key);
    if (window !== undefined && window.failures > 0) window.failures -= 1;
  }

  forget(key: string): void {
    this.#windows.delete(key);
  }

  #open(key: string): Window | undefined {
    const window = this.#windows.get(key);
    return window !== undefined && this.#options.clock() < window.untilMs ? window : undefined;
  }
}

const WINDOW_MS = 900_000;
const KEYS_MAX = 4_096;
const KNOWN_MAX = 1_024;

export type LoginTry =
  | { readonly waitMs: number }
  /** Counted as a failure until it is told to be none: a hundred at once find no gap between look and count. */
  | { readonly waitMs: 0; succeeded(): void; undone(): void };

export class LoginLimits {
  readonly #pairs: FailureWindows;
  readonly #addresses: FailureWindows;
  readonly #accounts: FailureWindows;
  /** Accounts and where they logged in from, the latest last. */
  readonly #known = new Set<string>();

  constructor({ clock = () => performance.now() }: { readonly clock?: () => number } = {}) {
    const common = { windowMs: WINDOW_MS, keysMax: KEYS_MAX, clock };
    this.#pairs = new FailureWindows({ ...common, failuresMax: 5 });
    this.#addresses = new FailureWindows({ ...common, failuresMax: 20 });
    this.#accounts = new FailureWindows({ ...common, failuresMax: 50 });
  }

  try(name: string, address: string): LoginTry {
    const account = name.toLowerCase();
    // All of one subscriber's addresses are one.
    const from = addressEntity(address);
    const pair = `${from} ${account}`;
    const waitMs = Math.max(
      this.#pairs.waitMs(pair),
      this.#addresses.waitMs(from),
      this.#known.has(pair) ? 0 : this.#accounts.waitMs(account),
    );
    if (waitMs > 0) return { waitMs };
    this.#pairs.count(pair);
    this.#addresses.count(from);
    this.#accounts.count(account);
    const undone = () => {
      this.#pairs.undo(pair);
      this.#addresses.undo(from);
      this.#accounts.undo(account);
    };
    return {
      waitMs: 0,
      /** Nobody could tell whether it was right. */
      undone,
      succeeded: () => {
        undone();
        this.#pairs.forget(pair);
        this.#remember(pair);
      },
    };
  }

  #remember(pair: string): void {
    this.#known.delete(pair);
    if (this.#known.size >= KNOWN_MAX) {
      const [oldest] = this.#known;
      if (oldest !== undefined) this.#known.delete(oldest);
    }
    this.#known.add(pair);
  }
}
