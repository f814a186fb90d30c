/**
 * Conditions in CEL, compiled once, at load: a seat's `when` over a request's attributes, a rule's over the view
 * that it matched. Only the attributes listed may be named, the answer must be a boolean, and nothing is admitted
 * whose cost depends on more than the expression's own size: no regular expressions (they would backtrack on a
 * caller's text) and no loop inside a loop.
 */
import {
  type ASTNode,
  Environment,
  EvaluationError,
  ParseError,
  TypeError as WrongType,
} from "@marcbachmann/cel-js";

export interface ConditionFault {
  readonly message: string;
  /** Index into the expression. */
  readonly index: number;
}

/** Where an attribute is named, for a caller that admits only some of them in some places. */
interface Place {
  readonly name: string;
  /** Index into the expression. */
  readonly index: number;
}

export type CompiledCondition<Attributes> =
  | {
      readonly ok: true;
      readonly holds: (attributes: Attributes) => boolean;
      readonly places: readonly Place[];
    }
  | { readonly ok: false; readonly faults: readonly ConditionFault[] };

export interface ConditionOptions {
  /** Said of a name that is not listed, after it: such as `; did you mean "route"?`. */
  readonly hint?: (name: string, known: readonly string[]) => string;
}

const LOOPS: ReadonlySet<string> = new Set(["all", "exists", "exists_one", "map", "filter", "transformList"]);

/** A compiler of conditions over attributes of these CEL types. */
export function conditionsOver<Attributes extends object>(
  types: Readonly<Record<keyof Attributes & string, string>>,
  { hint = () => "" }: ConditionOptions = {},
): (expression: string) => CompiledCondition<Attributes> {
  const known = Object.keys(types);
  const environment = new Environment({
    unlistedVariablesAreDyn: false,
    limits: { maxAstNodes: 500, maxDepth: 32, maxListElements: 200, maxMapEntries: 50, maxCallArguments: 8 },
  });
  for (const [name, type] of Object.entries<string>(types)) environment.registerVariable(name, type);

  const faultOf = (error: unknown): ConditionFault => {
    if (error instanceof ParseError || error instanceof WrongType || error instanceof EvaluationError) {
      const index = error.range?.start ?? 0;
      const name = /^Unknown variable: (.+)$/.exec(error.summary)?.[1];
      if (name === undefined)
        return { index, message: `the expression cannot be used: ${said(error.summary)}` };
      return {
        index,
        message: `unknown attribute "${name}"${hint(name, known)} (known: ${known.join(", ")})`,
      };
    }
    const why = error instanceof Error ? error.message : error;
    return { index: 0, message: `the expression cannot be used: ${why}` };
  };

  return (expression) => {
    try {
      const parsed = environment.parse(expression);
      const checked = parsed.check();
      if (!checked.valid) return { ok: false, faults: [faultOf(checked.error)] };
      if (checked.type !== "bool") {
        const message = `expected an expression that is true or false; this one gives ${checked.type ?? "nothing"}`;
        return { ok: false, faults: [{ index: 0, message }] };
      }
      const faults = faultsOf(parsed.ast);
      if (faults.length > 0) return { ok: false, faults };
      return { ok: true, holds: (attributes) => parsed(attributes) === true, places: placesIn(parsed.ast) };
    } catch (error) {
      return { ok: false, faults: [faultOf(error)] };
    }
  };
}

function said(summary: string): string {
  return summary === "Unexpected token: EOF" ? "it ends too early" : summary;
}

function placesIn(ast: ASTNode): readonly Place[] {
  const places: Place[] = [];
  walk(ast, false, (node) => {
    if (node.op === "id") places.push({ name: node.args, index: node.start });
  });
  return places;
}

function faultsOf(ast: ASTNode): readonly ConditionFault[] {
  const faults: ConditionFault[] = [];
  walk(ast, false, (node, looping) => {
    if (node.op !== "rcall") return;
    const [name] = node.args;
    if (name === "matches") {
      const message =
        "regular expressions are not offered here; use ==, in, startsWith, endsWith or contains";
      faults.push({ index: node.start, message });
    }
    if (LOOPS.has(name) && looping)
      faults.push({ index: node.start, message: `"${name}" inside another loop is not allowed` });
  });
  return faults;
}

function walk(node: ASTNode, looping: boolean, visit: (node: ASTNode, looping: boolean) => void): void {
  visit(node, looping);
  const loops = looping || (node.op === "rcall" && LOOPS.has(node.args[0]));
  for (const below of childrenOf(node.args)) walk(below, loops, visit);
}

function childrenOf(args: unknown): readonly ASTNode[] {
  if (Array.isArray(args)) return args.flatMap(childrenOf);
  const isNode = typeof args === "object" && args !== null && "op" in args && "args" in args;
  return isNode ? [args as ASTNode] : [];
}
