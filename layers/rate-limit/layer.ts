/**
 * Holds each caller to limits on requests, tokens, spend and concurrency. The counts live in the counters port
 * under the seat's id, so that an edit of a limit changes it for what was used already and forgives nobody.
 */
import { defineLayer } from "../../src/layer/index.ts";
import { loadTokenizer } from "../../src/text/tokens.ts";
import { CallerNames } from "./claims.ts";
import { Config, countsTokens, limitOf, type RateLimitConfig } from "./config.ts";
import { readPrices } from "./prices.ts";
import { concerning, LimitWatch, type Plan } from "./watch.ts";

const spends = ({ limits }: RateLimitConfig) => limits.some((limit) => limit.of === "spend");

export const rateLimit = defineLayer<RateLimitConfig>({
  kind: "rate-limit",
  summary: "Limits on requests, tokens, spend and concurrency, by any mix of who asks, from where, for what.",
  config: Config,
  phases: ["onRequest", "onPrompt", "onChunk", "onEnd"],
  phasesOf({ limits }) {
    const compiled = limits.map((limit, i) => limitOf(limit, i));
    if (!compiled.some(({ needsBody }) => needsBody)) return ["onRequest", "onEnd"];
    const writes = compiled.some(({ unit }) => countsTokens(unit) && unit !== "input_tokens");
    return writes ? ["onRequest", "onPrompt", "onChunk", "onEnd"] : ["onRequest", "onPrompt", "onEnd"];
  },
  needs: (config) => (spends(config) ? [{ path: config.prices }] : []),
  compile(config, { counters, artifacts }) {
    const limits = config.limits.map((limit, i) => limitOf(limit, i));
    const { whenAway, cutAtLimit, outputReserve, outputReserveMax, tokenizerUnitsMax } = config;
    const { prices: path } = config;
    const plan: Plan = {
      counters,
      away: whenAway,
      cutAtLimit,
      outputReserve,
      outputReserveMax,
      tokenizerUnitsMax,
      prices: spends(config) ? readPrices(artifacts.text({ path }), path) : undefined,
      needsBody: limits.some(({ needsBody }) => needsBody),
      concerning: concerning(limits),
      names: new CallerNames(),
    };
    // Behind the compilation: until it is there, prompts are estimated.
    if (tokenizerUnitsMax > 0 && limits.some(({ unit }) => countsTokens(unit))) loadTokenizer();
    return { open: (request) => new LimitWatch(plan, request) };
  },
});
