/**
 * A counters port for tests of the layer alone: keeps what is claimed, debited, extended and settled, and answers
 * as it is told to. Only tests import this.
 */
import type { Await, AwayPosture, Claim, CountedBy, Counters, Lease, Taken } from "../../src/layer/index.ts";

export class FakeCounters implements Counters {
  readonly takes: { readonly claims: readonly Claim[]; readonly away: AwayPosture }[] = [];
  readonly asked: (readonly Claim[])[] = [];
  readonly leases: FakeLease[] = [];
  /** Index of the claim that refuses; -1 for none. */
  refusedBy = -1;
  /** What `known` refuses by; -1 for nothing. */
  knownBy = -1;
  by: CountedBy = "memory";
  /** What each `extend` gets, in order; then true. */
  extensions: Await<boolean>[] = [];
  /** Holds `take` back until it is resolved. */
  late: Promise<void> | undefined;

  take(claims: readonly Claim[], away: AwayPosture): Await<Taken> {
    this.takes.push({ claims, away });
    const answer = () => this.#answer(claims, this.refusedBy, this.by);
    return this.late === undefined ? answer() : this.late.then(answer);
  }

  known(claims: readonly Claim[]): Taken | undefined {
    this.asked.push(claims);
    return this.knownBy < 0 ? undefined : this.#answer(claims, this.knownBy, "known");
  }

  get open(): number {
    return this.leases.filter(({ settled }) => settled.length !== 1).length;
  }

  #answer(claims: readonly Claim[], refusedBy: number, by: CountedBy): Taken {
    const admitted = refusedBy < 0;
    const isCounted = by !== "posture";
    let lease: FakeLease | undefined;
    if (admitted && isCounted) {
      lease = new FakeLease(claims, this.extensions);
      this.leases.push(lease);
    }
    const levels = isCounted ? claims.map(({ limit }) => ({ remaining: limit - 1, resetMs: 700 })) : [];
    return { admitted, by, refusedBy, retryAfterMs: admitted ? 0 : 1_234, levels, lease };
  }
}

export class FakeLease implements Lease {
  readonly debits: number[];
  readonly reserves: number[];
  readonly extended: (readonly number[])[] = [];
  readonly settled: (readonly number[])[] = [];
  readonly #extensions: Await<boolean>[];

  constructor(claims: readonly Claim[], extensions: Await<boolean>[]) {
    this.debits = claims.map(() => 0);
    this.reserves = claims.map(({ reserve }) => reserve);
    this.#extensions = extensions;
  }

  debit(index: number, amount: number): boolean {
    if (!Number.isInteger(amount) || amount <= 0) throw new Error(`debit of ${amount}`);
    this.debits[index]! += amount;
    return this.debits[index]! <= this.reserves[index]!;
  }

  extend(more: readonly number[]): Await<boolean> {
    this.extended.push(more);
    const grant = (isGranted: boolean) => {
      if (isGranted) for (const [i, amount] of more.entries()) this.reserves[i]! += amount;
      return isGranted;
    };
    const answer = this.#extensions.shift() ?? true;
    return answer instanceof Promise ? answer.then(grant) : grant(answer);
  }

  settle(used: readonly number[]): void {
    this.settled.push(used);
  }
}
