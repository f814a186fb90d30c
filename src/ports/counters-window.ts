/**
 * The window that both counter stores keep, in memory and on Redis. It slides in steps: time is cut in slots, and
 * what was used in a slot counts whole until the slot's last instant has left the window.
 *
 *        |<------------------ window ------------------>|
 *   --[ slot ][ slot ][ slot ] ... [ slot ][ slot ][ slot ]--> time
 *        ^ still counts whole: its end is inside        ^ now
 *
 * So no span of the window's length ever sees more than the limit: strict, with no burst on top (a counter of fixed
 * windows lets twice the limit through around a boundary). The cost: a place comes back after W to W + W/N, N slots
 * a window. GCRA needs less state, but knows no amounts that are settled later and no count that a person can read.
 */
import type { Counters } from "../layer/index.ts";

/** A month is cut in half days, a day in 24 minutes, an hour in 5 minutes, a minute in 5 seconds. */
export function slotsOf(windowSec: number): number {
  return windowSec <= 3600 ? 12 : 60;
}

/** First millisecond after the slot that `nowMs` lies in. */
export function slotEndMs(nowMs: number, windowSec: number): number {
  const slots = slotsOf(windowSec);
  const windowMs = windowSec * 1000;
  return Math.ceil(((Math.floor((nowMs * slots) / windowMs) + 1) * windowMs) / slots);
}

/** After this long without a word every slot has left the window. */
export function lifeMs(windowSec: number): number {
  return Math.ceil(windowSec * 1000 * (1 + 1 / slotsOf(windowSec)));
}

/** Until a place in a full concurrency limit is free nobody can know. */
export const RETRY_GUESS_MS = 1000;

/** One counter, as the admin API shows it. */
export interface CounterRow {
  readonly seat: string;
  readonly key: string;
  readonly used: number;
  readonly reserved: number;
  readonly windowSec: number;
  /** Until all that is used now has come back. */
  readonly resetMs: number;
}

export interface InspectOptions {
  /** Only keys that hold this text. */
  readonly contains?: string | undefined;
  readonly max: number;
}

/** What main and the admin API hold: the counters of every seat. */
export interface CounterStore<Stats> {
  /** The same seat always gets the same counts. */
  forSeat(seat: string): Counters;
  stats(): Stats;
  /** Counters in use, of one seat or of all. */
  inspect(seat: string | undefined, options: InspectOptions): Promise<CounterRow[]>;
  /** Forgets what a counter has used; what running requests hold stays held. False: there is no such counter. */
  reset(seat: string, key: string): Promise<boolean>;
  close(): Promise<void>;
}
