/**
 * Reads a text of any length with stage one of the prompt model: every view of it (as it stands, decoded), in windows
 * that overlap, so that nothing hides behind a long head. What is kept of a text are a few numbers: the strongest
 * logit of each head, where it was, and the window that stage two would be asked about.
 *
 *   up to WHOLE_UNITS_MAX   |--w--|--w--|--w--|--w--|        every window of the plain view, then of decoded ones
 *   longer                  |--w--|--w--|  w  .  w  .  w  |--w--|--w--|
 *                             first half    tenths, strided    last half      (as canonical.ts sees them whole)
 */
import { type Canonical, canonicalWithin, WHOLE_UNITS_MAX } from "../canonical.ts";
import { FEATURES_TEXT_MAX, type Shape, shapeOf } from "../features.ts";
import type { View } from "../views.ts";
import { disguisesOf } from "./disguises.ts";
import {
  type Facts,
  FIRST_LOGITS,
  factsOf,
  HEADS_COUNT,
  type PromptModel,
  type Scores,
} from "./prompt-model.ts";

export interface Stretch {
  readonly start: number;
  readonly end: number;
}

export interface TextReading {
  /** Of each head the strongest window's, as probabilities. */
  readonly scores: Scores;
  /** Where that window is in the source, in the order of HEADS. */
  readonly spans: readonly Stretch[];
  /** The window that is strongest by `any`: what stage two is asked about. */
  readonly strongest: {
    /** All FIRST_LOGITS of stage one. */
    readonly logits: Float32Array;
    readonly facts: Facts;
    /** What the encoder reads: the source's own spelling where it is in the source as it stands. */
    readonly part: string;
  };
}

const WINDOW_UNITS = FEATURES_TEXT_MAX;
const OVERLAP_UNITS = 512;
const STEP_UNITS = WINDOW_UNITS - OVERLAP_UNITS;
/** A text of any length is read at its head, its end, and at each tenth. */
const TENTHS = 10;

/** Scratch, one for all as reading is synchronous. */
const logits = new Float32Array(FIRST_LOGITS);
const most = new Float32Array(HEADS_COUNT);
const starts = new Int32Array(HEADS_COUNT);
const strongest = new Float32Array(FIRST_LOGITS);

/**
 * Undefined where there is nothing to read. `seen` is canonicalOf's for this source. The plain view may have
 * `windowsMax` windows, and all decoded ones together as many again (but each its head, end and tenths).
 */
export function readText(
  model: PromptModel,
  source: string,
  seen: Canonical,
  options: { readonly windowsMax: number },
): TextReading | undefined {
  const { views } = seen;
  const found: (View | undefined)[] = new Array(HEADS_COUNT).fill(undefined);
  most.fill(Number.NEGATIVE_INFINITY);
  const look = (view: View, start: number, disguises: number): void => {
    const end = Math.min(view.text.length, start + WINDOW_UNITS);
    const shape = shapeFor(source, view, start, end, disguises);
    model.first(view.text, start, end, shape, logits);
    if (logits[0]! > most[0]!) strongest.set(logits);
    for (let head = 0; head < HEADS_COUNT; head++) {
      if (logits[head]! <= most[head]!) continue;
      most[head] = logits[head]!;
      starts[head] = start;
      found[head] = view;
    }
  };
  const disguises = disguisesOf(seen.marks);
  let plainLeft = options.windowsMax;
  let decodedLeft = options.windowsMax;
  let decoded = 0;
  for (const { kind } of views) decoded += kind === "plain" ? 0 : 1;
  for (const view of views) {
    const { length } = view.text;
    if (length === 0) continue;
    const isPlain = view.kind === "plain";
    if (length <= WINDOW_UNITS) {
      look(view, 0, disguises);
      plainLeft -= isPlain ? 1 : 0;
      decoded -= isPlain ? 0 : 1;
      continue;
    }
    // A view that is stuffed takes nothing from the others.
    const places = windowStarts(length, isPlain ? plainLeft : Math.floor(decodedLeft / decoded));
    for (const start of places) look(view, start, disguises);
    if (isPlain) plainLeft -= places.length;
    else {
      decodedLeft = Math.max(0, decodedLeft - places.length);
      decoded -= 1;
    }
  }
  if (source.length > WHOLE_UNITS_MAX) {
    const half = WHOLE_UNITS_MAX / 2;
    for (const start of windowStarts(source.length, Math.max(0, plainLeft))) {
      if (start + WINDOW_UNITS <= half || start >= source.length - half) continue;
      const within = canonicalWithin(source, start, start + WINDOW_UNITS);
      for (const view of within.views) {
        // Decoded text of the middle shares the second budget too, or a text of nothing but blobs would cost by their number.
        if (view.kind !== "plain" && --decodedLeft < 0) continue;
        look(view, 0, disguisesOf(within.marks));
      }
    }
  }
  const view = found[0];
  if (view === undefined) return undefined;
  const start = starts[0]!;
  const end = Math.min(view.text.length, start + WINDOW_UNITS);
  const spans = found.map((one, head) => {
    const from = starts[head]!;
    return one!.span(from, Math.min(one!.text.length, from + WINDOW_UNITS));
  });
  return {
    scores: model.judgeFirst(strongest, most),
    spans,
    strongest: {
      logits: strongest.slice(),
      facts: factsOf(view.text, start, end),
      part:
        view.kind === "plain" ? source.slice(spans[0]!.start, spans[0]!.end) : view.text.slice(start, end),
    },
  };
}

/** A decoded view has no raw form of its own: its shape is that of what was decoded. */
function shapeFor(source: string, view: View, start: number, end: number, disguises: number): Shape {
  if (view.kind !== "plain") return shapeOf(view.text, start, end, disguises);
  if (start === 0 && end === view.text.length && source.length <= WINDOW_UNITS) {
    return shapeOf(source, 0, source.length, disguises);
  }
  const span = view.span(start, end);
  return shapeOf(source, span.start, span.end, disguises);
}

/**
 * Where windows begin: all of them where they are at most `windowsMax`, else the head, the end and each tenth, and
 * the rest of the budget spread evenly. Rising, no place twice.
 */
export function windowStarts(length: number, windowsMax: number): Int32Array {
  const last = Math.max(0, length - WINDOW_UNITS);
  const count = 1 + Math.ceil(last / STEP_UNITS);
  if (count <= windowsMax) {
    return Int32Array.from({ length: count }, (_, i) => Math.min(last, i * STEP_UNITS));
  }
  const places = new Set([0, last]);
  for (let tenth = 1; tenth < TENTHS; tenth++) {
    const middle = Math.floor((length * tenth) / TENTHS);
    places.add(Math.min(last, Math.max(0, middle - WINDOW_UNITS / 2)));
  }
  const left = Math.max(0, windowsMax - places.size);
  for (let i = 1; i <= left; i++) places.add(Math.floor((last * i) / (left + 1)));
  return Int32Array.from(places).sort();
}
