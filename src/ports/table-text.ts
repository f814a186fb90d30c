/**
 * A table as a file: JSON with one row on each line, so that a reader can take it line by line, skip the
 * lines that it knows, and let the event loop turn in between. The same JSON in another layout is read too,
 * in one go.
 *
 *     {"version":1,"name":"sanctions","stamp":"","rows":[
 *     {"id":"sanc_1",...},
 *     {"id":"sanc_2",...}
 *     ]}
 */
import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { replaceFile } from "../files/replace-file.ts";
import type { LegacyRows } from "./table.ts";
import { type Entry, type Staged, slices, type TableRow, type TableRows } from "./table-rows.ts";

const FILE_BYTES_MAX = 512 * 1024 * 1024;
const PIECE_UNITS = 256 * 1024;
const NEWLINE = 10;
const COMMA = 44;
const FIRST_LINE_END = '"rows":[';
const LAST_LINE = "]}";

export interface TableFile {
  readonly path: string;
  readonly name: string;
  readonly stamp?: string;
  readonly stampProblem?: string;
  readonly legacy?: (json: unknown) => LegacyRows | undefined;
}

const head = z.strictObject({
  version: z.literal(1),
  name: z.string(),
  stamp: z.string(),
  /** With Redis: which filling of it this is a copy of. */
  generation: z.string().optional(),
  rows: z.array(z.unknown()),
});

export interface TableText<Row> {
  readonly entries: Map<string, Entry<Row>>;
  readonly generation: string | undefined;
}

/** Undefined where there is no file; throws an error that names the file and the place in it. */
export async function readTable<Row extends TableRow>(
  file: TableFile,
  rows: TableRows<Row>,
): Promise<TableText<Row> | undefined> {
  const { path } = file;
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) return undefined;
  if (size > FILE_BYTES_MAX) throw new Error(`${path} is larger than ${FILE_BYTES_MAX} bytes`);
  const bytes = await readFile(path);
  const firstEnd = bytes.indexOf(NEWLINE);
  const first = bytes.toString("utf8", 0, firstEnd < 0 ? 0 : firstEnd);
  if (!first.endsWith(FIRST_LINE_END)) return readWhole(file, rows, bytes);
  const { generation } = readHead(file, `${first}${LAST_LINE}`);

  const taken = new Taken(path, rows);
  const slice = slices();
  let at = firstEnd + 1;
  for (;;) {
    const newline = bytes.indexOf(NEWLINE, at);
    const end = newline < 0 ? bytes.length : newline;
    const isLast = bytes[end - 1] !== COMMA;
    const text = bytes.toString("utf8", at, isLast ? end : end - 1);
    if (text === LAST_LINE) break;
    // Cut short, or of another layout after its first line: the whole tells which.
    if (newline < 0) return readWhole(file, rows, bytes);
    taken.add(text, rows.known(text));
    at = end + 1;
    const pause = slice();
    if (pause !== undefined) await pause;
  }
  return { entries: taken.entries, generation };
}

/** One sync, one rename: readers see the old file or the new. */
export async function writeTable<Row extends TableRow>(
  file: TableFile,
  rows: TableRows<Row>,
  staged: Staged<Row>,
  generation?: string,
): Promise<void> {
  const { name, stamp = "" } = file;
  const kept = { version: 1, name, stamp, ...(generation !== undefined && { generation }), rows: [] };
  const front = JSON.stringify(kept).slice(0, -LAST_LINE.length);
  await replaceFile(file.path, pieces(front, rows, staged));
}

/** One string of 100,000 rows would stall the event loop for a third of a second on its way to the disk. */
async function* pieces<Row extends TableRow>(
  front: string,
  rows: TableRows<Row>,
  staged: Staged<Row>,
): AsyncGenerator<string> {
  let piece = front;
  let separator = "\n";
  for (const [id, entry] of rows.entries) {
    const now = staged.has(id) ? staged.get(id) : entry;
    if (now === undefined) continue;
    piece += separator + now.text;
    separator = ",\n";
    if (piece.length < PIECE_UNITS) continue;
    yield piece;
    piece = "";
  }
  for (const [id, entry] of staged) {
    if (entry === undefined || rows.entries.has(id)) continue;
    piece += separator + entry.text;
    separator = ",\n";
  }
  yield `${piece}\n${LAST_LINE}\n`;
}

/** Changes with every replacement and every edit in place; "" where there is no file. */
export function versionOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? "" : `${stat.ino}:${stat.mtimeNs}:${stat.size}`;
}

export function otherStamp(where: string, file: TableFile): Error {
  return new Error(`${where} ${file.stampProblem ?? "carries another stamp than this process has"}`);
}

function readHead(file: TableFile, text: string) {
  const { path } = file;
  const parsed = head.safeParse(parse(path, text));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`${path}: ${issue?.path.join(".") || "the file"}: ${issue?.message}`);
  }
  if (parsed.data.name !== file.name) {
    throw new Error(`${path}: name: holds "${parsed.data.name}", not "${file.name}": it is another table`);
  }
  if (parsed.data.stamp !== (file.stamp ?? "")) throw otherStamp(path, file);
  return parsed.data;
}

async function readWhole<Row extends TableRow>(
  file: TableFile,
  rows: TableRows<Row>,
  bytes: Buffer,
): Promise<TableText<Row>> {
  const text = bytes.toString("utf8");
  const legacy = file.legacy?.(parse(file.path, text));
  if (legacy !== undefined && legacy.stamp !== undefined && legacy.stamp !== (file.stamp ?? "")) {
    throw otherStamp(file.path, file);
  }
  const { rows: found, generation } =
    legacy === undefined ? readHead(file, text) : { rows: legacy.rows, generation: undefined };
  const taken = new Taken(file.path, rows);
  const slice = slices();
  for (const row of found) {
    taken.add(JSON.stringify(row), undefined);
    const pause = slice();
    if (pause !== undefined) await pause;
  }
  return { entries: taken.entries, generation };
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${path} is not valid JSON: restore it from a backup`);
  }
}

/** The rows of a file as they are taken in: bounded, each id once. */
class Taken<Row extends TableRow> {
  readonly entries = new Map<string, Entry<Row>>();
  readonly #path: string;
  readonly #rows: TableRows<Row>;

  constructor(path: string, rows: TableRows<Row>) {
    this.#path = path;
    this.#rows = rows;
  }

  add(text: string, known: Entry<Row> | undefined): void {
    const place = `${this.#path}: rows.${this.entries.size}`;
    if (this.entries.size >= this.#rows.max)
      throw new Error(`${this.#path}: holds more than ${this.#rows.max} rows`);
    const entry = known ?? this.#parse(place, text);
    if (this.entries.has(entry.row.id)) throw new Error(`${place}.id: "${entry.row.id}" is there twice`);
    this.entries.set(entry.row.id, entry);
  }

  #parse(place: string, text: string): Entry<Row> {
    try {
      return this.#rows.parse(text);
    } catch (error) {
      if (error instanceof SyntaxError)
        throw new Error(`${this.#path} is not valid JSON: restore it from a backup`);
      throw new Error(`${place}.${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
