/**
 * The audit trail as the gateway writes it. A change is put on record before it is made (`begin`) and again when it
 * has ended (`end`); what happened without being asked here (`note`: a policy that came by file) is kept until it can
 * be written. Checkpoints are written beside all this, and hold up nobody.
 */

import { join } from "node:path";
import { AuditChain, type ChainOptions } from "./audit-chain.ts";
import { openCheckpoints } from "./audit-checkpoints.ts";
import type { AuditKey } from "./audit-key.ts";
import type { AuditFact, ChainHead } from "./audit-record.ts";

export interface AuditOptions extends ChainOptions {
  /** Where checkpoints go: a file that ends in `.jsonl`, or a folder. */
  readonly checkpoints: string;
  /** A checkpoint is written after so many records, */
  readonly checkpointRecords: number;
  /** and this long after a record that has none yet. */
  readonly checkpointMs: number;
  readonly key: AuditKey;
  /** Told once when records, or checkpoints, cannot be written, and with undefined when they can again. */
  readonly onProblem?: (what: "audit records" | "audit checkpoints", problem: string | undefined) => void;
}

export interface AuditStats {
  /** Written by this process. */
  readonly records: number;
  readonly recordFailures: number;
  readonly checkpointFailures: number;
  readonly bytes: number;
  readonly head: ChainHead;
  /** The last checkpoint that this process wrote. */
  readonly checkpoint: { readonly seq: number; readonly at: string } | undefined;
  readonly problem: string | undefined;
}

/** Where the chain of a data folder is. */
export function auditDirOf(dataDir: string): string {
  return join(dataDir, "audit");
}

/** Where checkpoints go that `audit.checkpoints` gives no place to: inside the data folder, for want of a better one. */
export function checkpointsOf(dataDir: string, named: string | undefined): string {
  return named ?? join(dataDir, "audit-checkpoints");
}

type Act = Pick<AuditFact, "actor" | "via" | "action" | "target">;

export interface AuditTrail {
  /** The number of the record, which is on disk. Rejects where it cannot be: then the change must not be made. */
  begin(act: Act): Promise<number>;
  /** On disk when it resolves. Rejects where it cannot be written. */
  end(begun: number, fact: Omit<AuditFact, "at" | "of">): Promise<void>;
  /** What was refused before anything was begun. The first of each minute have a record, the rest are counted. */
  refused(fact: Omit<AuditFact, "at" | "of">): Promise<void>;
  /** Written as soon as it can be; nobody waits for it. */
  note(fact: Omit<AuditFact, "at">): void;
}

/** Records of refusals in a minute: whoever may only read must not fill the disk. */
const REFUSALS_MAX = 120;
const MINUTE_MS = 60_000;
/** Notes that wait for a disk that takes none; of more only the number is kept. */
const NOTES_WAITING_MAX = 1_000;
const NOTES_RETRY_MS = 5_000;

export class Audit implements AuditTrail {
  readonly #options: AuditOptions;
  readonly #chain: AuditChain;
  readonly #problems = new Map<"audit records" | "audit checkpoints", string>();
  readonly #timer: NodeJS.Timeout;
  #records = 0;
  #recordFailures = 0;
  #checkpointFailures = 0;
  #checkpoint: AuditStats["checkpoint"];
  #checkpointing: Promise<void> | undefined;
  #notes: AuditFact[] = [];
  #noting: Promise<void> | undefined;
  #noteRetry: NodeJS.Timeout | undefined;
  #refusals = { count: 0, sinceMs: Number.NEGATIVE_INFINITY };
  #unrecorded = 0;
  #isClosed = false;

  constructor(options: AuditOptions) {
    this.#options = options;
    this.#chain = new AuditChain(options);
    this.#timer = setInterval(() => void this.checkpoint(), options.checkpointMs).unref();
    if (options.key.isNew)
      this.note({ actor: "system", action: "audit.key", target: options.key.id, outcome: "done" });
  }

  begin(act: Act): Promise<number> {
    return this.#append({ at: now(), ...act, outcome: "begun" });
  }

  async end(begun: number, fact: Omit<AuditFact, "at" | "of">): Promise<void> {
    await this.#append({ at: now(), ...fact, of: begun });
  }

  async refused(fact: Omit<AuditFact, "at" | "of">): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#refusals.sinceMs >= MINUTE_MS) this.#refusals = { count: 0, sinceMs: nowMs };
    this.#refusals.count += 1;
    if (this.#refusals.count > REFUSALS_MAX) {
      this.#unrecorded += 1;
      return;
    }
    // Nothing was changed, so nothing hangs on it; that it failed is counted.
    await this.#append({ at: now(), ...fact }).catch(() => {});
  }

  note(fact: Omit<AuditFact, "at">): void {
    if (this.#notes.length >= NOTES_WAITING_MAX) this.#unrecorded += 1;
    else this.#notes.push({ at: now(), ...fact });
    this.#writeNotes();
  }

  /**
   * Writes one where the chain has grown since the last: of `head`, or of where it ends on disk, whoever wrote last.
   * Looking there waits for a turn between writes, which a busy writer may not leave. Never rejects.
   */
  checkpoint(head?: ChainHead): Promise<void> {
    this.#checkpointing ??= this.#writeCheckpoint(head)
      .then(
        () => this.#report("audit checkpoints", undefined),
        (error: unknown) => {
          this.#checkpointFailures += 1;
          this.#report("audit checkpoints", messageOf(error));
        },
      )
      .finally(() => {
        this.#checkpointing = undefined;
      });
    return this.#checkpointing;
  }

  stats(): AuditStats {
    return {
      records: this.#records,
      recordFailures: this.#recordFailures,
      checkpointFailures: this.#checkpointFailures,
      bytes: this.#chain.stats().bytes,
      head: this.#chain.head,
      checkpoint: this.#checkpoint,
      problem: this.#problems.get("audit records") ?? this.#problems.get("audit checkpoints"),
    };
  }

  /** Writes what waits, and a last checkpoint. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#noteRetry);
    await this.#noting;
    this.#writeNotes();
    await this.#noting;
    await this.#checkpointing;
    await this.checkpoint();
    await this.#chain.close();
  }

  async #append(fact: AuditFact): Promise<number> {
    const unrecorded = this.#unrecorded;
    this.#unrecorded = 0;
    try {
      const seq = await this.#chain.append(unrecorded === 0 ? fact : { ...fact, unrecorded });
      this.#records += 1;
      this.#report("audit records", undefined);
      if (seq - (this.#checkpoint?.seq ?? 0) >= this.#options.checkpointRecords)
        void this.checkpoint(this.#chain.head);
      return seq;
    } catch (error) {
      this.#unrecorded += unrecorded;
      this.#recordFailures += 1;
      this.#report("audit records", messageOf(error));
      throw error;
    }
  }

  #writeNotes(): void {
    clearTimeout(this.#noteRetry);
    this.#noting ??= this.#drainNotes().finally(() => {
      this.#noting = undefined;
    });
  }

  async #drainNotes(): Promise<void> {
    for (let fact = this.#notes[0]; fact !== undefined; fact = this.#notes[0]) {
      try {
        await this.#append(fact);
        this.#notes.shift();
      } catch {
        if (!this.#isClosed) this.#noteRetry = setTimeout(() => this.#writeNotes(), NOTES_RETRY_MS).unref();
        return;
      }
    }
  }

  async #writeCheckpoint(known?: ChainHead): Promise<void> {
    const head = known ?? (await this.#chain.refresh());
    if (head.seq === 0 || head.seq === this.#checkpoint?.seq) return;
    const { id } = this.#chain;
    if (id === undefined)
      throw new Error(`${this.#options.dir}: the first record of the chain cannot be read`);
    const at = now();
    await openCheckpoints(this.#options.checkpoints, this.#options.key).write(id, head, at);
    this.#checkpoint = { seq: head.seq, at };
  }

  #report(what: "audit records" | "audit checkpoints", problem: string | undefined): void {
    if (problem === this.#problems.get(what)) return;
    if (problem === undefined) this.#problems.delete(what);
    else this.#problems.set(what, problem);
    this.#options.onProblem?.(what, problem);
  }
}

function now(): string {
  return new Date().toISOString();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
