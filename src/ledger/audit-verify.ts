/**
 * Reads a whole audit chain and says whether it is what was written: each line against its own hash, each record
 * against the one before, and the records that checkpoints name against them. The first record that does not fit is
 * named; what comes after it proves nothing.
 */
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { chainIdOf } from "./audit-chain.ts";
import { type Checkpoint, type ReadCheckpoints, readCheckpoints } from "./audit-checkpoints.ts";
import { type ChainHead, GENESIS, readLine } from "./audit-record.ts";
import { segmentName, sequencesOf } from "./segments.ts";
import { linesOf } from "./spool-reader.ts";

export interface VerifyOptions {
  readonly dir: string;
  /** Undefined: the chain is held against itself alone. */
  readonly checkpoints?:
    | { readonly place: string; readonly keys: ReadonlyMap<string, KeyObject> }
    | undefined;
}

export interface VerifyReport {
  /** Undefined: the chain is whole. */
  readonly problem: { readonly seq: number; readonly where: string; readonly message: string } | undefined;
  /** The last record that fits. */
  readonly head: ChainHead;
  readonly chain: string | undefined;
  /** Of the last checkpoint that fits; 0: none. What comes after it is held against itself alone. */
  readonly checkpointed: number;
  readonly notes: readonly string[];
}

export async function verifyChain({ dir, checkpoints }: VerifyOptions): Promise<VerifyReport> {
  const chain = await chainIdOf(dir);
  const read =
    checkpoints === undefined ? undefined : await readCheckpoints(checkpoints.place, chain, checkpoints.keys);
  const walk = new Walk(dir, read?.good ?? new Map());
  await walk.run();
  const problem = walk.problem ?? (read === undefined ? undefined : afterwards(walk, read, chain));
  const notes = [...walk.notes, ...(read === undefined ? [] : notesOn(read))];
  return { problem, head: walk.head, chain, checkpointed: walk.checkpointed, notes };
}

/** What the checkpoints say beyond the records that are there. */
function afterwards(
  { head, dir }: Walk,
  { good, problems, otherChains }: ReadCheckpoints,
  chain: string | undefined,
): VerifyReport["problem"] {
  const [problem] = problems;
  if (problem !== undefined)
    return { seq: head.seq, where: dir, message: `a checkpoint is not good: ${problem}` };
  if (good.size === 0) {
    const others = [...otherChains].slice(0, 3).join(", ");
    const message =
      otherChains.size > 0
        ? `the checkpoints are of another chain (${others}), not of ${chain ?? "this one, which has no first record"}: this one was made in its place`
        : "there is no checkpoint of this chain where they should be";
    return { seq: 1, where: dir, message };
  }
  const last = Math.max(...good.keys());
  if (last <= head.seq) return undefined;
  const gone = head.seq + 1 === last ? `record ${last} is` : `records ${head.seq + 1} to ${last} are`;
  return {
    seq: head.seq + 1,
    where: dir,
    message: `${gone} missing at the end: the checkpoint of ${good.get(last)!.at} has seen record ${last}`,
  };
}

function notesOn({ otherChains, unreadable }: ReadCheckpoints): string[] {
  const notes: string[] = [];
  if (otherChains.size > 0)
    notes.push(`the place also holds checkpoints of ${otherChains.size} other chains`);
  if (unreadable > 0) notes.push(`${unreadable} lines there are no checkpoints, such as a crash leaves`);
  return notes;
}

class Walk {
  readonly dir: string;
  readonly #checkpoints: ReadonlyMap<number, Checkpoint>;
  readonly notes: string[] = [];
  head: ChainHead = GENESIS;
  checkpointed = 0;
  problem: VerifyReport["problem"];

  constructor(dir: string, checkpoints: ReadonlyMap<number, Checkpoint>) {
    this.dir = dir;
    this.#checkpoints = checkpoints;
  }

  async run(): Promise<void> {
    const segments = sequencesOf(this.dir);
    for (const [index, segment] of segments.entries()) {
      const path = join(this.dir, segmentName(segment));
      const isLast = index === segments.length - 1;
      if (segment !== this.head.seq + 1) return this.#fail(path, nameProblem(segment, this.head.seq + 1));
      let line = 0;
      for await (const { text, isWhole } of linesOf(path, 0)) {
        line += 1;
        if (!isWhole && isLast) {
          this.notes.push(
            `${path}:${line}: half a line at the end, as a crash leaves it; the next write cuts it off`,
          );
          break;
        }
        const message = isWhole ? this.#take(text) : "the line does not end: the segment was cut";
        if (message !== undefined) return this.#fail(`${path}:${line}`, message);
      }
    }
  }

  /** Undefined where the line is the next record. */
  #take(text: string): string | undefined {
    const seq = this.head.seq + 1;
    const record = readLine(text);
    if (typeof record === "string") return record;
    if (record.seq !== seq)
      return `record ${record.seq} stands in its place: records were taken out, put in or moved`;
    if (record.prev !== this.head.hash)
      return "it does not follow from the record before it: that one, or this one, was made anew";
    const checkpoint = this.#checkpoints.get(seq);
    if (checkpoint !== undefined && checkpoint.hash !== record.hash) {
      const since = this.checkpointed === 0 ? "the beginning" : `record ${this.checkpointed}`;
      return (
        `it is not the record that the checkpoint of ${checkpoint.at} has seen: ` +
        `a record after ${since} was changed and the chain computed anew from there`
      );
    }
    if (checkpoint !== undefined) this.checkpointed = seq;
    this.head = { seq, hash: record.hash };
    return undefined;
  }

  #fail(where: string, message: string): void {
    this.problem = { seq: this.head.seq + 1, where, message };
  }
}

function nameProblem(segment: number, wanted: number): string {
  return segment > wanted
    ? `records ${wanted} to ${segment - 1} are missing before this segment`
    : `the segment is named for record ${segment}, which came before`;
}
