/**
 * What a finding is worth in points. A weight may name one reason or a family ("prompt.rule.*"); the longest that
 * fits wins, so that one rule can weigh more than its pack. What no weight names is worth nothing: a new layer's
 * findings change nobody's standing until somebody says so.
 */
import type { Finding, RiskEntry } from "../../src/layer/index.ts";

/** Of reasons that were asked for; the table of reasons and the rule packs bound how many there are in practice. */
const REMEMBERED_MAX = 4_096;
const NO_ENTRIES: readonly RiskEntry[] = Object.freeze([]);

/**
 * Points of one finding with a score of 1. A prompt rule can be wrong once or twice: three within a day make a
 * caller risky. Being over a limit is no abuse: it takes hundreds of refusals. A canary key is used by a thief alone.
 */
export const DEFAULT_WEIGHTS: Readonly<Record<string, number>> = {
  "auth.canary": 8,
  "auth.attempts": 0.05,
  "auth.unknown": 0.02,
  "auth.token": 0.02,
  "auth.revoked": 0.02,
  "auth.scope.*": 0.02,
  "rate.*": 0.002,
  "rate.away": 0,
  "rate.insured": 0,
  "rate.uncounted": 0,
  "prompt.rule.*": 0.3,
  "output.secret.*": 0.1,
  "output.judge.*": 0.3,
  "output.judge.malformed": 0,
  "output.judge.unavailable": 0,
  "output.judge.budget": 0,
  "output.judge.partial": 0,
};

/** A reason, or a family: what `weights` may be keyed by. */
export const WEIGHT_KEY = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*(\.\*)?$/;

export type WeightOf = (reason: string) => number;

export function compileWeights(weights: Readonly<Record<string, number>>): WeightOf {
  const byKey = new Map(Object.entries(weights));
  const remembered = new Map<string, number>();
  return (reason) => {
    const known = remembered.get(reason);
    if (known !== undefined) return known;
    const weight = isOurs(reason) ? 0 : find(byKey, reason);
    if (remembered.size < REMEMBERED_MAX) remembered.set(reason, weight);
    return weight;
  };
}

/** What this layer says itself must not come back to it: a risky caller would become riskier by every request. */
function isOurs(reason: string): boolean {
  return reason.startsWith("reputation.") || reason.startsWith("sanction.");
}

function find(weights: ReadonlyMap<string, number>, reason: string): number {
  const own = weights.get(reason);
  if (own !== undefined) return own;
  for (let dot = reason.lastIndexOf("."); dot > 0; dot = reason.lastIndexOf(".", dot - 1)) {
    const family = weights.get(`${reason.slice(0, dot)}.*`);
    if (family !== undefined) return family;
  }
  return 0;
}

/** A reason counts once in a request, by its highest score: one text that matches a rule fifty times is one attack. */
export function entriesOf(
  findings: readonly Finding[],
  weightOf: WeightOf,
  requestId: string,
): readonly RiskEntry[] {
  let entries: RiskEntry[] | undefined;
  for (const finding of findings) {
    const points = weightOf(finding.reason) * finding.score;
    if (points === 0) continue;
    entries ??= [];
    const same = entries.findIndex((entry) => entry.finding.reason === finding.reason);
    if (same < 0) entries.push({ finding, points, requestId });
    else if (entries[same]!.points < points) entries[same] = { finding, points, requestId };
  }
  return entries ?? NO_ENTRIES;
}
