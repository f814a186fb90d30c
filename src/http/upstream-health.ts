/**
 * Whether one of several upstream targets is fit to be sent requests. One that fails again and again is ejected
 * for a while, longer each time, and comes back through a few probes: real requests, which are retried
 * elsewhere if they fail. Whether enough others are left to eject one is for the set to say.
 *
 *   in ──failures──> out ──time is up──> probing ──probes succeed──> in
 *                     ^                     │
 *                     └───── a probe fails ─┘
 *
 * A target that refuses for want of room (503, 529) while it answers others is busy, not broken: that is the
 * limit's affair, and to eject it would press on the rest. An answer of 500 counts for nothing: a caller who
 * found a request that makes a model fail could otherwise take its targets away one by one.
 */
import { WindowCount } from "./upstream-window.ts";

export interface EjectionSettings {
  /** Failures in a row. */
  readonly failuresInRow: number;
  /** Or this share of the window's requests, once there are enough of them. */
  readonly failureShare: number;
  readonly requestsMin: number;
  readonly windowMs: number;
  /** Times the number of ejections so far. */
  readonly ejectMs: number;
  readonly ejectMsMax: number;
}

/** `broken` not reached, reset, no head in time, 502, 504 · `busy` 503, 529. */
export type FailureKind = "broken" | "busy";

/** Probes that must succeed, and that may be under way at once. */
const PROBES = 3;
/** A busy target is broken when it has answered nobody for so long. */
const BUSY_MS = 2_000;
/** Ejections are forgotten after this time without one. */
const FORGET_MS = 300_000;

export class TargetHealth {
  failures = 0;
  ejections = 0;
  readonly #settings: EjectionSettings;
  #state: "in" | "out" | "probing" = "in";
  #outUntilMs = 0;
  #inSinceMs = 0;
  /** Ejections that lengthen the next one. */
  #times = 0;
  #inRow = 0;
  #answeredMs = Number.NEGATIVE_INFINITY;
  #probesLeft = 0;
  #probing = 0;
  readonly #answers: WindowCount;
  readonly #failed: WindowCount;

  constructor(settings: EjectionSettings) {
    this.#settings = settings;
    this.#answers = new WindowCount(settings.windowMs);
    this.#failed = new WindowCount(settings.windowMs);
  }

  get isEjected(): boolean {
    return this.#state === "out";
  }

  get isProbing(): boolean {
    return this.#state === "probing";
  }

  /** Whether a request may be sent there. */
  isOpen(nowMs: number): boolean {
    if (this.#state === "in") return true;
    if (this.#state === "out") {
      if (nowMs < this.#outUntilMs) return false;
      this.#state = "probing";
      this.#probesLeft = PROBES;
      this.#probing = 0;
    }
    return this.#probing < Math.min(PROBES, this.#probesLeft);
  }

  /** A request is sent; true when it is a probe, whose end must be told. */
  sent(): boolean {
    if (this.#state !== "probing") return false;
    this.#probing += 1;
    return true;
  }

  /** A probe is over without having proved anything, or after it was told how it went. */
  probeOver(): void {
    if (this.#probing > 0) this.#probing -= 1;
  }

  /** A head came that is none of a failure. */
  answered(nowMs: number, isProbe: boolean): void {
    this.#inRow = 0;
    this.#answeredMs = nowMs;
    this.#answers.add(nowMs);
    if (!isProbe || this.#state !== "probing") return;
    this.#probesLeft -= 1;
    if (this.#probesLeft > 0) return;
    this.#state = "in";
    this.#inSinceMs = nowMs;
  }

  /** True: the target is to be ejected, if it may be. */
  failed(kind: FailureKind, nowMs: number, isProbe: boolean): boolean {
    this.failures += 1;
    if (this.#state === "probing") return isProbe;
    if (this.#state === "out") return false;
    this.#inRow += 1;
    const isAnswering = kind === "busy" && nowMs - this.#answeredMs < BUSY_MS;
    if (!isAnswering) this.#failed.add(nowMs);
    const { failuresInRow, failureShare, requestsMin } = this.#settings;
    if (this.#inRow >= failuresInRow && !isAnswering) return true;
    const failures = this.#failed.total(nowMs);
    const requests = failures + this.#answers.total(nowMs);
    return requests >= requestsMin && failures >= requests * failureShare;
  }

  eject(nowMs: number): void {
    const { ejectMs, ejectMsMax } = this.#settings;
    if (this.#state === "in" && nowMs - this.#inSinceMs > FORGET_MS) this.#times = 0;
    this.#times += 1;
    this.ejections += 1;
    this.#state = "out";
    this.#outUntilMs = nowMs + Math.min(ejectMs * this.#times, ejectMsMax);
    this.#inRow = 0;
    this.#probing = 0;
    this.#answers.clear();
    this.#failed.clear();
  }
}
