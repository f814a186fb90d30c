/**
 * One counter in memory: its slots, oldest first, and what is reserved. The newest slot is kept in the counter
 * itself, so that a key that is seen once costs no array; older ones are pairs of end and amount in an array that is
 * made anew, and to measure, when a slot begins or leaves (at most once in a slot's length).
 */
import type { Claim, Level } from "../layer/index.ts";
import { RETRY_GUESS_MS, slotEndMs } from "./counters-window.ts";

export interface Counter {
  /** Sum of all slots. */
  used: number;
  reserved: number;
  /** End and amount of the newest slot; 0 where nothing is used. */
  endMs: number;
  amount: number;
  older: readonly number[] | undefined;
}

/** Drops what has left the window: every slot that ended by `cutoffMs`. */
export function slide(counter: Counter, cutoffMs: number): void {
  const { older } = counter;
  if (older !== undefined) {
    if (older[0]! > cutoffMs) return;
    let gone = 0;
    while (gone < older.length && older[gone]! <= cutoffMs) {
      counter.used -= older[gone + 1]!;
      gone += 2;
    }
    counter.older = gone < older.length ? older.slice(gone) : undefined;
    if (counter.older !== undefined) return;
  }
  if (counter.endMs > cutoffMs || counter.endMs === 0) return;
  counter.used = 0;
  counter.amount = 0;
  counter.endMs = 0;
}

/** Books an amount as used now; gives the end of the slot that it went to. */
export function book(counter: Counter, nowMs: number, windowSec: number, amount: number): number {
  if (amount <= 0 || windowSec === 0) return 0;
  const endMs = slotEndMs(nowMs, windowSec);
  // After an edit from long slots to short ones the newest may end later than a new one would: it takes both.
  if (endMs > counter.endMs) {
    if (counter.amount > 0) {
      const newest = [counter.endMs, counter.amount];
      counter.older = counter.older === undefined ? newest : counter.older.concat(newest);
    }
    counter.endMs = endMs;
    counter.amount = 0;
  }
  counter.amount += amount;
  counter.used += amount;
  return counter.endMs;
}

/** Takes an amount back out of the slot that it was booked in; a slot that has left the window took it along. */
export function giveBack(counter: Counter, endMs: number, amount: number): void {
  if (endMs === 0) return;
  if (endMs === counter.endMs) {
    const taken = Math.min(amount, counter.amount);
    counter.amount -= taken;
    counter.used -= taken;
    return;
  }
  const { older = [] } = counter;
  for (let at = 0; at < older.length; at += 2) {
    if (older[at] !== endMs) continue;
    const taken = Math.min(amount, older[at + 1]!);
    counter.older = older.with(at + 1, older[at + 1]! - taken);
    counter.used -= taken;
    return;
  }
}

export function fits({ limit, cost, reserve }: Claim, { used, reserved }: Counter): boolean {
  return used + reserved + cost + reserve <= limit;
}

/** Until the claim would fit, if nobody else came and what is reserved stayed. */
export function retryAfterMs(
  { limit, windowSec, cost, reserve }: Claim,
  counter: Counter | undefined,
  nowMs: number,
): number {
  if (windowSec === 0) return RETRY_GUESS_MS;
  if (cost + reserve > limit) return windowSec * 1000;
  if (counter === undefined) return RETRY_GUESS_MS;
  let excess = counter.used + counter.reserved + cost + reserve - limit;
  const { older } = counter;
  for (let at = 0; older !== undefined && at < older.length; at += 2) {
    excess -= older[at + 1]!;
    if (excess <= 0) return Math.ceil(older[at]! + windowSec * 1000 - nowMs);
  }
  // What is reserved must come back first, and nobody knows when.
  if (excess > counter.amount) return RETRY_GUESS_MS;
  return Math.ceil(counter.endMs + windowSec * 1000 - nowMs);
}

export function levelOf({ limit, windowSec }: Claim, counter: Counter | undefined, nowMs: number): Level {
  if (counter === undefined) return { remaining: limit, resetMs: 0 };
  const remaining = Math.max(0, limit - counter.used - counter.reserved);
  return { remaining, resetMs: resetMs(counter, windowSec, nowMs) };
}

/** What is reserved counts as if it were used now. */
export function resetMs(counter: Counter, windowSec: number, nowMs: number): number {
  if (windowSec === 0 || counter.used + counter.reserved === 0) return 0;
  const endMs = counter.reserved > 0 ? Math.max(counter.endMs, nowMs) : counter.endMs;
  return Math.max(0, Math.ceil(endMs + windowSec * 1000 - nowMs));
}
