/** The model APIs behind the gateway, target by target. */
import { z } from "zod";
import { TIERS } from "../layer/index.ts";
import type { UpstreamAdmin } from "./parts.ts";
import { EVERYBODY } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const target = z.strictObject({
  name: z.string().describe("The target's name."),
  origin: z.string().describe("Its address, without credentials."),
  limit: z.number().describe("Requests that may be under way at once, as learnt."),
  inFlight: z.int().describe("Requests under way."),
  connected: z.int().describe("Open connections."),
  ejected: z.boolean().describe("It failed too often and is left out for a while."),
  failures: z.int().describe("Requests that failed there since the start."),
  ejections: z.int().describe("How often it was left out since the start."),
});

const upstreamView = z
  .strictObject({
    dialect: z.string().describe("openai or anthropic."),
    targets: z.array(target).describe("In the order of gateway.yaml."),
    shed: z
      .record(z.enum(TIERS), z.int())
      .describe("Requests refused for want of room since the start, by the caller's tier."),
    retries: z.int().describe("Requests that were tried once more since the start."),
  })
  .meta({ id: "Upstream", description: "The model APIs of one dialect." });

export const upstreamsRoutes = [
  defineRoute({
    id: "upstreams.list",
    noun: "stores",
    method: "GET",
    path: "/api/upstreams",
    access: EVERYBODY,
    summary: "The model APIs behind the gateway, and how much each is trusted with now.",
    answers: {
      200: {
        description: "All of them.",
        schema: z
          .strictObject({ upstreams: z.array(upstreamView).describe("Dialect by dialect.") })
          .meta({ id: "Upstreams", description: "The model APIs behind the gateway." }),
      },
    },
    handle: (_call, { upstreams }) => ok({ upstreams: Object.entries(upstreams).map(viewOf) }),
  }),
];

function viewOf([dialect, upstream]: readonly [string, UpstreamAdmin]) {
  const { targets, shed, retries } = upstream.stats();
  const shown = targets.map(({ name, isEjected, ...figures }, i) => ({
    name,
    origin: upstream.origins[i] ?? "",
    ejected: isEjected,
    ...figures,
  }));
  return { dialect, targets: shown, shed, retries };
}
