/**
 * From one text to its views: folded, and then, where the scan saw evidence, decoded step by step. A decoded view
 * is the text with the decoded parts in place and some of what stands around them, so that half an instruction in
 * base64 and half in plain words is still one. Deeper steps are taken only from what a step before decoded.
 *
 *   leaf <-fold- cleaned <-squeeze- view "plain"
 *                cleaned <-patches- part <-fold- cleaned <-squeeze- view "base64"
 *                                                cleaned <-patches- ...
 */
import { FINDERS, type Step } from "./decode.ts";
import { type FoldMarks, fold, type Marks, type Smuggled } from "./fold.ts";
import { lay, type Patch, touches } from "./lay.ts";
import { OffsetMap, type Range } from "./offsets.ts";
import { type Evidence, FOREIGN, isPlain, scan } from "./scan.ts";

export type ViewKind = "plain" | Step | "joined";

export interface View {
  /** `plain` the folded text itself, `joined` texts of several leaves, else the last of `steps`. */
  readonly kind: ViewKind;
  /** Decoding steps that led here, outermost first; [] for `plain`. */
  readonly steps: readonly string[];
  /** Lower case, look-alikes as ASCII, what is invisible dropped, runs of white space one space. */
  readonly text: string;
  /** Offsets in the leaf's own text that units [start, end) of this view came from. */
  span(start: number, end: number): Range;
}

export interface Canonical {
  /** The plain view first. */
  readonly views: readonly View[];
  readonly marks: Marks;
}

/** Steps one after another. */
export const DEPTH_MAX = 3;
/** Views of one text, the plain one included. */
export const VIEWS_MAX = 32;
/** Decoded units of one text, as a multiple of its own and at least: what bounds the work, not a clock. */
export const DECODED_SHARE_MAX = 2;
export const DECODED_UNITS_MIN = 4096;

const NO_STEPS: readonly string[] = Object.freeze([]);
const NO_MARKS: Marks = Object.freeze({
  invisible: 0,
  confusable: 0,
  styled: 0,
  tag: 0,
  bidi: 0,
  selector: 0,
  combining: 0,
  encodings: NO_STEPS,
  truncated: false,
});

/** The way from a made text back to the leaf: this text's map, then that of the one it was made from. */
class Origin {
  readonly #map: OffsetMap | undefined;
  readonly #above: Origin | undefined;
  readonly #shift: number;

  constructor(map: OffsetMap | undefined, above: Origin | undefined, shift = 0) {
    this.#map = map;
    this.#above = above;
    this.#shift = shift;
  }

  span(start: number, end: number): Range {
    const here = this.#map?.span(start, end) ?? { start, end };
    if (this.#above !== undefined) return this.#above.span(here.start, here.end);
    return this.#shift === 0 ? here : { start: here.start + this.#shift, end: here.end + this.#shift };
  }
}

class FoldedView implements View {
  readonly kind: ViewKind;
  readonly steps: readonly string[];
  readonly text: string;
  readonly #origin: Origin;

  constructor(steps: readonly Step[], text: string, origin: Origin) {
    this.kind = steps.at(-1) ?? "plain";
    this.steps = steps;
    this.text = text;
    this.#origin = origin;
  }

  span(start: number, end: number): Range {
    return this.#origin.span(start, end);
  }
}

/** A folded text, its case kept, in which finders look for more. */
interface Cleaned {
  readonly text: string;
  readonly evidence: Evidence;
  readonly origin: Origin;
  readonly steps: readonly Step[];
  /** What was decoded to make it, and the way to the text that the patches are of; undefined for the leaf. */
  readonly decoded: { readonly patches: readonly Patch[]; readonly into: Origin } | undefined;
}

/** `shift`: where the text begins in its leaf. */
export function viewsOf(text: string, shift = 0): Canonical {
  const evidence = scan(text, { stopAtForeign: true });
  if (isPlain(evidence)) {
    return { views: [plainView(text, evidence, new Origin(undefined, undefined, shift))], marks: NO_MARKS };
  }
  return new Search(text, evidence, shift).run();
}

function plainView(text: string, { uneven }: Evidence, origin: Origin, steps: readonly Step[] = []): View {
  const lower = text.toLowerCase();
  if (uneven.length === 0) return new FoldedView(steps, lower, origin);
  const squeezed = squeeze(lower, uneven);
  const map = squeezed.map;
  return new FoldedView(steps, squeezed.text, map === undefined ? origin : new Origin(map, origin));
}

/** Runs of white space as one space; `uneven` as the scan found it. */
function squeeze(text: string, uneven: readonly number[]): { text: string; map: OffsetMap | undefined } {
  let made = "";
  let map: OffsetMap | undefined;
  let from = 0;
  /** Where the run that goes over unit for unit began. */
  let run = 0;
  for (const at of uneven) {
    made += text.slice(from, at);
    from = at + 1;
    if (at === 0 || !isWhite(text.charCodeAt(at - 1))) {
      made += " ";
      continue;
    }
    map ??= new OffsetMap();
    map.add(at - run, run, at);
    run = from;
  }
  made += text.slice(from);
  map?.add(text.length - run, run, text.length);
  return { text: made, map };
}

function isWhite(unit: number): boolean {
  return unit === 32 || (unit >= 9 && unit <= 13);
}

const ONCE: ReadonlySet<Step> = new Set(["rot13", "reversed", "leet", "spaced"]);

class Search {
  readonly #views: View[] = [];
  readonly #texts = new Set<string>();
  #marks: FoldMarks = {
    invisible: 0,
    confusable: 0,
    styled: 0,
    tag: 0,
    bidi: 0,
    selector: 0,
    combining: 0,
  };
  readonly #encodings = new Set<string>();
  readonly #queue: Cleaned[] = [];
  readonly #text: string;
  readonly #evidence: Evidence;
  readonly #root: Origin;
  #unitsLeft: number;
  #truncated = false;

  constructor(text: string, evidence: Evidence, shift: number) {
    this.#text = text;
    this.#evidence = evidence;
    this.#root = new Origin(undefined, undefined, shift);
    this.#unitsLeft = Math.max(DECODED_UNITS_MIN, text.length * DECODED_SHARE_MAX);
  }

  run(): Canonical {
    this.#clean(this.#text, this.#evidence, this.#root, [], undefined);
    // Breadth first: a text of a thousand nested layers never hides a plain one beside it.
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#decode(next);
    const marks: Marks = {
      ...this.#marks,
      encodings: [...this.#encodings],
      truncated: this.#truncated,
    };
    return { views: this.#views, marks };
  }

  /** Folds a text, shows it as a view, and keeps it for deeper steps. */
  #clean(
    raw: string,
    known: Evidence | undefined,
    origin: Origin,
    steps: readonly Step[],
    laid?: { readonly patches: readonly Patch[]; readonly map: OffsetMap },
  ): void {
    let text = raw;
    let evidence = known ?? scan(raw, { stopAtForeign: true });
    let foldMap: OffsetMap | undefined;
    let smuggled: readonly Smuggled[] = [];
    if ((evidence.seen & FOREIGN) !== 0) {
      const folded = fold(raw);
      ({ text, map: foldMap, smuggled } = folded);
      // What stands around a decoded part was counted with the leaf.
      if (laid === undefined) this.#marks = folded.marks;
      evidence = scan(text, { stopAtForeign: false });
    }
    const cleaned = foldMap === undefined ? origin : new Origin(foldMap, origin);
    const view = plainView(text, evidence, cleaned, steps);
    if (this.#texts.has(view.text)) return;
    this.#texts.add(view.text);
    this.#views.push(view);
    for (const step of steps) this.#encodings.add(step);
    if (steps.length >= DEPTH_MAX) return;
    const above = laid && new Origin(laid.map, undefined);
    const decoded = laid && above && { patches: laid.patches, into: new Origin(foldMap, above) };
    this.#queue.push({ text, evidence, origin: cleaned, steps, decoded });
    for (const how of ["tag", "selector"] as const) {
      const patches = smuggled.filter(
        (part) =>
          part.how === how &&
          (laid === undefined || touches(laid.patches, laid.map.span(part.start, part.end))),
      );
      if (patches.length > 0) this.#lay(raw, origin, [...steps, how], patches);
    }
  }

  #decode(from: Cleaned): void {
    const { decoded } = from;
    for (const finder of FINDERS) {
      if (!finder.isWorth(from.evidence)) continue;
      // What was turned back once has nothing left to turn.
      if (ONCE.has(finder.step) && from.steps.at(-1) === finder.step) continue;
      let patches = finder.find(from.text, from.evidence);
      if (decoded !== undefined)
        patches = patches.filter(({ start, end }) => touches(decoded.patches, decoded.into.span(start, end)));
      if (patches.length > 0) this.#lay(from.text, from.origin, [...from.steps, finder.step], patches);
    }
  }

  /** Makes the view in which the patches stand in place. */
  #lay(text: string, origin: Origin, steps: readonly Step[], patches: readonly Patch[]): void {
    if (this.#views.length >= VIEWS_MAX || this.#unitsLeft <= 0) {
      this.#truncated = true;
      return;
    }
    const laid = lay(text, patches, this.#unitsLeft);
    if (laid.cut) this.#truncated = true;
    this.#unitsLeft -= laid.text.length;
    this.#clean(laid.text, undefined, new Origin(laid.map, origin), steps, { patches, map: laid.map });
  }
}
