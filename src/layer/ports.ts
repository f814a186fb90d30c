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

/**
 * - `embedding` numbers of unit length and their kin, as the encoder names them
 * - `skipped` `full`: too many wait · `late`: the deadline passed · `failed`: the encoder is broken or missing
 *   · `gone`: the request is over
 */
export type Encoded =
  | { readonly kind: "embedding"; readonly embedding: Float32Array }
  | { readonly kind: "skipped"; readonly cause: EncoderSkip };

export const ENCODER_SKIPS = ["full", "late", "failed", "gone"] as const;
export type EncoderSkip = (typeof ENCODER_SKIPS)[number];

/** The sentence encoder, off the event loop, shared by all seats. */
export interface Encoder {
  /** Never rejects and never hangs: whatever goes wrong comes back as a value within the deadline. */
  encode(text: string, signal?: AbortSignal): Promise<Encoded>;
}

/** A SimHash of 64 bits and the length of the text that it was taken of; near texts have near hashes. */
export interface TextPrint {
  readonly low: number;
  readonly high: number;
  /** UTF-16 units of the folded text. */
  readonly units: number;
}

export type ExemplarLabel = "bad" | "good";

export interface ExemplarMatch {
  readonly id: string;
  readonly label: ExemplarLabel;
  /** `shadow`: found, but it must not block. */
  readonly mode: "enforce" | "shadow";
  /** 0..1; 1 is the same text. */
  readonly similarity: number;
}

/** Texts that people have judged: known bad ones and known good ones, without the texts themselves. */
export interface Exemplars {
  /** 0: nothing needs to be looked up. */
  readonly size: number;
  /** The nearest of those that the text is a copy of, but for a word or two. */
  copyOf(print: TextPrint): ExemplarMatch | undefined;
  /** The nearest of each label by meaning; absent where there is none of it. */
  nearest(embedding: Float32Array): { readonly bad?: ExemplarMatch; readonly good?: ExemplarMatch };
}

/** Texts that were refused lately, by who sent them; bounded, in this process, kept through every reload. */
export interface RecentTexts {
  note(who: string, print: TextPrint): void;
  /** How near the nearest text of `who` within the last `withinMs` is, 0..1; 0 where there is none. */
  nearest(who: string, print: TextPrint, withinMs: number): number;
  /** Whether anything is known of `who`: spares the print. */
  knows(who: string): boolean;
}

/** Where a remote judge is, and how much it may be asked; from the policy alone, never from a request. */
export interface JudgeEndpoint {
  /** https; http only to what `addresses` or `allowPrivate` lets in. */
  readonly url: string;
  /** Environment variable (SALLYPORT_JUDGE_...) whose value is sent as a bearer token. */
  readonly keyEnv?: string;
  /** Addresses and networks that the name may lead to, and no others, private ones too; []: any public one. */
  readonly addresses: readonly string[];
  /** Private, loopback and link-local addresses may be led to as well; a cloud's metadata service never. */
  readonly allowPrivate: boolean;
  /** One question in all: waiting for its turn, connecting, the answer. */
  readonly timeoutMs: number;
  readonly answerBytesMax: number;
  /** Questions under way; `queueMax` more may wait. */
  readonly concurrencyMax: number;
  readonly queueMax: number;
  readonly breaker: BreakerConfig;
}

export interface BreakerConfig {
  /** So many failures in a row open the circuit. */
  readonly failuresMax: number;
  /** How long nobody is asked then. */
  readonly openMs: number;
  /** After it one question at a time is let through; so many good answers in a row close the circuit. */
  readonly successesMin: number;
}

/**
 * - `open` the circuit is open · `full` too many wait · `timeout` no answer in time · `address` the name leads where
 *   it may not · `connect` no connection, TLS included · `status` another status than 200 · `redirect` it sends us
 *   elsewhere · `too_large` · `protocol` the answer breaks HTTP or is not UTF-8 · `malformed` an answer that is no
 *   verdict · `key` the environment has no key · `gone` nobody waits for the answer any more
 */
export const JUDGE_FAILURES = [
  "open",
  "full",
  "timeout",
  "address",
  "connect",
  "status",
  "redirect",
  "too_large",
  "protocol",
  "malformed",
  "key",
  "gone",
] as const;
export type JudgeFailure = (typeof JUDGE_FAILURES)[number];

export type JudgeAnswer<T> =
  | { readonly kind: "answered"; readonly value: T }
  | { readonly kind: "failed"; readonly cause: JudgeFailure };

export interface JudgeQuestion<T> {
  /** JSON. */
  readonly body: string;
  /** The verdict in the answer's text; undefined where it holds none, which is the judge's failure. */
  read(answer: string): T | undefined;
  readonly signal?: AbortSignal;
}

export interface Judge {
  /** Never rejects and never hangs: whatever goes wrong comes back as a cause within the deadline. */
  ask<T>(question: JudgeQuestion<T>): Promise<JudgeAnswer<T>>;
  /** Closes its connections; the circuit stays as it is. */
  close(): Promise<void>;
}

/** Remote guards, bound to a seat: a circuit belongs to seat and URL and outlives every reload. */
export interface Judges {
  /** Connects to nobody before it is asked. @throws {RangeError} for an endpoint that can never be asked. */
  open(endpoint: JudgeEndpoint): Judge;
}
