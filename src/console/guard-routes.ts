/** What the guard judges now, and what it found bad since the start. */
import { z } from "zod";
import { EVERYBODY } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const share = (text: string) => z.number().min(0).describe(text);

const withdrawal = z
  .strictObject({
    at: z.iso.datetime().describe("When."),
    outcome: z
      .enum(["withdrawn", "watched", "overtaken"])
      .describe("watched: the guard only watches. overtaken: another policy was served before."),
    revision: z.string().describe("The change that was found bad."),
    good: z.string().describe("What was returned to."),
    touched: z.array(z.string()).describe('Seats that the change touched; "*" is every seat.'),
    figure: z.enum(["block", "would_block", "error", "latency", "appeal"]).describe("Which figure."),
    segment: z.string().describe("Of whom."),
    observed: share("Share of requests that it was."),
    usual: share("What it usually is."),
    band: share("Up to where it is in order."),
    requests: share("Requests since the change."),
    hits: share("Those of them that count."),
    evidence: z.number().describe("Natural logarithm of the wealth of the bet against the band."),
    needed: z.number().describe("What it had to reach."),
    afterSec: share("Seconds since the change."),
    floorSec: share("Seconds after the change in which the floor of traffic was reached."),
  })
  .meta({ id: "PolicyWithdrawal", description: "A change that left a band, and the evidence." });

export const guardRoutes = [
  defineRoute({
    id: "policy.guard",
    noun: "policy",
    method: "GET",
    path: "/api/policy/guard",
    access: EVERYBODY,
    summary: "Shows what change is on trial, and which were withdrawn since the start.",
    answers: {
      200: {
        description: "The guard.",
        schema: z
          .strictObject({
            mode: z.enum(["on", "watch", "off"]).describe("As the policy says."),
            good: z.string().describe("The last revision that stood its trial."),
            trial: z
              .strictObject({
                revision: z.string().describe("What is judged."),
                touched: z.array(z.string()).describe('Seats that it touches; "*" is every seat.'),
                seconds: share("Since the change."),
                requests: share("Of the widest segment."),
                isAtFloor: z.boolean().describe("Whether that was enough for a verdict."),
              })
              .optional()
              .describe("Absent: nothing is on trial."),
            segments: z.int().min(0).describe("Segments with a history."),
            withdrawals: z.array(withdrawal).describe("Newest first, at most 20."),
          })
          .meta({ id: "PolicyGuard", description: "What watches over changes of the policy." }),
      },
    },
    handle(_call, { guard }) {
      return ok({ ...guard.status(), withdrawals: guard.filed() });
    },
  }),
];
