/** What one exchange needs of the process around it; main.ts puts it together. */
import type { Dialect } from "../dialect/dialect.ts";
import type { DialectName } from "../layer/index.ts";
import type { ContentLog } from "../ledger/content.ts";
import type { Decision } from "../ledger/decision.ts";
import type { HeldBudget } from "../pipeline/held-budget.ts";
import type { VerdictCache } from "../pipeline/verdict-cache.ts";
import type { Snapshot } from "../policy/snapshot.ts";
import type { SwitchedOff } from "../policy/switched-off.ts";
import type { UpstreamSet } from "./upstream-set.ts";

export interface ExchangeLimits {
  readonly bodyBytesMax: number;
  readonly bodyDepthMax: number;
  readonly answerBytesMax: number;
  readonly eventBytesMax: number;
  /** Text that one stream may hold back, UTF-16 units. */
  readonly holdBytesMax: number;
}

export interface ExchangeTimeouts {
  readonly bodyMs: number;
  /** Without progress while the last bytes are written to the client. */
  readonly idleMs: number;
  /** From the request's head to the answer's end. */
  readonly totalMs: number;
}

/** What telemetry learns beside the decision. */
export interface ExchangeFigures {
  readonly seatTimings: readonly {
    readonly seat: string;
    readonly startedMs: number;
    readonly spentMs: number;
  }[];
  /** performance.now() when the request came. */
  readonly startedMs: number;
  /** Set for a streamed answer. */
  readonly stream?: { readonly events: number; readonly heldUnitsPeak: number; readonly lateSpans: number };
  /** Private detail of a problem, for the log. */
  readonly detail?: string;
}

export interface Trace {
  /** W3C `traceparent` for the upstream. */
  readonly traceparent: string;
  readonly traceId: string;
}

export interface Observer {
  /** Undefined when this request is not traced. */
  began(headers: Readonly<Record<string, string>>): Trace | undefined;
  ended(decision: Decision, figures: ExchangeFigures, trace: Trace | undefined): void;
}

export interface Services {
  readonly limits: ExchangeLimits;
  readonly timeouts: ExchangeTimeouts;
  readonly dialects: Readonly<Record<DialectName, Dialect>>;
  readonly upstreams: Readonly<Partial<Record<DialectName, UpstreamSet>>>;
  readonly cache: VerdictCache;
  /** What all streams together may keep in memory. */
  readonly held: HeldBudget;
  readonly observer: Observer;
  /** The snapshot that is served now, for a look that outlives nothing. */
  current(): Snapshot;
  /** The snapshot for a new request, and its release when the request is over. */
  pin(): Snapshot;
  unpin(snapshot: Snapshot): void;
  /** What kill switches say now; undefined while they say nothing of this snapshot. */
  switchedOff(snapshot: Snapshot): SwitchedOff | undefined;
  /** Writes the decision, then calls `written`: the answer's last bytes go only then. */
  record(decision: Decision, written: () => void): void;
  /** Where what is asked and answered is kept; undefined where nobody asked for that. */
  readonly content?: ContentLog | undefined;
  /** False while the spool takes nothing and the operator wants requests refused then. */
  recording(): boolean;
}
