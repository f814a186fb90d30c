/** Turns a verdict that stops a request into the coded problem that the caller reads. */
import {
  type Finding,
  findingsOf,
  type Problem,
  problem,
  reasonEntry,
  type Verdict,
} from "../layer/index.ts";

export function refusalOf(verdict: Verdict): Problem {
  if (verdict.act === "throttle") {
    return problem("rate_limited", { retryAfterMs: verdict.retryAfterMs, detail: reasons(verdict) });
  }
  const strongest = findingsOf(verdict).reduce<Finding | undefined>(
    (best, finding) => (best === undefined || finding.score > best.score ? finding : best),
    undefined,
  );
  const entry = strongest === undefined ? undefined : reasonEntry(strongest.reason);
  if (entry === undefined) return problem("prompt_blocked", { detail: reasons(verdict) });
  return problem(entry.problem, { message: entry.text, detail: reasons(verdict) });
}

function reasons(verdict: Verdict): string {
  return findingsOf(verdict)
    .map((finding) => finding.reason)
    .join(", ");
}
