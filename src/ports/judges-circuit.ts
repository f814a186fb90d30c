/**
 * A circuit breaker: a judge that fails again and again is left alone for a while, so that requests do not each
 * wait for its deadline and it can come back.
 *
 *   closed --failuresMax in a row--> open --openMs--> half open --successesMin in a row--> closed
 *                                      ^                  | one question at a time
 *                                      +---- a failure ---+
 */
import type { BreakerConfig } from "../layer/index.ts";

type State =
  | { readonly kind: "closed"; failures: number }
  | { readonly kind: "open"; readonly untilMs: number }
  | { readonly kind: "half_open"; successes: number; isAsking: boolean };

/** Leave to ask once; it must be given back by `good`, `bad` or `unused`. */
export interface Leave {
  /** The half-open state that it tries; undefined where the circuit was closed. */
  readonly trial: State | undefined;
}

const CLOSED_LEAVE: Leave = { trial: undefined };

export class Circuit {
  readonly #nowMs: () => number;
  readonly #onChange: (isOpen: boolean) => void;
  #state: State = { kind: "closed", failures: 0 };

  constructor(options: { readonly nowMs: () => number; readonly onChange: (isOpen: boolean) => void }) {
    this.#nowMs = options.nowMs;
    this.#onChange = options.onChange;
  }

  get kind(): State["kind"] {
    return this.#state.kind;
  }

  /** Whether `enter` would refuse now. */
  get refuses(): boolean {
    const state = this.#state;
    if (state.kind === "open") return this.#nowMs() < state.untilMs;
    return state.kind === "half_open" && state.isAsking;
  }

  enter(): Leave | undefined {
    if (this.refuses) return undefined;
    if (this.#state.kind === "closed") return CLOSED_LEAVE;
    if (this.#state.kind === "open") this.#state = { kind: "half_open", successes: 0, isAsking: false };
    this.#state.isAsking = true;
    return { trial: this.#state };
  }

  good({ trial }: Leave, { successesMin }: BreakerConfig): void {
    const state = this.#state;
    if (state.kind === "closed") state.failures = 0;
    if (state.kind !== "half_open" || trial !== state) return;
    state.isAsking = false;
    state.successes += 1;
    if (state.successes < successesMin) return;
    this.#state = { kind: "closed", failures: 0 };
    this.#onChange(false);
  }

  bad({ trial }: Leave, { failuresMax, openMs }: BreakerConfig): void {
    const state = this.#state;
    if (state.kind === "closed") {
      state.failures += 1;
      if (state.failures < failuresMax) return;
      this.#state = { kind: "open", untilMs: this.#nowMs() + openMs };
      this.#onChange(true);
    } else if (state.kind === "half_open" && trial === state) {
      this.#state = { kind: "open", untilMs: this.#nowMs() + openMs };
    }
  }

  /** Nothing was learnt: the caller left, or it was never asked. */
  unused({ trial }: Leave): void {
    if (this.#state.kind === "half_open" && trial === this.#state) this.#state.isAsking = false;
  }
}
