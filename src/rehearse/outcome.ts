/** What passes between the two passes of a rehearsal, one for each policy, and whoever compares them. */
import type { Act, Tier } from "../layer/index.ts";
import type { FileProblem } from "../policy/problems.ts";

/**
 * Why it cannot be said what a policy does with a request: `content` what was asked is not on record · `revision` the
 * seats that judged it then were others · `answer` it never reached the model, so there is no answer to judge ·
 * `judge` a remote guard would be asked · `encoder` the sentence encoder was not asked, its share is used up.
 */
export const UNKNOWNS = ["content", "revision", "answer", "judge", "encoder"] as const;
export type Unknown = (typeof UNKNOWNS)[number];

export interface SeatOutcome {
  readonly seat: string;
  readonly would: Act;
  readonly applied: Act;
  readonly reasons: readonly string[];
}

export interface Outcome {
  readonly id: string;
  readonly act: Act;
  readonly would: Act;
  readonly unknown: readonly Unknown[];
  /** Of the seats, all phases. */
  readonly micros: number;
  /** Those that made anything of it. */
  readonly seats: readonly SeatOutcome[];
  readonly facts: {
    readonly at: string;
    readonly org: string;
    readonly tier: Tier;
    readonly language: string;
    readonly hasContent: boolean;
    /** As it was recorded. */
    readonly recorded: Act;
    readonly isOwnRevision: boolean;
  };
}

export interface PassOptions {
  readonly policy: {
    /** Folder of the policy and its artifacts. */
    readonly dir: string;
    /** In place of policy.yaml. */
    readonly text?: string | undefined;
    /** Where artifacts are that the folder has not. */
    readonly fallbackDir?: string | undefined;
  };
  readonly dataDir: string;
  /** Base64; undefined: from the data folder. */
  readonly contentKey?: string | undefined;
  readonly fromMs: number;
  readonly toMs: number;
  readonly requestsMax: number;
  readonly encoderTextsMax: number;
}

/** The seats that recorded verdicts come from. */
export interface Against {
  readonly revision: string;
  readonly fingerprints: Readonly<Record<string, string>>;
}

export type FromPass =
  | { readonly kind: "ready"; readonly against: Against }
  | { readonly kind: "problems"; readonly problems: readonly FileProblem[] }
  | { readonly kind: "batch"; readonly outcomes: readonly Outcome[] }
  | { readonly kind: "done"; readonly skipped: number };
