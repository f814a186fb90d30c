/**
 * How long Redis takes by itself, asked the way the gateway asks it: the same client, the same script, four
 * claims, one after the other. What counting on Redis adds to a request is held against this.
 */
import type { Claim } from "../../src/layer/index.ts";
import { RedisCounters } from "../../src/ports/counters-redis.ts";
import { openRedis } from "../../src/ports/redis.ts";
import type { Figures } from "./report.ts";
import { median } from "./statistics.ts";

const ASKS = 300;
const WARMING = 30;

/** What the bench's policy claims for a request: three reserves that are settled, and one request. */
const CLAIMS: readonly Claim[] = [
  { key: "key-requests:key=probe-", limit: 1e9, windowSec: 60, cost: 1, reserve: 0 },
  { key: "key-tokens:key=probe", limit: 1e9, windowSec: 60, cost: 0, reserve: 1_000 },
  { key: "org-spend:org=probe", limit: 1e15, windowSec: 86_400, cost: 0, reserve: 1_000_000 },
  { key: "org-concurrency:org=probe", limit: 1e9, windowSec: 0, cost: 0, reserve: 1 },
].map((claim) => ({ ...claim, group: "probe" }));

export function openProbe(url: string): () => Promise<Figures> {
  return async () => {
    const redis = await openRedis({ url, nodes: [], prefix: "probe", timeoutMs: 1_000 });
    const store = new RedisCounters({ redis });
    const counters = store.forSeat("probe");
    try {
      const pingP50Ms = await medianOf(() => redis.run((client) => client.ping()));
      // Another caller each time: one who comes again would be answered from what is at hand, without Redis.
      let callers = 0;
      const takeP50Ms = await medianOf(async () => {
        const [requests, ...others] = CLAIMS as [Claim, ...Claim[]];
        const caller = { ...requests, key: `${requests.key}${callers++}` };
        const taken = await counters.take([caller, ...others], "refuse");
        if (!taken.admitted || taken.by !== "shared")
          throw new Error("Redis did not answer the probe's take");
        return () => taken.lease?.settle([1, 100, 100_000, 0]);
      });
      return { pingP50Ms, takeP50Ms };
    } finally {
      await store.close();
      await redis.close();
    }
  };
}

/** What `ask` answers, where that is a function, is done outside the measured time. */
async function medianOf(ask: () => Promise<unknown>): Promise<number> {
  const tookMs: number[] = [];
  for (let i = 0; i < WARMING + ASKS; i++) {
    const startedMs = performance.now();
    const after = await ask();
    if (i >= WARMING) tookMs.push(performance.now() - startedMs);
    if (typeof after === "function") after();
  }
  return median(tookMs);
}
