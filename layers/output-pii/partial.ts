/**
 * Regexes that can say "not yet": whether a text that may still grow can become a match. From one pattern two
 * are compiled: the pattern itself, and one in which every unit may also be the end of the text, so that it
 * reaches the end exactly where more text might matter.
 *
 *   pattern  \d{3}-\d{2}       text "517-4"    full: no match     grown: (?:\d|$){3}(?:-|$)(?:\d|$){2} reaches the end
 *
 * Patterns use sets, escapes, literals, (?:...), | and bounded quantifiers: nothing that looks around or back.
 */

/** More text is needed to judge. */
export const WAITS = -2;
/** Nothing begins here, whatever follows. */
export const FAILS = -1;

export interface Pattern {
  readonly source: string;
  readonly full: RegExp;
  readonly grown: RegExp;
  /** With how many digits it begins, at least and at most, where that is plain: a number of another length is no match. */
  readonly digitsMin: number;
  readonly digitsMax: number;
}

const ATOM = /\[(?:\\.|[^\]\\])+\]|\\u[0-9a-f]{4}|\\.|\(\?:|[)|]|\{\d+(?:,\d+)?\}|\?|[^\\[\](){}?*+|^$.]/gy;

/** Throws an Error for syntax outside the part above. */
export function readPattern(source: string, ignoreCase = false): Pattern {
  let grown = "";
  let read = 0;
  for (const [atom] of source.matchAll(ATOM)) {
    read += atom.length;
    grown += /^(?:\(\?:|[)|]|\{.*\}|\?)$/.test(atom) ? atom : `(?:${atom}|$)`;
  }
  if (read !== source.length)
    throw new Error(`"${source.slice(read, read + 8)}" has no meaning in a pattern`);
  const lead = /^\\d\{(\d+)(?:,(\d+))?\}(?!\[|\(|\\d)(?!.\?)/.exec(source);
  const flags = ignoreCase ? "iy" : "y";
  return {
    source,
    full: new RegExp(`(?:${source})(?![0-9A-Za-z])`, flags),
    grown: new RegExp(grown, flags),
    digitsMin: lead === null ? 0 : Number(lead[1]),
    digitsMax: lead === null ? Number.POSITIVE_INFINITY : Number(lead[2] ?? lead[1]),
  };
}

/** Where the match that begins at `at` ends, FAILS or WAITS. `open`: `text` may still grow. */
export function matchAt(pattern: Pattern, text: string, at: number, open: boolean): number {
  if (open) {
    pattern.grown.lastIndex = at;
    if (pattern.grown.test(text) && pattern.grown.lastIndex === text.length) return WAITS;
  }
  pattern.full.lastIndex = at;
  return pattern.full.test(text) ? pattern.full.lastIndex : FAILS;
}
