/**
 * Reads a spool from a position on, also while it is written: whole lines only, in order, in constant
 * memory. A line that is no decision (torn by a crash, or damaged) is skipped and counted; an unfinished
 * last line of the newest segment is left for the next read.
 */
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { Decision } from "./decision.ts";
import { segmentName, sequencesOf } from "./segments.ts";

/** Where a record ends: reading on from here gives the next one. */
export interface SpoolPosition {
  /** Sequence number of the segment. */
  readonly segment: number;
  /** Bytes into it. */
  readonly offset: number;
}

export interface SpoolRecord {
  readonly decision: Decision;
  readonly position: SpoolPosition;
}

export interface SpoolReading extends AsyncIterable<SpoolRecord> {
  /** Lines passed over so far because they hold no decision. */
  readonly skipped: number;
}

const READ_BYTES = 65_536;
/** A longer line is damage, not a decision: it is skipped without being gathered. */
const LINE_BYTES_MAX = 1_048_576;

export function readSpool(dir: string, options: { readonly from?: SpoolPosition } = {}): SpoolReading {
  const counts = { skipped: 0 };
  return {
    get skipped() {
      return counts.skipped;
    },
    [Symbol.asyncIterator]: () => records(dir, options.from ?? { segment: 0, offset: 0 }, counts),
  };
}

async function* records(
  dir: string,
  from: SpoolPosition,
  counts: { skipped: number },
): AsyncGenerator<SpoolRecord> {
  const segments = sequencesOf(dir).filter((sequence) => sequence >= from.segment);
  for (const [index, segment] of segments.entries()) {
    const isNewest = index === segments.length - 1;
    const start = segment === from.segment ? from.offset : 0;
    for await (const line of linesOf(join(dir, segmentName(segment)), start)) {
      const decision = line.isWhole ? decisionFrom(line.text) : undefined;
      if (decision !== undefined) yield { decision, position: { segment, offset: line.end } };
      else if (line.isWhole || !isNewest) counts.skipped += 1;
    }
  }
}

export interface Line {
  readonly text: string;
  /** Offset after its line feed. */
  readonly end: number;
  /** False for what stands after the last line feed. */
  readonly isWhole: boolean;
}

/** Lines of a file from a position on, in constant memory; none where there is no file. */
export async function* linesOf(path: string, start: number): AsyncGenerator<Line> {
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined; // evicted since it was listed
    throw error;
  });
  if (file === undefined) return;
  try {
    const block = Buffer.alloc(READ_BYTES);
    let parts: Buffer[] = [];
    let gathered = 0;
    let position = start;
    for (;;) {
      const { bytesRead } = await file.read(block, 0, READ_BYTES, position);
      if (bytesRead === 0) break;
      let from = 0;
      for (let at = block.indexOf(10, from); at >= 0 && at < bytesRead; at = block.indexOf(10, from)) {
        gathered += at - from;
        parts.push(block.subarray(from, at));
        const text = gathered > LINE_BYTES_MAX ? "" : Buffer.concat(parts).toString("utf8");
        from = at + 1;
        parts = [];
        gathered = 0;
        yield { text, end: position + from, isWhole: true };
      }
      gathered += bytesRead - from;
      // A copy: the block is read into again. Past the bound only the length is kept.
      if (gathered > LINE_BYTES_MAX) parts = [];
      else if (from < bytesRead) parts.push(Buffer.from(block.subarray(from, bytesRead)));
      position += bytesRead;
    }
    if (gathered > 0) yield { text: "", end: position, isWhole: false };
  } finally {
    await file.close();
  }
}

function decisionFrom(line: string): Decision | undefined {
  try {
    const value: unknown = JSON.parse(line);
    const isDecision =
      typeof value === "object" && value !== null && "v" in value && value.v === 1 && "id" in value;
    return isDecision ? (value as Decision) : undefined;
  } catch {
    return undefined;
  }
}
