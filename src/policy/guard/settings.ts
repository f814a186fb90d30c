/** What the guard takes as in order, and how sure it must be: the `guard` section of policy.yaml. */
import { z } from "zod";

const share = (value: number, text: string) => z.number().gt(0).max(1).default(value).describe(text);
const rise = (value: number, text: string) => z.number().min(0).max(100).default(value).describe(text);

export const guardSchema = z
  .strictObject({
    mode: z
      .enum(["on", "watch", "off"])
      .default("on")
      .describe(
        "on: a change that leaves a band is withdrawn. watch: that is only logged and counted. off: nothing is judged.",
      ),
    probationSec: z
      .int()
      .min(10)
      .max(604_800)
      .default(1_800)
      .describe("How long a change is judged; after it, it is the last good one."),
    falseAlarmsPerDay: z
      .number()
      .gt(0)
      .max(1)
      .default(0.01)
      .describe("Good changes that may be withdrawn by mistake, a day, over all figures and segments."),
    requestsMin: z
      .int()
      .min(20)
      .max(1_000_000)
      .default(200)
      .describe("Floor: requests of a segment under the change before it is judged, ..."),
    hitsMin: z
      .int()
      .min(1)
      .max(10_000)
      .default(60)
      .describe("... and this many refusals or failures, to be expected at the upper end of the band."),
    block: z
      .strictObject({
        rise: rise(0.3, "By how much of a segment's usual share of refusals a change may add to them."),
        margin: share(0.005, "Share of requests that it may refuse besides, however few are usual."),
        noHistoryMax: share(0.5, "Share that it may refuse where nothing is known of any segment yet."),
      })
      .prefault({})
      .describe("Requests that the seats that changed refuse and no other seat found anything in."),
    error: z
      .strictObject({
        rise: rise(0.5, "By how much the share of failures may grow."),
        margin: share(0.005, "Share of requests that may fail besides."),
      })
      .prefault({})
      .describe("Seats that changed and failed or were late, and the gateway's own errors."),
    latency: z
      .strictObject({
        marginMs: z
          .number()
          .min(1)
          .max(60_000)
          .default(25)
          .describe(
            "Added time from which a request counts as slow, beside twice the usual 99th percentile.",
          ),
        slowMax: share(0.2, "Share of requests that may be slow."),
      })
      .prefault({})
      .describe("Time that enforcing seats take of a request."),
    appeal: z
      .strictObject({
        rise: rise(1, "By how much the share of appeals may grow."),
        margin: share(0.002, "Appeals a request that may come besides."),
      })
      .prefault({})
      .describe("Refusals that people object to."),
  })
  .describe("What withdraws a change of policy by itself. Absent: as the defaults say.");

export type GuardSettings = Readonly<z.infer<typeof guardSchema>>;

export const GUARD_DEFAULTS: GuardSettings = guardSchema.parse({});
