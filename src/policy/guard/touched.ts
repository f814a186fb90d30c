/**
 * What a change of policy touches: the seats whose judgement may be another than before. Only what they do is
 * charged to the change, so that an attack which other seats refuse does not look like one.
 */
import type { Seat, Snapshot } from "../snapshot.ts";
import { EVERYTHING, POLICY_ITSELF, type SeatBits } from "./masks.ts";

/** Kinds that tell the others who calls and how they stand: a change of theirs changes everybody's judgement. */
const TELL_OTHERS: ReadonlySet<string> = new Set(["auth", "reputation"]);
/** Kinds that ask what the seats before them found. */
const ASK_OTHERS: ReadonlySet<string> = new Set(["prompt-judge", "output-judge", "output-classifier"]);

export interface Touched {
  /** Bits of what enforces. */
  readonly enforced: number;
  /** Bits of what only watches. */
  readonly shadowed: number;
  /** Seats that enforce for some accounts only. */
  readonly partial: readonly Pick<Seat, "id" | "rollout">[];
  /** For a reader; "*" is every seat. */
  readonly names: readonly string[];
}

export function touchedBetween(before: Snapshot, after: Snapshot, bits: SeatBits): Touched {
  const old = new Map(before.seats.map((seat) => [seat.id, seat]));
  const gone = before.seats.filter(({ id }) => !after.seats.some((seat) => seat.id === id));
  const changed = new Set(after.seats.filter((seat) => !isSame(old.get(seat.id), seat)));
  const tells = [...gone, ...changed].some(({ use }) => TELL_OTHERS.has(use));
  const moved = orderOf(before, after) !== orderOf(after, before);
  if (tells || moved) {
    const partial = after.seats.filter((seat) => changed.has(seat) && isPartial(seat));
    return { enforced: EVERYTHING, shadowed: 0, partial, names: ["*"] };
  }
  let isTouchedAbove = gone.length > 0;
  for (const seat of after.seats) {
    if (isTouchedAbove && ASK_OTHERS.has(seat.use)) changed.add(seat);
    isTouchedAbove ||= changed.has(seat);
  }
  let enforced = 0;
  let shadowed = 0;
  for (const { id, mode } of changed) {
    if (mode === "enforce") enforced |= bits.of(id);
    else shadowed |= bits.of(id);
  }
  const names = [...changed].map(({ id }) => id);
  if (frameOf(before) !== frameOf(after)) {
    enforced |= POLICY_ITSELF;
    names.push("policy");
  }
  return { enforced, shadowed, partial: [...changed].filter(isPartial), names };
}

function isPartial({ mode, rollout }: Seat): boolean {
  return mode === "enforce" && rollout < 100;
}

function isSame(before: Seat | undefined, after: Seat): boolean {
  return (
    before !== undefined &&
    before.fingerprint === after.fingerprint &&
    before.mode === after.mode &&
    before.rollout === after.rollout &&
    before.sample === after.sample &&
    before.onError === after.onError &&
    before.timeoutMs === after.timeoutMs &&
    before.whenText === after.whenText
  );
}

/** Ids that both have, in the order of the first. */
function orderOf(one: Snapshot, other: Snapshot): string {
  const shared = new Set(other.seats.map(({ id }) => id));
  return one.seats
    .filter(({ id }) => shared.has(id))
    .map(({ id }) => id)
    .join(" ");
}

/** All of a policy but its seats. */
function frameOf(snapshot: Snapshot): string {
  const { routes, passThrough, unknownFields, unknownEvents, answerBlocked, holdFull } = snapshot;
  return JSON.stringify([
    [...routes].sort(),
    passThrough,
    unknownFields,
    unknownEvents,
    answerBlocked,
    holdFull,
  ]);
}
