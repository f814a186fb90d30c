/** What differs between two policies, seat by seat: what an operator asks before they look at lines. */
import { isDeepStrictEqual } from "node:util";
import { memberOf } from "./edit.ts";
import { POLICY_BYTES_MAX } from "./policy-file.ts";
import { formatPath } from "./problems.ts";
import { readYaml } from "./yaml-source.ts";

export interface FieldChange {
  /** Such as `with.any.blockAt`. */
  readonly path: string;
  /** Absent: it was not given. */
  readonly before?: unknown;
  readonly after?: unknown;
}

export interface PolicyDiff {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Seats that stand elsewhere among those that both have; as few as can be. */
  readonly moved: readonly string[];
  readonly changed: readonly { readonly seat: string; readonly fields: readonly FieldChange[] }[];
  /** Outside the seats. */
  readonly fields: readonly FieldChange[];
}

export function diffPolicies(before: string, after: string): PolicyDiff {
  const [old, now] = [plainOf(before), plainOf(after)];
  const [oldSeats, nowSeats] = [seatsById(old), seatsById(now)];
  const added = [...nowSeats.keys()].filter((id) => !oldSeats.has(id));
  const removed = [...oldSeats.keys()].filter((id) => !nowSeats.has(id));
  const common = [...nowSeats.keys()].filter((id) => oldSeats.has(id));
  const changed = common.flatMap((seat) => {
    const fields = changesBetween(oldSeats.get(seat), nowSeats.get(seat), []);
    return fields.length === 0 ? [] : [{ seat, fields }];
  });
  const order = [...oldSeats.keys()].filter((id) => nowSeats.has(id));
  const stays = longestRise(common.map((id) => order.indexOf(id)));
  const moved = common.filter((_, i) => !stays.has(i));
  return { added, removed, moved, changed, fields: changesBetween(rest(old), rest(now), []) };
}

function changesBetween(before: unknown, after: unknown, path: readonly PropertyKey[]): FieldChange[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (isGroup(before) && isGroup(after)) {
    const names = new Set([...Object.keys(before), ...Object.keys(after)]);
    return [...names].flatMap((name) =>
      changesBetween(memberOf(before, name), memberOf(after, name), [...path, name]),
    );
  }
  return [
    {
      path: formatPath(path),
      ...(before !== undefined && { before }),
      ...(after !== undefined && { after }),
    },
  ];
}

/** Indexes of a longest rising subsequence; quadratic, over at most 200 seats. */
function longestRise(values: readonly number[]): ReadonlySet<number> {
  const length: number[] = [];
  const from: number[] = [];
  for (let i = 0; i < values.length; i++) {
    length[i] = 1;
    from[i] = -1;
    for (let j = 0; j < i; j++) {
      if (values[j]! >= values[i]! || length[j]! < length[i]!) continue;
      length[i] = length[j]! + 1;
      from[i] = j;
    }
  }
  const rise = new Set<number>();
  for (let i = length.indexOf(Math.max(0, ...length)); i >= 0; i = from[i]!) rise.add(i);
  return rise;
}

function plainOf(text: string): unknown {
  return readYaml("policy.yaml", text, POLICY_BYTES_MAX).value;
}

function seatsById(policy: unknown): ReadonlyMap<string, unknown> {
  const seats = memberOf(policy, "seats");
  const entries = Array.isArray(seats) ? seats : [];
  return new Map(entries.map((seat: unknown) => [String(memberOf(seat, "id")), seat]));
}

function rest(policy: unknown): unknown {
  if (!isGroup(policy)) return policy;
  const { seats: _, ...others } = policy;
  return others;
}

function isGroup(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
