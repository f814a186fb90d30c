/**
 * A table in a file that several processes of one box share. Written under a lock and replaced in one step,
 * so that writers lose nothing and readers never see half a file; changes that wait together are written
 * together. What others write is seen through a watch on the folder with a poll behind it.
 */
import { type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { tryLock } from "../files/lock-file.ts";
import type { Table, TableOptions } from "./table.ts";
import { type Entry, full, outcome, type RowChange, type TableRow, TableRows } from "./table-rows.ts";
import { readTable, versionOf, writeTable } from "./table-text.ts";

const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 15;
const POLL_MS = 500;
/** A file that could not be read is tried again this often while it stays as it is. */
const RETRY_MS = 5_000;
/** More changes than this waiting for the file mean that it cannot keep up: the next are refused. */
const CHANGES_WAITING_MAX = 10_000;

interface Job<Row> {
  readonly id: string;
  readonly change: (row: Row | undefined) => Row | null | undefined;
  readonly resolve: (row: Row | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export async function openFileTable<Row extends TableRow>(options: TableOptions<Row>): Promise<Table<Row>> {
  const table = new FileTable(options);
  await table.load();
  if (options.watch !== false) table.follow();
  return table;
}

class FileTable<Row extends TableRow> implements Table<Row> {
  readonly #options: TableOptions<Row>;
  readonly #rows: TableRows<Row>;
  #version = "";
  #problem: string | undefined;
  #failed = { version: "", untilMs: 0 };
  #jobs: Job<Row>[] = [];
  #isStale = false;
  #working: Promise<void> | undefined;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: TableOptions<Row>) {
    this.#options = options;
    this.#rows = new TableRows(options.row, options.rowsMax);
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

  change(id: string, change: Job<Row>["change"]): Promise<Row | undefined> {
    const { path } = this.#options;
    if (this.#isClosed) return Promise.reject(new Error(`${path} was closed`));
    if (this.#jobs.length >= CHANGES_WAITING_MAX) {
      return Promise.reject(new Error(`${path}: ${CHANGES_WAITING_MAX} changes wait to be written already`));
    }
    return new Promise((resolve, reject) => {
      this.#jobs.push({ id, change, resolve, reject });
      this.#work();
    });
  }

  /** Changes that were asked for are written first. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watcher?.close();
    clearInterval(this.#poll);
    await this.#working;
  }

  /** Throws where the file cannot be used. */
  async load(): Promise<void> {
    // First the version: a change during the read is then seen by the next poll.
    const version = versionOf(this.#options.path);
    const read = await readTable(this.#options, this.#rows);
    await this.#rows.replace(read?.entries ?? new Map());
    this.#version = version;
  }

  follow(): void {
    const { path } = this.#options;
    const look = () => {
      if (this.#isClosed || !this.#mustRead(versionOf(path))) return;
      this.#isStale = true;
      this.#work();
    };
    // The folder, not the file: a rename over the file would leave a watch on the old one.
    try {
      this.#watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
        if (name === null || name === basename(path)) look();
      });
      this.#watcher.on("error", () => this.#watcher?.close());
    } catch {
      // The system has no more watches to give: the poll sees the change, half a second later.
    }
    this.#poll = setInterval(look, POLL_MS).unref();
  }

  #mustRead(version: string): boolean {
    if (version === this.#version) return this.#problem !== undefined;
    return version !== this.#failed.version || performance.now() >= this.#failed.untilMs;
  }

  /** One thing at a time: a read of many rows is cut into slices, and nothing may move under it. */
  #work(): void {
    this.#working ??= this.#drain().finally(() => {
      this.#working = undefined;
      if (this.#jobs.length > 0 || this.#isStale) this.#work();
    });
  }

  async #drain(): Promise<void> {
    while (this.#jobs.length > 0 || this.#isStale) {
      this.#isStale = false;
      if (this.#jobs.length > 0) await this.#write();
      else await this.#reload();
    }
  }

  async #write(): Promise<void> {
    const { path } = this.#options;
    let jobs: readonly Job<Row>[] = [];
    try {
      const lock = await this.#lock();
      try {
        if (versionOf(path) !== this.#version) {
          if (versionOf(path) === "") throw this.#gone();
          await this.load();
        }
        this.#report(undefined);
        jobs = this.#jobs;
        this.#jobs = [];
        await this.#apply(jobs);
      } finally {
        lock.release();
      }
    } catch (error) {
      for (const job of [...jobs, ...this.#jobs.splice(0)]) job.reject(error);
    }
  }

  async #apply(jobs: readonly Job<Row>[]): Promise<void> {
    const rows = this.#rows;
    const staged = new Map<string, Entry<Row> | undefined>();
    const answers: (() => void)[] = [];
    let size = rows.entries.size;
    for (const { id, change, resolve, reject } of jobs) {
      const now = staged.has(id) ? staged.get(id) : rows.entries.get(id);
      try {
        const { isChange, entry } = outcome(rows, id, now, change);
        const grown = size + (entry === undefined ? 0 : 1) - (now === undefined ? 0 : 1);
        if (grown > size && grown > rows.max) throw full(this.#options);
        size = grown;
        if (isChange) staged.set(id, entry);
        answers.push(() => resolve(entry?.row));
      } catch (error) {
        reject(error);
      }
    }
    if (staged.size > 0) {
      await writeTable(this.#options, rows, staged);
      this.#version = versionOf(this.#options.path);
      rows.apply(staged);
    }
    for (const answer of answers) answer();
  }

  async #lock(): Promise<{ release(): void }> {
    const { path } = this.#options;
    const untilMs = performance.now() + LOCK_WAIT_MS;
    for (;;) {
      const lock = tryLock(`${path}.lock`);
      if (lock.held) return lock;
      if (performance.now() > untilMs) {
        throw new Error(`${path} has been locked by process ${lock.holderPid} for ${LOCK_WAIT_MS / 1000} s`);
      }
      await sleep(LOCK_POLL_MS);
    }
  }

  async #reload(): Promise<void> {
    const version = versionOf(this.#options.path);
    if (version === this.#version) return this.#report(undefined);
    try {
      if (version === "") throw this.#gone();
      await this.load();
      this.#report(undefined);
    } catch (error) {
      this.#failed = { version, untilMs: performance.now() + RETRY_MS };
      this.#report(error instanceof Error ? error.message : String(error));
    }
  }

  #gone(): Error {
    return new Error(
      `${this.#options.path} is gone: its rows work until a restart. Restore it from a backup to change them`,
    );
  }

  #report(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.onProblem?.(problem);
  }
}
