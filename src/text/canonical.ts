/**
 * What a text says once it is undressed: its views, worked out once for each leaf and shared by all layers of a
 * request. Views are folded (case, look-alikes, white space, what is invisible) and decoded (base64, rot13, letter
 * spacing ...), and know where each of their units stood in the leaf as it was sent.
 *
 * Work is bounded by counts of units, never by a clock: the same text has the same views everywhere. Where a bound
 * ended the search, `marks.truncated` says so, and a layer that reads views must say it on.
 */
import { STEPS } from "./decode.ts";
import { type Canonical, viewsOf } from "./views.ts";

export type { Marks } from "./fold.ts";
export { type JoinedPart, joinedView } from "./joined.ts";
export type { Canonical, View } from "./views.ts";
export { windows } from "./windows.ts";

/**
 * Longest text that is seen whole: about 10 ms at worst. Of a longer one the two ends are seen; who must see all
 * takes `windows` of it, and lets others run in between.
 */
export const WHOLE_UNITS_MAX = 65_536;

/** Kinds of views that a decoding makes. */
export const DECODINGS = STEPS;

const known = new WeakMap<object, Canonical>();

/** The same object for the same leaf. */
export function canonicalOf(leaf: { readonly text: string }): Canonical {
  let views = known.get(leaf);
  if (views === undefined) {
    views = canonical(leaf.text);
    known.set(leaf, views);
  }
  return views;
}

/** Never throws. */
export function canonical(text: string): Canonical {
  if (text.length <= WHOLE_UNITS_MAX) return viewsOf(text);
  const half = WHOLE_UNITS_MAX / 2;
  const last = viewsOf(text.slice(-half), text.length - half);
  const first = viewsOf(text.slice(0, half));
  const marks = { ...last.marks, truncated: true };
  for (const mark of ["invisible", "confusable", "styled", "tag", "bidi", "selector", "combining"] as const)
    marks[mark] += first.marks[mark];
  return {
    views: [...last.views, ...first.views],
    marks: { ...marks, encodings: [...new Set([...last.marks.encodings, ...first.marks.encodings])] },
  };
}

/** Views of text [start, end); `span` speaks of the whole text. */
export function canonicalWithin(text: string, start: number, end: number): Canonical {
  return viewsOf(text.slice(start, end), start);
}
