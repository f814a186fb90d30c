/** One of the places that a dialect's requests may go to, with what was learnt of it. */
import type { Tier } from "../layer/index.ts";
import type { Upstream } from "./upstream.ts";
import { type EjectionSettings, TargetHealth } from "./upstream-health.ts";
import { AdaptiveLimit, type LimitSettings } from "./upstream-limit.ts";

export interface Target {
  readonly name: string;
  readonly weight: number;
  readonly upstream: Upstream;
  readonly limit: AdaptiveLimit;
  readonly health: TargetHealth;
}

export interface TargetOptions {
  readonly name: string;
  readonly weight: number;
  readonly upstream: Upstream;
  readonly overload: LimitSettings;
  readonly ejection: EjectionSettings;
}

export function makeTarget({ name, weight, upstream, overload, ejection }: TargetOptions): Target {
  return { name, weight, upstream, limit: new AdaptiveLimit(overload), health: new TargetHealth(ejection) };
}

/**
 * The less loaded of two that are drawn by weight: nearly as even as the least loaded of all, and without the rush
 * of everybody to the one that has just become it. Falls back on any that has room.
 */
export function chooseTarget(
  targets: readonly Target[],
  { tier, nowMs, random, not }: { tier: Tier; nowMs: number; random: () => number; not?: Target | undefined },
): Target | undefined {
  const open: Target[] = [];
  let weights = 0;
  for (const target of targets) {
    if (target === not || !target.health.isOpen(nowMs) || !target.limit.hasRoom(tier)) continue;
    open.push(target);
    weights += target.weight;
  }
  if (open.length < 2) return open[0];
  const first = draw(open, random() * weights);
  const second = draw(open, random() * weights);
  return load(second) < load(first) ? second : first;
}

function draw(targets: readonly Target[], at: number): Target {
  let left = at;
  for (const target of targets) {
    left -= target.weight;
    if (left < 0) return target;
  }
  return targets.at(-1)!;
}

function load({ limit, weight }: Target): number {
  return (limit.inFlight + 1) / weight;
}
