/**
 * Finds many literals in one pass: an Aho-Corasick automaton as one dense table over character classes.
 * Every guard that reads text starts here, because a table walk costs the same for ten literals as for
 * thousands. A cursor carries the state from chunk to chunk, so that a literal cut by a stream is still seen.
 *
 *   unit --classOf--> class --table[state + class]--> next state        states are row offsets; those in
 *                                                                       which a literal ends come last
 */

import { unitsOf } from "./units.ts";
import { HALF_MASK, LETTERS_MAX, letterCode, slotOf } from "./word-key.ts";

/** Cells of the table (4 bytes each): 64 MiB, several times what 10,000 literals of 20 units need. */
export const TABLE_CELLS_MAX = 1 << 24;

export interface LiteralOptions {
  /** Upper and lower case are one (simple folding of single units, not of "ß" and "SS"). */
  readonly ignoreCase?: boolean;
  /** A run of white space counts as one space, in the literals and in the text. */
  readonly collapseSpace?: boolean;
  /** A literal that begins with an ASCII letter or digit counts only where none stands before it ("sk-" not in "task-"). */
  readonly wordStart?: boolean;
  /** Literals that `depth` speaks of; default: all. */
  readonly held?: (id: number) => boolean;
}

/** A place in a text that may still grow. Begin with `{ state: 0, at: 0 }`; set `at` back to 0 for the next chunk. */
export interface Cursor {
  state: number;
  at: number;
}

const SPACE = /\s/;
/** Classes of units that no literal uses. */
const OTHER = 0;
const OTHER_WORD = 1;
/** Words whose way through the automaton is remembered, and numbers that one takes. */
const SLOTS_BITS = 13;
const SLOT = 4;
/** The space behind a word is a letter of its key. */
const SPACE_UNIT = 32;
const SPACE_CODE = 31;
const NO_ENDS: readonly number[] = Object.freeze([]);
/** States: nothing matched so far, and the same right after a letter or digit. */
const EDGE = 0;
const INSIDE = 1;

/** ASCII letters and digits. Not "_": a key is as bad in "x_ghp_..." as alone. */
export function isWordUnit(unit: number): boolean {
  return (unit >= 97 && unit <= 122) || (unit >= 48 && unit <= 57) || (unit >= 65 && unit <= 90);
}

export class Literals {
  readonly #table: Int32Array;
  readonly #classOf: Uint16Array;
  readonly #classes: number;
  /** States from here on end a literal. */
  readonly #endFrom: number;
  readonly #ended: readonly (readonly number[])[];
  readonly #depth: Uint16Array;
  /** Key of a word, the state before it and the state after it; made for the first whole text. */
  #slots: Int32Array | undefined;

  constructor(built: Built) {
    this.#table = built.table;
    this.#classOf = built.classOf;
    this.#classes = built.classes;
    this.#endFrom = built.endFrom;
    this.#ended = built.ended;
    this.#depth = built.depth;
  }

  /** Reads on from `cursor.at` until a literal ends (true; `cursor.at` is its end, `ended` names it) or the text does. */
  advance(text: string, cursor: Cursor): boolean {
    const table = this.#table;
    const classOf = this.#classOf;
    const endFrom = this.#endFrom;
    const length = text.length;
    let state = cursor.state;
    for (let i = cursor.at; i < length; i++) {
      state = table[state + classOf[text.charCodeAt(i)]!]!;
      if (state >= endFrom) {
        cursor.state = state;
        cursor.at = i + 1;
        return true;
      }
    }
    cursor.state = state;
    cursor.at = length;
    return false;
  }

  /**
   * Each place in a whole text where literals end, and the state there, one after the other. Where a word and the space
   * behind it lead from a state is remembered: the table is too large to be near the processor, and is walked where
   * words are new or literals end.
   */
  endsIn(text: string): readonly number[] {
    this.#slots ??= new Int32Array(SLOT << SLOTS_BITS);
    const slots = this.#slots;
    const table = this.#table;
    const classOf = this.#classOf;
    const endFrom = this.#endFrom;
    const length = text.length;
    const units = unitsOf(text);
    units[length] = 0;
    let ends: number[] | undefined;
    let state = EDGE;
    for (let i = 0; i < length; ) {
      let letter = letterCode[units[i]!]!;
      if (letter === 0) {
        state = table[state + classOf[units[i]!]!]!;
        i += 1;
        if (state >= endFrom) ends = withEnd(ends, i, state);
        continue;
      }
      let low = 0;
      let high = 0;
      let to = i;
      do {
        high = (high << 5) | (low >>> 25);
        low = ((low << 5) & HALF_MASK) | letter;
        to += 1;
        letter = letterCode[units[to]!]!;
      } while (letter !== 0);
      if (units[to] === SPACE_UNIT) {
        high = (high << 5) | (low >>> 25);
        low = ((low << 5) & HALF_MASK) | SPACE_CODE;
        to += 1;
      }
      let slot = -1;
      if (to - i <= LETTERS_MAX) {
        slot = slotOf(low + state, high, SLOTS_BITS) * SLOT;
        if (slots[slot] === low && slots[slot + 1] === high && slots[slot + 2] === state) {
          state = slots[slot + 3]!;
          i = to;
          continue;
        }
      }
      const from = state;
      const endsBefore = ends?.length;
      while (i < to) {
        state = table[state + classOf[units[i]!]!]!;
        i += 1;
        if (state >= endFrom) ends = withEnd(ends, i, state);
      }
      // A word in which literals end is walked each time.
      if (slot < 0 || ends?.length !== endsBefore) continue;
      slots[slot] = low;
      slots[slot + 1] = high;
      slots[slot + 2] = from;
      slots[slot + 3] = state;
    }
    return ends ?? NO_ENDS;
  }

  /** Ids (indexes into the compiled list) of the literals that end in a state at which `advance` stopped, longest first. */
  ended(state: number): readonly number[] {
    return this.#ended[(state - this.#endFrom) / this.#classes] ?? [];
  }

  /** How many units before the cursor may be the beginning of a longer held literal: what a stream must not release yet. */
  depth(state: number): number {
    return this.#depth[state / this.#classes]!;
  }

  get states(): number {
    return this.#depth.length;
  }
}

/** One more; most texts have none, and no list. */
function withEnd(ends: number[] | undefined, at: number, state: number): number[] {
  if (ends === undefined) return [at, state];
  ends.push(at, state);
  return ends;
}

interface Built {
  readonly table: Int32Array;
  readonly classOf: Uint16Array;
  readonly classes: number;
  readonly endFrom: number;
  readonly ended: readonly (readonly number[])[];
  readonly depth: Uint16Array;
}

/** Throws RangeError when a literal is empty or the table would pass TABLE_CELLS_MAX. */
export function compileLiterals(literals: readonly string[], options: LiteralOptions = {}): Literals {
  const texts = literals.map((text) => (options.collapseSpace ? text.trim().replace(/\s+/g, " ") : text));
  const { classOf, classes, wordClass, space } = classify(texts, options);
  const units = texts.reduce((sum, text) => sum + text.length, 2);
  if (units * classes > TABLE_CELLS_MAX) {
    throw new RangeError(
      `${literals.length} literals need up to ${units * classes} table cells, more than ${TABLE_CELLS_MAX}: use fewer or shorter ones`,
    );
  }

  // The trie. In `next`, 0 stands for "no child yet".
  const next = new Int32Array(units * classes);
  const depth = new Uint16Array(units);
  const last = new Uint16Array(units);
  const heldBelow = new Uint8Array(units);
  const ended: (readonly number[])[] = [[], []];
  let states = 2;
  texts.forEach((text, id) => {
    if (text.length === 0 || text.length > 0xffff) throw new RangeError(`literal ${id} is empty or too long`);
    const held = options.held?.(id) ?? true;
    let state = EDGE;
    for (let i = 0; i < text.length; i++) {
      if (held) heldBelow[state] = 1;
      const cell = state * classes + classOf[text.charCodeAt(i)]!;
      if (next[cell] === 0) {
        depth[states] = i + 1;
        last[states] = cell % classes;
        ended.push([]);
        next[cell] = states++;
      }
      state = next[cell]!;
    }
    ended[state] = [...ended[state]!, id];
  });

  // Breadth first: where a state has no child, it goes where its longest proper suffix would go.
  const fail = new Int32Array(states);
  const queue: number[] = [];
  for (let c = 0; c < classes; c++) {
    const child = next[c]!;
    const empty = wordClass[c] === 1 ? INSIDE : EDGE;
    if (child === 0) next[c] = empty;
    else {
      fail[child] = empty;
      queue.push(child);
    }
    next[INSIDE * classes + c] = wordClass[c] === 1 ? INSIDE : next[c]!;
  }
  for (let head = 0; head < queue.length; head++) {
    const state = queue[head]!;
    const suffix = fail[state]!;
    const own = ended[state]!;
    ended[state] = own.length === 0 ? ended[suffix]! : [...own, ...ended[suffix]!];
    if (heldBelow[state] === 0) depth[state] = depth[suffix]!;
    for (let c = 0; c < classes; c++) {
      const cell = state * classes + c;
      const onward = next[suffix * classes + c]!;
      if (next[cell] === 0) next[cell] = onward;
      else {
        fail[next[cell]!] = onward;
        queue.push(next[cell]!);
      }
    }
  }
  // A second space changes nothing: the state that a space led to stays.
  if (space !== undefined) {
    for (const state of queue) if (last[state] === space) next[state * classes + space] = state;
  }
  return new Literals({ classOf, classes, ...renumber(next, states, classes, ended, depth) });
}

/** Gives every unit a class: units that no literal tells apart share one, which keeps the rows short. */
function classify(texts: readonly string[], options: LiteralOptions) {
  const classOf = new Uint16Array(0x10000);
  for (let unit = 0; unit < 128; unit++) classOf[unit] = isWordUnit(unit) ? OTHER_WORD : OTHER;
  let classes = 2;
  const wordClass: number[] = [0, options.wordStart ? 1 : 0];
  let space: number | undefined;
  if (options.collapseSpace) {
    space = classes++;
    wordClass.push(0);
    for (let unit = 0; unit < 0x10000; unit++) {
      if (SPACE.test(String.fromCharCode(unit))) classOf[unit] = space;
    }
  }
  for (const text of texts) {
    for (let i = 0; i < text.length; i++) {
      if (classOf[text.charCodeAt(i)]! > OTHER_WORD) continue;
      const unit = text[i]!;
      const forms = options.ignoreCase ? [unit, unit.toLowerCase(), unit.toUpperCase()] : [unit];
      for (const form of forms) {
        if (form.length === 1 && classOf[form.charCodeAt(0)]! <= OTHER_WORD)
          classOf[form.charCodeAt(0)] = classes;
      }
      wordClass.push(options.wordStart && isWordUnit(unit.charCodeAt(0)) ? 1 : 0);
      classes++;
    }
  }
  return { classOf, classes, wordClass, space };
}

/** Moves the states that end a literal to the back, so that the loop tells them by one comparison. */
function renumber(
  next: Int32Array,
  states: number,
  classes: number,
  ended: readonly (readonly number[])[],
  depth: Uint16Array,
) {
  const order = Array.from({ length: states }, (_, state) => state);
  const plain = order.filter((state) => ended[state]!.length === 0);
  const ending = order.filter((state) => ended[state]!.length > 0);
  const sorted = [...plain, ...ending];
  const row = new Int32Array(states);
  sorted.forEach((state, place) => {
    row[state] = place * classes;
  });
  const table = new Int32Array(states * classes);
  sorted.forEach((state, place) => {
    for (let c = 0; c < classes; c++) table[place * classes + c] = row[next[state * classes + c]!]!;
  });
  return {
    table,
    endFrom: plain.length * classes,
    ended: ending.map((state) => ended[state]!),
    depth: Uint16Array.from(sorted, (state) => depth[state]!),
  };
}
