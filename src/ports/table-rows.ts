/**
 * The rows of a table in memory, each beside its JSON text: the text is what files and Redis hold, so that a
 * row that did not change is recognised without reading it again, and a write in Redis can be made to depend
 * on it. Nothing here waits or does I/O; long loops are cut into slices by `slices`.
 */
import type { z } from "zod";

export interface TableRow {
  readonly id: string;
}

/** One row that is new, different or gone. */
export interface RowChange<Row> {
  readonly id: string;
  readonly before: Row | undefined;
  readonly after: Row | undefined;
}

export interface Entry<Row> {
  readonly row: Row;
  readonly text: string;
}

/** Undefined: the row is removed. */
export type Staged<Row> = ReadonlyMap<string, Entry<Row> | undefined>;

const ROW_UNITS_MAX = 16_384;
/** Ids stand between spaces in messages, and in URLs. */
const ID_SHAPE = /^[\x21-\x7e]{1,200}$/;
/** How every row that was written here starts. */
const ID_FIRST = '{"id":"';
const SLICE_MS = 4;
const STEPS_BETWEEN_LOOKS = 16;

export class TableRows<Row extends TableRow> {
  readonly max: number;
  readonly #shape: z.ZodType<Row>;
  readonly #listeners: ((changes: readonly RowChange<Row>[]) => void)[] = [];
  #entries = new Map<string, Entry<Row>>();
  #shown: ReadonlyMap<string, Row> | undefined;

  constructor(shape: z.ZodType<Row>, max: number) {
    this.#shape = shape;
    this.max = max;
  }

  get entries(): ReadonlyMap<string, Entry<Row>> {
    return this.#entries;
  }

  /** Made when it is asked for and kept until the next change: at 100,000 rows the copy costs milliseconds. */
  get shown(): ReadonlyMap<string, Row> {
    if (this.#shown === undefined) {
      const shown = new Map<string, Row>();
      for (const [id, { row }] of this.#entries) shown.set(id, row);
      this.#shown = shown;
    }
    return this.#shown;
  }

  onChange(listener: (changes: readonly RowChange<Row>[]) => void): void {
    this.#listeners.push(listener);
  }

  *values(): Generator<Row> {
    for (const { row } of this.#entries.values()) yield row;
  }

  /** The row that this text was before, without reading it; undefined where it has to be read. */
  known(text: string): Entry<Row> | undefined {
    if (!text.startsWith(ID_FIRST)) return undefined;
    const id = text.slice(ID_FIRST.length, text.indexOf('"', ID_FIRST.length));
    const entry = this.#entries.get(id);
    return entry?.text === text ? entry : undefined;
  }

  /** Throws an error that names the field. */
  parse(text: string): Entry<Row> {
    if (text.length > ROW_UNITS_MAX) throw new Error(`is longer than ${ROW_UNITS_MAX} characters`);
    const parsed = this.#shape.safeParse(JSON.parse(text));
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      throw new Error(`${issue?.path.join(".") || "the row"}: ${issue?.message}`);
    }
    if (!ID_SHAPE.test(parsed.data.id))
      throw new Error("id: must be 1 to 200 visible ASCII characters, no space");
    return { row: parsed.data, text };
  }

  /** What a caller wants to write, as every other reader will see it. */
  admit(id: string, row: Row): Entry<Row> {
    if (row.id !== id) throw new RangeError(`id: the row of "${id}" must keep its id, got "${row.id}"`);
    return this.parse(JSON.stringify(Object.assign({ id }, row)));
  }

  apply(staged: Staged<Row>): void {
    const changes: RowChange<Row>[] = [];
    for (const [id, entry] of staged) {
      const before = this.#entries.get(id);
      if (before === entry || before?.text === entry?.text) continue;
      if (entry === undefined) this.#entries.delete(id);
      else this.#entries.set(id, entry);
      changes.push({ id, before: before?.row, after: entry?.row });
    }
    this.#tell(changes);
  }

  /** Puts `next` in the place of all rows; the caller hands it over. */
  async replace(next: Map<string, Entry<Row>>): Promise<void> {
    const changes: RowChange<Row>[] = [];
    const slice = slices();
    for (const [id, entry] of next) {
      const before = this.#entries.get(id);
      if (before !== entry && before?.text !== entry.text) {
        changes.push({ id, before: before?.row, after: entry.row });
      }
      const pause = slice();
      if (pause !== undefined) await pause;
    }
    for (const [id, { row }] of this.#entries) {
      if (!next.has(id)) changes.push({ id, before: row, after: undefined });
      const pause = slice();
      if (pause !== undefined) await pause;
    }
    this.#entries = next;
    this.#tell(changes);
  }

  #tell(changes: readonly RowChange<Row>[]): void {
    if (changes.length === 0) return;
    this.#shown = undefined;
    for (const listener of this.#listeners) listener(changes);
  }
}

/**
 * For long loops: what it answers in each round, awaited, lets the event loop turn every few milliseconds. Most
 * rounds it is undefined and must not be awaited: a promise for each of 100,000 rows costs more than their work.
 */
export function slices(): () => Promise<void> | undefined {
  let startedMs = performance.now();
  let steps = 0;
  return () => {
    if (++steps % STEPS_BETWEEN_LOOKS !== 0 || performance.now() - startedMs < SLICE_MS) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        startedMs = performance.now();
        resolve();
      });
    });
  };
}

export function full({ name, rowsMax }: { readonly name: string; readonly rowsMax: number }): Error {
  return new Error(`the table "${name}" already holds ${rowsMax} rows, the most it may: remove some first`);
}

/** Follows the one change of a row that a caller asked for, against the row as it is now. */
export function outcome<Row extends TableRow>(
  rows: TableRows<Row>,
  id: string,
  now: Entry<Row> | undefined,
  change: (row: Row | undefined) => Row | null | undefined,
): { readonly isChange: boolean; readonly entry: Entry<Row> | undefined } {
  const wanted = change(now?.row);
  if (wanted === undefined || (wanted === null && now === undefined)) return { isChange: false, entry: now };
  const entry = wanted === null ? undefined : rows.admit(id, wanted);
  return entry?.text === now?.text ? { isChange: false, entry: now } : { isChange: true, entry };
}
