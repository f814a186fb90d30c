/**
 * The exchanges that run now. A plain array that fills its gaps with its last member: a Set with one entry
 * in and one out per request rehashes for ever, and each of its discarded tables keeps the next one and
 * its entries alive past the young generation, which made every scavenge ten times longer.
 */
export interface Member {
  /** Where it stands in the array; -1 outside. Kept by Running alone. */
  slot: number;
}

export class Running<M extends Member> {
  readonly #members: M[] = [];

  get size(): number {
    return this.#members.length;
  }

  add(member: M): void {
    member.slot = this.#members.length;
    this.#members.push(member);
  }

  remove(member: M): void {
    const { slot } = member;
    if (slot < 0) return;
    member.slot = -1;
    const last = this.#members.pop()!;
    if (last === member) return;
    this.#members[slot] = last;
    last.slot = slot;
  }

  /** A copy: members may leave while it is gone through. */
  all(): readonly M[] {
    return [...this.#members];
  }
}
