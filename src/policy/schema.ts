/**
 * JSON Schemas of policy.yaml and gateway.yaml for editors, made from the schemas that are enforced. Under
 * `with` each seat gets the fields of the layer that it names.
 */
import { z } from "zod";
import type { LayerKind } from "../layer/index.ts";
import { gatewaySchema } from "./gateway-file.ts";
import { policySchema } from "./policy-file.ts";

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Draft 7 is what editors' YAML support knows best; `unrepresentable` keeps a transform from being fatal. */
function toJsonSchema(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { target: "draft-7", io: "input", unrepresentable: "any" });
}

export function gatewayJsonSchema(): JsonSchema {
  return { title: "Sallyport gateway.yaml", ...toJsonSchema(gatewaySchema) };
}

export function policyJsonSchema(kinds: readonly LayerKind[]): JsonSchema {
  const schema = toJsonSchema(policySchema);
  const seats = schema.properties?.["seats"];
  const seat = typeof seats === "object" && !Array.isArray(seats.items) ? seats.items : undefined;
  if (typeof seat !== "object" || seat.properties === undefined) throw new Error("the seats have no schema");
  const use = seat.properties["use"];
  if (typeof use !== "object") throw new Error("the field `use` has no schema");
  const sorted = [...kinds].sort((a, b) => (a.kind < b.kind ? -1 : 1));
  seat.properties["use"] = { ...use, enum: sorted.map(({ kind }) => kind) };
  seat.allOf = sorted.map(({ kind, summary, config }) => {
    const { $schema: _, ...own } = toJsonSchema(config);
    return {
      if: { properties: { use: { const: kind } }, required: ["use"] },
      // biome-ignore lint/suspicious/noThenProperty: JSON Schema's own word
      then: { properties: { with: { default: {}, description: summary, ...own } } },
    };
  });
  return { title: "Sallyport policy.yaml", ...schema };
}
