/**
 * Compiles a seat's `when` once, at load. Only the attributes of a request may be named, the answer must be
 * a boolean, and nothing is admitted whose cost depends on more than the expression's own size: no regular
 * expressions (they would backtrack on a caller's text) and no loop inside a loop.
 */
import {
  type ASTNode,
  Environment,
  EvaluationError,
  ParseError,
  TypeError as WrongType,
} from "@marcbachmann/cel-js";
import { nearest } from "./schema-issues.ts";
import type { RequestAttributes } from "./snapshot.ts";

const TYPES = {
  route: "string",
  dialect: "string",
  operation: "string",
  address: "string",
  org: "string",
  project: "string",
  key: "string",
  model: "string",
  stream: "bool",
  endUser: "string",
  proof: "string",
  tier: "string",
  risk: "double",
  stepUp: "bool",
  country: "string",
  asn: "string",
} as const satisfies Record<keyof RequestAttributes, string>;

const NAMES = Object.keys(TYPES);
/** Known only once the body is read. */
const FROM_BODY: ReadonlySet<string> = new Set(["model", "stream", "endUser"]);
const LOOPS: ReadonlySet<string> = new Set(["all", "exists", "exists_one", "map", "filter", "transformList"]);

const environment = new Environment({
  unlistedVariablesAreDyn: false,
  limits: { maxAstNodes: 500, maxDepth: 32, maxListElements: 200, maxMapEntries: 50, maxCallArguments: 8 },
});
for (const [name, type] of Object.entries(TYPES)) environment.registerVariable(name, type);

type Condition = (attributes: RequestAttributes) => boolean;

interface WhenFault {
  readonly message: string;
  /** Index into the expression. */
  readonly index: number;
}

type CompiledWhen =
  | { readonly ok: true; readonly when: Condition }
  | { readonly ok: false; readonly faults: readonly WhenFault[] };

/** `beforeBody`: the seat acts in `onRequest`, when nothing of the body is known yet. */
export function compileWhen(
  expression: string,
  { beforeBody }: { readonly beforeBody: boolean },
): CompiledWhen {
  try {
    const parsed = environment.parse(expression);
    const checked = parsed.check();
    if (!checked.valid) return { ok: false, faults: [faultOf(checked.error)] };
    if (checked.type !== "bool") {
      return fail(
        0,
        `expected an expression that is true or false; this one gives ${checked.type ?? "nothing"}`,
      );
    }
    const faults = faultsOf(parsed.ast, beforeBody);
    if (faults.length > 0) return { ok: false, faults };
    return { ok: true, when: (attributes) => parsed(attributes) === true };
  } catch (error) {
    return { ok: false, faults: [faultOf(error)] };
  }
}

function fail(index: number, message: string): CompiledWhen {
  return { ok: false, faults: [{ index, message }] };
}

function faultOf(error: unknown): WhenFault {
  if (error instanceof ParseError || error instanceof WrongType || error instanceof EvaluationError) {
    const index = error.range?.start ?? 0;
    const name = /^Unknown variable: (.+)$/.exec(error.summary)?.[1];
    if (name === undefined)
      return { index, message: `the expression cannot be used: ${said(error.summary)}` };
    const near = nearest(name, NAMES);
    const hint = near === undefined ? "" : `; did you mean "${near}"?`;
    return { index, message: `unknown attribute "${name}"${hint} (known: ${NAMES.join(", ")})` };
  }
  return {
    index: 0,
    message: `the expression cannot be used: ${error instanceof Error ? error.message : error}`,
  };
}

function said(summary: string): string {
  return summary === "Unexpected token: EOF" ? "it ends too early" : summary;
}

function faultsOf(ast: ASTNode, beforeBody: boolean): readonly WhenFault[] {
  const faults: WhenFault[] = [];
  const visit = (node: ASTNode, looping: boolean): void => {
    let inLoop = looping;
    if (node.op === "id" && beforeBody && FROM_BODY.has(node.args)) {
      faults.push({
        index: node.start,
        message: `"${node.args}" comes from the body, and this layer acts before the body is read; use route, operation, address, org, project, key, tier, risk or country`,
      });
    } else if (node.op === "rcall") {
      const [name] = node.args;
      if (name === "matches") {
        const message =
          "regular expressions are not offered here; use ==, in, startsWith, endsWith or contains";
        faults.push({ index: node.start, message });
      }
      if (LOOPS.has(name)) {
        if (looping)
          faults.push({ index: node.start, message: `"${name}" inside another loop is not allowed` });
        inLoop = true;
      }
    }
    for (const below of childrenOf(node.args)) visit(below, inLoop);
  };
  visit(ast, false);
  return faults;
}

function childrenOf(args: unknown): readonly ASTNode[] {
  if (Array.isArray(args)) return args.flatMap(childrenOf);
  const isNode = typeof args === "object" && args !== null && "op" in args && "args" in args;
  return isNode ? [args as ASTNode] : [];
}
