/**
 * What happens once for every request beside its record: figures are counted, the trace is closed, and an
 * end that an operator must know of gets a line in the log. The layers and the pipeline do none of this.
 */
import { constants } from "node:os";
import { PROBLEMS } from "../layer/index.ts";
import type { Decision, SeatRecord } from "../ledger/decision.ts";
import { type Logger, stackFrames } from "./logger.ts";
import type { Metrics, StreamFigures } from "./metrics.ts";
import type { RequestTrace, SeatTiming, Tracing } from "./tracing.ts";

export interface ObserverParts {
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly log: Logger;
  /** Told of every decision beside the metrics: counts, and nothing that waits. */
  readonly onDecision?: (decision: Decision) => void;
}

/** What telemetry learns beside the decision. */
export interface RequestFigures {
  readonly seatTimings: readonly SeatTiming[];
  readonly stream?: StreamFigures;
  /** Private words about a problem. They may quote a caller or a model, so only codes and places are logged. */
  readonly detail?: string;
}

export interface RequestObserver {
  /** Undefined when this request is not traced. */
  began(headers: Readonly<Record<string, string>>): RequestTrace | undefined;
  ended(decision: Decision, figures: RequestFigures, trace: { readonly traceId: string } | undefined): void;
}

export function openObserver({ metrics, tracing, log, onDecision }: ObserverParts): RequestObserver {
  return {
    began: (headers) => tracing.start(headers),
    ended(decision, figures, trace) {
      metrics.decision(decision, figures.stream);
      onDecision?.(decision);
      // The exchange hands back the trace that `began` gave it, under a narrower type.
      if (trace !== undefined) (trace as RequestTrace).finish(decision, figures.seatTimings);
      const level = levelOf(decision);
      if (level !== undefined) log[level](fieldsOf(decision, figures.detail), "a request did not end well");
    },
  };
}

/** Undefined for what callers bring about themselves: their refusals are in the decisions and the metrics. */
function levelOf({ cause, seats }: Decision): "error" | "warn" | undefined {
  // A flood is counted; a line for each request of it would be a second one.
  if (cause === "overloaded") return undefined;
  if (seats.some(isCanaryUse)) return "warn";
  const source = cause === "complete" ? undefined : PROBLEMS[cause].source;
  if (cause === "internal" || source === "store") return "error";
  if (source === "upstream" || source === "gateway") return "warn";
  return seats.some(({ state }) => state === "failed" || state === "timed_out") ? "warn" : undefined;
}

function isCanaryUse({ findings }: SeatRecord): boolean {
  return findings.some(({ reason }) => reason === "auth.canary");
}

function fieldsOf(decision: Decision, detail: string | undefined) {
  const { id, traceId, revision, route, dialect, cause, status, keyId, totalMs } = decision;
  const failed = decision.seats.filter(({ state }) => state === "failed" || state === "timed_out");
  const code = detail === undefined ? undefined : systemCodeIn(detail);
  const stack = detail === undefined ? [] : stackFrames(detail);
  return {
    ...{ id, revision, route, dialect, cause, status, keyId, totalMs },
    ...(traceId !== undefined && { traceId }),
    ...(failed.length > 0 && { seats: failed.map(({ seat, state, mode }) => ({ seat, state, mode })) }),
    ...(decision.seats.some(isCanaryUse) && { signal: "canary_key", address: decision.address }),
    ...(code !== undefined && { code }),
    ...(stack.length > 0 && { stack }),
  };
}

/** The first word that is an error code of the system or of undici. */
function systemCodeIn(detail: string): string | undefined {
  const words = detail.slice(0, 2000).match(/\b(?:E[A-Z0-9]{3,20}|UND_ERR_[A-Z_]{2,40})\b/g) ?? [];
  return words.find((word) => word.startsWith("UND_ERR_") || word in constants.errno || word === "ENOTFOUND");
}
