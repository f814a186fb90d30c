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

interface Leaf {
  readonly text: string;
}

/** Constructs what it is given, so that the class below can put a field on objects that others have made. */
class Given {
  constructor(given: object) {
    // biome-ignore lint/correctness/noConstructorReturn: that is all it does
    return given;
  }
}

/**
 * What is known of a leaf, in a private field of the leaf itself: a WeakMap would do the same at five times the cost,
 * which short leaves feel, and each collection of garbage after it. A copy of the leaf knows nothing.
 */
class Known extends Given {
  #views: Canonical | undefined;
  /** Of a leaf past WHOLE_UNITS_MAX. */
  #first: Canonical | undefined;
  #last: Canonical | undefined;

  static of(leaf: Leaf): Known {
    return #views in leaf ? leaf : new Known(leaf);
  }

  static views(leaf: Leaf): Canonical {
    const known = Known.of(leaf);
    known.#views ??=
      leaf.text.length <= WHOLE_UNITS_MAX
        ? viewsOf(leaf.text)
        : together(Known.first(leaf), Known.last(leaf));
    return known.#views;
  }

  static first(leaf: Leaf): Canonical {
    const known = Known.of(leaf);
    known.#first ??= viewsOf(leaf.text.slice(0, END_UNITS));
    return known.#first;
  }

  static last(leaf: Leaf): Canonical {
    const known = Known.of(leaf);
    known.#last ??= viewsOf(leaf.text.slice(-END_UNITS), leaf.text.length - END_UNITS);
    return known.#last;
  }
}

/** Each end that is seen of a text past WHOLE_UNITS_MAX. */
const END_UNITS = WHOLE_UNITS_MAX / 2;

/** The same object for the same leaf. */
export function canonicalOf(leaf: Leaf): Canonical {
  return Known.views(leaf);
}

/** Never throws. */
export function canonical(text: string): Canonical {
  return Known.views({ text });
}

function together(first: Canonical, last: Canonical): Canonical {
  const marks = { ...last.marks, truncated: true };
  for (const mark of ["invisible", "confusable", "styled", "tag", "bidi", "selector", "combining"] as const)
    marks[mark] += first.marks[mark];
  return {
    views: [...last.views, ...first.views],
    marks: { ...marks, encodings: [...new Set([...last.marks.encodings, ...first.marks.encodings])] },
  };
}

/** Views of a leaf's units [start, end); the ends that `canonicalOf` sees are made once. */
export function canonicalPart(leaf: Leaf, start: number, end: number): Canonical {
  if (leaf.text.length > WHOLE_UNITS_MAX && end - start === END_UNITS) {
    if (start === 0) return Known.first(leaf);
    if (end === leaf.text.length) return Known.last(leaf);
  }
  return canonicalWithin(leaf.text, start, end);
}

/** Views of text [start, end), made anew; `span` speaks of the whole text. */
export function canonicalWithin(text: string, start: number, end: number): Canonical {
  return viewsOf(text.slice(start, end), start);
}
