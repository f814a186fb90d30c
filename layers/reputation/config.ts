/** What an operator may set of the seat; each bound with the default that the README argues for. */
import { z } from "zod";
import { DEFAULT_WEIGHTS, WEIGHT_KEY } from "./weights.ts";

const part = (value: number, words: string) => z.number().min(0).max(1).default(value).describe(words);
const days = (value: number, words: string) => z.number().min(0).max(3_650).default(value).describe(words);

export const reputationConfig = z
  .strictObject({
    halfLifeHours: z
      .number()
      .min(0.01)
      .max(8_760)
      .default(24)
      .describe("Hours after which half of an entity's points are left."),
    weights: z
      .record(
        z.string().regex(WEIGHT_KEY, {
          error: 'must be a reason such as "auth.canary", or a family such as "prompt.rule.*"',
        }),
        z.number().min(0).max(32),
      )
      .default({})
      .describe(
        `Points that a finding is worth, by reason or family; the longest that fits wins, 0 switches one off. Set here are: ${Object.entries(
          DEFAULT_WEIGHTS,
        )
          .map(([reason, points]) => `${reason} ${points}`)
          .join(", ")}. A reason that neither names is worth nothing.`,
      ),
    blame: z
      .strictObject({
        org: part(0.5, "For the organisation's points."),
        key: part(1, "For the key's points."),
        endUser: part(1, "For the end user's points."),
        address: part(0.4, "For the address's points: others may stand behind it."),
        network: part(0.1, "For the points of the network that the address is in."),
      })
      .prefault({})
      .describe("How far the points of each entity of a caller speak against the caller: 0 not, 1 wholly."),
    riskyAt: z.number().gt(0).max(1).default(0.6).describe("Risk from which a caller is risky."),
    suspendAt: z
      .number()
      .gt(0)
      .max(1)
      .optional()
      .describe("Risk from which a caller is refused. Absent: nobody is refused for a score alone."),
    newDays: days(7, "A caller whose organisation has been known for less is new."),
    trustedDays: days(90, "A caller whose organisation has been known for as long may be trusted."),
    trustedRiskMax: part(0.05, "The most risk that a trusted caller may have."),
    newNetworkHours: z
      .number()
      .min(0)
      .max(8_760)
      .default(24)
      .describe("For so long a network that a known key was not used from before is flagged; 0: never."),
  })
  .superRefine((config, context) => {
    if (config.suspendAt !== undefined && config.suspendAt < config.riskyAt) {
      context.addIssue({
        code: "custom",
        path: ["suspendAt"],
        message: `must not be below riskyAt (${config.riskyAt}): a caller is risky before they are refused`,
      });
    }
    if (config.trustedDays < config.newDays) {
      context.addIssue({
        code: "custom",
        path: ["trustedDays"],
        message: `must not be below newDays (${config.newDays})`,
      });
    }
    if (config.trustedRiskMax >= config.riskyAt) {
      context.addIssue({
        code: "custom",
        path: ["trustedRiskMax"],
        message: `must be below riskyAt (${config.riskyAt})`,
      });
    }
  });

export type ReputationConfig = z.infer<typeof reputationConfig>;
