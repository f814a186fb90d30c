/**
 * A lease on shared counters: what it books, gives back and holds goes to this process's books, which tell Redis. One
 * that this replica's share admitted while Redis was away is the same, and keeps the share informed besides.
 */
import type { Claim, Lease } from "../layer/index.ts";
import type { Books, Place } from "./counters-books.ts";
import { OpenLease } from "./counters-lease.ts";

export interface SharedLeaseOptions {
  readonly books: Books;
  readonly claims: readonly Claim[];
  readonly places: readonly Place[];
  /** Where this replica's share admitted it. */
  readonly share: Lease | undefined;
  /** Until when its end may be told some milliseconds late: each limit had ample room. performance.now(). */
  readonly roomyUntilMs: number;
  /** A lease where the share granted it. */
  readonly reserveMore: (wanted: readonly Claim[], indexes: readonly number[]) => Promise<boolean | Lease>;
  readonly ended: () => void;
}

export class SharedLease extends OpenLease {
  readonly #options: SharedLeaseOptions;
  /** What the share granted later, and of which claims. */
  #more: { readonly lease: Lease; readonly indexes: readonly number[] }[] | undefined;

  constructor(options: SharedLeaseOptions) {
    super(options.claims);
    this.#options = options;
  }

  override debit(index: number, amount: number): boolean {
    this.#options.share?.debit(index, amount);
    return super.debit(index, amount);
  }

  protected override book(index: number, amount: number): number {
    const { books, places } = this.#options;
    const slotEnd = books.slotEnd(this.claims[index]!.windowSec);
    books.add(places[index]!, slotEnd, amount);
    return slotEnd;
  }
  protected override giveBack(index: number, slotEndMs: number, amount: number): void {
    this.#options.books.add(this.#options.places[index]!, slotEndMs, -amount);
  }
  protected override hold(index: number, by: number): void {
    this.#options.books.hold(this.#options.places[index]!, by);
  }
  protected override async reserveMore(more: readonly number[]): Promise<boolean> {
    const indexes = this.claims.flatMap((_, i) => ((more[i] ?? 0) > 0 ? [i] : []));
    if (indexes.length === 0) return true;
    const wanted = indexes.map((i) => ({ ...this.claims[i]!, cost: 0, reserve: more[i]! }));
    const granted = await this.#options.reserveMore(wanted, indexes);
    if (typeof granted === "boolean") return granted;
    this.#more ??= [];
    this.#more.push({ lease: granted, indexes });
    return true;
  }
  protected override tell(): void {
    const { books, places, roomyUntilMs } = this.#options;
    books.due(places, performance.now() < roomyUntilMs);
  }
  protected override ended(used: readonly number[]): void {
    const { share, ended } = this.#options;
    share?.settle(used);
    for (const { lease, indexes } of this.#more ?? []) lease.settle(indexes.map(() => 0));
    ended();
  }
}
