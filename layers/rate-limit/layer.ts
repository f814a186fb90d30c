/**
 * Holds each caller to a number of requests per window. The counts live in the counters port under the
 * seat's id, so that an edit of the limit changes it for running windows and forgives nobody.
 */
import { z } from "zod";
import { ALLOW, type Counted, defineLayer, type Identity, type Verdict } from "../../src/layer/index.ts";

export const PER = ["key", "org", "project", "address"] as const;
export type Per = (typeof PER)[number];

const config = z.strictObject({
  requests: z
    .strictObject({
      limit: z.int().min(1).max(1_000_000_000).default(600).describe("Requests admitted per window."),
      windowSec: z
        .int()
        .min(1)
        .max(86_400)
        .default(60)
        .describe("Seconds of a window; it starts with a caller's first request."),
    })
    .prefault({})
    .describe("How many requests in how much time."),
  per: z
    .enum(PER)
    .default("key")
    .describe("What is counted together. Where no key is known yet, the address is."),
});

/** Whose window a request takes from. The first letter keeps the kinds apart. */
export function counterKey(per: Per, identity: Identity | undefined, address: string): string {
  if (identity === undefined || per === "address") return `a:${network(address)}`;
  switch (per) {
    case "key":
      return `k:${identity.keyId}`;
    case "org":
      return `o:${identity.org}`;
    case "project":
      return `p:${identity.org}/${identity.project}`;
    default:
      return per satisfies never;
  }
}

/**
 * An IPv4 address as it is (also where it comes mapped into IPv6), an IPv6 one by its first 64 bits: those
 * are one subscriber's, who could otherwise take a fresh address for every request.
 */
export function network(address: string): string {
  if (!address.includes(":")) return address;
  const lower = address.toLowerCase();
  if (lower.startsWith("::ffff:") && lower.includes(".")) return lower.slice(7);
  const zone = lower.indexOf("%");
  const [head = "", tail] = (zone < 0 ? lower : lower.slice(0, zone)).split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const after = tail === "" ? 0 : tail.split(":").length + (tail.includes(".") ? 1 : 0);
    const last = tail.split(":");
    const zeros = Math.max(0, 8 - groups.length - after);
    for (let i = 0; i < zeros; i++) groups.push("0");
    groups.push(...last);
  }
  const front = groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, ""));
  return `${front.join(":")}::/64`;
}

export function verdictOn({ admitted, resetMs }: Counted): Verdict {
  if (admitted) return ALLOW;
  return { act: "throttle", findings: [{ reason: "rate.requests", score: 1 }], retryAfterMs: resetMs };
}

export const rateLimit = defineLayer({
  kind: "rate-limit",
  summary: "Holds each key, project, organisation or address to a number of requests per window.",
  config,
  phases: ["onRequest"],
  compile({ requests, per }, { counters }) {
    return {
      open: (request) => ({
        onRequest() {
          const counted = counters.take(counterKey(per, request.identity, request.address), requests);
          return counted instanceof Promise ? counted.then(verdictOn) : verdictOn(counted);
        },
      }),
    };
  },
});
