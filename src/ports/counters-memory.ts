/**
 * Fixed-window counters in this process's memory, keyed by seat: a policy reload does not touch them. A
 * window starts with a key's first request. Keys live in two generations that are swapped once a window,
 * so that old ones go all at once, without a timer or a scan:
 *
 *   take -> young? -> old, still running? -> free place? -> a new window in `young`
 *                                               | no: one overflow window that a seat's new keys share
 *
 * rate-limiter-flexible's RateLimiterMemory was measured for this: 477 bytes of heap and a timer a key (at
 * a million keys 338 ms for one full collection, against 149 bytes and 62 ms here), no bound on keys, and
 * a limit fixed when it is made, where a policy edit must change the limit and forgive nobody.
 */
import type { Counted, Counters, Limit } from "../layer/index.ts";

export interface MemoryCountersOptions {
  /** Keys of all seats together. Beyond it the new keys of a seat share one window: strict, and no way out of a limit. */
  readonly keysMax?: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

export interface CountersStats {
  readonly keys: number;
  /** Takes that were counted in a shared overflow window. */
  readonly overflowed: number;
}

interface Window {
  startedMs: number;
  used: number;
}

interface SeatWindows {
  young: Map<string, Window>;
  old: Map<string, Window>;
  swappedMs: number;
  /** When the newest window started. */
  newestMs: number;
  windowMs: number;
  readonly overflow: Window;
}

export class MemoryCounters {
  readonly #keysMax: number;
  readonly #now: () => number;
  readonly #seats = new Map<string, SeatWindows>();
  #keys = 0;
  #overflowed = 0;

  constructor({ keysMax = 1_000_000, now = () => performance.now() }: MemoryCountersOptions = {}) {
    this.#keysMax = keysMax;
    this.#now = now;
  }

  /** Counters of one seat; the same seat always gets the same counts. */
  forSeat(seat: string): Counters {
    let windows = this.#seats.get(seat);
    if (windows === undefined) {
      windows = {
        young: new Map(),
        old: new Map(),
        swappedMs: this.#now(),
        newestMs: 0,
        windowMs: 0,
        overflow: { startedMs: 0, used: 0 },
      };
      this.#seats.set(seat, windows);
    }
    const kept = windows;
    return { take: (key, limit) => this.#take(kept, key, limit) };
  }

  stats(): CountersStats {
    return { keys: this.#keys, overflowed: this.#overflowed };
  }

  #take(seat: SeatWindows, key: string, { limit, windowSec }: Limit): Counted {
    const nowMs = this.#now();
    // A live edit of the window's length holds for running windows too.
    seat.windowMs = windowSec * 1000;
    this.#swapIfDue(seat, nowMs);
    const window = seat.young.get(key) ?? seat.old.get(key) ?? this.#open(seat, key, nowMs);
    if (nowMs - window.startedMs >= seat.windowMs) {
      window.startedMs = nowMs;
      window.used = 0;
      seat.newestMs = nowMs;
      // Its new window outlives the old generation. The overflow window is in neither.
      if (window !== seat.overflow && seat.old.delete(key)) seat.young.set(key, window);
    }
    const admitted = window.used < limit;
    if (admitted) window.used += 1;
    return {
      admitted,
      remaining: Math.max(0, limit - window.used),
      resetMs: Math.ceil(window.startedMs + seat.windowMs - nowMs),
    };
  }

  #open(seat: SeatWindows, key: string, nowMs: number): Window {
    if (this.#keys >= this.#keysMax) for (const other of this.#seats.values()) this.#swapIfDue(other, nowMs);
    if (this.#keys >= this.#keysMax) {
      this.#overflowed += 1;
      return seat.overflow;
    }
    const window = { startedMs: nowMs, used: 0 };
    seat.young.set(key, window);
    seat.newestMs = nowMs;
    this.#keys += 1;
    return window;
  }

  /** A whole window after the last swap, every window of the old generation has ended. */
  #swapIfDue(seat: SeatWindows, nowMs: number): void {
    if (nowMs - seat.swappedMs < seat.windowMs) return;
    this.#keys -= seat.old.size;
    seat.old = seat.young;
    seat.young = new Map();
    seat.swappedMs = nowMs;
    if (nowMs - seat.newestMs < seat.windowMs) return;
    this.#keys -= seat.old.size;
    seat.old = new Map();
  }
}
