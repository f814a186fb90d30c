/** Limits: what the served policy says, where its counters stand now, and the means to forgive one caller. */
import { z } from "zod";
import { fault } from "./faults.ts";
import { limitQuery } from "./paging.ts";
import { EVERYBODY, SENIOR_RESPONDERS } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const KEY_UNITS_MAX = 1_024;

const seatId = z.string().min(1).max(64).describe("The seat whose limit it is.");
const counterKey = z
  .string()
  .min(1)
  .max(KEY_UNITS_MAX)
  .describe('What is counted together, such as "key-requests:key=key_1".');

const limitView = z
  .strictObject({
    seat: seatId,
    mode: z.enum(["shadow", "enforce"]).describe("In shadow it is counted and holds nobody."),
    name: z.string().describe("The limit's name in the policy."),
    of: z.string().describe("What is counted, such as requests or spend."),
    per: z.array(z.string()).describe("Whose use is counted together; none: everybody's."),
    limit: z.number().describe("How much; for spend in US dollars."),
    windowSec: z.number().describe("In any span of so many seconds; 0: at once."),
    scale: z
      .record(z.string(), z.number())
      .describe("By tier, what the limit is multiplied by; a tier that is not named: 1."),
  })
  .meta({ id: "Limit", description: "A limit as the served policy states it." });

const counterView = z
  .strictObject({
    seat: seatId,
    key: counterKey,
    used: z.number().describe("Used up within the window; for spend in nano-dollars."),
    reserved: z.number().describe("Kept back by requests under way."),
    windowSec: z.number().describe("The window; 0 for what only counts while it runs."),
    resetMs: z.number().describe("Until all of it has come back."),
  })
  .meta({ id: "Counter", description: "Where one counter stands now." });

const STORE_AWAY = "The counters' store does not answer.";

export const limitsRoutes = [
  defineRoute({
    id: "limits.list",
    noun: "limits",
    method: "GET",
    path: "/api/limits",
    access: EVERYBODY,
    summary: "The limits of the served policy, seat by seat.",
    answers: {
      200: {
        description: "All of them.",
        schema: z
          .strictObject({
            revision: z.string().describe("The policy that states them."),
            limits: z.array(limitView).describe("In the order of the seats."),
          })
          .meta({ id: "Limits", description: "The limits of the served policy." }),
      },
    },
    handle: (_call, { policy, limits }) => ok({ revision: policy.current().revision, limits: limits() }),
  }),
  defineRoute({
    id: "limits.live",
    noun: "limits",
    method: "GET",
    path: "/api/limits/live",
    access: EVERYBODY,
    summary: "Where counters stand now.",
    description:
      "A sample, not a list: there may be a million counters. Narrow it down by seat and by a part of the key.",
    query: z.strictObject({
      seat: seatId.optional().describe("Only of this seat. Absent: of all."),
      contains: z
        .string()
        .min(1)
        .max(KEY_UNITS_MAX)
        .optional()
        .describe('Only those whose key contains this, such as "key=key_1". Absent: all.'),
      limit: limitQuery,
    }),
    answers: {
      200: {
        description: "At most `limit` of them.",
        schema: z
          .strictObject({
            counters: z.array(counterView).describe("In no order."),
            truncated: z.boolean().describe("There may be more that fit."),
          })
          .meta({ id: "Counters", description: "Where counters stand now." }),
      },
    },
    faults: { store_away: STORE_AWAY },
    async handle({ query: { seat, contains, limit } }, { counters }) {
      const filter = { max: limit, ...(contains !== undefined && { contains }) };
      const rows = await counters.inspect(seat, filter);
      return ok({ counters: rows, truncated: rows.length >= limit });
    },
  }),
  defineRoute({
    id: "limits.reset",
    noun: "limits",
    method: "POST",
    path: "/api/limits/reset",
    access: SENIOR_RESPONDERS,
    summary: "Sets one counter to nothing used. What requests under way have reserved stays reserved.",
    body: z.strictObject({ seat: seatId, key: counterKey }),
    answers: {
      200: {
        description: "Nothing is used.",
        schema: z
          .strictObject({
            seat: seatId,
            key: counterKey,
            reset: z.literal(true).describe("Nothing is used."),
          })
          .meta({ id: "ResetCounter", description: "A counter that was reset." }),
      },
    },
    faults: { not_found: "Nothing is counted under this key.", store_away: STORE_AWAY },
    async handle({ body: { seat, key } }, { counters }) {
      const target = `${seat} ${key}`;
      if (await counters.reset(seat, key)) return ok({ seat, key, reset: true }, { target });
      return fault("not_found", "Nothing is counted under this key; GET /api/limits/live shows the keys.");
    },
  }),
];
