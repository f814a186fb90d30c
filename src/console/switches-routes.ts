/** Kill switches: a seat, a layer or a rule runs no more, at once and everywhere, and the policy stays as it is. */
import { z } from "zod";
import type { Seat } from "../policy/snapshot.ts";
import { SWITCH_KINDS, switchedOff } from "../policy/switched-off.ts";
import type { SwitchRow } from "../ports/switches.ts";
import { fault } from "./faults.ts";
import type { AdminParts } from "./parts.ts";
import { reason } from "./policy-change-routes.ts";
import { EVERYBODY, TUNERS } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const FOR_SEC_MAX = 366 * 86_400;
const time = z.iso.datetime({ offset: true });
const params = z.strictObject({
  kind: z.enum(SWITCH_KINDS).describe("What it is."),
  target: z.string().min(1).max(128).describe("Id of the seat, kind of the layer, or id of the rule."),
});
const view = z
  .strictObject({
    id: z.string().describe("Kind and target, as decisions name it."),
    ...params.shape,
    reason: z.string().describe("Why."),
    by: z.string().describe("Who threw it."),
    at: time.describe("When."),
    expiresAt: time.optional().describe("When it ends by itself. Absent: when it is revived."),
    seats: z.array(z.string()).describe("Seats of the served policy that it touches."),
  })
  .meta({ id: "KillSwitch", description: "Something that is switched off." });

const STORE_AWAY = "The switches cannot be written now.";

export const switchesRoutes = [
  defineRoute({
    id: "policy.switches",
    noun: "policy",
    method: "GET",
    path: "/api/policy/switches",
    access: EVERYBODY,
    summary: "Lists the kill switches in force.",
    answers: {
      200: {
        description: "All of them.",
        schema: z.strictObject({ switches: z.array(view).describe("In force now.") }),
      },
    },
    handle: (_call, parts) => ok({ switches: parts.switches.active().map((row) => viewOf(row, parts)) }),
  }),
  defineRoute({
    id: "policy.kill",
    noun: "policy",
    method: "PUT",
    path: "/api/policy/switches/{kind}/{target}",
    access: TUNERS,
    summary: "Switches a seat, a layer or a rule off, on every replica within a second.",
    description:
      "What is switched off judges nothing: with `auth` off everybody is let in. Decisions say `switched_off`.",
    params,
    body: z
      .strictObject({
        reason,
        expiresAt: time.optional().describe("When it ends by itself. Absent: see forSec."),
        forSec: z
          .int()
          .min(1)
          .max(FOR_SEC_MAX)
          .optional()
          .describe("How long it holds from now. Absent, and expiresAt too: until it is revived."),
      })
      .refine(({ expiresAt, forSec }) => expiresAt === undefined || forSec === undefined, {
        path: ["forSec"],
        error: "give expiresAt or forSec, not both",
      }),
    answers: { 200: { description: "It is off.", schema: view } },
    faults: { not_found: "The served policy has no such seat, layer or rule.", store_away: STORE_AWAY },
    async handle({ params: { kind, target }, body, actor }, parts) {
      const known = targetsOf(kind, parts.policy.current().seats);
      if (!known.has(target)) {
        const some = [...known].slice(0, 20).join(", ") || "none";
        return fault("not_found", `The served policy has no ${kind} "${target}"; it has ${some}.`);
      }
      const { forSec, expiresAt } = body;
      const end = forSec === undefined ? expiresAt : new Date(Date.now() + forSec * 1_000).toISOString();
      const row = await parts.switches.kill({ kind, target, reason: body.reason, by: actor, expiresAt: end });
      return ok(viewOf(row, parts), { target: row.id });
    },
  }),
  defineRoute({
    id: "policy.revive",
    noun: "policy",
    method: "DELETE",
    path: "/api/policy/switches/{kind}/{target}",
    access: TUNERS,
    summary: "Ends a kill switch, on every replica within a second.",
    params,
    answers: {
      200: {
        description: "It runs again, where nothing else switches it off.",
        schema: z.strictObject({ revived: z.string().describe("Id of the switch.") }),
      },
    },
    faults: { not_found: "No such switch is in force.", store_away: STORE_AWAY },
    async handle({ params: { kind, target } }, { switches }) {
      if (!(await switches.revive(kind, target)))
        return fault("not_found", "No such switch is in force. GET /api/policy/switches lists them.");
      return ok({ revived: `${kind}:${target}` });
    },
  }),
];

function targetsOf(kind: SwitchRow["kind"], seats: readonly Seat[]): ReadonlySet<string> {
  switch (kind) {
    case "seat":
      return new Set(seats.map(({ id }) => id));
    case "layer":
      return new Set(seats.map(({ use }) => use));
    case "rule":
      return new Set(seats.flatMap(({ layer }) => [...(layer.rules ?? [])]));
    default:
      return kind satisfies never;
  }
}

function viewOf(row: SwitchRow, { policy }: AdminParts) {
  return { ...row, seats: [...switchedOff(policy.current(), [row]).keys()] };
}
