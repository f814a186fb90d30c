/**
 * The one table of reason codes. Dashboards, models and cases depend on them, so a code is never renamed.
 * A code with a trailing "*" stands for a family whose members come from rule packs. `problem` says how a
 * block for that reason is answered.
 */
import type { ProblemCode } from "./problems.ts";

export interface ReasonEntry {
  /** What was seen, in words that a caller may read. */
  readonly text: string;
  /** How a block for this reason is answered. */
  readonly problem: ProblemCode;
}

export const REASONS: Readonly<Record<string, ReasonEntry>> = {
  "auth.missing": { text: "No API key was sent.", problem: "unauthenticated" },
  "auth.unknown": { text: "The API key is not known.", problem: "unauthenticated" },
  "auth.revoked": { text: "The API key was revoked.", problem: "unauthenticated" },
  "auth.expired": { text: "The API key has expired.", problem: "unauthenticated" },
  "rate.requests": { text: "The key's request limit is used up.", problem: "rate_limited" },
  "prompt.rule.*": { text: "The prompt matches a rule of the usage policy.", problem: "prompt_blocked" },
  "output.secret.*": { text: "The answer holds a credential.", problem: "answer_blocked" },
  "layer.error": { text: "A check failed.", problem: "layer_failed" },
  "layer.timeout": { text: "A check did not finish in time.", problem: "layer_failed" },
  "custom.*": { text: "A layer of the operator's own found this.", problem: "prompt_blocked" },
};

/** The entry for a code, through its family where it has no row of its own; undefined for an unregistered code. */
export function reasonEntry(reason: string): ReasonEntry | undefined {
  const own = REASONS[reason];
  if (own !== undefined) return own;
  for (let dot = reason.lastIndexOf("."); dot > 0; dot = reason.lastIndexOf(".", dot - 1)) {
    const family = REASONS[`${reason.slice(0, dot)}.*`];
    if (family !== undefined) return family;
  }
  return undefined;
}
