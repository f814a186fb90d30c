/**
 * From what is known of a caller to how they stand: pure arithmetic and comparisons, without a clock. The formula
 * and each bound are in the README, with examples.
 */
import {
  ALLOW,
  type CallerRecord,
  type Finding,
  NO_STANDING,
  type Sanction,
  type Standing,
  type Tier,
  type Verdict,
} from "../../src/layer/index.ts";
import type { ReputationConfig } from "./config.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** The parts of the configuration that decide on standing. */
export type StandingConfig = Pick<
  ReputationConfig,
  "blame" | "riskyAt" | "suspendAt" | "newDays" | "trustedDays" | "trustedRiskMax" | "newNetworkHours"
>;

/**
 * How far the points of an address and its network speak against a caller whom nobody vouches for: there is
 * nothing else to go by. A known caller may share both with others, see `blame`.
 */
const BLAME_OF_STRANGERS = { address: 0.9, network: 0.2 } as const;

/** One for each tier where nothing is known against the caller and no database says where they are. */
const CLEAN: Readonly<Record<"trusted" | "normal" | "new", Standing>> = {
  trusted: Object.freeze({ ...NO_STANDING, tier: "trusted" as const }),
  normal: Object.freeze({ ...NO_STANDING, tier: "normal" as const }),
  new: Object.freeze({ ...NO_STANDING, tier: "new" as const }),
};

/** Of points alone: 0 has none, 1 point is 0.63, 3 are 0.95. */
export function riskOfPoints(points: number): number {
  return -Math.expm1(-points);
}

/**
 * 1 - Π(1 - blame · (1 - e^-points)) over the caller's entities: each speaks against the caller as far as its blame
 * goes, and none takes back what another says.
 */
export function riskOf({ points }: CallerRecord, blame: StandingConfig["blame"], isNamed: boolean): number {
  const { address, network } = isNamed ? blame : BLAME_OF_STRANGERS;
  let innocence = 1;
  if (points.org > 0) innocence *= 1 - blame.org * riskOfPoints(points.org);
  if (points.key > 0) innocence *= 1 - blame.key * riskOfPoints(points.key);
  if (points.end_user > 0) innocence *= 1 - blame.endUser * riskOfPoints(points.end_user);
  if (points.address > 0) innocence *= 1 - address * riskOfPoints(points.address);
  if (points.network > 0) innocence *= 1 - network * riskOfPoints(points.network);
  return 1 - innocence;
}

/** Suspended before risky before new before trusted before normal. `isNamed`: the caller proved who they are. */
export function standingOf(record: CallerRecord, config: StandingConfig, isNamed = true): Standing {
  const { points, country, asn, sanctions } = record;
  const isClean = points.org + points.key + points.end_user + points.address + points.network === 0;
  const risk = isClean ? 0 : riskOf(record, config.blame, isNamed);
  if (risk === 0 && sanctions.length === 0 && country === "" && asn === "") {
    return CLEAN[ageTier(record.ageMs, 0, config)];
  }
  let isSuspended = config.suspendAt !== undefined && risk >= config.suspendAt;
  let stepUp = false;
  let limitScale = 1;
  for (const sanction of sanctions) {
    switch (sanction.act) {
      case "suspend":
      case "ban":
        isSuspended = true;
        break;
      case "throttle":
        limitScale = Math.min(limitScale, sanction.limitScale);
        break;
      case "step-up":
        stepUp = true;
        break;
      case "notice":
        break;
      default:
        sanction.act satisfies never;
    }
  }
  const isRisky = stepUp || risk >= config.riskyAt;
  const tier: Tier = isSuspended ? "suspended" : isRisky ? "risky" : ageTier(record.ageMs, risk, config);
  return { tier, risk, limitScale, stepUp, country, asn };
}

/** Infinity means that nobody knows: such a caller is neither new nor trusted. */
function ageTier(ageMs: number, risk: number, config: StandingConfig): "trusted" | "normal" | "new" {
  if (ageMs < config.newDays * DAY_MS) return "new";
  if (ageMs === Number.POSITIVE_INFINITY) return "normal";
  return ageMs >= config.trustedDays * DAY_MS && risk <= config.trustedRiskMax ? "trusted" : "normal";
}

/** A key that has been known for longer is used from a network that it was never seen in before. */
export function isNewNetwork({ ageMs, networkAgeMs }: CallerRecord, newNetworkHours: number): boolean {
  const newMs = newNetworkHours * HOUR_MS;
  return networkAgeMs < newMs && ageMs >= newMs;
}

/** What the seat says of a caller at the first gate; the score of a tier is the risk that led to it. */
export function verdictOn(record: CallerRecord, standing: Standing, config: StandingConfig): Verdict {
  const isNew = isNewNetwork(record, config.newNetworkHours);
  if (standing.risk < config.riskyAt && record.sanctions.length === 0 && !isNew) return ALLOW;
  return verdictFrom(record.sanctions, standing, config, isNew);
}

/** The same for the end user alone, whom the head did not name: what was said before is not said again. */
export function verdictOnEndUser(
  record: CallerRecord,
  { before, after }: { readonly before: Standing; readonly after: Standing },
  config: StandingConfig,
): Verdict {
  const sanctions = record.sanctions.filter(({ entity }) => entity.kind === "end_user");
  if (sanctions.length === 0 && after.risk <= before.risk) return ALLOW;
  return verdictFrom(sanctions, after, config, false);
}

function verdictFrom(
  sanctions: readonly Sanction[],
  { risk }: Standing,
  { riskyAt, suspendAt }: StandingConfig,
  isNew: boolean,
): Verdict {
  const findings: Finding[] = [];
  let isBlocked = false;
  for (const { act } of sanctions) {
    isBlocked ||= act === "suspend" || act === "ban";
    const reason = `sanction.${act}`;
    if (!findings.some((finding) => finding.reason === reason)) findings.push({ reason, score: 1 });
  }
  if (suspendAt !== undefined && risk >= suspendAt) {
    isBlocked = true;
    findings.push({ reason: "reputation.tier.suspended", score: risk });
  } else if (risk >= riskyAt) findings.push({ reason: "reputation.tier.risky", score: risk });
  if (isNew) findings.push({ reason: "reputation.network.new", score: 1 });
  if (findings.length === 0) return ALLOW;
  return { act: isBlocked ? "block" : "flag", findings };
}

const TIER_RANK: Readonly<Record<Tier, number>> = { trusted: 0, normal: 1, new: 2, risky: 3, suspended: 4 };

/** Whether `after` asks for more care than `before`. */
export function isWorse(after: Standing, before: Standing): boolean {
  return (
    TIER_RANK[after.tier] > TIER_RANK[before.tier] ||
    after.risk > before.risk ||
    after.limitScale < before.limitScale ||
    (after.stepUp && !before.stepUp)
  );
}

/** The tier of an entity that is known by its points alone, for people who look at one. */
export function tierAt(
  points: number,
  { riskyAt, suspendAt }: Pick<StandingConfig, "riskyAt" | "suspendAt">,
): { readonly tier: Tier; readonly risk: number } {
  const risk = riskOfPoints(points);
  if (suspendAt !== undefined && risk >= suspendAt) return { tier: "suspended", risk };
  return { tier: risk >= riskyAt ? "risky" : "normal", risk };
}
