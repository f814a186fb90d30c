/**
 * The sentence encoder off the event loop: worker threads behind one bounded queue. Whatever goes wrong with an
 * encoding is a value (too many wait, too late, the worker failed), so that the caller's policy decides what it
 * means; a worker that dies or hangs is replaced, and only the call that it was on is lost.
 *
 *   encode -> [ queue, at most queueMax ] -> worker: one call at a time -> embeddings
 *                  |  deadline                  |  deadline: the answer is dropped when it comes
 *                  v                            |  stuckMs: the worker is ended
 *                late                           v  dies: failed, a new one after restartMs
 */
import { Worker } from "node:worker_threads";

export type Encoded =
  | { readonly kind: "embeddings"; readonly embeddings: readonly Float32Array[] }
  /** The deadline passed. */
  | { readonly kind: "late" }
  /** The queue was full. */
  | { readonly kind: "full" }
  | { readonly kind: "failed"; readonly cause: string };

export interface EncoderPool {
  /** At most `textsMax` texts; more are a caller's mistake, and throw. */
  encode(texts: readonly string[], options: { readonly deadlineMs: number }): Promise<Encoded>;
  /** Calls that no worker has begun. */
  readonly waiting: number;
  /** Ends the workers; calls that run or wait fail. */
  close(): Promise<void>;
}

export interface EncoderPoolOptions {
  /** Threads; each takes some 100 MB and, when busy, a core. */
  readonly workers?: number;
  /** Calls that may wait beside those that run; the next one is refused. */
  readonly queueMax?: number;
  /** Texts of one call, which bounds how long a call can hold a worker. */
  readonly textsMax?: number;
  /** A worker that takes longer over one call is ended and replaced. */
  readonly stuckMs?: number;
  /** Pause before a worker is replaced, so that one that cannot start does not spin. */
  readonly restartMs?: number;
  /** What the workers run. */
  readonly script?: URL;
}

export interface ToWorker {
  readonly texts: readonly string[];
}
export type FromWorker =
  | { readonly kind: "ready" }
  | { readonly kind: "embeddings"; readonly embeddings: readonly Float32Array[] };

/** V8's heap of a worker: the vocabulary and one call. Weights and shards lie outside of it. */
const WORKER_HEAP_MB_MAX = 128;

/** Resolves when all workers have read their weights; rejects when one cannot. */
export async function openEncoderPool(options: EncoderPoolOptions = {}): Promise<EncoderPool> {
  const pool = new Pool(options);
  try {
    await pool.start();
  } catch (error) {
    await pool.close();
    throw error;
  }
  return pool;
}

interface Call {
  readonly texts: readonly string[];
  readonly timer: NodeJS.Timeout;
  readonly resolve: (encoded: Encoded) => void;
}

/** A place for a worker, which outlives the workers that take it. */
interface Desk {
  worker: Worker | undefined;
  /** The worker has read its weights and waits for calls, or is on one. */
  isReady: boolean;
  call: Call | undefined;
  /** Of the call that runs, or until the worker is replaced. */
  timer: NodeJS.Timeout | undefined;
}

class Pool implements EncoderPool {
  readonly #queueMax: number;
  readonly #textsMax: number;
  readonly #stuckMs: number;
  readonly #restartMs: number;
  readonly #script: URL;
  readonly #desks: readonly Desk[];
  readonly #queue: Call[] = [];
  #isClosed = false;

  constructor({
    workers = 1,
    queueMax = 64,
    textsMax = 32,
    stuckMs = 10_000,
    restartMs = 1_000,
    script = new URL("./encoder-worker.ts", import.meta.url),
  }: EncoderPoolOptions) {
    this.#queueMax = queueMax;
    this.#textsMax = textsMax;
    this.#stuckMs = stuckMs;
    this.#restartMs = restartMs;
    this.#script = script;
    this.#desks = Array.from({ length: workers }, () => ({
      worker: undefined,
      isReady: false,
      call: undefined,
      timer: undefined,
    }));
  }

  async start(): Promise<void> {
    await Promise.all(this.#desks.map((desk) => this.#hire(desk)));
  }

  get waiting(): number {
    return this.#queue.length;
  }

  encode(texts: readonly string[], { deadlineMs }: { readonly deadlineMs: number }): Promise<Encoded> {
    if (texts.length > this.#textsMax) throw new RangeError(`${texts.length} texts, not ${this.#textsMax}`);
    if (this.#isClosed) return Promise.resolve({ kind: "failed", cause: "the encoder is closed" });
    const desk = this.#desks.find(isFree);
    if (desk === undefined && this.#queue.length >= this.#queueMax) return Promise.resolve({ kind: "full" });
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        const place = this.#queue.indexOf(call);
        if (place !== -1) this.#queue.splice(place, 1);
        resolve({ kind: "late" });
      }, deadlineMs);
      const call: Call = { texts, timer, resolve };
      if (desk === undefined) this.#queue.push(call);
      else this.#hand(desk, call);
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const ended = this.#desks.map(({ worker }) => worker?.terminate());
    for (const desk of this.#desks) this.#leave(desk, "the encoder is closed");
    for (const call of this.#queue.splice(0))
      settle(call, { kind: "failed", cause: "the encoder is closed" });
    await Promise.all(ended);
  }

  /** Resolves when the new worker is ready, rejects when it ends before. */
  #hire(desk: Desk): Promise<void> {
    const worker = new Worker(this.#script, {
      name: "sentence-encoder",
      resourceLimits: { maxOldGenerationSizeMb: WORKER_HEAP_MB_MAX },
    });
    desk.worker = worker;
    return new Promise((resolve, reject) => {
      let cause = "the encoder's worker ended";
      worker.on("message", (message: FromWorker) => {
        if (desk.worker !== worker) return;
        if (message.kind === "ready") {
          desk.isReady = true;
          // A pool at rest does not keep the process alive; the deadline of each call does.
          worker.unref();
          resolve();
        } else {
          clearTimeout(desk.timer);
          const { call } = desk;
          desk.call = undefined;
          if (call !== undefined) settle(call, message);
        }
        this.#handNext(desk);
      });
      worker.on("error", (error) => {
        cause = error instanceof Error ? error.message : String(error);
      });
      worker.on("exit", () => {
        reject(new Error(cause));
        if (desk.worker === worker) this.#replace(desk, cause);
      });
    });
  }

  #hand(desk: Desk, call: Call): void {
    desk.call = call;
    desk.timer = setTimeout(() => {
      const stuck = desk.worker;
      this.#replace(desk, "the encoder's worker was stuck");
      void stuck?.terminate();
    }, this.#stuckMs);
    desk.timer.unref();
    desk.worker?.postMessage({ texts: call.texts } satisfies ToWorker);
  }

  #handNext(desk: Desk): void {
    const next = this.#queue.shift();
    if (next !== undefined) this.#hand(desk, next);
  }

  /** Ends what the desk's worker was on. */
  #leave(desk: Desk, cause: string): void {
    const { call } = desk;
    clearTimeout(desk.timer);
    desk.worker = undefined;
    desk.isReady = false;
    desk.call = undefined;
    if (call !== undefined) settle(call, { kind: "failed", cause });
  }

  #replace(desk: Desk, cause: string): void {
    this.#leave(desk, cause);
    if (this.#isClosed) return;
    desk.timer = setTimeout(() => {
      // One that cannot start ends, which brings the next try.
      this.#hire(desk).catch(() => {});
    }, this.#restartMs);
    desk.timer.unref();
  }
}

const isFree = (desk: Desk): boolean => desk.isReady && desk.call === undefined;

/** A call that is late already stays late: the first answer counts. */
function settle({ timer, resolve }: Call, encoded: Encoded): void {
  clearTimeout(timer);
  resolve(encoded);
}
