/**
 * How segments lie on disk: `<20 digits>.jsonl` (of content `.content`) in order of time, and in the spool a file
 * `consumed` in which the ledger notes the last one that it no longer needs. Writers and readers share these names.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const CONSUMED_FILE = "consumed";
const SEGMENT = /^(\d{20})\.(\w+)$/;

export type SegmentKind = "jsonl" | "content";

export interface SegmentFile {
  readonly sequence: number;
  readonly bytes: number;
}

export function segmentName(sequence: number, kind: SegmentKind = "jsonl"): string {
  return `${String(sequence).padStart(20, "0")}.${kind}`;
}

/** Segments of a folder, oldest first; none where there is no folder. */
export function listSegments(dir: string): SegmentFile[] {
  return sequencesOf(dir).map((sequence) => ({
    sequence,
    bytes: statSync(join(dir, segmentName(sequence)), { throwIfNoEntry: false })?.size ?? 0,
  }));
}

/** Oldest first; none where there is no folder. */
export function sequencesOf(dir: string, kind: SegmentKind = "jsonl"): number[] {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return names
    .flatMap((name) => {
      const [, digits, ending] = SEGMENT.exec(name) ?? [];
      return ending === kind ? Number(digits) : [];
    })
    .sort((a, b) => a - b);
}

/** Sequence of the last consumed segment; 0 when none is, or the mark cannot be read. */
export function consumedUpTo(dir: string): number {
  try {
    const mark = Number(readFileSync(join(dir, CONSUMED_FILE), "utf8").trim());
    return Number.isSafeInteger(mark) && mark > 0 ? mark : 0;
  } catch {
    return 0;
  }
}
