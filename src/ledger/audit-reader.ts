/** Pages of the audit chain, newest first, also while it is written. A page looks at a bounded number of records. */
import { join } from "node:path";
import { type AuditRecord, readLine } from "./audit-record.ts";
import { segmentName, sequencesOf } from "./segments.ts";
import { linesOf } from "./spool-reader.ts";

export interface AuditQuery {
  readonly limit: number;
  /** Only records with a smaller sequence number. */
  readonly before?: number | undefined;
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  /** A part of the target. */
  readonly target?: string | undefined;
}

export interface AuditPage {
  /** Newest first. Fewer than asked for where many had to be passed over. */
  readonly records: readonly AuditRecord[];
  /** `before` of the next page; undefined where there is nothing more. */
  readonly next: number | undefined;
}

/** Records that one page looks at, once it is past the segment that it began in. */
const LOOKED_AT_MAX = 5_000;

/** What cannot be read is passed over: `sallyport audit verify` names it. */
export async function readAudit(dir: string, query: AuditQuery): Promise<AuditPage> {
  const before = query.before ?? Number.POSITIVE_INFINITY;
  const found: AuditRecord[] = [];
  let lookedAt = 0;
  let oldest = before;
  for (const segment of sequencesOf(dir).reverse()) {
    if (segment >= before) continue;
    if (lookedAt >= LOOKED_AT_MAX) return { records: found, next: oldest };
    const own: AuditRecord[] = [];
    for await (const { text, isWhole } of linesOf(join(dir, segmentName(segment)), 0)) {
      lookedAt += 1;
      const record = isWhole ? readLine(text) : "";
      if (typeof record === "string" || record.seq >= before || !fits(record, query)) continue;
      own.push(record);
      // Only the last ones of the segment can be shown.
      if (own.length > query.limit + 1) own.shift();
    }
    oldest = segment;
    for (const record of own.reverse()) {
      if (found.length === query.limit) return { records: found, next: found.at(-1)!.seq };
      found.push(record);
    }
  }
  return { records: found, next: undefined };
}

function fits(record: AuditRecord, { actor, action, target }: AuditQuery): boolean {
  return (
    (actor === undefined || record.actor === actor) &&
    (action === undefined || record.action === action) &&
    (target === undefined || record.target.includes(target))
  );
}
