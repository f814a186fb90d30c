/**
 * What this process still has to tell Redis, and what its requests hold there: one entry for each counter, so that a
 * thousand settled requests of one key are one line of one script. Entries are sent in the turn in which a request
 * ends, or some milliseconds later where every limit had ample room; debits of running ones with the heartbeat. While Redis is away they add up here, each amount in the slot in
 * which it was used, and go out first thing when it is back.
 *
 * What is held is told as a difference while takes are under way on the same counter, otherwise in all: that puts
 * right whatever a restart, a failover or a lost reply did to it.
 */
import { RedisClock } from "./counters-clock.ts";
import { SYNC } from "./counters-scripts.ts";
import { slotEndMs, slotsOf } from "./counters-window.ts";
import type { SharedRedis } from "./redis.ts";
import { runScript } from "./redis-script.ts";

export interface BooksOptions {
  readonly redis: SharedRedis;
  /** What a dead process held lapses after this. */
  readonly leaseTtlMs: number;
  /** Counters with something to tell. Beyond it what requests used is not told; what they hold always has a place. */
  readonly booksMax: number;
}

/** Where a counter is: its key, and the hash tag that it shares with its group. */
export interface Place {
  readonly key: string;
  readonly tag: string;
  readonly windowSec: number;
}

interface Book extends Place {
  held: number;
  /** Less held than Redis was told. */
  free: number;
  /** Takes that were sent and not answered. */
  asking: number;
  /** Pairs of slot end and amount, negative to give back; end 0 is whenever Redis hears of it. */
  amounts: number[];
}

/** Counters in one script: it must not hold Redis up. */
const BATCH = 64;
/** Slots of one counter that are told of apart: a window has 61 at most, and some were edited. */
const SLOTS_MAX = 128;
/** A script of many counters may take longer than one take. */
const DEADLINE_MS = 100;
const RETRY_MS = 250;
/**
 * What nobody waits for is told after so long, with what else came meanwhile: told at once, it stands in the way of
 * the caller's next take, and costs Redis as much again.
 */
const LATE_MS = 20;

export class Books {
  readonly clock = new RedisClock();
  readonly #redis: SharedRedis;
  readonly #leaseTtlMs: number;
  readonly #booksMax: number;
  readonly #books = new Map<string, Book>();
  /** To be told at once. */
  readonly #due = new Set<Book>();
  readonly #heartbeat: NodeJS.Timeout;
  #retry: NodeJS.Timeout | undefined;
  #late: NodeJS.Timeout | undefined;
  #isPlanned = false;
  #flushing: Promise<void> | undefined;
  #lost = 0;

  constructor({ redis, leaseTtlMs, booksMax }: BooksOptions) {
    this.#redis = redis;
    this.#leaseTtlMs = leaseTtlMs;
    this.#booksMax = booksMax;
    this.#heartbeat = setInterval(() => this.#everything(), leaseTtlMs / 3);
    this.#heartbeat.unref();
    // Before any take can be sent: what is held must not be given to another.
    redis.onState((isUp) => {
      if (isUp) this.#everything();
    });
  }

  /** Counters with something to tell. */
  get pending(): number {
    let pending = 0;
    for (const { amounts, free } of this.#books.values()) if (amounts.length > 0 || free > 0) pending += 1;
    return pending;
  }

  /** Amounts that found no place and were never told. */
  get lost(): number {
    return this.#lost;
  }

  /** End of the slot that lies now in Redis's time; 0 where that was never heard. */
  slotEnd(windowSec: number): number {
    const nowMs = this.clock.nowMs();
    return nowMs === undefined || windowSec === 0 ? 0 : slotEndMs(nowMs, windowSec);
  }

  add(place: Place, slotEndMs: number, amount: number): void {
    if (place.windowSec === 0 || amount === 0) return;
    const book = this.#books.get(place.key) ?? this.#open(place, this.#booksMax);
    if (book === undefined) {
      this.#lost += 1;
      return;
    }
    const { amounts } = book;
    for (let at = amounts.length - 2; at >= 0; at -= 2) {
      if (amounts[at] !== slotEndMs) continue;
      // What is given back before it was told cancels out; what is left of either keeps its sign.
      amounts[at + 1]! += amount;
      if (amounts[at + 1] === 0) amounts.splice(at, 2);
      return;
    }
    if (amounts.length >= 2 * SLOTS_MAX) amounts.splice(0, 2);
    amounts.push(slotEndMs, amount);
  }

  /** `isTold`: Redis knows, for it granted it. */
  hold(place: Place, by: number, isTold = false): void {
    const book = this.#books.get(place.key) ?? this.#open(place, Number.POSITIVE_INFINITY);
    if (book === undefined) return;
    book.held = Math.max(0, book.held + by);
    if (by < 0) book.free -= by;
    else if (!isTold) this.#due.add(book);
  }

  /** A take is about to be sent; `heard` when it was answered or never will be. */
  asks(place: Place): void {
    const book = this.#books.get(place.key) ?? this.#open(place, Number.POSITIVE_INFINITY);
    if (book !== undefined) book.asking += 1;
  }

  heard(place: Place): void {
    const book = this.#books.get(place.key);
    if (book === undefined) return;
    book.asking -= 1;
    this.#closeIfDone(book);
  }

  /** Tells what there is about these counters: in this turn of the event loop, or soon where there is time. */
  due(places: readonly Place[], hasTime = false): void {
    for (const { key } of places) {
      const book = this.#books.get(key);
      if (book !== undefined && (book.amounts.length > 0 || book.free > 0)) this.#due.add(book);
    }
    if (this.#due.size === 0) return;
    if (hasTime) this.#planLate();
    else this.#plan();
  }

  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    clearTimeout(this.#late);
    await this.#flushing;
    for (const book of this.#books.values()) this.#due.add(book);
    if (this.#redis.isUp) await this.#flush();
    clearTimeout(this.#retry);
  }

  #open({ key, tag, windowSec }: Place, max: number): Book | undefined {
    if (this.#books.size >= max) return undefined;
    const book: Book = { key, tag, windowSec, held: 0, free: 0, asking: 0, amounts: [] };
    this.#books.set(key, book);
    return book;
  }

  #closeIfDone(book: Book): void {
    const { key, held, free, asking, amounts } = book;
    if (held > 0 || free > 0 || asking > 0 || amounts.length > 0) return;
    this.#due.delete(book);
    // It may have been closed before, and opened anew.
    if (this.#books.get(key) === book) this.#books.delete(key);
  }

  #everything(): void {
    for (const book of this.#books.values())
      if (book.held > 0 || book.free > 0 || book.amounts.length > 0) this.#due.add(book);
    if (this.#due.size > 0) this.#startFlush();
  }

  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      this.#startFlush();
    });
  }

  #planLate(): void {
    if (this.#isPlanned || this.#late !== undefined) return;
    this.#late = setTimeout(() => {
      this.#late = undefined;
      this.#startFlush();
    }, LATE_MS);
    this.#late.unref();
  }

  #startFlush(): void {
    if (this.#flushing !== undefined || !this.#redis.isUp) return;
    this.#flushing = this.#flush().finally(() => {
      this.#flushing = undefined;
      // What came meanwhile; where it failed, #retry is set.
      if (this.#due.size > 0 && this.#retry === undefined) this.#startFlush();
    });
  }

  async #flush(): Promise<void> {
    const books = [...this.#due];
    this.#due.clear();
    const groups = this.#redis.isCluster ? Map.groupBy(books, ({ tag }) => tag).values() : [books];
    const sent: Promise<void>[] = [];
    for (const group of groups)
      for (let at = 0; at < group.length; at += BATCH) sent.push(this.#send(group.slice(at, at + BATCH)));
    await Promise.all(sent);
  }

  async #send(books: readonly Book[]): Promise<void> {
    const args: (string | number)[] = [this.#redis.replica, this.#leaseTtlMs, this.clock.fence(DEADLINE_MS)];
    const told = books.map((book) => {
      const { windowSec, held, free, asking, amounts } = book;
      const slots = windowSec === 0 ? 0 : slotsOf(windowSec);
      args.push(windowSec * 1000, slots, asking === 0 ? held : -1, free, amounts.length / 2, ...amounts);
      book.amounts = [];
      book.free = 0;
      return { book, amounts, free };
    });
    const keys = books.map(({ key }) => key);
    const notTold = () => {
      for (const { book, amounts, free } of told) {
        const known = this.#books.get(book.key) ?? book;
        this.#books.set(book.key, known);
        known.free += free;
        for (let at = 0; at < amounts.length; at += 2) this.add(known, amounts[at]!, amounts[at + 1]!);
        this.#due.add(known);
      }
      this.#retry ??= setTimeout(() => {
        this.#retry = undefined;
        this.#startFlush();
      }, RETRY_MS);
      this.#retry.unref();
    };
    const sentMs = performance.now();
    let raw: Promise<unknown> | undefined;
    const judge = (reply: unknown) => {
      const [state, nowMs] = reply as [number, number];
      if (state === -2) {
        this.clock.reset(sentMs, nowMs);
        notTold();
        return;
      }
      this.clock.heard(sentMs, nowMs);
      for (const { book } of told) this.#closeIfDone(book);
    };
    try {
      judge(
        await this.#redis.run((client) => {
          raw = runScript(client, SYNC, keys, args);
          return raw;
        }, DEADLINE_MS),
      );
    } catch {
      // Sent, but not answered in time: it may still be carried out, so it is not sent again before that is known.
      if (raw === undefined) notTold();
      else raw.then(judge, notTold);
    }
  }
}
