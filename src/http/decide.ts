/** Puts the record of a request together, from what its passage and its exchange know. */
import type { Cause, Usage } from "../layer/index.ts";
import type { Decision } from "../ledger/decision.ts";
import type { Passage } from "../pipeline/passage.ts";

export interface DecisionFacts {
  /** RFC 3339, when the request came. */
  readonly at: string;
  readonly scanned: boolean;
  readonly status: number;
  readonly cause: Cause;
  readonly usage: Usage;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** performance.now() when the request came. */
  readonly startedMs: number;
  readonly firstByteMs: number | null;
  readonly upstreamMs: number | null;
  readonly upstreamCalled: boolean;
  readonly traceId: string | undefined;
}

export function decisionOf(passage: Passage, facts: DecisionFacts): Decision {
  const attributes = passage.attributes();
  const { act, would } = passage.acts();
  return {
    v: 1,
    id: passage.id,
    at: facts.at,
    revision: passage.snapshot.revision,
    route: passage.route,
    dialect: passage.dialect,
    operation: passage.operation,
    model: attributes.model.slice(0, NAME_UNITS_MAX),
    stream: attributes.stream,
    scanned: facts.scanned,
    org: attributes.org,
    project: attributes.project,
    keyId: attributes.key,
    endUser: attributes.endUser.slice(0, NAME_UNITS_MAX),
    address: passage.address,
    proof: passage.identity === undefined ? "" : (passage.identity.proof ?? "key"),
    tier: passage.standing.tier,
    risk: round(passage.standing.risk),
    country: passage.standing.country,
    asn: passage.standing.asn,
    act,
    would,
    status: facts.status,
    cause: facts.cause,
    seats: passage.records(),
    inputTokens: facts.usage.inputTokens ?? null,
    outputTokens: facts.usage.outputTokens ?? null,
    bytesIn: facts.bytesIn,
    bytesOut: facts.bytesOut,
    totalMs: round(performance.now() - facts.startedMs),
    firstByteMs: facts.firstByteMs === null ? null : round(facts.firstByteMs),
    upstreamMs: facts.upstreamMs === null ? null : round(facts.upstreamMs),
    upstreamCalled: facts.upstreamCalled,
    ...(facts.traceId !== undefined && { traceId: facts.traceId }),
  };
}

/** Names that callers choose are cut in the record: a megabyte of model name is not worth keeping. */
const NAME_UNITS_MAX = 256;

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
