/**
 * Sliding-window counters that all replicas share, on Redis (counters-window.ts says what the window promises,
 * counters-scripts.ts what Redis does). One round trip takes all claims of a request; in a cluster one for each group,
 * at the same time, and where one refuses what the others took is given back at once.
 *
 *   take -> known to be out? -> Redis away? -> its posture: this replica's share of the limit, admit, or refuse
 *        -> enough at hand? a lease, and no round trip (counters-advances.ts)
 *        -> too many asked at once? wait a little, and be answered by what the others learned
 *        -> ask -> admitted: a lease | refused: remember it, where it is certain | no answer: the posture
 *
 * While Redis is away each of n replicas counts against limit / n (rounded down, at least 1) in its own memory; what
 * it admitted is told to Redis afterwards. So an outage can let through the limit once more, and no multiple of it.
 */
import type { Await, AwayPosture, Claim, Counters, Lease, Taken } from "../layer/index.ts";
import { Advances } from "./counters-advances.ts";
import { Asking } from "./counters-asking.ts";
import { Books, type Place } from "./counters-books.ts";
import { forgetCounter, inspectCounters } from "./counters-inspect.ts";
import { KnownRefusals } from "./counters-known.ts";
import { MemoryCounters, type MemoryCountersOptions, type MemoryCountersStats } from "./counters-memory.ts";
import { SharedLease } from "./counters-shared-lease.ts";
import {
  type CounterRow,
  type CounterStore,
  type InspectOptions,
  RETRY_GUESS_MS,
} from "./counters-window.ts";
import type { SharedRedis } from "./redis.ts";

export interface RedisCountersOptions extends Pick<MemoryCountersOptions, "keysMax"> {
  readonly redis: SharedRedis;
  readonly leaseTtlMs?: number;
  /** Counters with something to tell Redis while it is away. */
  readonly pendingMax?: number;
}

/** `keys` and `overflowed` are of this process's own share. */
export interface RedisCountersStats extends MemoryCountersStats {
  /** Takes that this process refused without asking. */
  readonly known: number;
  readonly shared: number;
  /** Of those, by what was at hand. */
  readonly advanced: number;
  /** Counters of which something is at hand. */
  readonly atHand: number;
  /** By this replica's share of a limit. */
  readonly insured: number;
  readonly posture: number;
  readonly away: boolean;
  /** Counters with something to tell. */
  readonly pendingSettles: number;
  /** Amounts that were never told: more counters than `pendingMax` had any. */
  readonly lostSettles: number;
}

/**
 * Takes that were sent and not answered. The next ones wait here rather than in Redis's buffers: many are answered by
 * the refusal of one before them, and all at once when Redis goes away. In a burst a limit stays exact that way, at
 * the price of more than 25 ms for those far behind; who has waited for WAIT_MS_MAX is answered by the posture.
 */
const ASKING_MAX = 64;
const WAITING_MAX = 16_384;
const WAIT_MS_MAX = 100;
/** A limit that had half its room left is taken to have some for so long: what was held of it may be freed later. */
const ROOMY_MS = 1_000;

interface Seat {
  readonly name: string;
  readonly known: KnownRefusals;
  readonly share: Counters;
  readonly advances: Advances;
}

interface Question {
  readonly seat: Seat;
  readonly claims: readonly Claim[];
  readonly away: AwayPosture;
  readonly sinceMs: number;
  readonly answer: (taken: Taken) => void;
  readonly fail: (bug: unknown) => void;
}

const NOTHING_ASKED: Taken = {
  admitted: true,
  by: "shared",
  refusedBy: -1,
  retryAfterMs: 0,
  levels: [],
  lease: undefined,
};
/** Admitted while nobody counts. */
const UNCOUNTED: Lease = { debit: () => true, extend: () => true, settle: () => {} };

export class RedisCounters implements CounterStore<RedisCountersStats> {
  readonly #redis: SharedRedis;
  readonly #books: Books;
  readonly #asking: Asking;
  readonly #memory: MemoryCounters;
  readonly #seats = new Map<string, Seat>();
  readonly #waiting: Question[] = [];
  #waitingFrom = 0;
  #underWay = 0;
  #leases = 0;
  readonly #count = { known: 0, shared: 0, advanced: 0, insured: 0, posture: 0 };

  constructor({ redis, leaseTtlMs = 15_000, pendingMax = 65_536, ...memory }: RedisCountersOptions) {
    this.#redis = redis;
    this.#books = new Books({ redis, leaseTtlMs, booksMax: pendingMax });
    this.#asking = new Asking({ redis, books: this.#books, leaseTtlMs });
    this.#memory = new MemoryCounters(memory);
  }

  forSeat(name: string): Counters {
    const seat = this.#seatOf(name);
    return {
      take: (claims, away) => this.#take(seat, claims, away),
      known: (claims) => this.#known(seat, claims),
    };
  }

  stats(): RedisCountersStats {
    const { keys, overflowed } = this.#memory.stats();
    let atHand = 0;
    for (const { advances } of this.#seats.values()) atHand += advances.size;
    return {
      keys,
      overflowed,
      leases: this.#leases,
      ...this.#count,
      atHand,
      away: !this.#redis.isUp,
      pendingSettles: this.#books.pending,
      lostSettles: this.#books.lost,
    };
  }

  /** Of Redis; while it is away of this replica's share. */
  async inspect(seat: string | undefined, options: InspectOptions): Promise<CounterRow[]> {
    if (!this.#redis.isUp) return this.#memory.inspect(seat, options);
    return inspectCounters(this.#redis, this.#books.clock.nowMs() ?? Date.now(), seat, options);
  }

  /** Replicas that know of a refusal keep it for a second at most. */
  async reset(seat: string, key: string): Promise<boolean> {
    this.#seats.get(seat)?.known.forget(key);
    const hadShare = await this.#memory.reset(seat, key);
    return (await forgetCounter(this.#redis, seat, key)) || hadShare;
  }

  close(): Promise<void> {
    for (const { advances } of this.#seats.values()) advances.close();
    return this.#books.close();
  }

  #seatOf(name: string): Seat {
    let seat = this.#seats.get(name);
    if (seat === undefined) {
      const advances = new Advances({ redis: this.#redis, books: this.#books, asking: this.#asking });
      seat = { name, known: new KnownRefusals(), share: this.#memory.forSeat(name), advances };
      this.#seats.set(name, seat);
    }
    return seat;
  }

  #known(seat: Seat, claims: readonly Claim[], sinceMs?: number): Taken | undefined {
    const known = seat.known.find(claims, performance.now(), sinceMs);
    if (known !== undefined) this.#count.known += 1;
    return known;
  }

  #take(seat: Seat, claims: readonly Claim[], away: AwayPosture): Await<Taken> {
    if (claims.length === 0) return NOTHING_ASKED;
    const known = this.#known(seat, claims);
    if (known !== undefined) return known;
    if (!this.#redis.isUp) return this.#unasked(seat, claims, away);
    const atHand = this.#atHand(seat, claims, away);
    if (atHand !== undefined) return atHand;
    return new Promise((answer, fail) => {
      const question = { seat, claims, away, sinceMs: performance.now(), answer, fail };
      if (this.#underWay < ASKING_MAX) void this.#ask(question);
      else if (this.#waiting.length - this.#waitingFrom < WAITING_MAX) this.#waiting.push(question);
      else answer(this.#unasked(seat, claims, away));
    });
  }

  /** Without a round trip; a process that dies now takes what it has not told along, some milliseconds' worth. */
  #atHand(seat: Seat, claims: readonly Claim[], away: AwayPosture): Taken | undefined {
    const nowMs = performance.now();
    const taken = seat.advances.take(claims, nowMs);
    if (taken === undefined) return undefined;
    const { places, levels } = taken;
    this.#count.shared += 1;
    this.#count.advanced += 1;
    const lease = this.#lease(seat, claims, places, {
      away,
      share: undefined,
      roomyUntilMs: nowMs + ROOMY_MS,
    });
    for (let i = 0; i < claims.length; i++) {
      const { cost, reserve, windowSec } = claims[i]!;
      const slotEnd = cost > 0 ? this.#books.slotEnd(windowSec) : 0;
      if (cost > 0) {
        this.#books.add(places[i]!, slotEnd, cost);
        this.#books.hold(places[i]!, -cost);
      }
      lease.began(slotEnd, reserve);
    }
    this.#books.due(places, true);
    return { admitted: true, by: "shared", refusedBy: -1, retryAfterMs: 0, levels, lease };
  }

  async #ask(question: Question): Promise<void> {
    const { seat, claims, away, answer, fail } = question;
    this.#underWay += 1;
    try {
      answer((await this.#askAll(question)) ?? this.#unasked(seat, claims, away));
    } catch (bug) {
      fail(bug);
    } finally {
      this.#underWay -= 1;
      this.#next();
    }
  }

  #next(): void {
    while (this.#underWay < ASKING_MAX && this.#waitingFrom < this.#waiting.length) {
      const question = this.#waiting[this.#waitingFrom++]!;
      const { seat, claims, away, sinceMs, answer } = question;
      const known = this.#known(seat, claims, sinceMs);
      if (known !== undefined) answer(known);
      else if (!this.#redis.isUp || performance.now() - sinceMs > WAIT_MS_MAX)
        answer(this.#unasked(seat, claims, away));
      else void this.#ask(question);
    }
    if (this.#waitingFrom < Math.max(ASKING_MAX, this.#waiting.length / 2)) return;
    this.#waiting.splice(0, this.#waitingFrom);
    this.#waitingFrom = 0;
  }

  /** undefined: nobody answered in time. */
  async #askAll({ seat, claims, away }: Question): Promise<Taken | undefined> {
    const places = this.#placesOf(seat, claims);
    const said = await this.#asking.reserve(places, claims);
    if (said === undefined) return undefined;
    this.#count.shared += 1;
    const { refusedBy, levels, slotEnds, retryAfterMs, isCertain } = said;
    if (refusedBy >= 0) {
      seat.known.learn(performance.now(), { claims, levels, refusedBy, retryAfterMs, isCertain });
      return { admitted: false, by: "shared", refusedBy, retryAfterMs, levels, lease: undefined };
    }
    const isRoomy = claims.every(({ limit }, i) => levels[i]!.remaining >= limit / 2);
    const nowMs = performance.now();
    const roomyUntilMs = isRoomy ? nowMs + ROOMY_MS : 0;
    seat.advances.heard(claims, places, levels, nowMs);
    const lease = this.#lease(seat, claims, places, { away, share: undefined, roomyUntilMs });
    for (let i = 0; i < claims.length; i++) lease.began(slotEnds[i]!, claims[i]!.reserve);
    return { admitted: true, by: "shared", refusedBy: -1, retryAfterMs: 0, levels, lease };
  }

  #unasked(seat: Seat, claims: readonly Claim[], away: AwayPosture): Taken {
    switch (away) {
      case "share":
        return this.#insured(seat, claims);
      case "admit":
        this.#count.posture += 1;
        return {
          admitted: true,
          by: "posture",
          refusedBy: -1,
          retryAfterMs: 0,
          levels: [],
          lease: UNCOUNTED,
        };
      case "refuse":
        this.#count.posture += 1;
        return {
          admitted: false,
          by: "posture",
          refusedBy: 0,
          retryAfterMs: RETRY_GUESS_MS,
          levels: [],
          lease: undefined,
        };
      default:
        return away satisfies never;
    }
  }

  #insured(seat: Seat, claims: readonly Claim[]): Taken {
    this.#count.insured += 1;
    const taken = seat.share.take(this.#sharesOf(claims), "share") as Taken;
    if (taken.lease === undefined) return { ...taken, by: "share" };
    const places = this.#placesOf(seat, claims);
    const lease = this.#lease(seat, claims, places, {
      away: "share",
      share: taken.lease,
      roomyUntilMs: 0,
    });
    for (let i = 0; i < claims.length; i++) {
      const { cost, reserve, windowSec } = claims[i]!;
      const slotEnd = this.#books.slotEnd(windowSec);
      this.#books.add(places[i]!, slotEnd, cost);
      if (reserve > 0) this.#books.hold(places[i]!, reserve);
      lease.began(slotEnd, reserve);
    }
    return { ...taken, by: "share", lease };
  }

  #sharesOf(claims: readonly Claim[]): Claim[] {
    const replicas = this.#redis.liveReplicas;
    return claims.map((claim) => ({ ...claim, limit: Math.max(1, Math.floor(claim.limit / replicas)) }));
  }

  #placesOf({ name }: Seat, claims: readonly Claim[]): Place[] {
    const { prefix } = this.#redis;
    return claims.map(({ key, group, windowSec }) => {
      const tag = tagOf(group);
      return { key: `${prefix}:{${tag}}:c:${name}:${key}`, tag, windowSec };
    });
  }

  #lease(
    seat: Seat,
    claims: readonly Claim[],
    places: readonly Place[],
    {
      away,
      share,
      roomyUntilMs,
    }: {
      readonly away: AwayPosture;
      readonly share: Lease | undefined;
      readonly roomyUntilMs: number;
    },
  ): SharedLease {
    this.#leases += 1;
    return new SharedLease({
      books: this.#books,
      claims,
      places,
      share,
      roomyUntilMs,
      reserveMore: async (wanted, indexes) => {
        const some = indexes.map((i) => places[i]!);
        const said = this.#redis.isUp ? await this.#asking.reserve(some, wanted) : undefined;
        if (said !== undefined) return said.refusedBy < 0;
        if (away === "refuse") return false;
        const share = away === "share" ? (seat.share.take(this.#sharesOf(wanted), away) as Taken) : undefined;
        if (share?.admitted === false) return false;
        for (const [at, place] of some.entries()) this.#books.hold(place, wanted[at]!.reserve);
        return share?.lease ?? true;
      },
      ended: () => {
        this.#leases -= 1;
      },
    });
  }
}

/** A group as a hash tag; an empty tag would be none. */
function tagOf(group: string): string {
  if (group === "") return "-";
  return group.includes("}") ? group.replaceAll("}", "_") : group;
}
