/**
 * Sessions of people at the console. The id is in the browser's cookie alone; the table holds its keyed hash. A
 * session holds as long as it is used (idle) and no longer than a day's work (absolute), and only while its account
 * has the epoch that it began with:
 *
 *     cookie -> hash -> row -> not idle, not over -> account's epoch is the row's -> account
 *
 * All of it is read from memory. When it was last used is written now and then, behind the answer.
 */
import { randomBytes } from "node:crypto";
import type { AccountListing, Accounts } from "./operators-accounts.ts";
import { SESSIONS_MAX, SESSIONS_PER_ACCOUNT_MAX, type SessionRecord } from "./operators-record.ts";
import type { Pepper } from "./pepper.ts";
import type { Table } from "./table.ts";

const PRESENTED = /^[\w-]{43}$/;
const ID_BYTES = 32;
/** How far the last use on record may lie behind, as a share of the idle time and at most. */
const SEEN_SHARE = 0.1;
const SEEN_EVERY_MAX_MS = 60_000;
/** A row from further in the future was made before somebody set a clock back: it is over. */
const SKEW_MS = 300_000;

export interface SessionTimes {
  readonly idleMs: number;
  readonly absoluteMs: number;
}

export interface SessionFound {
  readonly account: AccountListing;
  /** Hash of the session's id. */
  readonly id: string;
  readonly expiresMs: number;
}

export class Sessions {
  readonly #table: Table<SessionRecord>;
  readonly #accounts: Accounts;
  readonly #pepper: Pepper;
  readonly #times: SessionTimes;
  readonly #now: () => number;
  /** Last uses that this process saw, by row; a write of each follows. Never more than there are rows. */
  readonly #seen = new Map<string, { atMs: number; toldMs: number }>();

  constructor(options: {
    readonly table: Table<SessionRecord>;
    readonly accounts: Accounts;
    readonly pepper: Pepper;
    readonly times: SessionTimes;
    readonly now: () => number;
  }) {
    this.#table = options.table;
    this.#accounts = options.accounts;
    this.#pepper = options.pepper;
    this.#times = options.times;
    this.#now = options.now;
    options.table.onChange((changes) => {
      for (const { id, after } of changes) if (after === undefined) this.#seen.delete(id);
    });
  }

  get size(): number {
    return this.#table.size;
  }

  /** The id in clear is in this answer and nowhere else. Undefined where the account may not log in any more. */
  async open(
    name: string,
  ): Promise<{ readonly secret: string; readonly csrf: string; readonly expiresMs: number } | undefined> {
    const epoch = this.#accounts.epochOf(name);
    if (epoch === undefined) return undefined;
    await this.#makeRoom(name);
    const secret = randomBytes(ID_BYTES).toString("base64url");
    const nowMs = this.#now();
    const at = new Date(nowMs).toISOString();
    const row: SessionRecord = { id: this.#hash(secret), account: name, epoch, createdAt: at, seenAt: at };
    await this.#table.change(row.id, () => row);
    return { secret, csrf: this.csrfOf(row.id), expiresMs: nowMs + this.#times.absoluteMs };
  }

  /** Undefined for a session that is none, is over, or whose account has changed since. Counts as a use. */
  find(secret: string): SessionFound | undefined {
    if (!PRESENTED.test(secret)) return undefined;
    const row = this.#table.get(this.#hash(secret));
    if (row === undefined || this.#isOver(row)) return undefined;
    const account = this.#accounts.get(row.account);
    if (account === undefined) return undefined;
    this.#note(row);
    return { account, id: row.id, expiresMs: Date.parse(row.createdAt) + this.#times.absoluteMs };
  }

  /** On every replica within a second. */
  async close(id: string): Promise<void> {
    await this.#table.change(id, () => null);
  }

  /** For calls that change something: known only to a page that was told it, which another site's never is. */
  csrfOf(id: string): string {
    return this.#pepper.digest(`csrf\n${id}`).toString("base64url");
  }

  #isOver({ id, account, epoch, createdAt, seenAt }: SessionRecord): boolean {
    if (this.#accounts.epochOf(account) !== epoch) return true;
    const nowMs = this.#now();
    const createdMs = Date.parse(createdAt);
    const seenMs = Math.max(Date.parse(seenAt), this.#seen.get(id)?.atMs ?? 0);
    if (createdMs > nowMs + SKEW_MS || seenMs > nowMs + SKEW_MS) return true;
    return nowMs >= createdMs + this.#times.absoluteMs || nowMs >= seenMs + this.#times.idleMs;
  }

  #note({ id, seenAt }: SessionRecord): void {
    const nowMs = this.#now();
    const seen = this.#seen.get(id) ?? { atMs: nowMs, toldMs: Date.parse(seenAt) };
    seen.atMs = nowMs;
    this.#seen.set(id, seen);
    const everyMs = Math.min(SEEN_EVERY_MAX_MS, this.#times.idleMs * SEEN_SHARE);
    if (nowMs - seen.toldMs < everyMs) return;
    seen.toldMs = nowMs;
    const at = new Date(nowMs).toISOString();
    // One that cannot be written now is known here, and written with a later call.
    this.#table
      .change(id, (row) => (row === undefined || row.seenAt >= at ? undefined : { ...row, seenAt: at }))
      .catch(() => {});
  }

  /** What is over goes first, then what was unused for the longest: of the account at its bound, of all at theirs. */
  async #makeRoom(name: string): Promise<void> {
    const over: string[] = [];
    const live: SessionRecord[] = [];
    for (const row of this.#table.values()) {
      if (this.#isOver(row)) over.push(row.id);
      else live.push(row);
    }
    live.sort((one, other) => (one.seenAt < other.seenAt ? -1 : 1));
    const own = live.filter(({ account }) => account === name);
    const excess = own.slice(0, Math.max(0, own.length - SESSIONS_PER_ACCOUNT_MAX + 1));
    const rest = live.length - excess.length;
    const more = live.filter((row) => !excess.includes(row)).slice(0, Math.max(0, rest - SESSIONS_MAX + 1));
    const gone = [...over, ...[...excess, ...more].map(({ id }) => id)];
    await Promise.all(gone.map((id) => this.#table.change(id, () => null)));
  }

  #hash(secret: string): string {
    return this.#pepper.digest(`session\n${secret}`).toString("base64url");
  }
}
