/** A rule's `when`: CEL over the view that matched, the leaf that it came from, and the caller's tier. */
import { conditionsOver } from "../../src/layer/index.ts";

interface MatchAttributes {
  /** Kind of the view, such as "plain" or "base64". */
  readonly view: string;
  readonly steps: readonly string[];
  /** Number of steps; CEL's integers are BigInt. */
  readonly depth: bigint;
  readonly role: string;
  readonly kind: string;
  readonly tier: string;
}

export interface RuleCondition {
  readonly holds: (match: MatchAttributes) => boolean;
  /** It asks for the caller: its verdict does not follow from the leaf alone, so no cache may keep it. */
  readonly isOfCaller: boolean;
}

const compile = conditionsOver<MatchAttributes>({
  view: "string",
  steps: "list<string>",
  depth: "int",
  role: "string",
  kind: "string",
  tier: "string",
});

export function compileRuleCondition(
  expression: string,
):
  | { readonly ok: true; readonly condition: RuleCondition }
  | { readonly ok: false; readonly message: string } {
  const compiled = compile(expression);
  if (!compiled.ok) return { ok: false, message: compiled.faults[0]?.message ?? "cannot be used" };
  const isOfCaller = compiled.places.some(({ name }) => name === "tier");
  return { ok: true, condition: { holds: compiled.holds, isOfCaller } };
}
