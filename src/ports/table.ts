/**
 * A small table that every process holds whole in memory, so that a look-up on the path of a request never
 * waits: keys, sanctions. One box keeps it in a file that several processes share; several boxes keep it in
 * Redis, and the file beside each is then a copy of the last good rows, for a start while Redis is away.
 * Whatever cannot be read leaves the last good rows in place and says so.
 */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import type { z } from "zod";
import type { SharedRedis } from "./redis.ts";
import { openFileTable } from "./table-file.ts";
import { openRedisTable } from "./table-redis.ts";
import type { RowChange, TableRow } from "./table-rows.ts";

export type { RowChange, TableRow } from "./table-rows.ts";

export interface Table<Row extends TableRow> {
  /** A new Map after each change. */
  readonly rows: ReadonlyMap<string, Row>;
  get(id: string): Row | undefined;
  readonly size: number;
  /** Without the copy that `rows` is; to be gone through at once, not across an await. */
  values(): Iterable<Row>;
  /**
   * Reads, changes and writes one row so that no other writer's change is lost; undefined from `change` leaves
   * the row as it is, null removes it. `change` may be called again when another writer was faster. Answers
   * with the row as it then is; rejects where the store cannot be written, and what `change` throws.
   */
  change(id: string, change: (row: Row | undefined) => Row | null | undefined): Promise<Row | undefined>;
  /** After the rows were replaced, by whomever, with the rows that differ: an index needs to follow only those. */
  onChange(listener: (changes: readonly RowChange<Row>[]) => void): void;
  /** Why the last read failed; the last good rows stay. */
  readonly problem: string | undefined;
  close(): Promise<void>;
}

export interface TableOptions<Row extends TableRow> {
  /** Lower case: part of Redis keys. */
  readonly name: string;
  /** Rows are plain JSON: the shape checks, it does not convert. */
  readonly row: z.ZodType<Row>;
  readonly rowsMax: number;
  /** JSON file: the store without Redis, a copy of the last good rows with it. */
  readonly path: string;
  readonly redis: SharedRedis | undefined;
  /** Such as the pepper's fingerprint: a store with another stamp is an error. */
  readonly stamp?: string;
  /** What to tell an operator about another stamp, after the store's name. */
  readonly stampProblem?: string;
  /** Reads a file of before; undefined where it is none. */
  readonly legacy?: (json: unknown) => LegacyRows | undefined;
  /** Follows changes made by other processes. True unless said. */
  readonly watch?: boolean;
  /** Told once when the store becomes unreadable, and with undefined when it can be read again. */
  readonly onProblem?: (problem: string | undefined) => void;
}

export interface LegacyRows {
  readonly stamp?: string | undefined;
  readonly rows: readonly unknown[];
}

/**
 * Throws where a file that is the store cannot be used, or where the store has another stamp. With Redis it
 * opens also while that is away.
 */
export async function openTable<Row extends TableRow>(options: TableOptions<Row>): Promise<Table<Row>> {
  mkdirSync(dirname(options.path), { recursive: true, mode: 0o700 });
  const { redis } = options;
  return redis === undefined ? openFileTable(options) : openRedisTable({ ...options, redis });
}
