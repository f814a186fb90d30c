/** What state the gateway keeps, where it keeps it, and the model APIs that it calls. */
import { z } from "zod";
import { EVERYBODY } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const figure = z.union([z.number(), z.string(), z.boolean()]);
const figures = z.record(z.string(), z.union([figure, z.record(z.string(), figure)]));

const redisView = z
  .strictObject({
    up: z.boolean().describe("It answers."),
    cluster: z.boolean().describe("It is a cluster."),
    replica: z.string().describe("The name of this process among the replicas."),
    liveReplicas: z.int().min(1).describe("Gateway processes with a fresh heartbeat."),
    problem: z.string().nullable().describe("What went wrong last; null: nothing."),
  })
  .meta({ id: "Redis", description: "The store that replicas share." });

export const storesRoutes = [
  defineRoute({
    id: "stores.get",
    noun: "stores",
    method: "GET",
    path: "/api/stores",
    access: EVERYBODY,
    summary: "Where state is kept, and whether it can be reached.",
    answers: {
      200: {
        description: "The stores.",
        schema: z
          .strictObject({
            redis: redisView.nullable().describe("null: each process keeps its own state."),
            counters: figures.describe("The limits' counters in this process."),
            reputation: figures.describe("What this process knows of entities."),
            keys: z.int().describe("Virtual keys, those that stopped working too."),
            sanctions: z.int().describe("Sanctions, past ones too."),
          })
          .meta({ id: "Stores", description: "Where state is kept." }),
      },
    },
    handle(_call, { redis, counters, reputation, identities, sanctions }) {
      return ok({
        redis:
          redis === undefined
            ? null
            : {
                up: redis.isUp,
                cluster: redis.isCluster,
                replica: redis.replica,
                liveReplicas: redis.liveReplicas,
                problem: redis.problem ?? null,
              },
        counters: counters.stats(),
        reputation: reputation.stats(),
        keys: identities.list().length,
        sanctions: sanctions.list().length,
      });
    },
  }),
];
