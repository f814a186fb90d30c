/** Reputation: who has the most against them, why, and a person's ruling on it. */
import { z } from "zod";
import { type Entity, SANCTION_ACTS, TIERS } from "../layer/index.ts";
import { entityFields, entityFrom } from "./entities.ts";
import { limitQuery } from "./paging.ts";
import type { AdminParts } from "./parts.ts";
import { ANALYSTS, EVERYBODY } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const POINTS_MAX = 1_000;
/** Where no seat reads points, they are shown as they would decay by default. */
const HALF_LIFE_MS = 86_400_000;

const params = z.strictObject(entityFields);
const entity = z.strictObject(entityFields).describe("Whose reputation it is.");
const points = z.number().describe("Risk points, decayed to now.");
const time = z.iso.datetime();

const standing = z
  .strictObject({
    seat: z.string().describe("A reputation seat of the served policy."),
    mode: z.enum(["shadow", "enforce"]).describe("In shadow it is recorded and changes nothing."),
    tier: z.enum(TIERS).describe("The tier of a caller who is known by these points alone."),
    risk: z.number().min(0).max(1).describe("0 nothing known .. 1 certain abuse."),
  })
  .meta({ id: "Standing", description: "What one seat makes of an entity." });

const cause = z
  .strictObject({
    reason: z.string().describe("A reason code, or the words of a ruling."),
    points: z.number().describe("All that was given for it, decayed to now."),
    times: z.int().describe("How often."),
    at: time.describe("When the latest was given."),
    requestId: z.string().optional().describe("The latest request. Absent: none was the cause."),
    by: z.string().optional().describe("Who ruled so. Absent: a finding, not a person."),
  })
  .meta({ id: "Cause", description: "What gave points." });

const explanation = z
  .strictObject({
    entity,
    points,
    firstSeenAt: time.optional().describe("When it was first seen. Absent: nobody knows."),
    sanctions: z
      .array(
        z.strictObject({
          id: z.string().describe("The sanction."),
          act: z.enum(SANCTION_ACTS).describe("What it does."),
        }),
      )
      .describe("In force on it, the most severe first."),
    because: z.array(cause).describe("The latest first; older ones are forgotten."),
    standings: z
      .array(standing)
      .describe("As each seat of the served policy sees it; none without such a seat."),
  })
  .meta({ id: "Reputation", description: "Why an entity stands where it stands." });

const STORE_AWAY = "The reputation store does not answer.";

export const reputationRoutes = [
  defineRoute({
    id: "reputation.worst",
    noun: "reputation",
    method: "GET",
    path: "/api/reputation",
    access: EVERYBODY,
    summary: "Entities with the most risk points, the worst first.",
    query: z.strictObject({
      kind: entityFields.kind.optional().describe("Only of this kind. Absent: of all."),
      limit: limitQuery,
    }),
    answers: {
      200: {
        description: "At most `limit` of those that this process knows.",
        schema: z
          .strictObject({
            entities: z.array(z.strictObject({ entity, points })).describe("The worst first."),
          })
          .meta({ id: "WorstEntities", description: "Entities with the most risk points." }),
      },
    },
    faults: { store_away: STORE_AWAY },
    async handle({ query: { kind, limit } }, { reputation }) {
      const worst = await reputation.worst({ max: limit, ...(kind !== undefined && { kind }) });
      return ok({ entities: worst.map(({ entity: who, points: most }) => ({ entity: who, points: most })) });
    },
  }),
  defineRoute({
    id: "reputation.explain",
    noun: "reputation",
    method: "GET",
    path: "/api/reputation/{kind}/{id}",
    access: EVERYBODY,
    summary: "Why an entity stands where it stands. One that is not known has no points.",
    params,
    answers: { 200: { description: "The explanation.", schema: explanation } },
    faults: { store_away: STORE_AWAY },
    handle: async ({ params: named }, parts) => ok(await explained(entityFrom(named), parts)),
  }),
  defineRoute({
    id: "reputation.rule",
    noun: "reputation",
    method: "POST",
    path: "/api/reputation/{kind}/{id}",
    access: ANALYSTS,
    summary: "A ruling: gives points, or with a negative number takes them away.",
    params,
    body: z.strictObject({
      points: z
        .number()
        .min(-POINTS_MAX)
        .max(POINTS_MAX)
        .refine((given) => given !== 0, { error: "must not be 0: that would change nothing" })
        .describe("How many. They decay like all others; the sum is never below 0."),
      reason: z.string().trim().min(1).max(200).describe("Why, in words for people."),
    }),
    answers: { 200: { description: "How it stands now.", schema: explanation } },
    faults: { store_away: STORE_AWAY },
    async handle({ params: named, body, actor }, parts) {
      const who = entityFrom(named);
      await parts.reputation.adjust(who, body.points, { reason: body.reason, by: actor });
      const target = `${who.kind} ${who.id} ${body.points}`;
      return ok(await explained(who, parts), { target, change: { after: body } });
    },
  }),
];

async function explained(who: Entity, { reputation, reputationSeats }: AdminParts) {
  const seats = reputationSeats();
  const found = await reputation.explain(who, seats[0]?.halfLifeMs ?? HALF_LIFE_MS);
  return {
    entity: who,
    points: found.points,
    ...(found.firstSeenMs !== undefined && { firstSeenAt: new Date(found.firstSeenMs).toISOString() }),
    sanctions: found.sanctions.map(({ id, act }) => ({ id, act })),
    because: found.causes.map(({ atMs, ...rest }) => ({ ...rest, at: new Date(atMs).toISOString() })),
    standings: seats.map(({ seat, mode, tierAt }) => ({ seat, mode, ...tierAt(found.points) })),
  };
}
