/** What of the served policy's seats the admin API shows in words of its own: their limits, and how they read points. */
import type { PromptClassifierConfig } from "../layers/prompt-classifier/config.ts";
import { limitOf, type RateLimitConfig } from "../layers/rate-limit/config.ts";
import type { ReputationConfig } from "../layers/reputation/config.ts";
import { tierAt } from "../layers/reputation/standing.ts";
import type { LimitListing, ReputationSeat } from "./console/parts.ts";
import type { Seat } from "./policy/snapshot.ts";

const HOUR_MS = 3_600_000;

export function limitsOf(seats: readonly Seat[]): LimitListing[] {
  return seats
    .filter(({ use }) => use === "rate-limit")
    .flatMap(({ id, mode, config }) =>
      (config as RateLimitConfig).limits.map((limit) => ({
        seat: id,
        mode,
        name: limit.name,
        of: limit.of,
        per: limit.per,
        limit: limit.limit,
        windowSec: limitOf(limit).windowSec,
        scale: limit.scale as Readonly<Record<string, number>>,
      })),
    );
}

export function reputationSeatsOf(seats: readonly Seat[]): ReputationSeat[] {
  return seats
    .filter(({ use }) => use === "reputation")
    .map(({ id, mode, config }) => {
      const settings = config as ReputationConfig;
      return {
        seat: id,
        mode,
        halfLifeMs: settings.halfLifeHours * HOUR_MS,
        tierAt: (points) => tierAt(points, settings),
      };
    });
}

/** What an operator should be reminded of at each reload, as nothing else will tell them. */
export function cautionsOf(seats: readonly Seat[]): string[] {
  return seats
    .filter(({ use, config }) => use === "prompt-classifier" && (config as PromptClassifierConfig).unsigned)
    .map(
      ({ id, config }) =>
        `seat ${id}: ${(config as PromptClassifierConfig).model} is served without a signature (unsigned: true)`,
    );
}

/** Whether a seat asks the sentence encoder, so that its threads may start with the gateway. */
export function asksEncoder(seats: readonly Seat[]): boolean {
  return seats.some((seat) => seat.use === "prompt-classifier");
}
