/**
 * Counts what the guard judges, on the request path: additions to plain numbers, no clock, no allocation once a
 * segment is known. Each second the guard takes what was counted and starts a new page.
 *
 *   decision -> every request
 *            -> its organisation (the 64 biggest; others together)
 *            -> all, and its tier: where the organisation has a history and lies within the change's rollout
 *
 * An organisation without a history is left out of `all` and of the tiers: who comes new with other habits would look
 * like a change of the policy.
 */
import type { Act, Cause, Tier } from "../../layer/index.ts";
import { inRollout } from "../in-rollout.ts";
import type { Seat } from "../snapshot.ts";
import { INTERNAL, Masks, POLICY_ITSELF, type SeatBits } from "./masks.ts";

/** What the guard reads of a decision. */
export interface Decided {
  readonly revision: string;
  readonly org: string;
  readonly address: string;
  readonly tier: Tier;
  readonly act: Act;
  readonly would: Act;
  readonly cause: Cause;
  readonly seats: readonly {
    readonly seat: string;
    readonly mode: "shadow" | "enforce";
    readonly state: string;
    readonly would: Act;
    readonly micros: number;
  }[];
}

/** Organisations that are counted by themselves. */
const ORGS_MAX = 64;
/** Organisations beyond them whose traffic is known, so that the biggest can take a place. */
const CANDIDATES_MAX = 256;
/** Steps of added time: up to 0.256 ms, and each twice the one before. */
export const LATENCY_STEPS = 20;

/** Ends of a request that follow from the policy itself rather than from a seat. */
const OF_THE_POLICY: ReadonlySet<Cause> = new Set<Cause>([
  "route_unknown",
  "method_not_allowed",
  "field_unknown",
  "upstream_event_unknown",
]);

/** One segment's figures. */
export class Figures {
  requests = 0;
  appeals = 0;
  readonly masks = new Masks();
  /** By the seats that failed; the column `found` counts. */
  readonly failed = new Masks();

  add(other: Figures): void {
    this.requests += other.requests;
    this.appeals += other.appeals;
    this.masks.add(other.masks);
    this.failed.add(other.failed);
  }

  scale(factor: number): void {
    this.requests *= factor;
    this.appeals *= factor;
    this.masks.scale(factor);
    this.failed.scale(factor);
  }
}

/** A segment with its page under way. */
export class Segment {
  readonly name: string;
  page = new Figures();
  /** Whether it has a history: set by the guard. */
  isKnown = false;
  /** Whether the change applies to it. */
  isIn = true;

  constructor(name: string) {
    this.name = name;
  }

  take(): Figures {
    const { page } = this;
    if (page.requests > 0 || page.appeals > 0) this.page = new Figures();
    return page;
  }
}

export class Book {
  readonly #bits: SeatBits;
  #revision = "";
  #partial: readonly Pick<Seat, "id" | "rollout">[] = [];
  readonly every = new Segment("every request");
  readonly all = new Segment("all");
  readonly rest = new Segment("other organisations");
  readonly tiers = new Map<string, Segment>();
  readonly orgs = new Map<string, Segment>();
  readonly #candidates = new Map<string, number>();
  /** Of all requests, by added time; the guard takes it with each page. */
  latency = new Float64Array(LATENCY_STEPS);

  constructor(bits: SeatBits) {
    this.#bits = bits;
  }

  /** From now on decisions of this revision are counted, and no others. */
  follow(revision: string, partial: readonly Pick<Seat, "id" | "rollout">[]): void {
    this.#revision = revision;
    this.#partial = partial;
    for (const [id, segment] of this.orgs) segment.isIn = this.#isIn(id, "");
  }

  get segments(): Segment[] {
    return [this.all, this.rest, ...this.tiers.values(), ...this.orgs.values()];
  }

  note(decision: Decided): void {
    // Of a request that began under another policy.
    if (decision.revision !== this.#revision) return;
    const { seats, cause } = decision;
    let found = 0;
    let failed = 0;
    let micros = 0;
    for (let i = 0; i < seats.length; i++) {
      const seat = seats[i]!;
      if (seat.mode === "enforce") micros += seat.micros;
      if (seat.would !== "allow") found |= this.#bits.of(seat.seat);
      if (seat.state === "failed" || seat.state === "timed_out") failed |= this.#bits.of(seat.seat);
    }
    let isRefused = refuses(decision.act);
    let wouldRefuse = refuses(decision.would);
    if (cause !== "complete") {
      if (cause === "internal") failed |= INTERNAL;
      if (OF_THE_POLICY.has(cause)) {
        found |= POLICY_ITSELF;
        isRefused = true;
        wouldRefuse = true;
      }
    }
    this.latency[stepOf(micros)]! += 1;
    count(this.every, found, failed, isRefused, wouldRefuse);
    const org = this.#org(decision.org);
    count(org, found, failed, isRefused, wouldRefuse);
    if (!org.isKnown) return;
    const isIn =
      this.#partial.length === 0 ||
      (org !== this.rest && decision.org !== "" ? org.isIn : this.#isIn(decision.org, decision.address));
    if (!isIn) return;
    count(this.all, found, failed, isRefused, wouldRefuse);
    count(this.#tier(decision.tier), found, failed, isRefused, wouldRefuse);
  }

  /** Somebody objects to a refusal. */
  appealed({ org, tier }: { readonly org: string; readonly tier: Tier }): void {
    const segments = [this.every, this.all, this.#tier(tier), this.#org(org)];
    for (const segment of segments) segment.page.appeals += 1;
  }

  /** Lets the biggest of the others take the places of the smallest; `usual` is a segment's traffic until now. */
  admit(usual: (segment: Segment) => number): void {
    const wanted = [...this.#candidates].sort(([, a], [, b]) => b - a).slice(0, ORGS_MAX);
    const held = [...this.orgs].sort(([, a], [, b]) => usual(a) - usual(b));
    for (const [id, requests] of wanted) {
      const smallest = held.shift();
      if (smallest === undefined || usual(smallest[1]) * 1.5 >= requests) break;
      this.orgs.delete(smallest[0]);
      this.#open(id);
    }
    this.#candidates.clear();
  }

  #org(id: string): Segment {
    const segment = this.orgs.get(id);
    if (segment !== undefined) return segment;
    if (this.orgs.size < ORGS_MAX) return this.#open(id);
    const requests = this.#candidates.get(id);
    if (requests !== undefined || this.#candidates.size < CANDIDATES_MAX)
      this.#candidates.set(id, (requests ?? 0) + 1);
    return this.rest;
  }

  #open(id: string): Segment {
    const segment = new Segment(id === "" ? "callers without an organisation" : `organisation ${id}`);
    segment.isIn = this.#isIn(id, "");
    this.orgs.set(id, segment);
    return segment;
  }

  #tier(tier: Tier): Segment {
    let segment = this.tiers.get(tier);
    if (segment === undefined) {
      segment = new Segment(`tier ${tier}`);
      this.tiers.set(tier, segment);
    }
    return segment;
  }

  #isIn(org: string, address: string): boolean {
    if (this.#partial.length === 0) return true;
    return this.#partial.some((seat) => inRollout(seat, org || address));
  }
}

function count(
  { page }: Segment,
  found: number,
  failed: number,
  isRefused: boolean,
  wouldRefuse: boolean,
): void {
  page.requests += 1;
  if (failed !== 0) page.failed.cell(failed).found += 1;
  if (found === 0) return;
  const cell = page.masks.cell(found);
  cell.found += 1;
  if (isRefused) cell.refused += 1;
  if (wouldRefuse) cell.would += 1;
}

function refuses(act: Act): boolean {
  return act === "block" || act === "throttle";
}

function stepOf(micros: number): number {
  return Math.min(LATENCY_STEPS - 1, 32 - Math.clz32(micros >> 8));
}

/** From how many milliseconds on a request lies in this step. */
export function stepStartMs(step: number): number {
  return step === 0 ? 0 : (256 * 2 ** (step - 1)) / 1_000;
}
