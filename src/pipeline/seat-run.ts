/**
 * One seat's part in one request: whether it ran, what it would do, what was applied of it, how long it
 * took. A seat that failed, timed out or was skipped keeps that word; it never turns into "allowed".
 */

import type { Act, Finding, Verdict, Watch } from "../layer/index.ts";
import { ALLOW, compareActs, findingsOf } from "../layer/index.ts";
import type { SeatRecord, SeatState } from "../ledger/decision.ts";
import type { Seat } from "../policy/snapshot.ts";
import type { SeatOff } from "../policy/switched-off.ts";
import type { Backlog } from "./backlog.ts";
import { PortionReader } from "./portions.ts";

/** Findings kept for the record, strongest first; a hostile text can match thousands of times. */
const FINDINGS_MAX = 16;

export class SeatRun {
  readonly seat: Seat;
  state: SeatState = "not_reached";
  watch: Watch | undefined;
  /** Whether this account is inside the seat's rollout; decided when the seat first speaks up. */
  applies: boolean | undefined;
  would: Act = "allow";
  applied: Act = "allow";
  /** First use and total time inside the seat, in ms of performance.now(). */
  startedMs = 0;
  spentMs = 0;
  /** What a failed seat threw; for the log. */
  error: unknown = undefined;
  findings: Finding[] = [];
  /** Where the seat judges an answer by whole sentences. */
  readonly portions: PortionReader | undefined;
  /** While a shadow seat thinks about a part of an answer. */
  backlog: Backlog | undefined;
  /** What kill switches left of it; undefined: all. */
  readonly off: SeatOff | undefined;

  constructor(seat: Seat, off?: SeatOff) {
    this.seat = seat;
    this.off = off;
    if (off?.isWhole === true) this.state = "switched_off";
    this.portions = seat.portions === undefined ? undefined : new PortionReader(seat.portions);
  }

  /** Notes what the seat said and answers what of it counts. */
  note(verdict: Verdict, applies: boolean): Verdict {
    if (verdict === ALLOW || verdict.act === "allow") return ALLOW;
    if (compareActs(verdict.act, this.would) > 0) this.would = verdict.act;
    this.#keep(findingsOf(verdict));
    if (!applies) return ALLOW;
    if (compareActs(verdict.act, this.applied) > 0) this.applied = verdict.act;
    return verdict;
  }

  /** The seat broke: its `onError` speaks for it from here on, under a reason that says so. */
  fail(state: "failed" | "timed_out", error?: unknown): Verdict {
    this.state = state;
    this.error = error;
    const reason = state === "failed" ? "layer.error" : "layer.timeout";
    const findings: readonly Finding[] = [{ reason, score: 1 }];
    return this.seat.onError === "block" ? { act: "block", findings } : { act: "flag", findings };
  }

  #keep(findings: readonly Finding[]): void {
    for (const finding of findings) {
      if (this.findings.length < FINDINGS_MAX) {
        this.findings.push(finding);
        continue;
      }
      let weakest = 0;
      for (let i = 1; i < FINDINGS_MAX; i++) {
        if (this.findings[i]!.score < this.findings[weakest]!.score) weakest = i;
      }
      if (this.findings[weakest]!.score < finding.score) this.findings[weakest] = finding;
    }
  }

  record(pathOf: (channel: string) => string): SeatRecord {
    const findings =
      this.findings.length === 0
        ? this.findings
        : this.findings
            .sort((a, b) => b.score - a.score)
            .map(({ where, ...said }) =>
              where === undefined ? said : { ...said, path: pathOf(where.channel) },
            );
    return {
      seat: this.seat.id,
      mode: this.seat.mode,
      state: this.state,
      would: this.would,
      applied: this.applied,
      findings,
      micros: Math.round(this.spentMs * 1000),
      ...(this.off !== undefined && { off: this.off.by }),
    };
  }
}
