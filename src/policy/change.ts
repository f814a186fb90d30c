/** A change of the policy as the store takes it, and what became of it. */
import type { Origin } from "./history.ts";
import type { FileProblem } from "./problems.ts";

export interface PolicySource {
  readonly text: string;
  /** A quoted entity tag: the served revision while this text is what is served, else one of the text alone. */
  readonly tag: string;
  /** `served`: there is no file that can be read. */
  readonly from: "file" | "override" | "served";
  readonly isServed: boolean;
}

export interface Change {
  /** From the text as it is to the text as it shall be; throws a RangeError "field: why" where that cannot be done. */
  make(source: string): {
    readonly text: string;
    /** Instead of the folder's, by path. */
    readonly artifacts?: ReadonlyMap<string, Uint8Array>;
  };
  /** Whether the caller knows this tag; absent: whatever the text is now. */
  readonly expects?: ((tag: string) => boolean) | undefined;
  readonly origin: Origin;
}

export type ChangeResult =
  | {
      readonly result: "applied";
      readonly revision: string;
      readonly previous: string | undefined;
      readonly servedFrom: "file" | "override";
      readonly tag: string;
      readonly notKept?: string;
    }
  | { readonly result: "unchanged"; readonly revision: string; readonly tag: string }
  /** The text cannot be served; nothing was placed. */
  | { readonly result: "refused"; readonly revision: string; readonly problems: readonly FileProblem[] }
  /** The caller expected another text. */
  | { readonly result: "changed"; readonly tag: string };

export type Validation =
  | {
      readonly ok: true;
      readonly revision: string;
      readonly seats: number;
      readonly seatsOff: number;
      readonly routes: number;
    }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };
