/**
 * What one request holds, the same for every store: it keeps count of what was booked in which slot, so that at the
 * end exactly the difference to what was really used is booked or given back. A store says how to do each.
 */
import type { Await, Claim, Lease } from "../layer/index.ts";

/** Places in a lease's state, of each claim: end of the slot that its cost is in, what is left of its reserve. */
const SLOT = 0;
const LEFT = 1;
const STRIDE = 2;

export abstract class OpenLease implements Lease {
  protected readonly claims: readonly Claim[];
  readonly #state: number[] = [];
  /** Of each claim, oldest first: end of slot and amount of what was debited. */
  #debits: number[][] | undefined;
  #isOpen = true;

  constructor(claims: readonly Claim[]) {
    this.claims = claims;
  }

  /** Books an amount as used now; gives the end of its slot, 0 where none counts it. */
  protected abstract book(index: number, amount: number): number;
  protected abstract giveBack(index: number, slotEndMs: number, amount: number): void;
  /** Adds to what is reserved, or takes from it. */
  protected abstract hold(index: number, by: number): void;
  /** Reserves more of all claims, or of none. */
  protected abstract reserveMore(more: readonly number[]): Await<boolean>;
  protected abstract ended(used: readonly number[]): void;
  /** What was let go should be told; for a store that need not be told, nothing. */
  protected tell(): void {}

  /** For each claim in order, once: its cost was booked in this slot. */
  began(slotEndMs: number, reserve: number): void {
    this.#state.push(slotEndMs, reserve);
  }

  debit(index: number, amount: number): boolean {
    if (!this.#isOpen || this.claims[index] === undefined || !(amount > 0)) return this.#isOpen;
    const left = this.#state[index * STRIDE + LEFT]!;
    this.#state[index * STRIDE + LEFT] = Math.max(0, left - amount);
    this.#debits ??= this.claims.map(() => []);
    const debits = this.#debits[index]!;
    // Booked before it is let go: at no moment does the counter know of neither.
    const endMs = this.book(index, amount);
    if (debits.at(-2) === endMs) debits[debits.length - 1]! += amount;
    else debits.push(endMs, amount);
    if (left > 0) this.hold(index, -Math.min(left, amount));
    return amount <= left;
  }

  extend(more: readonly number[]): Await<boolean> {
    if (!this.#isOpen) return false;
    const granted = this.reserveMore(more);
    if (typeof granted !== "boolean") return granted.then((isGranted) => isGranted && this.#extended(more));
    return granted && this.#extended(more);
  }

  settle(used: readonly number[]): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (let i = 0; i < this.claims.length; i++) {
      const { cost } = this.claims[i]!;
      const debits = this.#debits?.[i];
      let due = (used[i] ?? cost) - cost;
      if (debits !== undefined) for (let at = 1; at < debits.length; at += 2) due -= debits[at]!;
      if (due > 0) this.book(i, due);
      else if (due < 0) this.#giveBack(i, -due, debits ?? []);
      const left = this.#state[i * STRIDE + LEFT]!;
      if (left > 0) this.hold(i, -left);
    }
    this.tell();
    this.ended(used);
  }

  /** The latest first: what was used was used before. */
  #giveBack(index: number, amount: number, debits: readonly number[]): void {
    let rest = amount;
    for (let at = debits.length - 2; at >= 0 && rest > 0; at -= 2) {
      const back = Math.min(rest, debits[at + 1]!);
      this.giveBack(index, debits[at]!, back);
      rest -= back;
    }
    const back = Math.min(rest, this.claims[index]!.cost);
    if (back > 0) this.giveBack(index, this.#state[index * STRIDE + SLOT]!, back);
  }

  #extended(more: readonly number[]): boolean {
    for (let i = 0; i < this.claims.length; i++) {
      const amount = more[i] ?? 0;
      if (amount <= 0) continue;
      // Settled while the store was asked: what it granted is let go again.
      if (this.#isOpen) this.#state[i * STRIDE + LEFT]! += amount;
      else this.hold(i, -amount);
    }
    if (!this.#isOpen) this.tell();
    return this.#isOpen;
  }
}
