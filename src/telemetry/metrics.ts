/**
 * The metrics of one process. A request costs one call, `decision`, made from the record that goes to the
 * spool, so that figures and records cannot tell different stories; the rest is asked at each scrape.
 */
import { collectDefaultMetrics, Registry } from "prom-client";
import type { Operation, ProblemCode } from "../layer/index.ts";
import type { Decision, SeatRecord } from "../ledger/decision.ts";
import { METRICS, type MetricId, type MetricIdWhere, type MetricRow, MODELS_MAX } from "./metrics-table.ts";
import { Family, type Figures, Names, OTHER } from "./series.ts";

/** What a streamed answer adds to its decision. */
export interface StreamFigures {
  readonly events: number;
  /** UTF-16 units. */
  readonly heldUnitsPeak: number;
  readonly lateSpans: number;
}

export interface Metrics {
  decision(decision: Decision, stream?: StreamFigures): void;
  /** A connection or request that was turned away before it had a decision. */
  rejected(code: ProblemCode): void;
  policyReload(reload: { readonly result: string; readonly revision: string }): void;
  policyWithdrawn(withdrawal: { readonly figure: string; readonly outcome: string }): void;
  /** Who to ask for a figure when metrics are scraped. */
  read(id: MetricIdWhere<{ readonly isRead: true }>, read: () => Figures): void;
  /** Prometheus text. */
  expose(): Promise<string>;
  readonly contentType: string;
  readonly registry: Registry;
}

const STATUSES = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"] as const;

/** OpenTelemetry's names for what is asked of a model; the other operations ask none. */
const GEN_AI_OPERATIONS: Readonly<Partial<Record<Operation, string>>> = {
  chat: "chat",
  responses: "chat",
  messages: "chat",
  completions: "text_completion",
  embeddings: "embeddings",
};

export function genAiOperation(operation: Operation): string | undefined {
  return GEN_AI_OPERATIONS[operation];
}

export function openMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const readers = new Map<MetricId, () => Figures>();
  const families = {} as Record<MetricId, Family>;
  for (const [id, row] of Object.entries<MetricRow>(METRICS) as [MetricId, MetricRow][]) {
    families[id] = new Family(row);
    registry.registerMetric(families[id].exported(() => readers.get(id)?.()));
  }
  const models = new Names(MODELS_MAX);

  return {
    registry,
    contentType: registry.contentType,
    decision(decision, stream) {
      const { dialect, status, cause } = decision;
      const route = decision.route === "" ? "none" : decision.route;
      const statusClass = STATUSES[Math.trunc(status / 100)] ?? "none";
      families.requests.at(route, dialect, decision.act, cause, statusClass).add(1);
      families.requestSeconds.at(route).observe(decision.totalMs / 1000);
      families.tiers.at(decision.tier, decision.act).add(1);
      families.requestBytes.at("in").add(decision.bytesIn);
      families.requestBytes.at("out").add(decision.bytesOut);
      for (const seat of decision.seats) countSeat(families, seat);
      if (stream !== undefined) {
        families.streamEvents.at(dialect).add(stream.events);
        families.streamLateSpans.at(dialect).add(stream.lateSpans);
        families.holdBytes.at(dialect).observe(stream.heldUnitsPeak * 2);
        if (decision.firstByteMs !== null) {
          families.streamFirstByte.at(dialect).observe(decision.firstByteMs / 1000);
        }
      }
      if (!decision.upstreamCalled) return;
      const outcome = cause.startsWith("upstream_") ? cause : "answered";
      families.upstreamRequests.at(dialect, outcome).add(1);
      if (decision.upstreamMs !== null)
        families.upstreamSeconds.at(dialect).observe(decision.upstreamMs / 1000);
      countModelCall(families, models, decision, stream !== undefined);
    },
    rejected(code) {
      families.rejected.at(code).add(1);
    },
    policyReload({ result, revision }) {
      families.policyReloads.at(result).add(1);
      families.policyRevision.clear();
      families.policyRevision.at(revision).set(1);
    },
    policyWithdrawn({ figure, outcome }) {
      families.policyWithdrawals.at(figure, outcome).add(1);
    },
    read(id, read) {
      readers.set(id, read);
    },
    expose: () => registry.metrics(),
  };
}

function countSeat(families: Readonly<Record<MetricId, Family>>, record: SeatRecord): void {
  const { seat, state } = record;
  families.seatStates.at(seat, state).add(1);
  // A guard that did not run to its end has given no verdict.
  if (state === "ran") {
    const applied = record.applied === record.would ? "true" : "false";
    families.seatVerdicts.at(seat, record.mode, record.would, applied).add(1);
  }
  if (state === "ran" || state === "failed" || state === "timed_out") {
    families.seatSeconds.at(seat).observe(record.micros / 1e6);
  }
  for (const { reason } of record.findings) {
    families.seatFindings.at(seat, reason).add(1);
    if (reason === "auth.canary") families.canaryUses.at().add(1);
  }
}

function countModelCall(
  families: Readonly<Record<MetricId, Family>>,
  models: Names,
  decision: Decision,
  isStream: boolean,
): void {
  const operation = GEN_AI_OPERATIONS[decision.operation];
  if (operation === undefined) return;
  const { dialect, status, cause } = decision;
  const isGood = cause === "complete" && status < 400;
  // Only a name that an upstream has answered to gets a place: callers cannot fill the list with nonsense.
  const model = isGood ? models.admit(decision.model) : models.has(decision.model) ? decision.model : OTHER;
  const errorType = isGood ? "" : cause !== "complete" ? cause : status < 500 ? "4xx" : "5xx";
  families.genAiSeconds.at(operation, dialect, model, errorType).observe(decision.totalMs / 1000);
  if (isStream && decision.firstByteMs !== null) {
    families.genAiFirstSeconds.at(operation, dialect, model).observe(decision.firstByteMs / 1000);
  }
  if (decision.inputTokens !== null) {
    families.genAiTokens.at(operation, dialect, model, "input").observe(decision.inputTokens);
  }
  if (decision.outputTokens !== null) {
    families.genAiTokens.at(operation, dialect, model, "output").observe(decision.outputTokens);
  }
}
