/**
 * Refusals that hold for a while, so that a caller who is out costs Redis nothing: where what is used alone, without
 * what is only reserved, leaves no room, no answer can change before enough of it has left the window (but for a
 * return of what was not used after all, hence a second at most). It also answers those who were already waiting
 * to ask when another's same question was refused: their question and that answer lie in one span of time.
 */
import type { Claim, Level, Taken } from "../layer/index.ts";

const KNOWN_MAX = 65_536;
const KEPT_MS_MAX = 1000;

interface Refusal {
  readonly claims: readonly Claim[];
  readonly levels: readonly Level[];
  readonly refusedBy: number;
  readonly atMs: number;
  /** Until what is used has made room; `atMs` for a refusal that leases could undo at any time. */
  readonly certainUntilMs: number;
  readonly fitsAtMs: number;
}

export class KnownRefusals {
  /** Two generations of half the bound, swapped when the young one is full or a second old. */
  #young = new Map<string, Refusal>();
  #old = new Map<string, Refusal>();
  #swappedMs = 0;

  learn(
    nowMs: number,
    refused: Pick<Refusal, "claims" | "levels" | "refusedBy"> & {
      readonly retryAfterMs: number;
      readonly isCertain: boolean;
    },
  ): void {
    const { claims, levels, refusedBy, retryAfterMs, isCertain } = refused;
    if (this.#young.size >= KNOWN_MAX / 2 || nowMs - this.#swappedMs > KEPT_MS_MAX) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#swappedMs = nowMs;
    }
    this.#young.set(claims[refusedBy]!.key, {
      claims,
      levels,
      refusedBy,
      atMs: nowMs,
      certainUntilMs: nowMs + (isCertain ? Math.min(retryAfterMs, KEPT_MS_MAX) : 0),
      fitsAtMs: nowMs + retryAfterMs,
    });
  }

  /** `waitingSinceMs`: of a question that was not sent yet. */
  find(claims: readonly Claim[], nowMs: number, waitingSinceMs = nowMs): Taken | undefined {
    for (let i = 0; i < claims.length; i++) {
      const claim = claims[i]!;
      const refusal = this.#young.get(claim.key) ?? this.#old.get(claim.key);
      if (refusal === undefined) continue;
      if (nowMs >= refusal.certainUntilMs && waitingSinceMs >= refusal.atMs) continue;
      const told = refusal.claims[refusal.refusedBy]!;
      if (told.limit !== claim.limit || told.windowSec !== claim.windowSec) continue;
      if (claim.cost + claim.reserve < told.cost + told.reserve) continue;
      return {
        admitted: false,
        by: "known",
        refusedBy: i,
        retryAfterMs: Math.max(1, Math.ceil(refusal.fitsAtMs - nowMs)),
        levels: levelsOf(refusal, claims, nowMs),
        lease: undefined,
      };
    }
    return undefined;
  }

  forget(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }
}

/** As they were told; of a claim that was not asked about then, nothing is known. */
function levelsOf(refusal: Refusal, claims: readonly Claim[], nowMs: number): Level[] {
  return claims.map((claim, i) => {
    const at =
      refusal.claims[i]?.key === claim.key ? i : refusal.claims.findIndex(({ key }) => key === claim.key);
    const told = refusal.levels[at];
    if (told === undefined) return { remaining: claim.limit, resetMs: 0 };
    return {
      remaining: told.remaining,
      resetMs: Math.max(0, Math.ceil(told.resetMs - (nowMs - refusal.atMs))),
    };
  });
}
