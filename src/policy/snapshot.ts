/**
 * The compiled policy: what the pipeline runs. A snapshot is immutable; a request pins one for its whole
 * life, and a change of policy swaps the reference for the next request.
 */
import type { Layer, LayerKind, Portions } from "../layer/index.ts";
import type { GuardSettings } from "./guard/settings.ts";

export type Mode = "off" | "shadow" | "enforce";

/** Attributes that `when` may name; "" or 0 where not known (yet). */
export interface RequestAttributes {
  readonly route: string;
  readonly dialect: string;
  readonly operation: string;
  readonly address: string;
  readonly org: string;
  readonly project: string;
  readonly key: string;
  /** From the body: known from `onLeaf` and `onPrompt` on. */
  readonly model: string;
  readonly stream: boolean;
  readonly endUser: string;
  /** How the caller proved who they are: key, token, own_key or none; "" while nobody has asked. */
  readonly proof: string;
  /** The caller's standing as the `reputation` seat before told it; "normal", 0, false and "" without one. */
  readonly tier: string;
  readonly risk: number;
  readonly stepUp: boolean;
  readonly country: string;
  readonly asn: string;
}

export interface Seat {
  readonly id: string;
  /** Kind of the layer. */
  readonly use: string;
  /** `off` seats are not in a snapshot. */
  readonly mode: Exclude<Mode, "off">;
  /** 0..100: share of accounts for which `enforce` applies; sticky by account hash. */
  readonly rollout: number;
  /** 0..1: share of requests that the seat looks at. */
  readonly sample: number;
  readonly onError: "allow" | "block";
  readonly timeoutMs: number;
  /** Undefined: always. May throw, which counts as the seat's failure. */
  readonly when: ((attributes: RequestAttributes) => boolean) | undefined;
  /** The condition as it was written. */
  readonly whenText?: string | undefined;
  readonly layer: Layer;
  /** The layer's checked settings, every default filled in. */
  readonly config: unknown;
  readonly phases: LayerKind["phases"];
  /** UTF-16 units per channel that the seat may hold back. */
  readonly holdMax: number;
  /** Set where the seat judges whole sentences: the runner gathers and holds them. */
  readonly portions?: Portions | undefined;
  /** Hash of kind, configuration and artifacts: equal fingerprints judge alike, so cached verdicts carry over. */
  readonly fingerprint: string;
}

/** A route that is proxied byte for byte after `onRequest`; nothing in it is scanned, and the decision says so. */
export interface PassThrough {
  readonly path: string;
  readonly methods: readonly string[];
  readonly upstream: "openai" | "anthropic";
}

export interface Snapshot {
  /** First 12 hex digits of the SHA-256 over the policy file and its artifacts. */
  readonly revision: string;
  readonly seats: readonly Seat[];
  /** Route ids that are served, such as "openai.chat". */
  readonly routes: ReadonlySet<string>;
  readonly passThrough: readonly PassThrough[];
  /** `scan`: judged like any text and forwarded; `refuse`: 400 `field_unknown`. */
  readonly unknownFields: "scan" | "refuse";
  /** `scan`: judged as text of channel kind `other`; `cut`: the answer ends with `upstream_event_unknown`. */
  readonly unknownEvents: "scan" | "cut";
  /** A blocked answer: `end` (or absent): as the vendor's content filter ends one; `fail`: an error. */
  readonly answerBlocked?: "end" | "fail";
  /** A stream that would hold too much: `fail` (or absent): an error; `end`: as at a token limit. Nothing held is released. */
  readonly holdFull?: "fail" | "end";
  /** What redacted text becomes; "{kind}" is replaced by the last part of the reason. */
  readonly redaction: string;
  /** What withdraws a change by itself; absent: the defaults. */
  readonly guard?: GuardSettings;
}
