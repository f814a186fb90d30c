/**
 * The shape of a secret after its literal: a small part of regex syntax that needs no backtracking, so that
 * it can stop at the end of a chunk and go on in the next. Each part takes as many units of its set as it
 * may, and never gives one back. `(` and `)` enclose what is secret; without them all is, the literal too.
 *
 *   [A-Za-z0-9]{36,}          decided at 36; what goes on after that belongs to the secret as well
 *   [A-Z0-9]{16}              decided at 16 if no 17th follows
 *   [^\s:@]{0,64}:([^\s@]{1,256})@      a URL's user and password
 */

/** Units by number: index 0-127 as themselves, 128 for all others; 1 when they belong to the set. */
export type UnitSet = Uint8Array;
const OTHERS = 128;

interface Part {
  readonly set: UnitSet;
  /** Equal sets have equal numbers below SETS_MAX, over all shapes. */
  readonly setId: number;
  readonly min: number;
  /** Infinity only in the last part. */
  readonly max: number;
}

export interface Shape {
  readonly parts: readonly Part[];
  /** The secret's parts; from -1: the literal too. */
  readonly hideFrom: number;
  readonly hideTo: number;
  /** Units from the secret's begin (without the literal) to where it is decided at the latest. */
  readonly decidedWithin: number;
}

export function has(set: UnitSet, unit: number): boolean {
  return set[unit < OTHERS ? unit : OTHERS] === 1;
}

/** Different sets over all shapes. */
export const SETS_MAX = 256;
const setIds = new Map<string, number>();

/** Throws an Error that says what is wrong with the pattern. */
export function readShape(pattern: string): Shape {
  const parts: Part[] = [];
  let hideFrom = -1;
  let hideTo = -1;
  let at = 0;
  while (at < pattern.length) {
    if (pattern[at] === "(" && hideFrom < 0) {
      hideFrom = parts.length;
      at++;
      continue;
    }
    if (pattern[at] === ")" && hideFrom >= 0 && hideTo < 0) {
      hideTo = parts.length;
      at++;
      continue;
    }
    if (/[(){}?*+|^$.]/.test(pattern[at]!)) throw new Error(`"${pattern[at]}" at ${at} has no meaning here`);
    const source = /^(?:\[(?:\\.|[^\]\\])+\]|\\.|.)/s.exec(pattern.slice(at))![0];
    at += source.length;
    const times = /^(?:\{(\d+)(,?)(\d*)\}|\?)/.exec(pattern.slice(at));
    at += times?.[0].length ?? 0;
    const min = times === null ? 1 : Number(times[1] ?? 0);
    const max =
      times === null || times[1] === undefined ? 1 : Number(times[3] || (times[2] ? "Infinity" : min));
    if (max < min || max === 0) throw new Error(`"${times?.[0]}" takes nothing`);
    parts.push({ set: readSet(source), setId: idOf(source), min, max });
  }
  if (hideFrom >= 0 && hideTo < 0) throw new Error('a "(" is not closed');
  if (hideTo < 0) hideTo = parts.length;
  if (parts.length === 0) throw new Error("it has no parts");
  if (parts.slice(0, -1).some((part) => part.max === Number.POSITIVE_INFINITY)) {
    throw new Error("only the last part may go on without end");
  }
  const decidedWithin = parts
    .slice(Math.max(0, hideFrom))
    .reduce((sum, part) => sum + (part.max === Number.POSITIVE_INFINITY ? part.min : part.max), 1);
  return { parts, hideFrom, hideTo, decidedWithin };
}

function idOf(source: string): number {
  const known = setIds.get(source) ?? setIds.size;
  if (known >= SETS_MAX)
    throw new Error(`there are more than ${SETS_MAX} different sets; use one that exists`);
  setIds.set(source, known);
  return known;
}

function readSet(source: string): UnitSet {
  const set = new Uint8Array(OTHERS + 1);
  if (source[0] !== "[") {
    addUnits(set, source);
    return set;
  }
  const negated = source[1] === "^";
  const inner = source.slice(negated ? 2 : 1, -1);
  for (const [item] of inner.matchAll(/\\.|[^\\]-[^\\]|[^\\]/gs)) {
    if (item.length === 3) {
      for (let unit = item.charCodeAt(0); unit <= item.charCodeAt(2); unit++) set[unit] = 1;
    } else {
      addUnits(set, item);
    }
  }
  if (negated) for (let i = 0; i <= OTHERS; i++) set[i] = set[i] === 1 ? 0 : 1;
  return set;
}

function addUnits(set: UnitSet, item: string): void {
  if (item === "\\s") for (const unit of [9, 10, 11, 12, 13, 32]) set[unit] = 1;
  else if (item === "\\d") for (let unit = 48; unit < 58; unit++) set[unit] = 1;
  else set[item.charCodeAt(item.length - 1)] = 1;
}
