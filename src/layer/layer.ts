/**
 * The contract between the runner and a layer. A layer says what it found and what it would do; it does
 * not know its mode, read the clock, count metrics, write logs or import another layer. It does no I/O
 * of its own: whatever it needs comes through `Ports`, named here and implemented in src/ports.
 */
import type { z } from "zod";
import type { Portions } from "./portions.ts";
import type { Counters, Encoder, Exemplars, Identities, Judges, RecentTexts, Reputation } from "./ports.ts";
import type { Delta, DialectName, Leaf, Operation, Prompt, Usage } from "./text.ts";
import type { Act, Finding, Held, Verdict } from "./verdict.ts";

export type Await<T> = T | Promise<T>;

/**
 * How a caller proved who they are: `key` a virtual key · `token` a JWT of a trusted issuer · `own_key` their
 * own key for the upstream, which then goes there in place of ours · `none` nothing was asked for.
 */
export type Proof = "key" | "token" | "own_key" | "none";

/** Who is calling, as far as the layers so far could tell. */
export interface Identity {
  readonly org: string;
  readonly project: string;
  readonly keyId: string;
  /** The partner's own user; known once the body is read (or at once from a token that names them). */
  readonly endUser?: string;
  /** Absent: `key`. */
  readonly proof?: Proof;
  /** When the key was made, ms since the epoch; absent where nobody knows. */
  readonly sinceMs?: number;
}

/** Tiers of standing, from the best to the worst. */
export const TIERS = ["trusted", "normal", "new", "risky", "suspended"] as const;
export type Tier = (typeof TIERS)[number];

/** How a caller stands: what a `when` may ask for, what limits scale by, and whom an overload sheds first. */
export interface Standing {
  readonly tier: Tier;
  /** 0 nothing known against them .. 1 certain abuse. */
  readonly risk: number;
  /** Limits are multiplied by it; 1 but under a `throttle` sanction. */
  readonly limitScale: number;
  /** A `step-up` sanction is in force: seats may be stricter. */
  readonly stepUp: boolean;
  /** ISO 3166-1 alpha-2, or "" where no database says. */
  readonly country: string;
  /** Such as "AS64500", or "". */
  readonly asn: string;
}

/** Everyone's standing where no seat says otherwise. */
export const NO_STANDING: Standing = Object.freeze({
  tier: "normal",
  risk: 0,
  limitScale: 1,
  stepUp: false,
  country: "",
  asn: "",
});

/** Method, path and headers; before the body is read. Header names are lower case. */
export interface RequestHead {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Peer address without a port. */
  readonly address: string;
  /** The key that the caller presented (`Authorization: Bearer` or `x-api-key`), never logged. */
  readonly credential?: string;
}

/** What every watch of one request shares. */
export interface RequestContext {
  /** "req_" and 32 hex digits: also the decision's id and what a user quotes in a report. */
  readonly id: string;
  readonly dialect: DialectName;
  readonly operation: Operation;
  /** Route id as the policy lists it, such as "openai.chat". */
  readonly route: string;
  readonly address: string;
  /** Set by the layer that knows who is calling (`auth`); undefined before. */
  readonly identity: Identity | undefined;
  /** Set by the layer that knows how callers stand (`reputation`); NO_STANDING before. */
  readonly standing: Standing;
  /** Ids of rules that an operator switched off for now. The same set while that stays so. Absent: none. */
  readonly rulesOff?: ReadonlySet<string> | undefined;
  /** Aborted when the request is over; made when it is first asked for, as most layers have nothing to stop. */
  readonly signal: AbortSignal;
  /**
   * What the seats before this one have made of the request: a promise where one of them still works on the present
   * phase. To be asked for before a watch's first await. Shadows change nothing: what they found is told to shadows.
   */
  soFar(): Await<SoFar>;
  /** Tells the runner, and the seats after this one, who is calling. */
  identify(identity: Identity): void;
  /** Tells the seats after this one how the caller stands. From a seat in shadow it is recorded, not told. */
  stand(standing: Standing): void;
}

/** What some seats made of a request up to now. */
export interface SoFar {
  readonly act: Act;
  /** The strongest of each seat, at most 16. */
  readonly findings: readonly Finding[];
}

export interface ResponseHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly stream: boolean;
}

/** How a request ended; `cause` is "complete" or a code from the table in src/http/problems.ts. */
export interface Ending {
  readonly cause: string;
  readonly usage: Usage;
  /** False: nothing was asked of the model, so nothing was used. */
  readonly upstreamCalled: boolean;
}

/** What all seats together made of a request, once it is over. */
export interface Decided {
  readonly id: string;
  readonly cause: string;
  /** The joined act that was applied. */
  readonly act: Act;
  /** Of every seat that enforces; what shadows found changes nothing for anyone. */
  readonly findings: readonly Finding[];
}

/** How much of one limit is left, for the headers of the answer. */
export interface Quota {
  /** Name of the limit, as the policy gives it. */
  readonly name: string;
  readonly unit: "requests" | "input_tokens" | "output_tokens" | "tokens" | "spend" | "concurrency";
  readonly limit: number;
  readonly remaining: number;
  /** Until what is used now has come back; 0 where nothing is used. */
  readonly resetMs: number;
  /** 0 for `concurrency`. */
  readonly windowSec: number;
}

/**
 * One request seen by one seat. A phase that is absent costs nothing. Phases are called in the order
 * below, each at most once but for `onLeaf` and `onChunk`; `onEnd` is called exactly once on every watch
 * that was opened, also after an abort, an error or a block.
 */
export interface Watch {
  onRequest?(head: RequestHead): Await<Verdict>;
  /**
   * Judges one leaf by itself. The verdict must follow from the leaf's text, role and kind alone, so that
   * the runner may answer from its cache for a turn that was judged before.
   */
  onLeaf?(leaf: Leaf): Verdict;
  /** The whole prompt: every turn, role, tool result and tool schema. */
  onPrompt?(prompt: Prompt): Await<Verdict>;
  onResponseHead?(head: ResponseHead): Await<Verdict>;
  onChunk?(delta: Delta): Await<Held>;
  onEnd?(ending: Ending): Await<Verdict>;
  /** After every seat's `onEnd`: what the whole came to. Not a verdict; nothing waits for it. */
  onDecided?(decided: Decided): void;
  /** Read when the answer's head is written, of enforcing seats alone; before `onEnd`. */
  quotas?(): readonly Quota[];
}

export type Phase = Extract<keyof Watch, `on${string}`>;

/** Compiled, immutable, shared by all requests of one snapshot. State lives in ports keyed by seat, never here. */
export interface Layer {
  open(request: RequestContext): Watch;
  /**
   * A prompt was refused by a seat that enforces, this one or another, whether this one was reached or not: what is
   * remembered of refused texts must not depend on the order of the seats. `verdict` is the joined one. Nothing waits
   * for it.
   */
  onRefused?(request: RequestContext, prompt: Prompt, verdict: Verdict): void;
  /** Ids of the rules that can be switched off one by one (`RequestContext.rulesOff`). Absent: none. */
  readonly rules?: ReadonlySet<string>;
  dispose?(): Promise<void>;
}

/** A file that a layer needs beside its configuration: a rule pack, a model. `path` is relative to the policy's folder. */
export interface ArtifactRef {
  readonly path: string;
  /** Hex SHA-256 that the content must have; absent: any content, recorded by its hash. */
  readonly sha256?: string;
  /** Not text: it need not be UTF-8, and only `bytes` reads it. */
  readonly isBinary?: true;
  /** What to do where it cannot be read, for the report. */
  readonly hint?: string;
}

export interface LayerKind<Config = unknown> {
  /** Equals the folder's name. */
  readonly kind: string;
  /** One line for `sallyport check` and the docs. */
  readonly summary: string;
  /** Every field described, every default stated. */
  readonly config: z.ZodType<Config>;
  /** Phases that watches of this layer may have: lets the runner skip the rest, and the policy check `when`. */
  readonly phases: readonly Phase[];
  /** Fewer of them, where the configuration needs fewer. */
  phasesOf?(config: Config): readonly Phase[];
  /** The most text (UTF-16 units per channel) that `onChunk` may hold back; 0 without `onChunk`. */
  holdMax?(config: Config): number;
  /** Where `onChunk` judges whole sentences; absent: text is told as it comes. `holdMax` covers what waits for them. */
  portions?(config: Config): Portions | undefined;
  needs?(config: Config): readonly ArtifactRef[];
  /** Pure and synchronous; throws ConfigProblem with a path into `config`. */
  compile(config: Config, ports: Ports): Layer;
}

/** Keeps the type of `Config` while a kind is written as an object literal. */
export function defineLayer<Config>(kind: LayerKind<Config>): LayerKind<Config> {
  return kind;
}

/** A configuration that cannot be served. `path` leads into the layer's `with`, such as ["rules", 3, "regex"]. */
export class ConfigProblem extends Error {
  readonly path: readonly (string | number)[];
  /** Set when the fault lies in an artifact rather than in the policy file. */
  readonly artifact: string | undefined;
  constructor(message: string, path: readonly (string | number)[] = [], artifact?: string) {
    super(message);
    this.name = "ConfigProblem";
    this.path = path;
    this.artifact = artifact;
  }
}

/** What a layer may reach, bound to its seat. */
export interface Ports {
  /** Key of all state: a seat keeps its counters through every reload. */
  readonly seat: string;
  readonly counters: Counters;
  readonly identities: Identities;
  readonly reputation: Reputation;
  readonly encoder: Encoder;
  readonly exemplars: Exemplars;
  readonly recent: RecentTexts;
  readonly judges: Judges;
  readonly artifacts: Artifacts;
}

export interface Artifacts {
  /** The content that was loaded and hash-checked for a ref of `needs`. */
  text(ref: ArtifactRef): string;
  /** The same as it lies on disk; shared, so never written to. */
  bytes(ref: ArtifactRef): Uint8Array;
}
