/**
 * Lays patches over a text: what was decoded stands in its place, with some of the text around it, so that half an
 * instruction in base64 and half in plain words is still one.
 */
import { OffsetMap, type Range } from "./offsets.ts";

/** Source [start, end) reads as `text`; `backwards`: it is the source's, from its end. */
export interface Patch {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  readonly backwards?: boolean;
}

/** Units of the text around a decoded part that its view shows, on either side: the longest match of a rule. */
export const AROUND_UNITS = 400;
/** Patches of one view; a text that has more is noise or an attack on whoever reads it. */
export const PATCHES_MAX = 8192;
/** Stands where a view leaves text out; a noncharacter, which no rule and no n-gram knows. */
export const CUT = "\uffff";

interface Laid {
  readonly text: string;
  readonly map: OffsetMap;
  /** Patches in the middle were left out, because all would have passed `unitsMax`. */
  readonly cut: boolean;
}

/** `patches` in order, without overlap. Past `unitsMax` the first and the last are laid. */
export function lay(text: string, patches: readonly Patch[], unitsMax: number): Laid {
  const few = patches.length <= PATCHES_MAX;
  const some = few ? patches : [...patches.slice(0, PATCHES_MAX / 2), ...patches.slice(-PATCHES_MAX / 2)];
  const { kept, cut } = fitting(some, unitsMax);
  const map = new OffsetMap();
  const parts: string[] = [];
  let shown = Math.max(0, (kept[0]?.start ?? 0) - AROUND_UNITS);
  for (const patch of kept) {
    if (patch.start - shown > 2 * AROUND_UNITS) {
      copy(text, shown, shown + AROUND_UNITS, parts, map);
      parts.push(CUT);
      shown = patch.start - AROUND_UNITS;
      map.add(1, shown, shown);
    }
    copy(text, shown, patch.start, parts, map);
    parts.push(patch.text);
    const { start, end } = patch;
    map.add(
      patch.text.length,
      patch.backwards === true ? end : start,
      patch.backwards === true ? start : end,
    );
    shown = end;
  }
  copy(text, shown, Math.min(text.length, shown + AROUND_UNITS), parts, map);
  return { text: parts.join(""), map, cut: cut || !few };
}

function copy(text: string, from: number, to: number, parts: string[], map: OffsetMap): void {
  if (to <= from) return;
  parts.push(text.slice(from, to));
  map.add(to - from, from, to);
}

/** What laying a patch may add: its text, and what stands around it. */
function sizeOf(patch: Patch, before: Patch | undefined): number {
  const between = before === undefined ? AROUND_UNITS : patch.start - before.end;
  return patch.text.length + Math.min(between, 2 * AROUND_UNITS + 1);
}

function fitting(patches: readonly Patch[], unitsMax: number): { kept: readonly Patch[]; cut: boolean } {
  let left = unitsMax - AROUND_UNITS;
  let first = 0;
  while (first < patches.length) {
    const size = sizeOf(patches[first]!, patches[first - 1]);
    if (size > left - unitsMax / 2) break;
    left -= size;
    first += 1;
  }
  if (first === patches.length) return { kept: patches, cut: false };
  let last = patches.length;
  while (last > first) {
    const patch = patches[last - 1]!;
    const size = sizeOf(patch, patches[last - 2]);
    if (size > left) break;
    left -= size;
    last -= 1;
  }
  if (last <= first) return { kept: patches, cut: false };
  return { kept: [...patches.slice(0, first), ...patches.slice(last)], cut: true };
}

/** True when source range `range` lies over one of the patches; binary search over their ends. */
export function touches(patches: readonly Patch[], range: Range): boolean {
  let low = 0;
  let high = patches.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (patches[middle]!.end <= range.start) low = middle + 1;
    else high = middle;
  }
  const patch = patches[low];
  return patch !== undefined && patch.start < range.end;
}
