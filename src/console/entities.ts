/** How an entity is named in a path, a query or a body: by its kind and its id within the kind. */
import { z } from "zod";
import { ENTITY_KINDS, type Entity } from "../layer/index.ts";
import { entityId } from "../ports/sanctions-row.ts";

const ID_UNITS_MAX = 600;

export const entityFields = {
  kind: z.enum(ENTITY_KINDS).describe("What it is."),
  id: z
    .string()
    .min(1)
    .max(ID_UNITS_MAX)
    .regex(/^[^\u0000-\u001f\u007f-\u009f]*$/, { error: "must hold no control characters" })
    .describe(
      'An organisation\'s name, a key\'s id, "org/user" of an end user, an address, or a network: a CIDR or "AS64500". In a path, percent-encode its "/".',
    ),
};

/**
 * The entity in the one spelling that it is kept under: nobody's points or sanctions are missed because an address
 * was written another way. Throws a RangeError that names `path`.
 */
export function entityFrom({ kind, id }: Entity, path = "id"): Entity {
  // Points of a network are its operator's where a database tells who that is.
  if (kind === "network" && /^AS\d{1,10}$/.test(id)) return { kind, id };
  const checked = entityId(kind, id);
  if ("problem" in checked) throw new RangeError(`${path}: ${checked.problem}`);
  return { kind, id: checked.id };
}
