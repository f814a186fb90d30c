/**
 * Room that this process keeps at hand in limits that have plenty, so that the next takes of a busy caller need no
 * round trip: reserved on Redis like what a request holds, taken from here, and booked in the slot in which it was
 * used. Redis counts it from the moment it is granted, so no limit is ever exceeded by it; the price is that another
 * replica may find up to 1/32 of a limit reserved by those who do not use it, for a second.
 *
 *   asked twice in 100 ms, half of every limit free -> advance -> takes from it, told within 20 ms
 *      half used, or half a second old -> asked for more, with nobody waiting
 *      less than half of a limit free, a second old, edited, Redis away -> given back
 */
import type { Claim, Level } from "../layer/index.ts";
import type { Asking } from "./counters-asking.ts";
import type { Books, Place } from "./counters-books.ts";
import type { SharedRedis } from "./redis.ts";

/** Of a limit, what all replicas may have at hand together. */
const SHARE = 1 / 32;
/** So many more requests like this one. */
const REQUESTS_AHEAD = 64;
/** Who asks less often is not worth it. */
const BUSY_MS = 100;
/** What Redis said of a limit is believed for so long; asked anew after half of it. */
const KEPT_MS = 1_000;
const SWEEP_MS = 250;
/** Counters of one seat with something at hand; the others ask every time. */
const ADVANCES_MAX = 16_384;

interface Advance {
  readonly key: string;
  readonly place: Place;
  /** The claim's, when it was granted. */
  readonly limit: number;
  readonly windowSec: number;
  /** At hand. */
  left: number;
  /** What it was last filled up to. */
  size: number;
  /** Left of the limit for everyone, what is at hand included. */
  room: number;
  resetMs: number;
  /** performance.now() when Redis last spoke of it. */
  toldMs: number;
  isAsking: boolean;
}

/** What Redis said of a limit. */
interface Told {
  readonly claim: Claim;
  readonly place: Place;
  readonly level: Level;
}

export interface AdvancesOptions {
  readonly redis: SharedRedis;
  readonly books: Books;
  readonly asking: Asking;
}

/** Of one seat. */
export class Advances {
  readonly #options: AdvancesOptions;
  readonly #byKey = new Map<string, Advance>();
  #sweeping: NodeJS.Timeout | undefined;

  constructor(options: AdvancesOptions) {
    this.#options = options;
    options.redis.onState((isUp) => {
      if (!isUp) for (const advance of this.#byKey.values()) this.#giveBack(advance);
    });
  }

  /** Counters with something at hand. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Takes all claims from what is at hand, or nothing and gives undefined. */
  take(claims: readonly Claim[], nowMs: number): { places: Place[]; levels: Level[] } | undefined {
    for (const { key, limit, windowSec, cost, reserve } of claims) {
      const advance = this.#byKey.get(key);
      if (advance === undefined || advance.left < cost + reserve || nowMs - advance.toldMs > KEPT_MS)
        return undefined;
      if (advance.limit !== limit || advance.windowSec !== windowSec) return undefined;
    }
    const places: Place[] = [];
    const levels: Level[] = [];
    let isLow = false;
    for (const { key, cost, reserve } of claims) {
      const advance = this.#byKey.get(key)!;
      const { place, toldMs, resetMs } = advance;
      advance.left -= cost + reserve;
      advance.room -= cost + reserve;
      isLow ||= advance.left * 2 < advance.size || nowMs - toldMs > KEPT_MS / 2;
      places.push(place);
      levels.push({
        remaining: Math.max(0, advance.room),
        resetMs: Math.max(0, Math.ceil(resetMs - (nowMs - toldMs))),
      });
    }
    if (isLow) this.#ask(claims, places, nowMs);
    return { places, levels };
  }

  /** A take was admitted by Redis: is its caller busy, and is there room? */
  heard(claims: readonly Claim[], places: readonly Place[], levels: readonly Level[], nowMs: number): void {
    let isBusy = true;
    for (let i = 0; i < claims.length; i++) {
      const told = { claim: claims[i]!, place: places[i]!, level: levels[i]! };
      if (isRoomy(told) && sizeOf(told.claim, this.#options.redis) > 0) {
        if (!this.#note(told, nowMs)) isBusy = false;
      } else {
        isBusy = false;
        this.#giveBack(this.#byKey.get(told.claim.key));
      }
    }
    if (isBusy) this.#ask(claims, places, nowMs);
  }

  close(): void {
    clearInterval(this.#sweeping);
    for (const advance of this.#byKey.values()) this.#giveBack(advance);
  }

  /** True where it was asked for a moment ago already. */
  #note({ claim, place, level }: Told, nowMs: number): boolean {
    const { key, limit, windowSec } = claim;
    let advance = this.#byKey.get(key);
    if (advance !== undefined && (advance.limit !== limit || advance.windowSec !== windowSec)) {
      this.#giveBack(advance);
      advance = undefined;
    }
    if (advance === undefined) {
      if (this.#byKey.size >= ADVANCES_MAX) return false;
      const none = { left: 0, size: 0, room: 0, resetMs: 0, toldMs: 0, isAsking: false };
      advance = { key, place, limit, windowSec, ...none };
      this.#byKey.set(key, advance);
      this.#sweeping ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
    }
    const isBusy = nowMs - advance.toldMs < BUSY_MS;
    advance.toldMs = nowMs;
    advance.resetMs = level.resetMs;
    advance.room = level.remaining + advance.left;
    return isBusy;
  }

  /** Fills up what is at hand of these claims; nobody waits for it. */
  #ask(claims: readonly Claim[], places: readonly Place[], nowMs: number): void {
    const { redis, asking } = this.#options;
    const wanted: Claim[] = [];
    const at: Place[] = [];
    const advances: Advance[] = [];
    for (let i = 0; i < claims.length; i++) {
      const claim = claims[i]!;
      const advance = this.#byKey.get(claim.key);
      if (advance === undefined || advance.isAsking) continue;
      const size = sizeOf(claim, redis);
      if (advance.left * 2 >= size && nowMs - advance.toldMs < KEPT_MS / 2) continue;
      advance.isAsking = true;
      advance.size = size;
      wanted.push({ ...claim, cost: 0, reserve: Math.max(0, size - advance.left) });
      at.push(places[i]!);
      advances.push(advance);
    }
    if (wanted.length === 0) return;
    void asking.reserve(at, wanted).then((said) => {
      const heardMs = performance.now();
      for (let i = 0; i < advances.length; i++) {
        const advance = advances[i]!;
        const claim = wanted[i]!;
        advance.isAsking = false;
        const isGranted = said !== undefined && said.refusedBy < 0;
        if (isGranted) advance.left += claim.reserve;
        const level = said?.levels[i];
        if (!isGranted || level === undefined || !isRoomy({ claim, place: advance.place, level })) {
          this.#giveBack(advance);
          continue;
        }
        advance.toldMs = heardMs;
        advance.resetMs = level.resetMs;
        advance.room = level.remaining + advance.left;
        // It was dropped meanwhile: an edit, or Redis was away.
        if (this.#byKey.get(claim.key) !== advance) this.#giveBack(advance);
      }
    });
  }

  #sweep(): void {
    const nowMs = performance.now();
    for (const advance of this.#byKey.values())
      if (!advance.isAsking && nowMs - advance.toldMs > KEPT_MS) this.#giveBack(advance);
    if (this.#byKey.size > 0) return;
    clearInterval(this.#sweeping);
    this.#sweeping = undefined;
  }

  #giveBack(advance: Advance | undefined): void {
    if (advance === undefined) return;
    const { books } = this.#options;
    if (this.#byKey.get(advance.key) === advance) this.#byKey.delete(advance.key);
    if (advance.left > 0) books.hold(advance.place, -advance.left);
    advance.left = 0;
    books.due([advance.place], true);
  }
}

function isRoomy({ claim, level }: Told): boolean {
  return level.remaining >= claim.limit / 2;
}

/** 0 where this process's share of what may be at hand does not reach for one such request. */
function sizeOf({ limit, cost, reserve }: Claim, redis: SharedRedis): number {
  const need = cost + reserve;
  const most = Math.floor((limit * SHARE) / redis.liveReplicas);
  return need <= 0 || most < need ? 0 : Math.min(most, need * REQUESTS_AHEAD);
}
