/**
 * Changes fields of one seat in the text of a policy and leaves every other character alone: comments, blank lines and
 * the way things are laid out are the operator's. A value that stands in the file is replaced where it stands; a field
 * that does not is written beside `use`. Whatever the edit did is read back and compared with what it should have done,
 * so that an alias or an odd layout can make it fail, never change something else.
 */
import { isDeepStrictEqual } from "node:util";
import { type Document, isAlias, isMap, isScalar, parseDocument, stringify, YAMLMap } from "yaml";
import { POLICY_BYTES_MAX } from "./policy-file.ts";
import { readYaml } from "./yaml-source.ts";

/** Fields that a patch may set; null takes a field out, so that its default holds. */
export interface SeatPatch {
  readonly mode?: "off" | "shadow" | "enforce" | null | undefined;
  readonly rollout?: number | null | undefined;
  readonly sample?: number | null | undefined;
  readonly when?: string | null | undefined;
  readonly timeoutMs?: number | null | undefined;
  readonly onError?: "allow" | "block" | null | undefined;
  /** Values inside `with` by JSON Pointer, such as "/any/blockAt". */
  readonly with?: Readonly<Record<string, Scalar>> | undefined;
}

type Scalar = string | number | boolean | null;
type Path = readonly (string | number)[];
interface Edit {
  readonly path: Path;
  /** Null: taken out. */
  readonly value: Scalar;
}

/** Throws a RangeError "field: why" where there is no such seat or place, or the text cannot be edited safely. */
export function patchSeat(text: string, id: string, patch: SeatPatch): string {
  const { seat, index } = seatIn(text, id);
  let edited = text;
  let wanted: unknown = seat;
  const { with: inside = {}, ...fields } = patch;
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const path = [name];
    wanted = edit(wanted, { path, value });
    edited = applied(edited, ["seats", index], { path, value });
  }
  for (const [pointer, value] of Object.entries(inside)) {
    const path = pathInside(seat, pointer);
    wanted = edit(wanted, { path, value });
    edited = applied(edited, ["seats", index], { path, value });
  }
  confirm(text, edited, ["seats", index], wanted);
  return edited;
}

function applied(text: string, base: Path, { path, value }: Edit): string {
  const document = parseDocument(text, { keepSourceTokens: true });
  const full = [...base, ...path];
  const node = document.getIn(full, true);
  const written = value === null ? "" : inLine(value);
  if (value !== null && isScalar(node) && node.anchor === undefined && isPlainPlace(text, node.range))
    return `${text.slice(0, node.range[0])}${written}${text.slice(node.range[1])}`;
  if (value !== null && node === undefined && path.length === 1) {
    const beside = besideUse(document, text, base, `${path[0]}: ${written}`);
    if (beside !== undefined) return beside;
  }
  // Parsed and written anew: comments stay, the layout may shift.
  if (value === null) document.deleteIn(full);
  else {
    ensureMaps(document, full);
    document.setIn(full, value);
  }
  return document.toString({ lineWidth: 0 });
}

/** One line, in JSON's quotes where plain words would not do. */
function inLine(value: Scalar): string {
  if (typeof value === "string" && !/^[A-Za-z][\w-]*$/.test(value)) return JSON.stringify(value);
  return stringify(value).trim();
}

/** A value of one line that stands there by itself: not a block text, not the nothing after a colon. */
function isPlainPlace(text: string, range: readonly number[] | null | undefined): range is readonly number[] {
  if (range === null || range === undefined || range[0] === range[1]) return false;
  const there = text.slice(range[0], range[1]);
  return !there.includes("\n") && !/^[|>]/.test(there);
}

/** Writes a new field of a seat after its `use`, in the layout that the seat has. */
function besideUse(document: Document, text: string, base: Path, field: string): string | undefined {
  const seat = document.getIn(base, true);
  if (!isMap(seat) || isAlias(seat)) return undefined;
  const use = seat.items.find(({ key }) => isScalar(key) && key.value === "use");
  if (use === undefined || !isScalar(use.key) || !isScalar(use.value)) return undefined;
  const [start, end] = [use.key.range?.[0], use.value.range?.[1]];
  if (start === undefined || end === undefined) return undefined;
  if (seat.flow === true) return `${text.slice(0, end)}, ${field}${text.slice(end)}`;
  const indent = start - (text.lastIndexOf("\n", start - 1) + 1);
  const lineEnd = text.indexOf("\n", end);
  const at = lineEnd < 0 ? text.length : lineEnd;
  return `${text.slice(0, at)}\n${" ".repeat(indent)}${field}${text.slice(at)}`;
}

function ensureMaps(document: Document, path: Path): void {
  for (let depth = 1; depth < path.length; depth++) {
    const upTo = path.slice(0, depth);
    if (document.getIn(upTo) === undefined) document.setIn(upTo, new YAMLMap());
  }
}

/** The same edit on plain values: what the text must then say. */
function edit(value: unknown, { path, value: wanted }: Edit): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return wanted;
  if (Array.isArray(value)) {
    if (rest.length === 0 && wanted === null) return value.toSpliced(Number(first), 1);
    return value.with(Number(first), edit(value[Number(first)], { path: rest, value: wanted }));
  }
  const { [first]: below, ...others } = (value ?? {}) as Record<string, unknown>;
  if (rest.length === 0 && wanted === null) return others;
  return { ...others, [first]: edit(below, { path: rest, value: wanted }) };
}

/** "/any/blockAt" as steps into the seat; throws where it leads through something that has no members. */
function pathInside(seat: unknown, pointer: string): Path {
  if (!pointer.startsWith("/"))
    throw new RangeError(`with: "${pointer}" must be a JSON Pointer into with, such as "/any/blockAt"`);
  const path: (string | number)[] = ["with"];
  let below = memberOf(seat, "with");
  for (const raw of pointer.slice(1).split("/")) {
    const name = raw.replaceAll("~1", "/").replaceAll("~0", "~");
    if (Array.isArray(below)) {
      if (!/^\d{1,6}$/.test(name) || Number(name) >= below.length)
        throw new RangeError(`with: "${pointer}" leads to no entry: the list there has ${below.length}`);
      path.push(Number(name));
    } else if (below === undefined || below === null || typeof below === "object") {
      if (name === "__proto__" || name === "")
        throw new RangeError(`with: "${pointer}" has a step without a name`);
      path.push(name);
    } else throw new RangeError(`with: "${pointer}" leads through a value that has no members`);
    below = memberOf(below, path.at(-1)!);
  }
  if (typeof below === "object" && below !== null)
    throw new RangeError(
      `with: "${pointer}" is a ${Array.isArray(below) ? "list" : "group"}: name a value in it`,
    );
  return path;
}

function seatIn(text: string, id: string, field = "id"): { readonly seat: unknown; readonly index: number } {
  const seats = seatsIn(text);
  const index = seats.findIndex((seat) => memberOf(seat, "id") === id);
  if (index >= 0) return { seat: seats[index], index };
  const known = seats.map((seat) => String(memberOf(seat, "id"))).join(", ");
  throw new RangeError(`${field}: the policy has no seat "${id}"; it has ${known || "none"}`);
}

function seatsIn(text: string): readonly unknown[] {
  const seats = memberOf(readYaml("policy.yaml", text, POLICY_BYTES_MAX).value, "seats");
  return Array.isArray(seats) ? seats : [];
}

/** Throws unless the edited text differs from the first by just what was wanted. */
function confirm(before: string, after: string, [list, index]: Path, wanted: unknown): void {
  const was = readYaml("policy.yaml", before, POLICY_BYTES_MAX).value as Record<string, unknown>;
  const is = readYaml("policy.yaml", after, POLICY_BYTES_MAX).value;
  const seats = (was[String(list)] as readonly unknown[]).with(Number(index), wanted);
  if (!isDeepStrictEqual(is, { ...was, [String(list)]: seats })) throw unsafe();
}

function unsafe(): RangeError {
  return new RangeError(
    "policy: its text is laid out (with anchors, or as text in text) so that this edit would change more: edit it whole",
  );
}

export function memberOf(value: unknown, name: string | number): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Readonly<Record<string, unknown>>)[name];
}
