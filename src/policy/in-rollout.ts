/** Which accounts a seat's rollout takes in. */
import type { Seat } from "./snapshot.ts";

/** Sticky: the same account is in or out at a given percentage, and stays in as the percentage grows. */
export function inRollout(seat: Pick<Seat, "id" | "rollout">, account: string): boolean {
  if (seat.rollout >= 100) return true;
  if (seat.rollout <= 0) return false;
  return fnv1a(`${seat.id}\u0000${account}`) % 10_000 < seat.rollout * 100;
}

/** FNV-1a, 32 bits, over UTF-16 units (parameters: Fowler, Noll, Vo), finished by a mixing step so that low bits spread. */
function fnv1a(text: string): number {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  }
  state = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
  return (state ^ (state >>> 13)) >>> 0;
}
