/**
 * The contract between the runner and a layer. A layer says what it found and what it would do; it does
 * not know its mode, read the clock, count metrics, write logs or import another layer. It does no I/O
 * of its own: whatever it needs comes through `Ports`, named here and implemented in src/ports.
 */
import type { z } from "zod";
import type { Delta, DialectName, Leaf, Operation, Prompt, Usage } from "./text.ts";
import type { Held, Verdict } from "./verdict.ts";

export type Await<T> = T | Promise<T>;

/** Who is calling, as far as the layers so far could tell. */
export interface Identity {
  readonly org: string;
  readonly project: string;
  readonly keyId: string;
  /** The partner's own user; known once the body is read. */
  readonly endUser?: string;
}

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
  /** Aborted when the request is over; made when it is first asked for, as most layers have nothing to stop. */
  readonly signal: AbortSignal;
  /** Tells the runner, and the seats after this one, who is calling. */
  identify(identity: Identity): void;
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
}

export type Phase = keyof Watch;

/** Compiled, immutable, shared by all requests of one snapshot. State lives in ports keyed by seat, never here. */
export interface Layer {
  open(request: RequestContext): Watch;
  dispose?(): Promise<void>;
}

/** A file that a layer needs beside its configuration: a rule pack, a model. `path` is relative to the policy's folder. */
export interface ArtifactRef {
  readonly path: string;
  /** Hex SHA-256 that the content must have; absent: any content, recorded by its hash. */
  readonly sha256?: string;
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
  /** The most text (UTF-16 units per channel) that `onChunk` may hold back; 0 without `onChunk`. */
  holdMax?(config: Config): number;
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
  readonly artifacts: Artifacts;
}

export interface Artifacts {
  /** The content that was loaded and hash-checked for a ref of `needs`. */
  text(ref: ArtifactRef): string;
}

export interface Limit {
  /** Requests (or other points) per window. */
  readonly limit: number;
  readonly windowSec: number;
}

export interface Counted {
  readonly admitted: boolean;
  readonly remaining: number;
  /** Until the window resets. */
  readonly resetMs: number;
}

export interface Counters {
  /** Takes one point from `key`'s window when there is one left; refused tries take nothing. */
  take(key: string, limit: Limit): Await<Counted>;
}

export type KeyLookup =
  | { readonly state: "active"; readonly identity: Identity }
  | { readonly state: "revoked" | "expired"; readonly identity: Identity }
  | { readonly state: "unknown" };

export interface Identities {
  /** Looks a presented key up by its keyed hash; synchronous, in memory. */
  find(presented: string): KeyLookup;
}
