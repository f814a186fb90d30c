/**
 * How the spool lies on disk: `<20 digits>.jsonl` in order of time, and a file `consumed` in which the
 * ledger notes the last segment that it no longer needs. Writer and reader share these names, nothing else.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const CONSUMED_FILE = "consumed";
const SEGMENT = /^(\d{20})\.jsonl$/;

export interface SegmentFile {
  readonly sequence: number;
  readonly bytes: number;
}

export function segmentName(sequence: number): string {
  return `${String(sequence).padStart(20, "0")}.jsonl`;
}

/** Segments of a folder, oldest first; none where there is no folder. */
export function listSegments(dir: string): SegmentFile[] {
  return sequencesOf(dir).map((sequence) => ({
    sequence,
    bytes: statSync(join(dir, segmentName(sequence)), { throwIfNoEntry: false })?.size ?? 0,
  }));
}

export function sequencesOf(dir: string): number[] {
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  return names
    .flatMap((name) => SEGMENT.exec(name)?.[1] ?? [])
    .map(Number)
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
