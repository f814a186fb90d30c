/**
 * Token probabilities for the simulated answers: plausible numbers, true bytes. Probabilities are made from
 * the seed, so that two runs agree.
 */
import type { Random } from "./random.ts";

interface TopLogprob {
  token: string;
  logprob: number;
  bytes: number[];
}

export interface TokenLogprob extends TopLogprob {
  top_logprobs: TopLogprob[];
}

export function tokenLogprob(token: string, alternatives: number, random: Random): TokenLogprob {
  const logprob = -round(random.below(10_000) / 20_000);
  const own = { token, logprob, bytes: [...Buffer.from(token)] };
  const others = Array.from({ length: Math.max(0, alternatives - 1) }, (_, i) => {
    const other = ` ${random.word()}`;
    return { token: other, logprob: round(logprob - 1 - i), bytes: [...Buffer.from(other)] };
  });
  return { ...own, top_logprobs: alternatives === 0 ? [] : [{ ...own }, ...others] };
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
