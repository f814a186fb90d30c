/**
 * Records what was asked and answered, where the operator wants it (`record` in gateway.yaml): sampled, bounded,
 * encrypted, and deleted when its time is over. A request never waits for it: a record joins a batch in memory, and
 * one that does not fit is counted as not recorded.
 *
 *   put -> fits what may wait? -> waiting --250 ms or 256 KiB--> sealed -> one write -> segment
 *              | no: counted                                                            | too old, or past bytesMax:
 *                                                                                       '-> deleted whole
 */

import type { FileHandle } from "node:fs/promises";
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  batchesIn,
  type ContentKey,
  type ContentRecord,
  frameOf,
  framesIn,
  HEADER_BYTES,
  newHeader,
  readHeader,
  recordOf,
  sealed,
} from "./content-format.ts";
import { segmentName, sequencesOf } from "./segments.ts";

const BATCH_BYTES = 262_144;
const BATCH_MS = 250;
/** Waiting and being written; what comes on top is not recorded. */
const WAITING_BYTES_MAX = 16_777_216;
const SEGMENT_BYTES_MAX = 33_554_432;
/** A segment covers at most this part of `keepFor`, since it is deleted when its first record's time is over. */
const SEGMENTS_OF_KEEP = 24;
const SWEEP_MS_MAX = 60_000;

export interface ContentOptions {
  readonly dir: string;
  readonly key: ContentKey;
  /** 0..1 of requests. */
  readonly share: number;
  /** Of these organisations alone; []: of all. */
  readonly orgs: readonly string[];
  readonly keepForMs: number;
  readonly bytesMax: number;
  readonly requestBytesMax: number;
  /** Told once when the disk fails, and with undefined when it takes records again. */
  readonly onProblem?: (problem: string | undefined) => void;
  /** ms since the epoch. */
  readonly now?: () => number;
}

export interface ContentStats {
  readonly recorded: number;
  /** No room to wait, too large, or the disk failed. */
  readonly notRecorded: number;
  readonly bytes: number;
  readonly segments: number;
  readonly problem: string | undefined;
}

export interface ContentLog {
  readonly requestBytesMax: number;
  /** Whether a request of this organisation is one of those that are recorded. */
  wants(org: string): boolean;
  /** False when it could not be taken. Waits for nothing, never throws. */
  put(record: ContentRecord): boolean;
  /** Counts a request that was wanted and is larger than one may be. */
  tooLarge(): void;
  /** Deletes what an organisation, or one end user of it, wrote; resolves with how many records once they are gone. */
  erase(whose: { readonly org: string; readonly endUser?: string | undefined }): Promise<number>;
  stats(): ContentStats;
  /** Writes what waits. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export async function openContent(options: ContentOptions): Promise<ContentLog> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const log = new FileContent(options);
  await log.start();
  return log;
}

interface Segment {
  readonly sequence: number;
  readonly madeMs: number;
  bytes: number;
}

class FileContent implements ContentLog {
  readonly #options: ContentOptions;
  readonly #orgs: ReadonlySet<string>;
  readonly #now: () => number;
  /** Oldest first; the last one is open while `#file` is. */
  readonly #segments: Segment[] = [];
  readonly #segmentBytes: number;
  #file: FileHandle | undefined;
  #header: Buffer = Buffer.alloc(0);
  #batches = 0;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #writingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #sweeper: NodeJS.Timeout | undefined;
  /** Everything that touches files, one after the other. */
  #work: Promise<unknown> = Promise.resolve();
  #recorded = 0;
  #notRecorded = 0;
  #problem: string | undefined;
  #isClosed = false;

  constructor(options: ContentOptions) {
    this.#options = options;
    this.#orgs = new Set(options.orgs);
    this.#now = options.now ?? Date.now;
    this.#segmentBytes = Math.min(SEGMENT_BYTES_MAX, Math.max(1, Math.floor(options.bytesMax / 4)));
  }

  get requestBytesMax(): number {
    return this.#options.requestBytesMax;
  }

  async start(): Promise<void> {
    for (const sequence of sequencesOf(this.#options.dir, "content")) {
      const path = this.#path(sequence);
      const { size, mtimeMs } = await stat(path);
      // A header that is torn says nothing: the file's own age stands in, so that it goes in its time too.
      const madeMs = readHeader(await headOf(path))?.madeMs ?? mtimeMs;
      this.#segments.push({ sequence, madeMs, bytes: size });
    }
    await this.#sweep();
    const everyMs = Math.min(SWEEP_MS_MAX, Math.max(1_000, this.#options.keepForMs / SEGMENTS_OF_KEEP));
    this.#sweeper = setInterval(() => void this.#queue(() => this.#sweep()), everyMs).unref();
  }

  wants(org: string): boolean {
    if (this.#isClosed || (this.#orgs.size > 0 && !this.#orgs.has(org))) return false;
    const { share } = this.#options;
    return share >= 1 || Math.random() < share;
  }

  put(record: ContentRecord): boolean {
    const frame = frameOf(record);
    const total = this.#waitingBytes + this.#writingBytes + frame.length;
    if (this.#isClosed || frame.length > this.#segmentBytes || total > WAITING_BYTES_MAX) {
      this.#notRecorded += 1;
      return false;
    }
    this.#waiting.push(frame);
    this.#waitingBytes += frame.length;
    if (this.#waitingBytes >= BATCH_BYTES) void this.flush();
    else this.#timer ??= setTimeout(() => void this.flush(), BATCH_MS).unref();
    return true;
  }

  tooLarge(): void {
    this.#notRecorded += 1;
  }

  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const frames = this.#waiting;
    if (frames.length === 0) return this.#queue(async () => {});
    const bytes = this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#writingBytes += bytes;
    return this.#queue(async () => {
      try {
        await this.#write(frames);
        this.#recorded += frames.length;
        this.#told(undefined);
      } catch (error) {
        this.#notRecorded += frames.length;
        // Whatever stands torn at the end is never read past: the next batch goes to a segment of its own.
        await this.#retire().catch(() => {});
        this.#told(error instanceof Error ? error.message : String(error));
      } finally {
        this.#writingBytes -= bytes;
      }
    });
  }

  erase({ org, endUser }: { readonly org: string; readonly endUser?: string | undefined }): Promise<number> {
    const isTheirs = (record: ContentRecord) =>
      record.org === org && (endUser === undefined || record.endUser === endUser);
    void this.flush();
    return this.#queue(async () => {
      await this.#retire();
      let erased = 0;
      for (const segment of [...this.#segments]) erased += await this.#rewrite(segment, isTheirs);
      return erased;
    });
  }

  stats(): ContentStats {
    return {
      recorded: this.#recorded,
      notRecorded: this.#notRecorded,
      bytes: this.#segments.reduce((sum, { bytes }) => sum + bytes, 0),
      segments: this.#segments.length,
      problem: this.#problem,
    };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    clearInterval(this.#sweeper);
    const flushed = this.flush();
    this.#isClosed = true;
    await flushed;
    await this.#queue(() => this.#retire());
  }

  #queue<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#work.then(step);
    this.#work = done.catch(() => {});
    return done;
  }

  #told(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.onProblem?.(problem);
  }

  #path(sequence: number): string {
    return join(this.#options.dir, segmentName(sequence, "content"));
  }

  async #write(frames: readonly Buffer[]): Promise<void> {
    const { key, keepForMs } = this.#options;
    const nowMs = this.#now();
    const last = this.#segments.at(-1);
    if (this.#file !== undefined && last !== undefined) {
      const ageMs = nowMs - last.madeMs;
      const isOld = ageMs < 0 || ageMs >= keepForMs / SEGMENTS_OF_KEEP;
      if (isOld || last.bytes >= this.#segmentBytes) await this.#retire();
    }
    if (this.#file === undefined) await this.#begin(nowMs);
    const bytes = sealed(frames, key, this.#header, this.#batches);
    await this.#makeRoom(bytes.length);
    await this.#file!.appendFile(bytes);
    this.#batches += 1;
    this.#segments.at(-1)!.bytes += bytes.length;
  }

  async #begin(nowMs: number): Promise<void> {
    const { dir, key } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const sequence =
      Math.max(this.#segments.at(-1)?.sequence ?? 0, sequencesOf(dir, "content").at(-1) ?? 0) + 1;
    this.#file = await open(this.#path(sequence), "ax", 0o600);
    this.#segments.push({ sequence, madeMs: nowMs, bytes: HEADER_BYTES });
    this.#header = newHeader(key, nowMs);
    this.#batches = 0;
    await this.#file.appendFile(this.#header);
  }

  async #retire(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #makeRoom(length: number): Promise<void> {
    while (this.#segments.length > 1 && this.stats().bytes + length > this.#options.bytesMax)
      await this.#dropOldest();
  }

  /** The age is that of a segment's first record; one from the future (a clock that was set back) goes too. */
  async #sweep(): Promise<void> {
    const nowMs = this.#now();
    const { keepForMs, bytesMax } = this.#options;
    for (const segment of [...this.#segments]) {
      const ageMs = nowMs - segment.madeMs;
      if (ageMs < keepForMs && ageMs > -keepForMs) continue;
      if (segment === this.#segments.at(-1)) await this.#retire();
      await this.#drop(segment);
    }
    while (this.#segments.length > 1 && this.stats().bytes > bytesMax) await this.#dropOldest();
  }

  async #dropOldest(): Promise<void> {
    const [oldest] = this.#segments;
    if (oldest !== undefined) await this.#drop(oldest);
  }

  async #drop(segment: Segment): Promise<void> {
    await rm(this.#path(segment.sequence), { force: true });
    const at = this.#segments.indexOf(segment);
    if (at >= 0) this.#segments.splice(at, 1);
  }

  /** A copy without what is to go takes the segment's place in one rename; a crash before it leaves the old one. */
  async #rewrite(segment: Segment, isTheirs: (record: ContentRecord) => boolean): Promise<number> {
    const { key } = this.#options;
    const path = this.#path(segment.sequence);
    const bytes = await readFile(path).catch(() => undefined);
    if (bytes === undefined) return 0;
    const head = readHeader(bytes);
    if (head === undefined || !head.keyId.equals(key.id))
      throw new Error(
        `${path} cannot be read with this key, so nothing can be erased in it: delete it, or restore its key`,
      );
    const header = newHeader(key, head.madeMs);
    const parts: Buffer[] = [header];
    let erased = 0;
    for (const { plain } of batchesIn(bytes, key)) {
      const kept: Buffer[] = [];
      for (const frame of framesIn(plain)) {
        if (isTheirs(recordOf(frame))) erased += 1;
        else kept.push(frame);
      }
      if (kept.length > 0) parts.push(sealed(kept, key, header, parts.length - 1));
    }
    if (erased === 0) return 0;
    if (parts.length === 1) {
      await this.#drop(segment);
      return erased;
    }
    const temporary = `${path}.tmp`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(Buffer.concat(parts));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    segment.bytes = parts.reduce((sum, { length }) => sum + length, 0);
    return erased;
  }
}

async function headOf(path: string): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
