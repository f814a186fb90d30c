/**
 * The audit chain on disk: `DATA/audit/<20 digits>.jsonl`, each segment named by the sequence number of its first
 * record. A record is on disk (fsync) before `append` answers. The writer holds a lock for each batch, not for its
 * life, and looks at where the chain ends before it writes: two processes that write at once make one chain.
 *
 *   append -> queue -> [ lock -> does it end where I left it? -> fits the segment? -> write -> fsync ] -> answered
 *                               | no: read its end, cut off    | no: a new one  | error: cut back, and look
 *                               |     a torn last line         |                |        again next time
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { type FileHandle, open, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { tryLock } from "../files/lock-file.ts";
import { type AuditFact, CHAIN_BEGIN, type ChainHead, GENESIS, lineAfter, readLine } from "./audit-record.ts";
import { listSegments, segmentName, sequencesOf } from "./segments.ts";
import { linesOf } from "./spool-reader.ts";

export interface ChainOptions {
  /** Created with mode 0700. */
  readonly dir: string;
  /** A segment is closed when the next record would take it past this. */
  readonly segmentBytes: number;
  /** All segments together; at the bound nothing is deleted, and nothing more is taken. */
  readonly totalBytesMax: number;
  /** For tests of full and broken disks. */
  readonly disk?: Partial<ChainDisk>;
}

export interface ChainDisk {
  write(file: FileHandle, bytes: Buffer): Promise<void>;
  sync(file: FileHandle): Promise<void>;
}

/** Records of one write. */
const BATCH_RECORDS_MAX = 64;
/** Records that wait to be written; one more is refused. */
const WAITING_MAX = 1_024;
const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 5;

interface Job {
  readonly fact: AuditFact;
  readonly resolve: (seq: number) => void;
  readonly reject: (error: unknown) => void;
}

/** The end of a chain, as it lies on disk. */
interface End {
  readonly head: ChainHead;
  /** Of the open segment, named by its first record; 0 where there is none. */
  readonly segment: number;
  readonly size: number;
  readonly closedBytes: number;
}

const EMPTY: End = { head: GENESIS, segment: 0, size: 0, closedBytes: 0 };

export class AuditChain {
  readonly #options: ChainOptions;
  readonly #disk: ChainDisk;
  #end: End = EMPTY;
  #id: string | undefined;
  #tornBytes = 0;
  #jobs: Job[] = [];
  #working: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: ChainOptions) {
    this.#options = options;
    this.#disk = { write: writeWhole, sync: (file) => file.datasync(), ...options.disk };
    mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  }

  /** The record's sequence number once it is on disk. Rejects where it could not be written: then it is not in the chain. */
  append(fact: AuditFact): Promise<number> {
    if (this.#isClosed) return Promise.reject(new Error("the audit chain was closed"));
    if (this.#jobs.length >= WAITING_MAX)
      return Promise.reject(new Error(`${WAITING_MAX} audit records wait to be written already`));
    return new Promise((resolve, reject) => {
      this.#jobs.push({ fact, resolve, reject });
      this.#work();
    });
  }

  /** Where the chain ends now, whoever wrote last. Rejects where that cannot be read. */
  async refresh(): Promise<ChainHead> {
    await this.#working;
    return this.#locked(async () => {
      await this.#catchUp();
      return this.#end.head;
    });
  }

  get head(): ChainHead {
    return this.#end.head;
  }

  /** Undefined while there is no record, or the first one cannot be read. */
  get id(): string | undefined {
    return this.#id;
  }

  stats(): { readonly bytes: number; readonly tornBytes: number } {
    return { bytes: this.#end.closedBytes + this.#end.size, tornBytes: this.#tornBytes };
  }

  /** What was asked for is written first. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#working;
  }

  #work(): void {
    this.#working ??= this.#drain().finally(() => {
      this.#working = undefined;
      if (this.#jobs.length > 0) this.#work();
    });
  }

  async #drain(): Promise<void> {
    while (this.#jobs.length > 0) {
      let taken: readonly Job[] = [];
      try {
        await this.#locked(async () => {
          await this.#catchUp();
          taken = await this.#write();
        });
      } catch (error) {
        // Nothing of a batch that failed is in the chain; what waits behind it would fail alike.
        for (const job of this.#jobs.splice(0, BATCH_RECORDS_MAX)) job.reject(error);
      }
      let seq = this.#end.head.seq - taken.length;
      for (const { resolve } of taken) resolve(++seq);
    }
  }

  async #locked<Value>(work: () => Promise<Value>): Promise<Value> {
    const { dir } = this.#options;
    const untilMs = performance.now() + LOCK_WAIT_MS;
    for (;;) {
      const lock = tryLock(join(dir, "lock"));
      if (lock.held) {
        try {
          return await work();
        } finally {
          lock.release();
        }
      }
      if (performance.now() > untilMs)
        throw new Error(`${dir} has been locked by process ${lock.holderPid} for ${LOCK_WAIT_MS / 1_000} s`);
      await sleep(LOCK_POLL_MS);
    }
  }

  /** The next jobs of the queue, as many as one segment takes, written and forced to disk. */
  async #write(): Promise<readonly Job[]> {
    const { dir, segmentBytes, totalBytesMax } = this.#options;
    const end = this.#end;
    const chainId = end.head.seq === 0 ? randomBytes(8).toString("hex") : this.#id;
    const began = end.head.seq === 0 ? beginning(chainId!, this.#jobs[0]!.fact.at) : undefined;
    const first = began ?? lineAfter(end.head, this.#jobs[0]!.fact);
    const isNew = end.segment === 0 || (end.size > 0 && end.size + first.line.length > segmentBytes);
    const size = isNew ? 0 : end.size;
    let lines = began?.line ?? "";
    let head = began?.head ?? end.head;
    let count = 0;
    for (const { fact } of this.#jobs.slice(0, BATCH_RECORDS_MAX)) {
      const next = lineAfter(head, fact);
      if (count > 0 && size + lines.length + next.line.length > segmentBytes) break;
      lines += next.line;
      head = next.head;
      count += 1;
    }
    const closedBytes = isNew ? end.closedBytes + end.size : end.closedBytes;
    if (closedBytes + size + lines.length > totalBytesMax) {
      throw new Error(
        `the audit chain is full: ${dir} has ${closedBytes + size} bytes and nothing in it is ever deleted; ` +
          "raise audit.totalBytesMax in gateway.yaml",
      );
    }
    const segment = isNew ? end.head.seq + 1 : end.segment;
    // Lines are ASCII: as many bytes as units.
    await this.#put(segment, size, Buffer.from(lines, "latin1"), isNew);
    this.#end = { head, segment, size: size + lines.length, closedBytes };
    this.#id = chainId;
    return this.#jobs.splice(0, count);
  }

  async #put(segment: number, size: number, bytes: Buffer, isNew: boolean): Promise<void> {
    const { dir } = this.#options;
    const file = await open(join(dir, segmentName(segment)), "a", 0o600);
    try {
      await this.#disk.write(file, bytes);
      await this.#disk.sync(file);
    } catch (error) {
      // Whoever asked is told that it is not in the chain. Where even this fails, the next append finds what is there.
      await file.truncate(size).catch(() => {});
      throw error;
    } finally {
      await file.close();
    }
    if (isNew) await syncFolder(dir);
  }

  /** Looks at the disk: another process may have written, a crash may have left half a line. */
  async #catchUp(): Promise<void> {
    const { dir } = this.#options;
    const last = sequencesOf(dir).at(-1) ?? 0;
    const { segment, size, head: known } = this.#end;
    const found =
      last === 0 ? 0 : (statSync(join(dir, segmentName(last)), { throwIfNoEntry: false })?.size ?? 0);
    if (last === segment && found === size && (last === 0 || this.#id !== undefined)) return;
    const end = await readEnd(dir, (bytes) => {
      this.#tornBytes += bytes;
    });
    if (end.head.seq < known.seq || (end.head.seq === known.seq && end.head.hash !== known.hash)) {
      throw new Error(
        `${dir} ends at record ${end.head.seq}, though record ${known.seq} was written: somebody changed it. ` +
          "Look at it with `sallyport audit verify` and keep a copy; a restart goes on from where it ends",
      );
    }
    this.#id = end.head.seq === 0 ? undefined : await chainIdOf(dir);
    this.#end = end;
  }
}

function beginning(chainId: string, at: string): ReturnType<typeof lineAfter> {
  return lineAfter(GENESIS, { at, actor: "system", action: CHAIN_BEGIN, target: chainId, outcome: "done" });
}

/** The id of the chain in a folder; undefined where its first record cannot be read. */
export async function chainIdOf(dir: string): Promise<string | undefined> {
  for await (const { text } of linesOf(join(dir, segmentName(1)), 0)) {
    const record = readLine(text);
    return typeof record !== "string" && record.action === CHAIN_BEGIN ? record.target : undefined;
  }
  return undefined;
}

/** Finds the last whole record, and cuts off what a crash left behind it. */
async function readEnd(dir: string, onTorn: (bytes: number) => void): Promise<End> {
  const segments = listSegments(dir);
  const open = segments.at(-1);
  if (open === undefined) return EMPTY;
  const closedBytes = segments.slice(0, -1).reduce((sum, { bytes }) => sum + bytes, 0);
  const own = await lastLineOf(join(dir, segmentName(open.sequence)));
  if (own.end < open.bytes) {
    await truncate(join(dir, segmentName(open.sequence)), own.end);
    onTorn(open.bytes - own.end);
  }
  const end = { segment: open.sequence, size: own.end, closedBytes };
  // A crash between making a segment and its first record: the chain ends in the segment before.
  const before = segments.at(-2);
  if (own.text === undefined && before === undefined)
    return { ...end, segment: 1, head: headBefore(dir, open) };
  const path = join(dir, segmentName(own.text === undefined ? before!.sequence : open.sequence));
  const text = own.text ?? (await lastLineOf(path)).text ?? "";
  const record = readLine(text);
  if (typeof record === "string") {
    throw new Error(
      `${path}: the last record cannot be gone on from: ${record}. Look at it with \`sallyport audit verify\`; ` +
        `move ${dir} aside to begin a new chain`,
    );
  }
  return { ...end, head: { seq: record.seq, hash: record.hash } };
}

function headBefore(dir: string, { sequence }: { readonly sequence: number }): ChainHead {
  if (sequence === 1) return GENESIS;
  throw new Error(`${dir}: the segments before ${segmentName(sequence)} are gone: put them back from a copy`);
}

async function lastLineOf(
  path: string,
): Promise<{ readonly text: string | undefined; readonly end: number }> {
  let last: { readonly text: string | undefined; readonly end: number } = { text: undefined, end: 0 };
  for await (const { text, end, isWhole } of linesOf(path, 0)) if (isWhole) last = { text, end };
  return last;
}

async function writeWhole(file: FileHandle, bytes: Buffer): Promise<void> {
  await file.writeFile(bytes);
}

async function syncFolder(dir: string): Promise<void> {
  const folder = await open(dir, "r");
  await folder.sync().finally(() => folder.close());
}
