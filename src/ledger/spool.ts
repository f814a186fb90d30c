/**
 * The decision spool: one JSON line a request, appended with one write call to the open segment. When
 * `append` answers true the line is in the kernel's hands, so it survives kill -9 of this process (a power
 * cut can take what was not yet synced). Nothing here throws at a request: a record that cannot be kept is
 * counted, the alarm is raised once, and every later append tries again.
 *
 *   append -> fits the bound? -> fits the segment? -> write -> whole? -> size += n
 *               | no: evict,         | no: rotate        | error: cut back to `size`, or where that
 *               |   or refuse        |                   |   fails leave the segment with its torn end
 */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "node:path";
import { type LockAttempt, tryLock } from "../files/lock-file.ts";
import type { Decision } from "./decision.ts";
import { consumedUpTo, listSegments, segmentName } from "./segments.ts";

export * from "./spool-reader.ts";

/**
 * `ok`; `overflow`: the bound is reached and unread segments are being dropped; `full`: the bound is
 * reached and records are refused; `failing`: the disk does not take them.
 */
export type SpoolState = "ok" | "overflow" | "full" | "failing";

export interface SpoolOptions {
  /** Created with mode 0700; one process at a time writes it. */
  readonly dir: string;
  /** A segment is closed when the next record would take it past this. */
  readonly segmentBytes: number;
  /** All segments together. At least two segments fit. */
  readonly totalBytesMax: number;
  /** What gives way at the bound once every consumed segment is gone. */
  readonly onFull: "drop-oldest" | "refuse";
  /** Called once per change of state. Must not throw. */
  readonly onAlarm?: (alarm: SpoolAlarm) => void;
  /** For tests of full and broken disks. */
  readonly disk?: Partial<SpoolDisk>;
}

export interface SpoolAlarm {
  readonly state: SpoolState;
  readonly problem: string;
}

export interface SpoolDisk {
  write(fd: number, bytes: Buffer, offset: number, length: number): number;
  truncate(fd: number, length: number): void;
}

export interface SpoolStats {
  readonly state: SpoolState;
  readonly segments: number;
  readonly bytes: number;
  /** Records kept since the spool was opened. */
  readonly appended: number;
  /** Records that were not kept. */
  readonly dropped: number;
  /** Segments dropped at the bound before the ledger had read them. */
  readonly segmentsDropped: number;
  /** Torn last lines that were cut off when the spool was opened. */
  readonly torn: number;
  /** True while records are refused at the bound. */
  readonly full: boolean;
  readonly lastError: string;
}

export interface Spool {
  /** False when the record could not be kept. Never throws. */
  append(decision: Decision): boolean;
  /**
   * Records it together with all others of this turn of the event loop, in one write, and then calls
   * `written`, also when the record could not be kept (which is counted). Never throws.
   */
  enqueue(decision: Decision, written: () => void): void;
  /** False while records are lost and `onFull` asks for requests to be refused then. */
  readonly accepting: boolean;
  stats(): SpoolStats;
  /** Forces what was appended to disk, against a power cut. */
  sync(): void;
  close(): void;
}

/** A longer record is written with its strings cut to `STRING_UNITS_MAX`. */
const RECORD_BYTES_MAX = 65_536;
const STRING_UNITS_MAX = 256;

/** Records that wait for the end of a turn of the event loop; one more writes them at once. */
const BATCH_RECORDS_MAX = 64;

/** One line of JSON, with long strings cut where it would not fit a record otherwise. */
function lineOf(decision: Decision): string {
  const line = `${JSON.stringify(decision)}\n`;
  return line.length * 3 <= RECORD_BYTES_MAX ? line : `${JSON.stringify(decision, clip)}\n`;
}

export function openSpool(options: SpoolOptions): Spool {
  if (options.totalBytesMax < 2 * options.segmentBytes) {
    throw new RangeError(
      `spool: totalBytesMax (${options.totalBytesMax}) must be at least twice segmentBytes (${options.segmentBytes})`,
    );
  }
  fs.mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  const lock = tryLock(join(options.dir, "lock"));
  if (!lock.held) {
    throw new Error(
      `${options.dir} is in use by process ${lock.holderPid}: stop it, or give this one another --data folder`,
    );
  }
  return new FileSpool(options, lock);
}

class FileSpool implements Spool {
  readonly #options: SpoolOptions;
  readonly #lock: LockAttempt & { held: true };
  readonly #disk: SpoolDisk;
  /** Closed segments, oldest first. */
  readonly #closed: { readonly sequence: number; readonly bytes: number }[];
  readonly #scratch = Buffer.allocUnsafeSlow(2 * RECORD_BYTES_MAX);
  #fd = -1;
  #sequence: number;
  /** Bytes of whole records in the open segment. */
  #size = 0;
  #closedBytes = 0;
  #state: SpoolState = "ok";
  #appended = 0;
  #dropped = 0;
  #segmentsDropped = 0;
  #torn = 0;
  #lastError = "";
  #isShut = false;
  #waiting: { readonly line: string; readonly written: () => void }[] = [];

  constructor(options: SpoolOptions, lock: LockAttempt & { held: true }) {
    this.#options = options;
    this.#lock = lock;
    this.#disk = { write: fs.writeSync, truncate: fs.ftruncateSync, ...options.disk };
    const found = listSegments(options.dir);
    const last = found.at(-1);
    // Past the mark too: a number must not come back after its segment was consumed and deleted.
    this.#sequence = Math.max(last?.sequence ?? 0, consumedUpTo(options.dir));
    if (last !== undefined) {
      const bytes = cutTornEnd(join(options.dir, segmentName(last.sequence)), last.bytes);
      if (bytes < last.bytes) this.#torn += 1;
      found[found.length - 1] = { sequence: last.sequence, bytes };
    }
    this.#closed = found;
    for (const { bytes } of found) this.#closedBytes += bytes;
  }

  append(decision: Decision): boolean {
    return this.#write(lineOf(decision), 1);
  }

  enqueue(decision: Decision, written: () => void): void {
    this.#waiting.push({ line: lineOf(decision), written });
    if (this.#waiting.length === 1) setImmediate(this.#flush);
    else if (this.#waiting.length >= BATCH_RECORDS_MAX) this.#flush();
  }

  /** Everything that came in this turn of the event loop goes in one write. */
  readonly #flush = (): void => {
    const batch = this.#waiting;
    if (batch.length === 0) return;
    this.#waiting = [];
    let lines = "";
    for (const { line } of batch) lines += line;
    this.#write(lines, batch.length);
    for (const { written } of batch) written();
  };

  #write(lines: string, records: number): boolean {
    if (this.#isShut) return this.#lose(records);
    let bytes = this.#scratch;
    let length: number;
    if (lines.length * 3 <= bytes.length) {
      length = bytes.write(lines);
    } else {
      bytes = Buffer.from(lines);
      length = bytes.length;
    }
    try {
      if (this.#closedBytes + this.#size + length > this.#options.totalBytesMax && !this.#makeRoom(length)) {
        this.#become("full", `${this.#options.totalBytesMax} bytes of unread segments`);
        return this.#lose(records);
      }
      if (this.#fd < 0 || (this.#size > 0 && this.#size + length > this.#options.segmentBytes)) {
        this.#rotate();
      }
      this.#put(bytes, length);
    } catch (error) {
      this.#lastError = error instanceof Error ? error.message : String(error);
      this.#become("failing", this.#lastError);
      return this.#lose(records);
    }
    this.#size += length;
    this.#appended += records;
    if (this.#state === "failing" || this.#state === "full") this.#become("ok", "records are kept again");
    return true;
  }

  get accepting(): boolean {
    return this.#options.onFull !== "refuse" || this.#state === "ok" || this.#state === "overflow";
  }

  stats(): SpoolStats {
    return {
      state: this.#state,
      segments: this.#closed.length + (this.#fd >= 0 ? 1 : 0),
      bytes: this.#closedBytes + this.#size,
      appended: this.#appended,
      dropped: this.#dropped,
      segmentsDropped: this.#segmentsDropped,
      torn: this.#torn,
      full: this.#state === "full",
      lastError: this.#lastError,
    };
  }

  sync(): void {
    if (this.#fd >= 0) fs.fdatasyncSync(this.#fd);
  }

  close(): void {
    if (this.#isShut) return;
    this.#flush();
    this.#isShut = true;
    this.#retire();
    this.#lock.release();
  }

  #lose(records: number): false {
    this.#dropped += records;
    return false;
  }

  #become(state: SpoolState, problem: string): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#options.onAlarm?.({ state, problem });
  }

  /** One write call in all but rare cases: a disk that fills up takes a part first. */
  #put(bytes: Buffer, length: number): void {
    let written = 0;
    try {
      while (written < length) {
        const taken = this.#disk.write(this.#fd, bytes, written, length - written);
        if (taken <= 0) throw new Error("the disk took no bytes");
        written += taken;
      }
    } catch (error) {
      this.#cutBack();
      throw error;
    }
  }

  /** Leaves whole lines only. Where even that fails, the next record goes to a fresh segment. */
  #cutBack(): void {
    try {
      this.#disk.truncate(this.#fd, this.#size);
    } catch {
      this.#retire();
    }
  }

  #rotate(): void {
    this.#retire();
    const { dir } = this.#options;
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    // First the number: one that cannot be opened is passed over, not tried for ever.
    this.#sequence += 1;
    this.#fd = fs.openSync(join(dir, segmentName(this.#sequence)), "ax", 0o600);
  }

  /** Closes the open segment; it reaches the disk in the background, not at a request's cost. */
  #retire(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#closed.push({ sequence: this.#sequence, bytes: this.#size });
    this.#closedBytes += this.#size;
    this.#size = 0;
    fs.fdatasync(fd, () => fs.close(fd, () => {}));
  }

  /** Deletes oldest segments until `length` bytes fit; unread ones only under `drop-oldest`. */
  #makeRoom(length: number): boolean {
    const { dir, onFull, totalBytesMax } = this.#options;
    const consumed = consumedUpTo(dir);
    while (this.#closedBytes + this.#size + length > totalBytesMax) {
      const oldest = this.#closed[0];
      if (oldest === undefined) return false;
      const isUnread = oldest.sequence > consumed;
      if (isUnread && onFull === "refuse") return false;
      fs.rmSync(join(dir, segmentName(oldest.sequence)), { force: true });
      this.#closed.shift();
      this.#closedBytes -= oldest.bytes;
      if (isUnread) {
        this.#segmentsDropped += 1;
        this.#become("overflow", `segment ${segmentName(oldest.sequence)} was dropped unread`);
      } else if (this.#state === "overflow") {
        this.#become("ok", "the ledger keeps up again");
      }
    }
    return true;
  }
}

function clip(_name: string, value: unknown): unknown {
  return typeof value === "string" ? value.slice(0, STRING_UNITS_MAX) : value;
}

/** Cuts off what stands after the last line feed; answers with the size that is left. */
function cutTornEnd(path: string, size: number): number {
  const fd = fs.openSync(path, "r+");
  try {
    const block = Buffer.alloc(Math.min(size, RECORD_BYTES_MAX));
    for (let end = size; end > 0; ) {
      const start = Math.max(0, end - block.length);
      const read = fs.readSync(fd, block, 0, end - start, start);
      const at = block.subarray(0, read).lastIndexOf(10);
      if (at >= 0) {
        const whole = start + at + 1;
        if (whole < size) fs.ftruncateSync(fd, whole);
        return whole;
      }
      end = start;
    }
    if (size > 0) fs.ftruncateSync(fd, 0);
    return 0;
  } finally {
    fs.closeSync(fd);
  }
}
