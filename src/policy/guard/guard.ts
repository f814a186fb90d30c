/**
 * The guard: watches what becomes of requests after a change of policy, and says when the change must go. It judges
 * once a second, off the request path, and never reads the clock of the wall: a clock that jumps changes nothing.
 *
 *   adopt(new revision) --> trial --- a band is left ---> finding: return to the last good revision
 *                             |
 *                             +--- probation is over ---> good; what it did is what is usual from now on
 *
 * While a change is on trial nothing is learned, so that a slow poison does not become the habit.
 */
import type { Tier } from "../../layer/index.ts";
import type { Snapshot } from "../snapshot.ts";
import { Book, type Decided, LATENCY_STEPS, type Segment } from "./book.ts";
import { Habit } from "./habit.ts";
import { SeatBits } from "./masks.ts";
import { GUARD_DEFAULTS, type GuardSettings } from "./settings.ts";
import { touchedBetween } from "./touched.ts";
import { type Finding, Trial } from "./trial.ts";

/** Latency fades like the rest of what is usual. */
const LATENCY_FADE = 0.5 ** (1 / 7_200);
const ADMIT_EVERY_SEC = 60;
const DAY_SEC = 86_400;

export interface Withdrawal extends Finding {
  readonly revision: string;
  /** What to return to. */
  readonly good: string;
  /** Seats that the change touched; "*" is every seat. */
  readonly touched: readonly string[];
}

export interface GuardStatus {
  readonly mode: GuardSettings["mode"];
  /** The last revision that stood its trial. */
  readonly good: string;
  /** Absent: nothing is on trial. */
  readonly trial?: {
    readonly revision: string;
    readonly touched: readonly string[];
    readonly seconds: number;
    readonly requests: number;
    readonly isAtFloor: boolean;
  };
  readonly segments: number;
}

interface OnTrial {
  readonly revision: string;
  readonly touched: readonly string[];
  readonly snapshot: Snapshot;
  readonly trial: Trial;
}

export class Guard {
  readonly #bits = new SeatBits();
  readonly #book = new Book(this.#bits);
  readonly #habits = new WeakMap<Segment, Habit>();
  #latency = new Float64Array(LATENCY_STEPS);
  #good: Snapshot | undefined;
  #settings: GuardSettings = GUARD_DEFAULTS;
  #onTrial: OnTrial | undefined;
  #seconds = 0;
  #trialsToday = 0;

  /** On the request path: counts, and nothing more. */
  note(decision: Decided): void {
    if (this.#settings.mode !== "off") this.#book.note(decision);
  }

  appealed(by: { readonly org: string; readonly tier: Tier }): void {
    this.#book.appealed(by);
  }

  /** A revision is served from now on. The first one, and a return to the last good one, are not judged. */
  adopt(snapshot: Snapshot): void {
    this.#settings = snapshot.guard ?? GUARD_DEFAULTS;
    const good = this.#good;
    if (good === undefined || good.revision === snapshot.revision || this.#settings.mode === "off") {
      this.#onTrial = undefined;
      this.#good = snapshot;
      this.#book.follow(snapshot.revision, []);
      this.#turnPage();
      return;
    }
    if (this.#onTrial?.revision === snapshot.revision) return;
    // Against the last good one, so that a bad change is not hidden by a harmless one after it.
    const touched = touchedBetween(good, snapshot, this.#bits);
    this.#turnPage();
    this.#book.follow(snapshot.revision, touched.partial);
    this.#trialsToday += 1;
    const trial = new Trial({
      revision: snapshot.revision,
      touched,
      settings: this.#settings,
      // Sums to the day's budget however many changes there are (Euler: the sum of 1/n^2 is pi^2/6).
      alpha: (this.#settings.falseAlarmsPerDay * 6) / Math.PI ** 2 / this.#trialsToday ** 2,
      book: this.#book,
      habitOf: (segment) => this.#habitOf(segment),
      latency: this.#latency,
    });
    this.#onTrial = { revision: snapshot.revision, touched: touched.names, snapshot, trial };
  }

  /** Called once a second. A withdrawal is told once; the change is then no longer on trial. */
  second(): Withdrawal | undefined {
    this.#seconds += 1;
    if (this.#seconds % DAY_SEC === 0) this.#trialsToday = 0;
    const onTrial = this.#onTrial;
    if (onTrial === undefined) {
      this.#learn();
      return undefined;
    }
    const pages = new Map(this.#book.segments.map((segment) => [segment, segment.take()]));
    const latency = this.#takeLatency();
    const finding = onTrial.trial.second(pages, this.#book.every.take(), latency);
    if (finding !== undefined) return this.#withdraw(onTrial, finding);
    if (onTrial.trial.seconds >= this.#settings.probationSec) this.accept(onTrial.revision);
    return undefined;
  }

  /** The change stood its trial; what it did is usual from now on. False where it is not on trial. */
  accept(revision: string): boolean {
    const onTrial = this.#onTrial;
    if (onTrial?.revision !== revision) return false;
    const { trial, snapshot } = onTrial;
    for (const [segment, figures] of trial.counted()) this.#habitOf(segment).absorb(figures, trial.seconds);
    for (const [step, count] of trial.latencySeen.entries()) this.#latency[step]! += count;
    this.#good = snapshot;
    this.#onTrial = undefined;
    this.#book.follow(revision, []);
    return true;
  }

  get status(): GuardStatus {
    const onTrial = this.#onTrial;
    return {
      mode: this.#settings.mode,
      good: this.#good?.revision ?? "",
      ...(onTrial !== undefined && {
        trial: {
          revision: onTrial.revision,
          touched: onTrial.touched,
          seconds: onTrial.trial.seconds,
          requests: onTrial.trial.requests,
          isAtFloor: onTrial.trial.isAtFloor,
        },
      }),
      segments: this.#book.segments.filter(({ isKnown }) => isKnown).length,
    };
  }

  #withdraw({ revision, touched }: OnTrial, finding: Finding): Withdrawal {
    const withdrawal = { revision, good: this.#good?.revision ?? "", touched, ...finding };
    if (this.#settings.mode === "watch") {
      // Told once; then it is what is usual.
      this.accept(revision);
      return withdrawal;
    }
    this.#onTrial = undefined;
    // Until the good one is served again nothing is counted: what the bad one does is nobody's habit.
    this.#book.follow("", []);
    return withdrawal;
  }

  #learn(): void {
    for (const segment of this.#book.segments) {
      const habit = this.#habitOf(segment);
      habit.learn(segment.take());
      segment.isKnown = habit.isKnown;
    }
    this.#book.every.take();
    const latency = this.#takeLatency();
    for (let i = 0; i < LATENCY_STEPS; i++) this.#latency[i] = this.#latency[i]! * LATENCY_FADE + latency[i]!;
    if (this.#seconds % ADMIT_EVERY_SEC === 0) {
      this.#book.admit((segment) => this.#habitOf(segment).pace * ADMIT_EVERY_SEC);
    }
  }

  /** What was counted under the policy before belongs to that. */
  #turnPage(): void {
    for (const segment of this.#book.segments) segment.take();
    this.#book.every.take();
    this.#takeLatency();
  }

  #takeLatency(): Float64Array {
    const { latency } = this.#book;
    this.#book.latency = new Float64Array(LATENCY_STEPS);
    return latency;
  }

  #habitOf(segment: Segment): Habit {
    let habit = this.#habits.get(segment);
    if (habit === undefined) {
      habit = new Habit();
      this.#habits.set(segment, habit);
    }
    return habit;
  }
}
