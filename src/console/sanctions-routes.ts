/** Sanctions: a person's decision about an organisation, key, end user, address or network, in force at once. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { SANCTION_ACTS } from "../layer/index.ts";
import { endMsOf, type SanctionRow } from "../ports/sanctions-row.ts";
import { entityFields, entityFrom } from "./entities.ts";
import { fault, invalid } from "./faults.ts";
import { nextCursor, pageOf, pageQuery } from "./paging.ts";
import { EVERYBODY, RESPONDERS, SENIOR_RESPONDERS } from "./roles.ts";
import { defineRoute, ok, type Reply } from "./route.ts";

/** A ban may be long; of everything else the store says how long it may be. */
const FOR_SEC_MAX = 100 * 365 * 86_400;

const id = z
  .string()
  .regex(/^sanc_\w{1,40}$/, { error: 'must look like "sanc_1a2b3c"' })
  .describe("The sanction's id.");
const params = z.strictObject({ id });
const time = z.iso.datetime({ offset: true });

const entity = z.strictObject(entityFields).describe("Whom it falls on.");
const act = z
  .enum(SANCTION_ACTS)
  .describe(
    "notice: recorded · step-up: stricter seats · throttle: lower limits · suspend, ban: nothing is let through.",
  );

const newSanction = z
  .strictObject({
    entity,
    act,
    reason: z
      .string()
      .trim()
      .min(1)
      .max(500)
      .describe("Why, in words for people; the account does not see it."),
    expiresAt: time.optional().describe("When it ends, RFC 3339. Absent: see forSec."),
    forSec: z
      .int()
      .min(1)
      .max(FOR_SEC_MAX)
      .optional()
      .describe(
        "How long it holds from now. Absent, and expiresAt too: until it is lifted, which only a ban may be.",
      ),
    limitScale: z
      .number()
      .min(0.001)
      .lt(1)
      .optional()
      .describe("For throttle: limits are multiplied by it. Absent: 0.5; other acts have none."),
  })
  .refine(({ expiresAt, forSec }) => expiresAt === undefined || forSec === undefined, {
    path: ["forSec"],
    error: "give expiresAt or forSec, not both",
  });

const sanctionView = z
  .strictObject({
    id,
    entity,
    act,
    reason: z.string().describe("Why, in words for people."),
    limitScale: z.number().optional().describe("Limits are multiplied by it. Absent: it is no throttle."),
    by: z.string().describe("Who imposed it."),
    source: z.string().optional().describe("Where it came from, such as admin. Absent: nobody said."),
    active: z.boolean().describe("It holds now."),
    createdAt: time.describe("When it was imposed."),
    expiresAt: time.optional().describe("When it ends. Absent: when it is lifted."),
    liftedAt: time.optional().describe("When it was lifted. Absent: it was not."),
    liftedBy: z.string().optional().describe("Who lifted it. Absent: nobody did."),
  })
  .meta({ id: "Sanction", description: "What was imposed on an entity." });

const STORE_AWAY = "The sanctions cannot be written now.";
const NO_SUCH = "There is no sanction with this id.";

export const sanctionsRoutes = [
  defineRoute({
    id: "sanctions.list",
    noun: "sanctions",
    method: "GET",
    path: "/api/sanctions",
    access: EVERYBODY,
    summary: "Lists sanctions, oldest first.",
    query: z.strictObject({
      active: z
        .enum(["true", "false"])
        .optional()
        .describe("Only those that hold now, or only those that do not. Absent: all."),
      kind: entityFields.kind.optional().describe("Only on entities of this kind. Absent: of all."),
      id: entityFields.id.optional().describe("Only on this entity of `kind`. Absent: on all."),
      ...pageQuery,
    }),
    answers: {
      200: {
        description: "One page.",
        schema: z
          .strictObject({ sanctions: z.array(sanctionView).describe("Oldest first."), next: nextCursor })
          .meta({ id: "SanctionPage", description: "Sanctions." }),
      },
    },
    handle({ query: { active, kind, id: entityId, ...page } }, { sanctions }) {
      if (entityId !== undefined && kind === undefined) {
        return invalid([{ path: "kind", message: "is missing: an id has a meaning only within its kind" }]);
      }
      const nowMs = Date.now();
      const entity =
        kind === undefined || entityId === undefined ? undefined : entityFrom({ kind, id: entityId });
      const wanted = sanctions
        .list({ entity, active: active === undefined ? undefined : active === "true" })
        .filter(({ entity: on }) => kind === undefined || on.kind === kind);
      const { rows, next } = pageOf(wanted, ({ createdAt: at, id: own }) => ({ at, id: own }), page);
      return ok({ sanctions: rows.map((row) => viewOf(row, nowMs)), next });
    },
  }),
  defineRoute({
    id: "sanctions.impose",
    noun: "sanctions",
    method: "POST",
    path: "/api/sanctions",
    access: RESPONDERS,
    summary: "Imposes a sanction, on every replica within a second.",
    body: newSanction,
    answers: { 201: { description: "It holds.", schema: sanctionView } },
    faults: { store_away: STORE_AWAY },
    async handle({ body, actor }, { sanctions }) {
      const row = await sanctions.impose({ ...body, by: actor, source: "admin" });
      const headers = { location: `/api/sanctions/${row.id}` };
      const target = `${row.id} ${row.act} ${row.entity.kind} ${row.entity.id}`;
      return { status: 201, body: viewOf(row, Date.now()), headers, target, change: { after: row } };
    },
  }),
  defineRoute({
    id: "sanctions.get",
    noun: "sanctions",
    method: "GET",
    path: "/api/sanctions/{id}",
    access: EVERYBODY,
    summary: "Shows one sanction.",
    params,
    answers: { 200: { description: "The sanction.", schema: sanctionView } },
    faults: { not_found: NO_SUCH },
    etag: (call, parts) => tagOf(parts.sanctions.get(call.params.id)),
    handle(call, parts) {
      const row = parts.sanctions.get(call.params.id);
      return row === undefined ? noSuch() : ok(viewOf(row, Date.now()));
    },
  }),
  defineRoute({
    id: "sanctions.lift",
    noun: "sanctions",
    method: "DELETE",
    path: "/api/sanctions/{id}",
    access: SENIOR_RESPONDERS,
    summary: "Lifts a sanction, on every replica within a second. A second time changes nothing.",
    params,
    answers: {
      200: {
        description: "It does not hold any more.",
        schema: z
          .strictObject({ id, lifted: z.literal(true).describe("It does not hold any more.") })
          .meta({ id: "LiftedSanction", description: "A sanction that was lifted." }),
      },
    },
    faults: { not_found: NO_SUCH, store_away: STORE_AWAY },
    etag: (call, parts) => tagOf(parts.sanctions.get(call.params.id)),
    async handle({ params: { id: wanted }, actor }, parts) {
      const before = parts.sanctions.get(wanted);
      const lifted = await parts.sanctions.lift(wanted, actor);
      if (lifted === undefined) return noSuch();
      return ok({ id: wanted, lifted: true }, { change: { before, after: lifted } });
    },
  }),
];

function noSuch(): Reply {
  return fault("not_found", `${NO_SUCH} GET /api/sanctions lists them.`);
}

function tagOf(row: SanctionRow | undefined): string | undefined {
  if (row === undefined) return undefined;
  return `"${createHash("sha256").update(JSON.stringify(row)).digest("base64url").slice(0, 16)}"`;
}

function viewOf(row: SanctionRow, nowMs: number) {
  return { ...row, active: (endMsOf(row) ?? Number.POSITIVE_INFINITY) > nowMs };
}
