/**
 * Pages of a list that changes between them. A cursor names the last row that was shown by its place in the
 * order, not by its number, so that a row which is added or removed meanwhile makes no other row appear
 * twice or not at all.
 */
import { z } from "zod";

const LIMIT_MAX = 500;

export const limitQuery = z.coerce
  .number()
  .int()
  .min(1)
  .max(LIMIT_MAX)
  .default(100)
  .describe("Rows of one answer.");

export const pageQuery = {
  limit: limitQuery,
  cursor: z
    .string()
    .max(1_000)
    .optional()
    .describe("`next` of the answer before, for the rows that follow; absent: from the start."),
};

export const nextCursor = z.string().nullable().describe("`cursor` of the next page; null on the last page.");

interface PageOptions {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

interface Page<Row> {
  readonly rows: readonly Row[];
  readonly next: string | null;
}

/** Where a row stands in the order: by the time first, RFC 3339 in UTC, then by the id, which no two share. */
export interface Place {
  readonly at: string;
  readonly id: string;
}

/**
 * The oldest rows after the cursor. One pass that keeps only what the page can still need: a list may have 100,000
 * rows, and the event loop has other work. Throws a RangeError for a cursor that this never made.
 */
export function pageOf<Row>(
  rows: Iterable<Row>,
  placeOf: (row: Row) => Place,
  { limit, cursor }: PageOptions,
): Page<Row> {
  const after = cursor === undefined ? undefined : placeIn(cursor);
  // One more than is shown tells whether a page follows.
  const wanted = limit + 1;
  let kept: { readonly place: Place; readonly row: Row }[] = [];
  /** Nothing from here on is needed any more. */
  let end: Place | undefined;
  const cut = () => {
    kept = kept.sort((a, b) => order(a.place, b.place)).slice(0, wanted);
    if (kept.length === wanted) end = kept.at(-1)?.place;
  };
  for (const row of rows) {
    const place = placeOf(row);
    if (end !== undefined && order(place, end) >= 0) continue;
    if (after !== undefined && order(place, after) <= 0) continue;
    kept.push({ place, row });
    if (kept.length >= 2 * wanted) cut();
  }
  cut();
  const shown = kept.slice(0, limit);
  const last = shown.at(-1);
  return {
    rows: shown.map(({ row }) => row),
    next: kept.length > limit && last !== undefined ? cursorAt(last.place) : null,
  };
}

function order(a: Place, b: Place): number {
  if (a.at !== b.at) return a.at < b.at ? -1 : 1;
  return a.id === b.id ? 0 : a.id < b.id ? -1 : 1;
}

/** Opaque, so that nobody builds one: the order may change with a later version. */
function cursorAt({ at, id }: Place): string {
  return Buffer.from(`1 ${at} ${id}`).toString("base64url");
}

function placeIn(cursor: string): Place {
  const [version, at, id, ...more] = Buffer.from(cursor, "base64url").toString().split(" ");
  if (version !== "1" || at === undefined || id === undefined || more.length > 0)
    throw new RangeError("cursor: must be `next` of an answer of this list");
  return { at, id };
}
