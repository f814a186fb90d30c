/**
 * Says how the caller stands, before anything is done for them, and refuses who is suspended or banned; once the
 * request is over, books what all enforcing seats found on whoever sent it. The store behind the port remembers; this
 * layer only weighs. Seat it after `auth`, which tells who is calling, and before whatever asks for a tier.
 */
import {
  ALLOW,
  type Caller,
  type Decided,
  defineLayer,
  type Reputation,
  type RequestContext,
  type RiskEntry,
  type Standing,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { type ReputationConfig, reputationConfig } from "./config.ts";
import { isWorse, standingOf, verdictOn, verdictOnEndUser } from "./standing.ts";
import { compileWeights, DEFAULT_WEIGHTS, entriesOf, type WeightOf } from "./weights.ts";

interface Seat {
  readonly config: ReputationConfig;
  readonly halfLifeMs: number;
  readonly weightOf: WeightOf;
  readonly reputation: Reputation;
}

export const reputation = defineLayer({
  kind: "reputation",
  summary: "Tells how a caller stands (trusted, normal, new, risky, suspended), and applies sanctions.",
  config: reputationConfig,
  phases: ["onRequest", "onPrompt", "onDecided"],
  compile(config, ports) {
    const seat: Seat = {
      config,
      halfLifeMs: config.halfLifeHours * 3_600_000,
      weightOf: compileWeights({ ...DEFAULT_WEIGHTS, ...config.weights }),
      reputation: ports.reputation,
    };
    return { open: (request) => new ReputationWatch(seat, request) };
  },
});

class ReputationWatch implements Watch {
  readonly #seat: Seat;
  readonly #request: RequestContext;
  /** As told at the first gate; undefined before. */
  #standing: Standing | undefined;
  #endUser: string | undefined;

  constructor(seat: Seat, request: RequestContext) {
    this.#seat = seat;
    this.#request = request;
  }

  onRequest(): Verdict {
    const { config, halfLifeMs, reputation } = this.#seat;
    const record = reputation.look(callerOf(this.#request), halfLifeMs);
    const standing = standingOf(record, config, isNamed(this.#request));
    this.#standing = standing;
    this.#endUser = this.#request.identity?.endUser;
    this.#request.stand(standing);
    return verdictOn(record, standing, config);
  }

  /** The body may name an end user, whom the head did not. */
  onPrompt(): Verdict {
    const endUser = this.#request.identity?.endUser;
    const before = this.#standing;
    if (endUser === undefined || endUser === this.#endUser || before === undefined) return ALLOW;
    const { config, halfLifeMs, reputation } = this.#seat;
    const record = reputation.look(callerOf(this.#request), halfLifeMs);
    const after = standingOf(record, config, isNamed(this.#request));
    if (isWorse(after, before)) {
      this.#standing = after;
      this.#request.stand(after);
    }
    return verdictOnEndUser(record, { before, after }, config);
  }

  onDecided({ id, findings }: Decided): void {
    if (findings.length === 0) return;
    const { halfLifeMs, weightOf, reputation } = this.#seat;
    const entries = entriesOf(findings, weightOf, id);
    if (entries.length === 0) return;
    const caller = callerOf(this.#request);
    const [ofPlace, ofCaller] = apart(entries);
    if (ofCaller.length > 0) reputation.feed(caller, ofCaller, halfLifeMs);
    if (ofPlace.length > 0) {
      reputation.feed({ identity: undefined, address: caller.address }, ofPlace, halfLifeMs);
    }
  }
}

function callerOf({ identity, address }: RequestContext): Caller {
  return { identity, address };
}

/** Whom nobody vouches for is known by their address alone. */
function isNamed({ identity }: RequestContext): boolean {
  return identity !== undefined && identity.proof !== "none";
}

/**
 * Who failed to prove who they are is not whom they name: a stolen canary or a revoked key speaks against where it
 * was used, never against its owner. What a key is used for beyond its scope is its owner's doing again.
 */
function apart(entries: readonly RiskEntry[]): [place: readonly RiskEntry[], caller: readonly RiskEntry[]] {
  if (!entries.some(isOfPlace)) return [NONE, entries];
  return [entries.filter(isOfPlace), entries.filter((entry) => !isOfPlace(entry))];
}

const NONE: readonly RiskEntry[] = Object.freeze([]);

function isOfPlace({ finding: { reason } }: RiskEntry): boolean {
  return reason.startsWith("auth.") && !reason.startsWith("auth.scope.");
}
