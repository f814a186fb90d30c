/**
 * One change of policy on trial: for each segment and figure what was seen since, the band that holds for it, and the
 * evidence that it was left. The first figure whose evidence is enough, in a segment that has reached its floor of
 * traffic, ends the trial.
 *
 *   band = usual share of the touched seats (with its standard error)
 *        + max(margin, rise x usual share of all refusals)
 *        + the weather: the share of requests, above the usual, that seats find something in which the change did not touch
 *
 * The weather is there for attacks: they are found by several seats, and by some of them alone. For each request more
 * than usual that the others find, one refusal more is put down to the attack and not to the change.
 */
import type { Book, Segment } from "./book.ts";
import { Figures, LATENCY_STEPS, stepStartMs } from "./book.ts";
import { Evidence } from "./evidence.ts";
import type { Habit } from "./habit.ts";
import { beyond, EVERYTHING, INTERNAL, type Masks, within } from "./masks.ts";
import type { GuardSettings } from "./settings.ts";
import type { Touched } from "./touched.ts";

/** `would_block`: of seats in shadow. */
export type Figure = "block" | "would_block" | "error" | "latency" | "appeal";

export interface Finding {
  readonly figure: Figure;
  readonly segment: string;
  /** Shares of requests. */
  readonly observed: number;
  readonly usual: number;
  readonly band: number;
  readonly requests: number;
  readonly hits: number;
  /** Natural logarithms: evidence against "within the band", and what was needed. */
  readonly evidence: number;
  readonly needed: number;
  /** Since the change, and since the segment reached its floor of traffic. */
  readonly afterSec: number;
  readonly floorSec: number;
}

export interface TrialParts {
  readonly revision: string;
  readonly touched: Touched;
  readonly settings: GuardSettings;
  /** What may go wrong by chance in this one trial. */
  readonly alpha: number;
  readonly book: Book;
  readonly habitOf: (segment: Segment) => Habit;
  /** Usual latency, counts by step. */
  readonly latency: Float64Array;
}

/** A second's part in the weather. */
const WEATHER_SHARE = 0.1;
const ERRORS = 2.5;
/** Times the band. */
const FAR = 4;
const BAND_MAX = 0.95;
const LATENCY_REQUESTS_MIN = 200;

interface Judged {
  readonly segment: Segment;
  readonly habit: Habit;
  readonly sum: Figures;
  readonly figures: readonly Test[];
  /** Of the last seconds. */
  weatherRequests: number;
  weatherFound: number;
}

interface Test {
  readonly figure: Figure;
  readonly usual: number;
  readonly band: number;
  readonly dispersion: number;
  readonly hits: (page: Figures) => number;
  readonly evidence: Evidence;
  /** When the floor was reached; undefined before. */
  floorSec?: number;
}

export class Trial {
  readonly #parts: TrialParts;
  readonly #judged = new Map<Segment, Judged>();
  readonly #needed: number;
  readonly #latencyBand: { readonly fromStep: number; readonly evidence: Evidence };
  readonly #latencySeen = new Float64Array(LATENCY_STEPS);
  readonly #others = new Map<Segment, Figures>();
  /** Where no segment has a history. */
  readonly #bare: { readonly sum: Figures; readonly test: Test } | undefined;
  #seconds = 0;

  constructor(parts: TrialParts) {
    this.#parts = parts;
    const known = parts.book.segments.filter((segment) => parts.habitOf(segment).isKnown);
    this.#needed = Math.log((known.length * 4 + 2) / parts.alpha);
    for (const segment of known) this.#judged.set(segment, this.#judge(segment));
    if (known.length === 0) {
      const { noHistoryMax } = parts.settings.block;
      const test = this.#test("block", 0, noHistoryMax, 1, ({ masks }) =>
        within(masks, parts.touched.enforced, "refused"),
      );
      this.#bare = { sum: new Figures(), test };
    }
    this.#latencyBand = {
      fromStep: slowFrom(parts.latency, parts.settings.latency.marginMs),
      evidence: this.#evidence(),
    };
  }

  get seconds(): number {
    return this.#seconds;
  }

  /** Requests of the widest segment that is judged. */
  get requests(): number {
    const all = this.#judged.get(this.#parts.book.all) ?? this.#bare;
    return all?.sum.requests ?? 0;
  }

  /** Whether what is judged has had enough traffic for a verdict on refusals. */
  get isAtFloor(): boolean {
    const all = this.#judged.get(this.#parts.book.all);
    if (all === undefined)
      return this.#bare !== undefined && this.#isAtFloor(this.#bare.test, this.#bare.sum);
    return all.figures.every((test) => test.figure === "appeal" || this.#isAtFloor(test, all.sum));
  }

  /** One second more; a finding where a band was left. */
  second(pages: ReadonlyMap<Segment, Figures>, every: Figures, latency: Float64Array): Finding | undefined {
    this.#seconds += 1;
    let worst: Finding | undefined;
    const keep = (found: Finding | undefined) => {
      if (found !== undefined && (worst === undefined || found.evidence > worst.evidence)) worst = found;
    };
    for (const [segment, page] of pages) {
      const judged = this.#judged.get(segment);
      if (judged === undefined) this.#note(segment, page);
      else for (const found of this.#look(judged, page)) keep(found);
    }
    if (this.#bare !== undefined) {
      this.#bare.sum.add(every);
      keep(this.#weigh(this.#bare.test, every, this.#bare.sum, 0, this.#parts.book.every.name));
    }
    keep(this.#slow(every, latency));
    return worst;
  }

  /** What was counted meanwhile, for the segments' habits once the change is found good. */
  counted(): readonly (readonly [Segment, Figures])[] {
    const judged = [...this.#judged].map(([segment, { sum }]) => [segment, sum] as const);
    return [...judged, ...this.#others];
  }

  get latencySeen(): Float64Array {
    return this.#latencySeen;
  }

  #note(segment: Segment, page: Figures): void {
    let sum = this.#others.get(segment);
    if (sum === undefined) {
      sum = new Figures();
      this.#others.set(segment, sum);
    }
    sum.add(page);
  }

  #judge(segment: Segment): Judged {
    const { habitOf, touched, settings } = this.#parts;
    const { enforced, shadowed } = touched;
    const habit = habitOf(segment);
    const usualAll = habit.refused(EVERYTHING, "refused");
    const figures: Test[] = [];
    for (const [figure, mask, column] of [
      ["block", enforced, "refused"],
      ["would_block", shadowed, "would"],
    ] as const) {
      if (mask === 0) continue;
      const usual = habit.refused(mask, column);
      const dispersion = habit.dispersion(mask);
      const { rise, margin } = settings.block;
      const band = habit.upper(usual, mask) + Math.max(margin, rise * usualAll);
      figures.push(this.#test(figure, usual, band, dispersion, ({ masks }) => within(masks, mask, column)));
    }
    const mayFail = enforced | shadowed | INTERNAL;
    const share = (count: number) => count / habit.figures.requests;
    const failing = share(touchedBy(habit.figures.failed, mayFail));
    const { error, appeal } = settings;
    figures.push(
      this.#test(
        "error",
        failing,
        habit.upper(failing, 0) + Math.max(error.margin, error.rise * failing),
        1,
        ({ failed }) => touchedBy(failed, mayFail),
      ),
    );
    const appealing = share(habit.figures.appeals);
    const appeals = habit.upper(appealing, 0) + Math.max(appeal.margin, appeal.rise * appealing);
    figures.push(this.#test("appeal", appealing, appeals, 1, (page) => page.appeals));
    return { segment, habit, sum: new Figures(), figures, weatherRequests: 0, weatherFound: 0 };
  }

  #test(
    figure: Figure,
    usual: number,
    band: number,
    dispersion: number,
    hits: (page: Figures) => number,
  ): Test {
    return { figure, usual, band: Math.min(BAND_MAX, band), dispersion, hits, evidence: this.#evidence() };
  }

  #evidence(): Evidence {
    return new Evidence({ needed: this.#needed, seconds: this.#parts.settings.probationSec });
  }

  #look(judged: Judged, page: Figures): Finding[] {
    const { segment, sum } = judged;
    sum.add(page);
    const weather = this.#weather(judged, page);
    return judged.figures.flatMap((test) => {
      const isAboutRefusals = test.figure === "block" || test.figure === "would_block";
      return this.#weigh(test, page, sum, isAboutRefusals ? weather : 0, segment.name) ?? [];
    });
  }

  /** Share of requests, above what is usual, that seats find something in which the change did not touch. */
  #weather(judged: Judged, page: Figures): number {
    const touched = this.#parts.touched.enforced | this.#parts.touched.shadowed;
    const found = beyond(page.masks, touched);
    judged.weatherRequests = judged.weatherRequests * (1 - WEATHER_SHARE) + page.requests;
    judged.weatherFound = judged.weatherFound * (1 - WEATHER_SHARE) + found;
    if (page.requests === 0) return 0;
    const usual = beyond(judged.habit.figures.masks, touched) / judged.habit.figures.requests;
    // The second itself too: an attack that begins is in it before it is in the mean.
    return Math.max(
      excess(found, page.requests, usual),
      excess(judged.weatherFound, judged.weatherRequests, usual),
    );
  }

  #weigh(test: Test, page: Figures, sum: Figures, weather: number, segment: string): Finding | undefined {
    const band = Math.min(BAND_MAX, test.band + weather);
    // An appeal can come with no request in its second.
    const requests = Math.max(page.requests, test.hits(page));
    test.evidence.note({ requests, hits: test.hits(page), band, dispersion: test.dispersion });
    if (!this.#isAtFloor(test, sum)) return undefined;
    test.floorSec ??= this.#seconds;
    if (!test.evidence.isEnough) return undefined;
    const hits = test.hits(sum);
    return this.#finding(test.figure, segment, test.evidence, {
      usual: test.usual,
      band,
      requests: sum.requests,
      hits,
      floorSec: test.floorSec,
    });
  }

  /** So many requests that the band's upper end brings enough hits; fewer where far more of them are hits. */
  #isAtFloor(test: Test, sum: Figures): boolean {
    const { requestsMin, hitsMin } = this.#parts.settings;
    if (sum.requests < requestsMin) return false;
    const hits = test.hits(sum);
    const expected = sum.requests * test.band;
    return test.figure === "appeal"
      ? hits >= hitsMin
      : expected >= hitsMin || (hits >= hitsMin && hits >= FAR * expected);
  }

  #slow(every: Figures, latency: Float64Array): Finding | undefined {
    const { fromStep, evidence } = this.#latencyBand;
    const { slowMax } = this.#parts.settings.latency;
    for (let step = 0; step < LATENCY_STEPS; step++) this.#latencySeen[step]! += latency[step]!;
    // Seconds of one process are one sample each, not one for each request: what slows one slows all.
    const { requests } = every;
    const slow = sumFrom(latency, fromStep);
    evidence.note({ requests, hits: slow, band: slowMax, dispersion: Math.max(1, requests / 10) });
    const seen = sumFrom(this.#latencySeen, 0);
    if (seen < LATENCY_REQUESTS_MIN || !evidence.isEnough) return undefined;
    return this.#finding("latency", this.#parts.book.every.name, evidence, {
      usual: shareFrom(this.#parts.latency, fromStep),
      band: slowMax,
      requests: seen,
      hits: sumFrom(this.#latencySeen, fromStep),
      floorSec: 0,
    });
  }

  #finding(
    figure: Figure,
    segment: string,
    evidence: Evidence,
    seen: Pick<Finding, "usual" | "band" | "requests" | "hits" | "floorSec">,
  ): Finding {
    return {
      figure,
      segment,
      observed: seen.hits / seen.requests,
      ...seen,
      evidence: evidence.value,
      needed: this.#needed,
      afterSec: this.#seconds,
    };
  }
}

/** How far a share lies above the usual one, beyond chance. */
function excess(found: number, requests: number, usual: number): number {
  const error = Math.sqrt(Math.max(usual, 1 / requests) / requests);
  return Math.max(0, found / requests - usual - ERRORS * error);
}

function touchedBy(failed: Masks, touched: number): number {
  let sum = 0;
  for (const { mask, found } of failed.cells) if ((mask & touched) !== 0) sum += found;
  return sum;
}

/** The first step that lies above twice the usual 99th percentile and above it by the margin. */
function slowFrom(latency: Float64Array, marginMs: number): number {
  const all = sumFrom(latency, 0);
  let usual = 0;
  while (usual < LATENCY_STEPS - 1 && sumFrom(latency, usual + 1) > all / 100) usual++;
  let step = usual + 2;
  while (step < LATENCY_STEPS - 1 && stepStartMs(step) < stepStartMs(usual) + marginMs) step++;
  return Math.min(step, LATENCY_STEPS - 1);
}

function sumFrom(counts: Float64Array, step: number): number {
  let sum = 0;
  for (let i = step; i < counts.length; i++) sum += counts[i]!;
  return sum;
}

function shareFrom(counts: Float64Array, step: number): number {
  const all = sumFrom(counts, 0);
  return all === 0 ? 0 : sumFrom(counts, step) / all;
}
