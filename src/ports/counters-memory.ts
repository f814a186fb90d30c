/**
 * Sliding-window counters in this process's memory (counters-window.ts says what the window promises), keyed by
 * seat: a policy reload does not touch them. Keys live on shelves, one for each length of window, each of two
 * generations that are swapped once in a window's life, so that old ones go all at once, without a timer or a scan:
 *
 *   take -> young? -> old? move it to young -> another shelf (the window was edited)? move it here
 *        -> free place? open it in young -> no: one overflow counter that a limit's new keys share
 *
 * What a running request holds is promoted with each swap, so that a long stream keeps its place.
 *
 * Measured at 1,000,000 keys, each with a key of 25 letters and one slot in use (V8's heap after a full collection):
 * 171 bytes a key, 203 where amounts are beyond 2^31, 200 while it is held; each further slot in use adds 16, the
 * first of them 48 more. So keysMax 1,000,000 is 0.2 GB, and 0.4 GB where every key was used in every slot of an hour.
 * Two such generations of Maps are never copied: a swap drops one and walks what is held, not the keys.
 */
import type { Claim, Counters, Level, Taken } from "../layer/index.ts";
import { OpenLease } from "./counters-lease.ts";
import {
  book,
  type Counter,
  fits,
  giveBack,
  levelOf,
  resetMs,
  retryAfterMs,
  slide,
} from "./counters-slots.ts";
import { type CounterRow, type CounterStore, type InspectOptions, lifeMs } from "./counters-window.ts";

export interface MemoryCountersOptions {
  /** Keys of all seats together. Beyond it the new keys of a limit share one counter: strict, and no way out of it. */
  readonly keysMax?: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

export interface MemoryCountersStats {
  readonly keys: number;
  /** Takes that were counted in a shared overflow counter. */
  readonly overflowed: number;
  /** Not settled yet. */
  readonly leases: number;
}

/** Overflow counters of one shelf, one for each limit; more limits than this share the last. */
const OVERFLOWS_MAX = 256;
/** A concurrency limit has no window; an idle counter of one is kept for so long. */
const IDLE_MS = 60_000;
/** Counters that hold nothing any more stay listed as held up to this many: the next request is spared the listing. */
const HELD_IDLE_MAX = 4096;
/** The event loop is let go after so many keys of an inspection. */
const INSPECT_STRIDE = 20_000;

interface Shelf {
  readonly windowSec: number;
  readonly lifeMs: number;
  young: Map<string, Shelved>;
  old: Map<string, Shelved>;
  generation: number;
  swappedMs: number;
  /** When anything was last booked here. */
  writtenMs: number;
  /** What running requests hold, and some that held something lately. */
  readonly held: Map<string, Shelved>;
  /** By limit. */
  readonly overflow: Map<number, Shelved>;
}

interface Shelved extends Counter {
  /** Where it is kept, and since which generation in its young part; undefined for an overflow counter. */
  shelf: Shelf | undefined;
  generation: number;
  /** In its shelf's `held`. */
  isHeld: boolean;
}

interface Seat {
  readonly shelves: Map<number, Shelf>;
}

const NOTHING_ASKED: Taken = {
  admitted: true,
  by: "memory",
  refusedBy: -1,
  retryAfterMs: 0,
  levels: [],
  lease: undefined,
};

export class MemoryCounters implements CounterStore<MemoryCountersStats> {
  readonly #keysMax: number;
  readonly #now: () => number;
  readonly #seats = new Map<string, Seat>();
  #keys = 0;
  #overflowed = 0;
  #leases = 0;

  constructor({ keysMax = 1_000_000, now = () => performance.now() }: MemoryCountersOptions = {}) {
    this.#keysMax = keysMax;
    this.#now = now;
  }

  forSeat(name: string): Counters {
    let seat = this.#seats.get(name);
    if (seat === undefined) {
      seat = { shelves: new Map() };
      this.#seats.set(name, seat);
    }
    const kept = seat;
    return {
      take: (claims) => this.#take(kept, claims),
      known: (claims) => {
        const nowMs = this.#now();
        const refusedBy = this.#refusing(kept, claims, nowMs);
        return refusedBy < 0 ? undefined : this.#refuse(kept, claims, refusedBy, nowMs);
      },
    };
  }

  stats(): MemoryCountersStats {
    return { keys: this.#keys, overflowed: this.#overflowed, leases: this.#leases };
  }

  async inspect(seat: string | undefined, { contains = "", max }: InspectOptions): Promise<CounterRow[]> {
    const rows: CounterRow[] = [];
    let seen = 0;
    for (const [name, { shelves }] of this.#seats) {
      if (seat !== undefined && seat !== name) continue;
      for (const { windowSec, young, old } of shelves.values()) {
        for (const map of [young, old]) {
          for (const [key, counter] of map) {
            if (rows.length >= max) return rows;
            if (++seen % INSPECT_STRIDE === 0) await new Promise((resolve) => setImmediate(resolve));
            if (!key.includes(contains)) continue;
            const nowMs = this.#now();
            slide(counter, nowMs - windowSec * 1000);
            const { used, reserved } = counter;
            if (used + reserved > 0)
              rows.push({
                seat: name,
                key,
                used,
                reserved,
                windowSec,
                resetMs: resetMs(counter, windowSec, nowMs),
              });
          }
        }
      }
    }
    return rows;
  }

  async reset(seat: string, key: string): Promise<boolean> {
    let found = false;
    for (const { young, old } of this.#seats.get(seat)?.shelves.values() ?? []) {
      const counter = young.get(key) ?? old.get(key);
      if (counter === undefined) continue;
      slide(counter, Number.POSITIVE_INFINITY);
      found = true;
    }
    return found;
  }

  async close(): Promise<void> {}

  #take(seat: Seat, claims: readonly Claim[]): Taken {
    if (claims.length === 0) return NOTHING_ASKED;
    const nowMs = this.#now();
    const found: (Shelved | undefined)[] = [];
    const refusedBy = this.#refusing(seat, claims, nowMs, found);
    if (refusedBy >= 0) return this.#refuse(seat, claims, refusedBy, nowMs);
    const counters: Shelved[] = [];
    const levels: Level[] = [];
    const lease = new MemoryLease(this.#door, seat, claims, counters);
    for (let i = 0; i < claims.length; i++) {
      const claim = claims[i]!;
      const counter = this.#ready(seat, claim, found[i], nowMs);
      counters.push(counter);
      lease.began(book(counter, nowMs, claim.windowSec, claim.cost), claim.reserve);
      if (claim.reserve > 0) this.#hold(counter, claim, claim.reserve);
      levels.push(levelOf(claim, counter, nowMs));
    }
    this.#leases += 1;
    return { admitted: true, by: "memory", refusedBy: -1, retryAfterMs: 0, levels, lease };
  }

  /** Index of the first claim that does not fit, -1 where all do; changes nothing that counts. Gathers what it found. */
  #refusing(seat: Seat, claims: readonly Claim[], nowMs: number, found?: (Shelved | undefined)[]): number {
    for (let i = 0; i < claims.length; i++) {
      const claim = claims[i]!;
      const counter = this.#find(seat, claim, nowMs);
      found?.push(counter);
      if (counter === undefined ? claim.cost + claim.reserve > claim.limit : !fits(claim, counter)) return i;
    }
    return -1;
  }

  #refuse(seat: Seat, claims: readonly Claim[], refusedBy: number, nowMs: number): Taken {
    const refusing = claims[refusedBy]!;
    return {
      admitted: false,
      by: "memory",
      refusedBy,
      retryAfterMs: retryAfterMs(refusing, this.#find(seat, refusing, nowMs), nowMs),
      levels: claims.map((claim) => levelOf(claim, this.#find(seat, claim, nowMs), nowMs)),
      lease: undefined,
    };
  }

  /** The counter that a claim is held against, up to date; undefined where it would be a new one. */
  #find(seat: Seat, { key, windowSec, limit }: Claim, nowMs: number): Shelved | undefined {
    const shelf = seat.shelves.get(windowSec) ?? this.#build(seat, windowSec, nowMs);
    if (nowMs - shelf.swappedMs >= shelf.lifeMs) this.#swap(shelf, nowMs);
    let counter = shelf.young.get(key) ?? shelf.old.get(key);
    if (counter === undefined && seat.shelves.size > 1) counter = this.#moveHere(seat, shelf, key);
    if (counter === undefined && this.#isFull(nowMs)) counter = this.#overflowOf(shelf, limit);
    if (counter !== undefined) slide(counter, nowMs - windowSec * 1000);
    return counter;
  }

  /** One that was found in this same moment, and is where it was: most need no second look. */
  #ready(seat: Seat, claim: Claim, found: Shelved | undefined, nowMs: number): Shelved {
    const shelf = found?.shelf;
    if (
      found === undefined ||
      shelf === undefined ||
      shelf.windowSec !== claim.windowSec ||
      found.generation !== shelf.generation
    )
      return this.#open(seat, claim, nowMs);
    shelf.writtenMs = nowMs;
    return found;
  }

  /** The same, opened where it is new, and safe from the next swap. */
  #open(seat: Seat, claim: Claim, nowMs: number): Shelved {
    const { key, windowSec } = claim;
    const shelf = seat.shelves.get(windowSec)!;
    let counter = this.#find(seat, claim, nowMs);
    if (counter === undefined) {
      counter = newCounter(shelf);
      shelf.young.set(key, counter);
      this.#keys += 1;
    } else if (counter.shelf === undefined) this.#overflowed += 1;
    else if (counter.generation !== shelf.generation) {
      counter.generation = shelf.generation;
      shelf.old.delete(key);
      shelf.young.set(key, counter);
    }
    shelf.writtenMs = nowMs;
    return counter;
  }

  /** A live edit of the window's length holds for running windows too: the counter goes to the new length's shelf. */
  #moveHere(seat: Seat, here: Shelf, key: string): Shelved | undefined {
    for (const shelf of seat.shelves.values()) {
      if (shelf === here) continue;
      const counter = shelf.young.get(key) ?? shelf.old.get(key);
      if (counter === undefined) continue;
      shelf.young.delete(key);
      shelf.old.delete(key);
      if (shelf.held.delete(key)) here.held.set(key, counter);
      counter.shelf = here;
      counter.generation = here.generation;
      here.young.set(key, counter);
      here.writtenMs = Math.max(here.writtenMs, shelf.writtenMs);
      return counter;
    }
    return undefined;
  }

  #build(seat: Seat, windowSec: number, nowMs: number): Shelf {
    const shelf: Shelf = {
      windowSec,
      lifeMs: windowSec === 0 ? IDLE_MS : lifeMs(windowSec),
      young: new Map(),
      old: new Map(),
      generation: 0,
      swappedMs: nowMs,
      writtenMs: 0,
      held: new Map(),
      overflow: new Map(),
    };
    seat.shelves.set(windowSec, shelf);
    return shelf;
  }

  #isFull(nowMs: number): boolean {
    if (this.#keys < this.#keysMax) return false;
    for (const { shelves } of this.#seats.values())
      for (const shelf of shelves.values())
        if (nowMs - shelf.swappedMs >= shelf.lifeMs) this.#swap(shelf, nowMs);
    return this.#keys >= this.#keysMax;
  }

  #overflowOf(shelf: Shelf, limit: number): Shelved {
    let counter = shelf.overflow.get(limit);
    if (counter === undefined) {
      const isLast = shelf.overflow.size >= OVERFLOWS_MAX;
      counter = isLast ? shelf.overflow.values().next().value! : newCounter(undefined);
      if (!isLast) shelf.overflow.set(limit, counter);
    }
    return counter;
  }

  /** A whole life after the last swap, nothing of the old generation is inside the window any more. */
  #swap(shelf: Shelf, nowMs: number): void {
    const isIdle = nowMs - shelf.writtenMs >= shelf.lifeMs;
    this.#keys -= shelf.old.size + (isIdle ? shelf.young.size : 0);
    shelf.old = isIdle ? new Map() : shelf.young;
    shelf.young = new Map();
    shelf.swappedMs = nowMs;
    shelf.generation += 1;
    for (const [key, counter] of shelf.held) {
      if (counter.reserved === 0) {
        shelf.held.delete(key);
        counter.isHeld = false;
        continue;
      }
      if (!shelf.old.delete(key)) this.#keys += 1;
      shelf.young.set(key, counter);
      counter.generation = shelf.generation;
      shelf.writtenMs = nowMs;
    }
  }

  #hold(counter: Shelved, { key }: Claim, amount: number): void {
    counter.reserved = Math.max(0, counter.reserved + amount);
    const { shelf } = counter;
    if (shelf === undefined) return;
    if (!counter.isHeld) {
      if (counter.reserved === 0) return;
      shelf.held.set(key, counter);
      counter.isHeld = true;
    } else if (counter.reserved === 0 && shelf.held.size > HELD_IDLE_MAX) {
      shelf.held.delete(key);
      counter.isHeld = false;
    }
  }

  /** What a lease may do with the store. */
  readonly #door: Door = {
    current: (seat, claim, counter) => this.#current(seat, claim, counter),
    book: (claim, current, amount) => {
      const nowMs = this.#now();
      if (current.shelf !== undefined) current.shelf.writtenMs = nowMs;
      slide(current, nowMs - claim.windowSec * 1000);
      return book(current, nowMs, claim.windowSec, amount);
    },
    hold: (claim, counter, by) => this.#hold(counter, claim, by),
    reserveMore: (seat, claims, counters, more) => {
      const nowMs = this.#now();
      const wanted = claims.map((claim, i) => ({ ...claim, cost: 0, reserve: more[i] ?? 0 }));
      if (this.#refusing(seat, wanted, nowMs) >= 0) return false;
      for (let i = 0; i < claims.length; i++) {
        counters[i] = this.#current(seat, claims[i]!, counters[i]!);
        this.#hold(counters[i]!, claims[i]!, more[i] ?? 0);
      }
      return true;
    },
    ended: () => {
      this.#leases -= 1;
    },
  };

  /** A counter that a lease began with may have been dropped since, where it held nothing: the one that counts now. */
  #current(seat: Seat, claim: Claim, counter: Shelved): Shelved {
    if (counter.shelf === undefined || counter.generation === counter.shelf.generation) return counter;
    return this.#open(seat, claim, this.#now());
  }
}

interface Door {
  current(seat: Seat, claim: Claim, counter: Shelved): Shelved;
  book(claim: Claim, counter: Shelved, amount: number): number;
  hold(claim: Claim, counter: Shelved, by: number): void;
  reserveMore(seat: Seat, claims: readonly Claim[], counters: Shelved[], more: readonly number[]): boolean;
  ended(): void;
}

class MemoryLease extends OpenLease {
  readonly #door: Door;
  readonly #seat: Seat;
  readonly #counters: Shelved[];

  constructor(door: Door, seat: Seat, claims: readonly Claim[], counters: Shelved[]) {
    super(claims);
    this.#door = door;
    this.#seat = seat;
    this.#counters = counters;
  }

  protected override book(index: number, amount: number): number {
    const claim = this.claims[index]!;
    const counter = this.#door.current(this.#seat, claim, this.#counters[index]!);
    this.#counters[index] = counter;
    return this.#door.book(claim, counter, amount);
  }
  protected override giveBack(index: number, slotEndMs: number, amount: number): void {
    giveBack(this.#counters[index]!, slotEndMs, amount);
  }
  protected override hold(index: number, by: number): void {
    this.#door.hold(this.claims[index]!, this.#counters[index]!, by);
  }
  protected override reserveMore(more: readonly number[]): boolean {
    return this.#door.reserveMore(this.#seat, this.claims, this.#counters, more);
  }
  protected override ended(): void {
    this.#door.ended();
  }
}

function newCounter(shelf: Shelf | undefined): Shelved {
  const generation = shelf?.generation ?? 0;
  return { used: 0, reserved: 0, endMs: 0, amount: 0, older: undefined, shelf, generation, isHeld: false };
}
