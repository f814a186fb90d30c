/**
 * Redis's clock as this process can tell it from the replies that carry it: never behind the true one (but for what
 * it drifts in a second), ahead of it by less than a round trip. Our own wall clock has no say.
 */

/** Past its caller's deadline a script has so long to be carried out; then it does nothing. */
const FENCE_MS = 500;

export class RedisClock {
  #aheadMs: number | undefined;
  /** By the node of a cluster whose clock is ahead most: no other's scripts must be fenced off. */
  #mostAheadMs = 0;

  /** A reply to what was sent at `sentMs` (performance.now) said that Redis's time was `redisMs`. */
  heard(sentMs: number, redisMs: number): void {
    const aheadMs = redisMs + 1 - sentMs;
    // The least is the nearest to the truth; a clock that was set is followed within some replies.
    if (this.#aheadMs === undefined) this.reset(sentMs, redisMs);
    else if (aheadMs < this.#aheadMs) this.#aheadMs = aheadMs;
    else this.#aheadMs += (aheadMs - this.#aheadMs) / 8;
    if (aheadMs > this.#mostAheadMs) this.#mostAheadMs = aheadMs;
    else this.#mostAheadMs += (aheadMs - this.#mostAheadMs) / 64;
  }

  /** It was set, or another server answers now: only the newest reply counts. */
  reset(sentMs: number, redisMs: number): void {
    this.#aheadMs = redisMs + 1 - sentMs;
    this.#mostAheadMs = this.#aheadMs;
  }

  /** undefined before the first reply. */
  nowMs(): number | undefined {
    return this.#aheadMs === undefined ? undefined : performance.now() + this.#aheadMs;
  }

  /** In Redis's time; 0 (no fence) before the first reply. */
  fence(deadlineMs: number): number {
    if (this.#aheadMs === undefined) return 0;
    return Math.ceil(performance.now() + this.#mostAheadMs + deadlineMs + FENCE_MS);
  }
}
