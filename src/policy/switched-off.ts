/**
 * Which seats of a snapshot are switched off, in whole or in some of their rules, by the kill switches in force. Worked
 * out once for a snapshot and a set of switches; a request looks its seats up in one map, and there is none while
 * nothing is switched off.
 */
import type { Snapshot } from "./snapshot.ts";

export const SWITCH_KINDS = ["seat", "layer", "rule"] as const;

export interface KillSwitch {
  /** Kind and target, such as "seat:prompt-rules". */
  readonly id: string;
  readonly kind: (typeof SWITCH_KINDS)[number];
  readonly target: string;
}

export interface SeatOff {
  /** The seat is not run at all; else only its rules in `rules`. */
  readonly isWhole: boolean;
  /** Ids of the switches, sorted: what the record says. */
  readonly by: readonly string[];
  readonly rules: ReadonlySet<string>;
  /** Verdicts of a seat without some of its rules are cached apart. */
  readonly cacheKey: string;
}

export type SwitchedOff = ReadonlyMap<string, SeatOff>;

export class SwitchBoard {
  readonly #active: () => readonly KillSwitch[];
  #known = new WeakMap<Snapshot, SwitchedOff>();
  #of: readonly KillSwitch[] = [];

  /** `active` answers with the same array while nothing changes. */
  constructor(active: () => readonly KillSwitch[]) {
    this.#active = active;
  }

  /** Undefined while no switch touches this snapshot's seats. */
  readonly for = (snapshot: Snapshot): SwitchedOff | undefined => {
    const active = this.#active();
    if (active.length === 0) return undefined;
    if (active !== this.#of) {
      this.#of = active;
      this.#known = new WeakMap();
    }
    let off = this.#known.get(snapshot);
    if (off === undefined) {
      off = switchedOff(snapshot, active);
      this.#known.set(snapshot, off);
    }
    return off.size === 0 ? undefined : off;
  };
}

export function switchedOff({ seats }: Pick<Snapshot, "seats">, active: readonly KillSwitch[]): SwitchedOff {
  const off = new Map<string, SeatOff>();
  for (const { id, use, layer } of seats) {
    const touching = active.filter(({ kind, target }) => {
      if (kind === "seat") return target === id;
      return kind === "layer" ? target === use : layer.rules?.has(target) === true;
    });
    if (touching.length === 0) continue;
    const rules = new Set(touching.filter(({ kind }) => kind === "rule").map(({ target }) => target));
    const by = touching.map((one) => one.id).sort();
    off.set(id, { isWhole: rules.size < touching.length, by, rules, cacheKey: by.join(" ") });
  }
  return off;
}
