/**
 * What a layer may ask of the world, as interfaces; src/ports holds what stands behind them, in memory or on
 * Redis. A layer never sees which. Nothing here asks a database: what is not answered from memory is
 * answered by one round trip to the counters, under a deadline, or not at all.
 */
import type { Await, Identity } from "./layer.ts";
import type { Finding } from "./verdict.ts";

/**
 * One limit's say in one request. An amount is a whole number (requests, tokens, nano-dollars): `cost` is used
 * up at once, `reserve` is kept back until the lease is settled or lapses.
 */
export interface Claim {
  /** What is counted together, such as "key=key_1,model=gpt-5"; the port puts the seat's id before it. */
  readonly key: string;
  /** Claims of one group are taken in one step, also on a Redis Cluster: the organisation, or "". */
  readonly group: string;
  readonly limit: number;
  /** Sliding: no span of this length sees more than `limit`. 0: only what is reserved now counts (concurrency). */
  readonly windowSec: number;
  readonly cost: number;
  readonly reserve: number;
}

/** Where a claim's counter stands after a take, refused ones too. */
export interface Level {
  readonly remaining: number;
  /** Until all that is used now has come back; 0 where nothing is used. */
  readonly resetMs: number;
}

/**
 * Who answered: `memory` this process, which counts alone · `shared` Redis · `known` this process, which had been
 * told that the counter is used up · `share` this process, from its share of the limit while Redis is away ·
 * `posture` nobody: Redis is away and the policy says what then.
 */
export type CountedBy = "memory" | "shared" | "known" | "share" | "posture";

export interface Taken {
  readonly admitted: boolean;
  readonly by: CountedBy;
  /** Index of the claim that refused; -1 when admitted. One refusal takes nothing from any. */
  readonly refusedBy: number;
  /** Until the refusing claim would fit; 0 when admitted. For a full concurrency limit, a guess. */
  readonly retryAfterMs: number;
  /** One for each claim, in order; empty when `by` is `posture`. */
  readonly levels: readonly Level[];
  /** Present when admitted, where any claim was given; it must be settled. */
  readonly lease: Lease | undefined;
}

/**
 * What a request holds while it runs. The port renews it; when the process dies it lapses within its time to
 * live, and what had been debited stays counted.
 */
export interface Lease {
  /** Notes that `amount` of claim `index`'s reserve is used; false once more is used than was reserved. */
  debit(index: number, amount: number): boolean;
  /** Reserves more, for all claims or for none. False: refused (or nobody could be asked). */
  extend(more: readonly number[]): Await<boolean>;
  /** Ends the lease: `used[i]` is what claim i came to in all, its cost included. Once; waits for nothing, never throws. */
  settle(used: readonly number[]): void;
}

/** What happens while the shared counters are away: count against this replica's share, admit uncounted, or refuse. */
export type AwayPosture = "share" | "admit" | "refuse";

export interface Counters {
  /** Takes all claims or none. Answers within 25 ms, whatever the store does. */
  take(claims: readonly Claim[], away: AwayPosture): Await<Taken>;
  /** A refusal that this process can be sure of without asking anybody and without taking anything. */
  known(claims: readonly Claim[]): Taken | undefined;
}

/** What a virtual key may be used for; an absent field allows all. */
export interface KeyScope {
  /** Route ids. */
  readonly routes?: ReadonlySet<string>;
  /** Model names, each exact or ending in "*". */
  readonly models?: readonly string[];
  readonly networks?: { has(address: string): boolean };
}

export type KeyLookup =
  | {
      readonly state: "active";
      readonly identity: Identity;
      readonly scope?: KeyScope;
      /** A key that nobody should ever use: whoever does has stolen it. */
      readonly canary?: boolean;
    }
  | { readonly state: "revoked" | "expired"; readonly identity: Identity }
  | { readonly state: "unknown" };

/** One issuer of JWTs that callers may show in place of a key. */
export interface IssuerConfig {
  /** `iss` to the letter. */
  readonly issuer: string;
  readonly audience: string;
  /** Where its keys are; absent: found by OpenID Connect discovery under the issuer. */
  readonly jwksUrl?: string;
  /** Such as ["RS256", "ES256"]; never "none", never a symmetric one. */
  readonly algorithms: readonly string[];
  /** Names of the claims that hold organisation, project and end user. */
  readonly claims: { readonly org: string; readonly project?: string; readonly endUser?: string };
  readonly leewaySec: number;
}

export type TokenCheck =
  | { readonly state: "valid"; readonly identity: Identity; readonly scope?: KeyScope }
  | { readonly state: "expired" | "invalid" | "no_keys"; readonly why: string };

export interface Issuer {
  /** A token that was verified before is answered at once, from memory. */
  verify(token: string): Await<TokenCheck>;
  /** The same, only from memory: undefined where the token was not verified yet. */
  known(token: string): TokenCheck | undefined;
}

export interface Identities {
  /** Looks a presented key up by its keyed hash; synchronous, in memory. */
  find(presented: string): KeyLookup;
  /** "own_" and a keyed hash: how a caller with their own upstream key is known. */
  ownKeyId(presented: string): string;
  /** The same object for the same settings, through every reload. */
  issuer(config: IssuerConfig): Issuer;
}

/** Kinds of things that have a reputation and can be sanctioned. */
export const ENTITY_KINDS = ["org", "key", "end_user", "address", "network"] as const;
export type EntityKind = (typeof ENTITY_KINDS)[number];

/**
 * An `id` is an organisation's name, a key's id, "org/user" of an end user, an IPv4 address or the /64 of an IPv6
 * one, or a CIDR (for a sanction) or an ASN such as "AS64500" (for risk) of a network.
 */
export interface Entity {
  readonly kind: EntityKind;
  readonly id: string;
}

/** From mild to severe. */
export const SANCTION_ACTS = ["notice", "step-up", "throttle", "suspend", "ban"] as const;
export type SanctionAct = (typeof SANCTION_ACTS)[number];

/** One sanction in force. */
export interface Sanction {
  readonly id: string;
  readonly entity: Entity;
  readonly act: SanctionAct;
  /** Words for people. */
  readonly reason: string;
  /** For `throttle`: limits are multiplied by it. */
  readonly limitScale: number;
  /** ms since the epoch; absent: until it is lifted. */
  readonly expiresMs?: number;
}

export interface Caller {
  readonly identity: Identity | undefined;
  readonly address: string;
}

/** What memory knows of a caller. Risk points decay by half in each half-life and have no upper end. */
export interface CallerRecord {
  /** Of each entity of the caller that has any; 0 otherwise. */
  readonly points: Readonly<Record<EntityKind, number>>;
  /** How long the organisation (or key) has been known; Infinity where nobody knows. */
  readonly ageMs: number;
  /** How long this key has been used from this network; Infinity where nobody knows. */
  readonly networkAgeMs: number;
  readonly country: string;
  readonly asn: string;
  /** In force, on any of the caller's entities; most severe first. */
  readonly sanctions: readonly Sanction[];
}

export interface Reputation {
  /** From memory alone; never waits. What this process has not seen yet is fetched behind the request. */
  look(caller: Caller, halfLifeMs: number): CallerRecord;
  /** Adds risk to the caller's entities: told to all replicas within a second. Waits for nothing. */
  feed(caller: Caller, entries: readonly RiskEntry[], halfLifeMs: number): void;
}

export interface RiskEntry {
  readonly finding: Finding;
  /** Points that one such finding is worth. */
  readonly points: number;
  /** The request that it was seen in. */
  readonly requestId: string;
}
