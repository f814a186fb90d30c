/** A seat's `when`, compiled once, at load, over the attributes of a request; src/layer/condition.ts says what is admitted. */
import { conditionsOver } from "../layer/index.ts";
import { nearest } from "./schema-issues.ts";
import type { RequestAttributes } from "./snapshot.ts";

/** Known only once the body is read. */
const FROM_BODY: ReadonlySet<string> = new Set(["model", "stream", "endUser"]);

const compile = conditionsOver<RequestAttributes>(
  {
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
  },
  {
    hint: (name, known) => {
      const near = nearest(name, known);
      return near === undefined ? "" : `; did you mean "${near}"?`;
    },
  },
);

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
  const compiled = compile(expression);
  if (!compiled.ok) return compiled;
  const faults = beforeBody ? compiled.places.filter(({ name }) => FROM_BODY.has(name)).map(fromBody) : [];
  return faults.length > 0 ? { ok: false, faults } : { ok: true, when: compiled.holds };
}

function fromBody({ name, index }: { readonly name: string; readonly index: number }): WhenFault {
  const message = `"${name}" comes from the body, and this layer acts before the body is read; use route, operation, address, org, project, key, tier, risk or country`;
  return { index, message };
}
