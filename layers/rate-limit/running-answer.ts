/**
 * The output of one answer while it streams: what was written is debited from what was reserved, and more is
 * reserved ahead of need, so that text does not wait for it.
 *
 *   0 ------------ a quarter step before: ask for a step more ---- reserved ---- over-use: waits, is cut, or
 *                                                                                is booked at the end
 */
import { ALLOW, type Await, type Held, type Lease } from "../../src/layer/index.ts";

/** Smaller steps are not worth asking for: the limit counts as reached. */
const STEP_MIN = 16;

const CUT: Held = Object.freeze({
  act: "block",
  findings: Object.freeze([Object.freeze({ reason: "rate.cut", score: 1 })]),
});

export interface RunningAnswerOptions {
  readonly lease: Lease;
  /** For each claim of the lease: what one output token comes to; 0 where output is not counted. */
  readonly perOutput: readonly number[];
  /** Output tokens that the claims reserve. */
  readonly reserved: number;
  /** The request's own maximum: the upstream ends the answer there. */
  readonly outputMax: number;
  readonly step: number;
  readonly cutAtLimit: boolean;
}

export class RunningAnswer {
  readonly #options: RunningAnswerOptions;
  #written = 0;
  #debited = 0;
  /** What must be left, or more is asked for. */
  readonly #ahead: number;
  #reserved: number;
  #step: number;
  #asking: Promise<void> | undefined;
  #isRefused = false;

  constructor(options: RunningAnswerOptions) {
    this.#options = options;
    this.#ahead = Math.min(options.step, options.reserved) / 4;
    this.#reserved = options.reserved;
    this.#step = options.step;
  }

  /** Takes note of tokens (a fraction is carried over) and says what becomes of the text that they stand for. */
  write(tokens: number): Await<Held> {
    this.#written += tokens;
    const whole = Math.floor(this.#written);
    const fresh = whole - this.#debited;
    if (fresh > 0) {
      this.#debited = whole;
      const { lease, perOutput } = this.#options;
      for (let i = 0; i < perOutput.length; i++) {
        if (perOutput[i]! > 0) lease.debit(i, fresh * perOutput[i]!);
      }
    }
    return this.#judge();
  }

  #judge(): Await<Held> {
    const { cutAtLimit, outputMax } = this.#options;
    while (
      this.#asking === undefined &&
      !this.#isRefused &&
      this.#reserved < outputMax &&
      this.#reserved - this.#debited <= this.#ahead
    ) {
      this.#ask();
    }
    if (this.#debited <= this.#reserved || !cutAtLimit) return ALLOW;
    // Only text that a refusal would cut waits for the answer.
    if (this.#asking !== undefined) return this.#asking.then(() => this.#judge());
    return this.#isRefused ? CUT : ALLOW;
  }

  #ask(): void {
    const { lease, perOutput, outputMax } = this.#options;
    const short = Math.max(0, this.#debited - this.#reserved);
    const more = Math.min(outputMax - this.#reserved, short + this.#step);
    const answer = lease.extend(perOutput.map((each) => more * each));
    if (!(answer instanceof Promise)) {
      this.#answered(answer, more);
      return;
    }
    const done = (isGranted: boolean) => {
      this.#asking = undefined;
      this.#answered(isGranted, more);
    };
    this.#asking = answer.then(done, () => done(false));
  }

  /** What is left may be less than a step: halves are asked for until the rest is too little. */
  #answered(isGranted: boolean, more: number): void {
    if (isGranted) {
      this.#reserved += more;
      return;
    }
    this.#step = Math.floor(this.#step / 2);
    if (this.#step < STEP_MIN) this.#isRefused = true;
  }
}
