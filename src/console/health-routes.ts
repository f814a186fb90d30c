/** What probes and Prometheus ask, and the one page that says how the gateway is. */
import { z } from "zod";
import { policyStatus } from "./policy-routes.ts";
import { EVERYBODY } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const state = (values: readonly [string, ...string[]]) =>
  z.strictObject({ status: z.enum(values).describe("How it is.") });

const spoolStats = z
  .strictObject({
    state: z.enum(["ok", "overflow", "full", "failing"]).describe("Whether decisions can be kept."),
    segments: z.int().describe("Files on disk."),
    bytes: z.int().describe("Bytes on disk."),
    appended: z.int().describe("Decisions kept since the start."),
    dropped: z.int().describe("Decisions that were not kept."),
    segmentsDropped: z.int().describe("Files dropped at the bound before they were read."),
    torn: z.int().describe("Torn last lines that were cut off at the start."),
    full: z.boolean().describe("Decisions are refused at the bound."),
    lastError: z.string().describe("What the disk said last; empty where it said nothing."),
  })
  .meta({ id: "Spool", description: "The spool of decisions." });

export const healthRoutes = [
  defineRoute({
    id: "health.live",
    noun: "health",
    method: "GET",
    path: "/healthz",
    access: "open",
    summary: "Whether the process runs.",
    answers: { 200: { description: "It runs.", schema: state(["ok"]) } },
    handle: () => ok({ status: "ok" }),
  }),
  defineRoute({
    id: "health.ready",
    noun: "health",
    method: "GET",
    path: "/readyz",
    access: "open",
    summary: "Whether requests may be sent here.",
    answers: {
      200: {
        description: "They may.",
        schema: z.strictObject({
          status: z.literal("ready").describe("How it is."),
          revision: z.string().describe("The policy that is served."),
        }),
      },
      503: { description: "They may not.", schema: state(["draining", "spool refuses records"]) },
    },
    handle(_call, { state: { draining }, spool, policy }) {
      if (draining) return { status: 503, body: { status: "draining" } };
      if (!spool.accepting) return { status: 503, body: { status: "spool refuses records" } };
      return ok({ status: "ready", revision: policy.current().revision });
    },
  }),
  defineRoute({
    id: "health.metrics",
    noun: "health",
    method: "GET",
    path: "/metrics",
    access: "metrics",
    summary: "The metrics, for Prometheus.",
    answers: { 200: { description: "Prometheus text." } },
    async handle(_call, { metrics }) {
      return ok(await metrics.expose(), { headers: { "content-type": metrics.contentType } });
    },
  }),
  defineRoute({
    id: "health.status",
    noun: "health",
    method: "GET",
    path: "/api/status",
    access: EVERYBODY,
    summary: "Policy, spool and upstreams at a glance.",
    answers: {
      200: {
        description: "How the gateway is.",
        schema: z
          .strictObject({
            policy: policyStatus.describe("What is served."),
            spool: spoolStats.describe("The decisions on disk."),
            upstreams: z.record(z.string(), z.array(z.string())).describe("Addresses by dialect."),
            draining: z.boolean().describe("New requests are refused, as the process is about to end."),
          })
          .meta({ id: "Status", description: "The gateway at a glance." }),
      },
    },
    handle(_call, { policy, spool, upstreams, state: { draining } }) {
      const origins = Object.entries(upstreams).map(([dialect, { origins }]) => [dialect, origins]);
      return ok({
        policy: policy.status(),
        spool: spool.stats(),
        upstreams: Object.fromEntries(origins),
        draining,
      });
    },
  }),
];
