/**
 * Rehearses a policy: recorded requests go through the live and the candidate policy, each in a thread of its own, and
 * what comes out is compared request by request. Nothing of it touches a gateway; memory and time are bounded.
 *
 *   spool, content --> thread: live policy -------- batches --+
 *                 '--> thread: candidate policy --- batches --+--> Comparison --> report
 */
import { Worker } from "node:worker_threads";
import { formatProblems } from "../policy/problems.ts";
import type { Against, FromPass, Outcome, PassOptions } from "./outcome.ts";
import { Comparison, type RehearsalReport } from "./report.ts";

/** Of each thread; the encoder's own memory comes on top. */
const HEAP_MB_MAX = 1_024;

export interface RehearsalOptions extends Omit<PassOptions, "policy"> {
  readonly live: PassOptions["policy"];
  readonly candidate: PassOptions["policy"];
  readonly signal?: AbortSignal;
}

/** Rejects with an Error in words for a person: the policy's problems, or what went wrong. */
export async function rehearse(options: RehearsalOptions): Promise<RehearsalReport> {
  const { live, candidate, signal, ...shared } = options;
  const comparison = new Comparison();
  const passes = [
    new PolicyPass({ ...shared, policy: live }, "the live policy"),
    new PolicyPass({ ...shared, policy: candidate }, "the candidate"),
  ] as const;
  const stop = () => {
    for (const pass of passes) pass.fail(new Error("the rehearsal was stopped"));
  };
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  try {
    const [of, by] = await Promise.all([passes[0].ready(), passes[1].ready()]);
    for (const pass of passes) pass.begin(of);
    for (;;) {
      const [before, after] = await Promise.all([passes[0].batch(), passes[1].batch()]);
      if (before === undefined || after === undefined || before.length !== after.length) {
        if (before !== after)
          throw new Error("the passes read different records: was the spool trimmed meanwhile?");
        return comparison.report({ live: of.revision, candidate: by.revision }, passes[0].skipped);
      }
      for (const [i, outcome] of before.entries()) comparison.add(outcome, after[i]!);
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    await Promise.all(passes.map((pass) => pass.close()));
  }
}

/** One thread's messages, as promises; at most as many batches wait as the thread may be ahead. */
class PolicyPass {
  readonly #worker: Worker;
  readonly #name: string;
  readonly #messages: FromPass[] = [];
  #failure: Error | undefined;
  #wake: (() => void) | undefined;
  skipped = 0;

  constructor(workerData: PassOptions, name: string) {
    this.#name = name;
    this.#worker = new Worker(new URL("./worker.ts", import.meta.url), {
      workerData,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX },
    });
    this.#worker.on("message", (message: FromPass) => {
      this.#messages.push(message);
      this.#wake?.();
    });
    this.#worker.on("error", (error) => this.fail(error instanceof Error ? error : new Error(String(error))));
    this.#worker.on("exit", () => this.fail(new Error(`${name} ended before its end`)));
  }

  async ready(): Promise<Against> {
    const message = await this.#next();
    if (message.kind === "ready") return message.against;
    if (message.kind === "problems")
      throw new Error(`${this.#name} cannot be served\n${formatProblems(message.problems)}`);
    throw new Error(`${this.#name} began with ${message.kind}`);
  }

  begin(against: Against): void {
    this.#worker.postMessage(against);
  }

  /** Undefined at the end. */
  async batch(): Promise<readonly Outcome[] | undefined> {
    const message = await this.#next();
    if (message.kind === "batch") {
      this.#worker.postMessage("next");
      return message.outcomes;
    }
    if (message.kind === "done") this.skipped = message.skipped;
    return undefined;
  }

  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  async #next(): Promise<FromPass> {
    while (this.#messages.length === 0 && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages.shift();
    if (message === undefined) throw this.#failure!;
    return message;
  }
}
