/**
 * Looks at the guard once a second and does what it says: returns to the last good revision as one more change of the
 * policy, by "guard" and with the reason, so that history, override and every reader learn of it as of any other.
 * A person who was faster wins: what is returned from must still be what is served. What fails is tried again with the
 * next second, until it works or another policy is served.
 *
 * Several gateways judge each by its own figures, and each can withdraw alone: a replica that sees a tenant refused
 * need not wait for one that leads, and none can be made to by a Redis that is away. Where they share a folder the
 * first to write is followed by all; the others then find the good revision served and have nothing to do.
 */
import type { PolicyStore } from "../store.ts";
import type { Guard, Withdrawal } from "./guard.ts";

const SECOND_MS = 1_000;
const KEPT_MAX = 20;

export interface FiledWithdrawal extends Withdrawal {
  /** RFC 3339. */
  readonly at: string;
  /** `watched`: the guard only watches. `overtaken`: another policy was served before it could be withdrawn. */
  readonly outcome: "withdrawn" | "watched" | "overtaken";
}

interface WatchmanOptions {
  readonly guard: Guard;
  readonly policy: Pick<PolicyStore, "current" | "history" | "change">;
  readonly onFiled: (filed: FiledWithdrawal) => void;
  /** The withdrawal could not be done yet. */
  readonly onProblem: (problem: string, withdrawal: Withdrawal) => void;
}

export class Watchman {
  readonly #options: WatchmanOptions;
  readonly #timer: NodeJS.Timeout;
  #filed: readonly FiledWithdrawal[] = [];
  #pending: Withdrawal | undefined;
  #running: Promise<void> | undefined;

  constructor(options: WatchmanOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#second(), SECOND_MS).unref();
  }

  /** Newest first, since the start. */
  get filed(): readonly FiledWithdrawal[] {
    return this.#filed;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  #second(): void {
    const { guard } = this.#options;
    const found = guard.second();
    if (found !== undefined && guard.status.mode === "watch") return this.#file(found, "watched");
    this.#pending = found ?? this.#pending;
    if (this.#pending === undefined || this.#running !== undefined) return;
    const withdrawal = this.#pending;
    this.#running = this.#withdraw(withdrawal)
      .then((outcome) => {
        this.#pending = undefined;
        this.#file(withdrawal, outcome);
      })
      .catch((error: unknown) => {
        this.#options.onProblem(error instanceof Error ? error.message : String(error), withdrawal);
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  async #withdraw(withdrawal: Withdrawal): Promise<"withdrawn" | "overtaken"> {
    const { policy } = this.#options;
    if (policy.current().revision !== withdrawal.revision) return "overtaken";
    const entry = policy.history.find(withdrawal.good);
    if (entry === undefined) throw new Error(`the revision ${withdrawal.good} is no longer kept`);
    const { policy: bytes, artifacts } = await policy.history.bundle(entry);
    const text = new TextDecoder().decode(bytes);
    const result = await policy.change({
      make: () => ({ text, artifacts }),
      expects: (tag) => tag === `"${withdrawal.revision}"`,
      origin: { by: "guard", reason: reasonOf(withdrawal), source: "guard" },
    });
    if (result.result === "refused")
      throw new Error(`the revision ${withdrawal.good} can no longer be compiled`);
    return result.result === "changed" ? "overtaken" : "withdrawn";
  }

  #file(withdrawal: Withdrawal, outcome: FiledWithdrawal["outcome"]): void {
    const filed = { at: new Date().toISOString(), outcome, ...withdrawal };
    this.#filed = [filed, ...this.#filed].slice(0, KEPT_MAX);
    this.#options.onFiled(filed);
  }
}

/** Which figure of which segment, what was seen, what was in order, and how sure that is. */
export function reasonOf(found: Withdrawal): string {
  const { figure, segment, observed, band, usual, hits, requests, evidence, needed, revision, touched } =
    found;
  return (
    `withdrew ${revision}: ${figure} of ${segment} ${percent(observed)} (${hits} of ${requests} requests), ` +
    `in order up to ${percent(band)}, usually ${percent(usual)}; evidence ${evidence.toFixed(1)} of ` +
    `${needed.toFixed(1)} needed; it touched ${touched.join(", ")}`
  );
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)}%`;
}
