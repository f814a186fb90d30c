/**
 * A table that several boxes share through Redis. A change is one script that writes only where the row still is
 * what was read; every replica is told by a message, looks twice a second whether it missed one, and at once when
 * Redis is back. Redis away: the last good rows stay in force here, and nothing can be changed. Redis emptied: each
 * replica offers what it has, so that a restart without persistence forgives nobody.
 */
import type { SharedRedis } from "./redis.ts";
import type { Table, TableOptions } from "./table.ts";
import { type Entry, full, outcome, type RowChange, slices, type TableRow, TableRows } from "./table-rows.ts";
import { recordOf, type TableRecord, TableStore, versionOfHead } from "./table-store.ts";
import { otherStamp, readTable, writeTable } from "./table-text.ts";

const POLL_MS = 500;
const TRIES_MAX = 10;
const SYNC_ROUNDS_MAX = 5;
/** The local copy is written this long after a change, together with what else changed by then; a large one more rarely. */
const COPY_DELAY_MS = 1_000;
/** Of the time, at most one part in so many goes into copies. */
const COPY_SHARE = 10;
/** More changes than this waiting for Redis mean that it cannot keep up: the next are refused. */
const CHANGES_WAITING_MAX = 10_000;

type RedisTableOptions<Row extends TableRow> = TableOptions<Row> & { readonly redis: SharedRedis };

export async function openRedisTable<Row extends TableRow>(
  options: RedisTableOptions<Row>,
): Promise<Table<Row>> {
  const table = new RedisTable(options);
  await table.open();
  return table;
}

class RedisTable<Row extends TableRow> implements Table<Row> {
  readonly #options: RedisTableOptions<Row>;
  readonly #rows: TableRows<Row>;
  readonly #store: TableStore;
  readonly #isLive: boolean;
  /** The state that the rows here are; "" before the first reading. */
  #head = "";
  /** The filling of Redis that the rows here belong to; "" where they are from a file that was the store. */
  #generation = "";
  #isRead = false;
  #syncing: Promise<boolean> | undefined;
  #mustSync = false;
  #poll: NodeJS.Timeout | undefined;
  #changes: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #copyTimer: NodeJS.Timeout | undefined;
  #copying: Promise<void> = Promise.resolve();
  #copyDelayMs = COPY_DELAY_MS;
  /** Rows of Redis that could not be read, with the reason; as they last were they stay. */
  #bad = new Map<string, string>();
  #storeProblem: string | undefined;
  #stampProblem: Error | undefined;
  #copyProblem: string | undefined;
  #problem: string | undefined;
  #isClosed = false;

  constructor(options: RedisTableOptions<Row>) {
    this.#options = options;
    this.#rows = new TableRows(options.row, options.rowsMax);
    this.#store = new TableStore(options.redis, options.name);
    this.#isLive = options.watch !== false;
  }

  get rows(): ReadonlyMap<string, Row> {
    return this.#rows.shown;
  }

  get size(): number {
    return this.#rows.entries.size;
  }

  values(): Iterable<Row> {
    return this.#rows.values();
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  get(id: string): Row | undefined {
    return this.#rows.entries.get(id)?.row;
  }

  onChange(listener: (changes: readonly RowChange<Row>[]) => void): void {
    this.#rows.onChange(listener);
  }

  async open(): Promise<void> {
    const { redis, path } = this.#options;
    try {
      const copy = await readTable(this.#options, this.#rows);
      if (copy !== undefined) await this.#rows.replace(copy.entries);
      this.#generation = copy?.generation ?? "";
    } catch (error) {
      this.#copyProblem = `the local copy of the last good rows cannot be used: ${messageOf(error)}`;
    }
    if (this.#isLive) {
      redis.onState((isUp) => {
        if (this.#isClosed) return;
        if (isUp) this.#sync();
        else this.#away();
      });
      // Without messages the poll still sees every change.
      await redis.subscribe(this.#store.channel, (message) => this.#hear(message)).catch(() => {});
    }
    if (!(await this.#sync())) {
      if (this.#stampProblem !== undefined) throw this.#stampProblem;
      if (this.#copyProblem === undefined && this.#generation === "" && this.#rows.entries.size === 0) {
        this.#copyProblem = `${path} holds no copy of the last good rows: none is in force until Redis answers`;
        this.#report();
      }
    }
    if (this.#isLive) this.#poll = setInterval(() => this.#sync(), POLL_MS).unref();
  }

  change(id: string, change: (row: Row | undefined) => Row | null | undefined): Promise<Row | undefined> {
    const { name } = this.#options;
    if (this.#isClosed) return Promise.reject(new Error(`the table "${name}" was closed`));
    if (this.#waiting >= CHANGES_WAITING_MAX) {
      return Promise.reject(
        new Error(`the table "${name}" has ${CHANGES_WAITING_MAX} changes waiting already`),
      );
    }
    this.#waiting++;
    // One after the other: among themselves the changes of one process would only be in each other's way.
    const done = this.#changes.then(() => this.#change(id, change));
    this.#changes = done.catch(() => {}).finally(() => this.#waiting--);
    return done;
  }

  /** Changes that were asked for are made first, and the local copy is brought up to date. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#poll);
    await this.#changes;
    await this.#syncing;
    if (this.#copyTimer !== undefined) this.#writeCopy();
    await this.#copying;
  }

  async #change(id: string, change: (row: Row | undefined) => Row | null | undefined) {
    const { name, rowsMax } = this.#options;
    let text = await this.#readRow(id);
    for (let attempt = 0; attempt < TRIES_MAX; attempt++) {
      const now = text === "" ? undefined : this.#entryOf(id, text);
      const { isChange, entry } = outcome(this.#rows, id, now, change);
      if (!isChange) {
        if (this.#rows.entries.get(id)?.text !== now?.text) await this.#sync();
        return entry?.row;
      }
      const wanted = { generation: this.#generation, id, expected: text, text: entry?.text ?? "", rowsMax };
      const answer = await this.#asked("it is not known whether this change was made", () =>
        this.#store.write(wanted),
      );
      switch (answer.kind) {
        case "written":
          await this.#wrote(answer.record, entry);
          return entry?.row;
        case "other":
          text = answer.text;
          break;
        case "lost":
          text = await this.#readRow(id);
          break;
        case "full":
          throw full(this.#options);
        default:
          answer satisfies never;
      }
    }
    throw new Error(`the table "${name}": row "${id}" was changed by others ${TRIES_MAX} times in a row`);
  }

  /** As Redis has it, which must be of the generation that this process has offered its own rows to. */
  async #readRow(id: string): Promise<string> {
    for (let attempt = 0; attempt < 3; attempt++) {
      if (!this.#isRead && !(await this.#sync())) break;
      const { generation, text } = await this.#asked("nothing was changed", () => this.#store.read(id));
      if (generation === this.#generation) return text;
      if (!(await this.#sync())) break;
    }
    throw new Error(`the table "${this.#options.name}" cannot be changed now: ${this.#storeProblem}`);
  }

  async #asked<T>(otherwise: string, ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      throw new Error(
        `the table "${this.#options.name}" cannot be changed now, and ${otherwise}: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  async #wrote(record: TableRecord, entry: Entry<Row> | undefined): Promise<void> {
    if (versionOfHead(record.head) <= versionOfHead(this.#head)) return; // the message was faster
    if (record.before === this.#head && this.#syncing === undefined) {
      this.#rows.apply(new Map([[record.id, entry]]));
      this.#moved(record.head);
    } else if (!(await this.#sync())) {
      // It is written: here it counts at once, and what came before it when Redis is back.
      this.#rows.apply(new Map([[record.id, entry]]));
    }
  }

  #hear(message: string): void {
    if (this.#isClosed) return;
    if (message === "") {
      this.#sync();
      return;
    }
    const record = recordOf(message);
    if (this.#syncing === undefined && record.before === this.#head) {
      this.#followRecords([record]);
      this.#report();
    } else if (record.head !== this.#head && versionOfHead(record.head) >= versionOfHead(this.#head)) {
      this.#sync();
    }
  }

  /** True when the rows here are those of Redis. Asked for while it runs, it runs once more. */
  #sync(): Promise<boolean> {
    if (this.#isClosed && this.#syncing === undefined) return Promise.resolve(false);
    this.#mustSync = true;
    this.#syncing ??= this.#syncAll().finally(() => {
      this.#syncing = undefined;
    });
    return this.#syncing;
  }

  async #syncAll(): Promise<boolean> {
    try {
      while (this.#mustSync) {
        this.#mustSync = false;
        await this.#catchUp();
      }
      this.#storeProblem = undefined;
      this.#stampProblem = undefined;
      this.#report();
      return true;
    } catch (error) {
      this.#away(messageOf(error));
      return false;
    }
  }

  async #catchUp(): Promise<void> {
    const store = this.#store;
    const { stamp = "" } = this.#options;
    for (let round = 0; round < SYNC_ROUNDS_MAX; round++) {
      const standing = await store.look();
      if (!standing.isWhole) {
        await store.found(versionOfHead(this.#head) + 1, stamp);
        continue;
      }
      if (standing.stamp !== stamp) {
        this.#stampProblem = otherStamp(`the table "${this.#options.name}" in Redis`, this.#options);
        throw this.#stampProblem;
      }
      const isKnown = standing.generation === this.#generation;
      if (!isKnown && (this.#generation !== "" || standing.isFilling)) {
        // After the rows have gone in, the head is another one.
        if (await this.#offer(standing.generation)) this.#generation = standing.generation;
        this.#isRead = false;
        continue;
      }
      if (this.#isRead && isKnown && standing.head === this.#head) return;
      const missed = this.#isRead && isKnown ? await store.since(this.#head) : undefined;
      if (missed === undefined) await this.#readAll(standing.head);
      else this.#followRecords(missed);
      this.#generation = standing.generation;
      this.#isRead = true;
    }
    // Others write faster than this process reads: it is not far behind, and goes on from here with the next poll.
  }

  async #offer(generation: string): Promise<boolean> {
    const texts = function* (entries: Iterable<[string, { readonly text: string }]>) {
      for (const [id, { text }] of entries) yield [id, text] as [string, string];
    };
    const isTaken = await this.#store.offer(generation, this.#rows.max, texts([...this.#rows.entries]));
    if (isTaken) await this.#store.filled();
    return isTaken;
  }

  /** What changes meanwhile may be in it or not: the records since `head` settle that. */
  async #readAll(head: string): Promise<void> {
    const next = new Map<string, Entry<Row>>();
    const bad = new Map<string, string>();
    const slice = slices();
    for await (const page of this.#store.pages()) {
      for (const [id, text] of page) {
        const entry = this.#take(id, text, bad);
        if (entry !== undefined) next.set(id, entry);
        const pause = slice();
        if (pause !== undefined) await pause;
      }
      if (next.size > this.#rows.max) throw new Error(`Redis holds more than ${this.#rows.max} rows`);
    }
    await this.#rows.replace(next);
    this.#bad = bad;
    this.#moved(head);
  }

  #followRecords(records: readonly TableRecord[]): void {
    const staged = new Map<string, Entry<Row> | undefined>();
    let head = this.#head;
    for (const record of records) {
      this.#bad.delete(record.id);
      staged.set(record.id, record.text === "" ? undefined : this.#take(record.id, record.text, this.#bad));
      head = record.head;
    }
    this.#rows.apply(staged);
    this.#moved(head);
  }

  /** A row that cannot be read (of a newer version, perhaps) stays as it last was; the others go on. */
  #take(id: string, text: string, bad: Map<string, string>): Entry<Row> | undefined {
    try {
      return this.#entryOf(id, text);
    } catch (error) {
      bad.set(id, messageOf(error));
      return this.#rows.entries.get(id);
    }
  }

  #entryOf(id: string, text: string): Entry<Row> {
    const known = this.#rows.entries.get(id);
    if (known?.text === text) return known;
    const entry = this.#rows.parse(text);
    if (entry.row.id !== id) throw new Error(`id: is "${entry.row.id}"`);
    return entry;
  }

  #moved(head: string): void {
    this.#head = head;
    if (this.#isLive && this.#copyTimer === undefined && !this.#isClosed) {
      this.#copyTimer = setTimeout(() => this.#writeCopy(), this.#copyDelayMs).unref();
    }
  }

  #writeCopy(): void {
    clearTimeout(this.#copyTimer);
    let startedMs = 0;
    this.#copying = this.#copying
      .then(() => {
        startedMs = performance.now();
        this.#copyTimer = undefined;
        return writeTable(this.#options, this.#rows, new Map(), this.#generation);
      })
      .then(
        () => {
          this.#copyDelayMs = Math.max(COPY_DELAY_MS, COPY_SHARE * (performance.now() - startedMs));
          this.#copyProblem = undefined;
        },
        (error: unknown) => {
          this.#copyProblem = `the local copy of the last good rows cannot be written: ${messageOf(error)}`;
        },
      )
      .finally(() => this.#report());
  }

  /** The first reason is kept until Redis is read again: an outage has many wordings and is one problem. */
  #away(why?: string): void {
    if (this.#storeProblem !== undefined) return;
    const reason = why ?? this.#options.redis.problem ?? "it does not answer";
    this.#storeProblem = `the last good rows stay in force, Redis cannot be read: ${reason}`;
    this.#report();
  }

  #report(): void {
    const [bad] = this.#bad;
    const badRows = bad && `row "${bad[0]}" of ${this.#bad.size} that cannot be read: ${bad[1]}`;
    const found = this.#storeProblem ?? badRows ?? this.#copyProblem;
    const problem = found && `the table "${this.#options.name}": ${found}`;
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.onProblem?.(problem);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
