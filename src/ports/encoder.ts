/**
 * The sentence encoder as layers see it: one pool of worker threads for all seats, started by the first text that
 * asks for it, with a small memory of what it gave. Whatever goes wrong (too many wait, too late, no worker) is a
 * value that says so: a guard must know that it did not look.
 *
 *   encode -> known? -> being encoded? -> pool: queue, deadline -> embedding | skipped: full, late, failed, gone
 */
import { hash } from "node:crypto";
import type { Encoded, Encoder, EncoderSkip } from "../layer/index.ts";
import { type EncoderPool, openEncoderPool } from "../text/encoder/encoder-pool.ts";

/** Embeddings kept, 6 kB each: a text that is sent again at once, a system prompt that every request brings. */
const KNOWN_MAX = 512;
/** A pool that could not start is tried again after this. */
const RESTART_MS = 30_000;

export interface EncoderOptions {
  readonly workers: number;
  /** Texts that may wait beside those that are being encoded; the next one is refused. */
  readonly queueMax: number;
  /** For one text, the wait and a pool that has yet to start included. */
  readonly timeoutMs: number;
  readonly knownMax?: number;
  /** Told once when the pool cannot be started, and with undefined when it can again. */
  readonly onProblem?: (problem: string | undefined) => void;
  /** How a pool is opened; tests bring their own. */
  readonly openPool?: typeof openEncoderPool;
}

export interface EncoderStats {
  readonly embedded: number;
  /** Answered from memory, or together with the same text. */
  readonly known: number;
  readonly skipped: Readonly<Record<EncoderSkip, number>>;
  /** Texts that wait or are being encoded. */
  readonly waiting: number;
  /** From a text's arrival to its embedding, all texts together. */
  readonly spentMs: number;
}

export interface SharedEncoder extends Encoder {
  /** Starts the threads ahead of the first text, which would else be late; waits for nothing. */
  warm(): void;
  stats(): EncoderStats;
  close(): Promise<void>;
}

export function openEncoder(options: EncoderOptions): SharedEncoder {
  return new PooledEncoder(options);
}

class PooledEncoder implements SharedEncoder {
  readonly #options: EncoderOptions;
  readonly #knownMax: number;
  /** Insertion order is age: a hit moves its entry to the young end. */
  readonly #known = new Map<string, Float32Array>();
  readonly #pending = new Map<string, Promise<Encoded>>();
  readonly #skipped: Record<EncoderSkip, number> = { full: 0, late: 0, failed: 0, gone: 0 };
  #pool: EncoderPool | undefined;
  #starting: Promise<EncoderPool | undefined> | undefined;
  #failedMs = Number.NEGATIVE_INFINITY;
  #embedded = 0;
  #knownUses = 0;
  #spentMs = 0;
  #isClosed = false;

  constructor(options: EncoderOptions) {
    this.#options = options;
    this.#knownMax = options.knownMax ?? KNOWN_MAX;
  }

  async encode(text: string, signal?: AbortSignal): Promise<Encoded> {
    if (isOver(signal)) return this.#skip("gone");
    const key = hash("sha256", text, "base64");
    const known = this.#known.get(key);
    if (known !== undefined) {
      this.#knownUses += 1;
      this.#known.delete(key);
      this.#known.set(key, known);
      return { kind: "embedding", embedding: known };
    }
    const same = this.#pending.get(key);
    if (same !== undefined) {
      const encoded = await same;
      if (encoded.kind === "skipped") return this.#skip(encoded.cause);
      this.#knownUses += 1;
      return encoded;
    }
    const { workers, queueMax } = this.#options;
    if (this.#pending.size >= workers + queueMax) return this.#skip("full");
    const encoding = this.#encode(text);
    this.#pending.set(key, encoding);
    const encoded = await encoding;
    this.#pending.delete(key);
    if (encoded.kind === "skipped") return this.#skip(encoded.cause);
    this.#keep(key, encoded.embedding);
    return isOver(signal) ? this.#skip("gone") : encoded;
  }

  warm(): void {
    if (this.#pool === undefined && !this.#isClosed) this.#starting ??= this.#start();
  }

  stats(): EncoderStats {
    return {
      embedded: this.#embedded,
      known: this.#knownUses,
      skipped: { ...this.#skipped },
      waiting: this.#pending.size,
      spentMs: this.#spentMs,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const pool = this.#pool ?? (await this.#starting);
    await pool?.close();
  }

  async #encode(text: string): Promise<Encoded> {
    const startedMs = performance.now();
    const dueMs = startedMs + this.#options.timeoutMs;
    const pool = this.#pool ?? (await this.#started(dueMs));
    // Still starting: it comes too late for this text. By the clock alone a timer that fires early would say "failed".
    if (pool === undefined) return SKIPPED[this.#starting !== undefined ? "late" : "failed"];
    const deadlineMs = Math.max(1, dueMs - performance.now());
    const encoded = await pool.encode([text], { deadlineMs });
    switch (encoded.kind) {
      case "embeddings": {
        const [embedding] = encoded.embeddings;
        if (embedding === undefined) return SKIPPED.failed;
        this.#embedded += 1;
        this.#spentMs += performance.now() - startedMs;
        return { kind: "embedding", embedding };
      }
      case "late":
      case "full":
      case "failed":
        return SKIPPED[encoded.kind];
      default:
        return encoded satisfies never;
    }
  }

  /** The pool, once it has started or the time is up; it goes on starting for those who come after. */
  async #started(dueMs: number): Promise<EncoderPool | undefined> {
    const nowMs = performance.now();
    if (this.#isClosed || nowMs - this.#failedMs < RESTART_MS) return undefined;
    this.#starting ??= this.#start();
    let timer: NodeJS.Timeout | undefined;
    const due = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), dueMs - nowMs);
    });
    const pool = await Promise.race([this.#starting, due]);
    clearTimeout(timer);
    return pool;
  }

  async #start(): Promise<EncoderPool | undefined> {
    const { workers, queueMax, onProblem, openPool = openEncoderPool } = this.#options;
    try {
      this.#pool = await openPool({ workers, queueMax, textsMax: 1 });
      if (this.#failedMs > 0) onProblem?.(undefined);
      return this.#pool;
    } catch (error) {
      this.#failedMs = performance.now();
      onProblem?.(error instanceof Error ? error.message : String(error));
      return undefined;
    } finally {
      this.#starting = undefined;
    }
  }

  #keep(key: string, embedding: Float32Array): void {
    this.#known.set(key, embedding);
    if (this.#known.size <= this.#knownMax) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      break;
    }
  }

  #skip(cause: EncoderSkip): Encoded {
    this.#skipped[cause] += 1;
    return SKIPPED[cause];
  }
}

/** It may be aborted across any await. */
function isOver(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

const SKIPPED: Readonly<Record<EncoderSkip, Encoded>> = {
  full: { kind: "skipped", cause: "full" },
  late: { kind: "skipped", cause: "late" },
  failed: { kind: "skipped", cause: "failed" },
  gone: { kind: "skipped", cause: "gone" },
};
