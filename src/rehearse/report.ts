/** What a rehearsal came to: counts of what would change, by whom it would hit, and what nobody can know. */
import { ACTS, type Act } from "../layer/index.ts";
import { type Outcome, type SeatOutcome, UNKNOWNS, type Unknown } from "./outcome.ts";

const GROUPS = ["org", "tier", "language", "hour"] as const;
type Group = (typeof GROUPS)[number];
/** Groups of one kind that are told apart; the rest is counted together. */
const KEYS_MAX = 5_000;
const ROWS_MAX = 20;
const EXAMPLES_MAX = 10;
/** Ids that the JSON lists. */
const IDS_MAX = 10_000;
const REST = "(others)";

export interface Change {
  readonly key: string;
  requests: number;
  newlyBlocked: number;
  newlyFreed: number;
}

export interface Example {
  readonly id: string;
  readonly at: string;
  readonly org: string;
  readonly seats: readonly string[];
  readonly reasons: readonly string[];
}

interface SeatFigures {
  readonly seat: string;
  newlyBlocked: number;
  newlyFreed: number;
  readonly live: Record<Act, number>;
  readonly candidate: Record<Act, number>;
}

export interface RehearsalReport {
  readonly live: string;
  readonly candidate: string;
  readonly from: string;
  readonly to: string;
  readonly requests: number;
  readonly withContent: number;
  /** Damaged records that were passed over. */
  readonly skipped: number;
  readonly newlyBlocked: number;
  readonly newlyFreed: number;
  readonly changedAct: number;
  readonly acts: {
    readonly live: Readonly<Record<Act, number>>;
    readonly candidate: Readonly<Record<Act, number>>;
  };
  readonly seats: readonly SeatFigures[];
  readonly by: Readonly<Record<Group, readonly Change[]>>;
  readonly examples: { readonly newlyBlocked: readonly Example[]; readonly newlyFreed: readonly Example[] };
  readonly ids: { readonly newlyBlocked: readonly string[]; readonly newlyFreed: readonly string[] };
  /** Time inside the seats per request, in µs. */
  readonly cost: { readonly live: number; readonly candidate: number; readonly added: number };
  readonly unknown: {
    /** Requests of which it cannot be said whether they would be blocked. */
    readonly requests: number;
    readonly why: Readonly<Record<Unknown, number>>;
    /** Newly freed: whether their answers would have passed, nobody knows. */
    readonly freedWithoutAnswer: number;
  };
  /** Of requests that this very policy decided, how many it decides alike when they are replayed. */
  readonly fidelity: { readonly compared: number; readonly alike: number };
}

const none = (): Record<Act, number> =>
  Object.fromEntries(ACTS.map((act) => [act, 0])) as Record<Act, number>;

export class Comparison {
  readonly #acts = { live: none(), candidate: none() };
  readonly #seats = new Map<string, SeatFigures>();
  readonly #groups: Record<Group, Map<string, Change>> = {
    org: new Map(),
    tier: new Map(),
    language: new Map(),
    hour: new Map(),
  };
  readonly #examples: { newlyBlocked: Example[]; newlyFreed: Example[] } = {
    newlyBlocked: [],
    newlyFreed: [],
  };
  readonly #ids: { newlyBlocked: string[]; newlyFreed: string[] } = { newlyBlocked: [], newlyFreed: [] };
  readonly #why = Object.fromEntries(UNKNOWNS.map((why) => [why, 0])) as Record<Unknown, number>;
  requests = 0;
  #withContent = 0;
  #newlyBlocked = 0;
  #newlyFreed = 0;
  #changedAct = 0;
  #unknown = 0;
  #freedWithoutAnswer = 0;
  #micros = { live: 0, candidate: 0 };
  #fidelity = { compared: 0, alike: 0 };
  #from = "";
  #to = "";
  #random = 1;

  add(live: Outcome, candidate: Outcome): void {
    if (live.id !== candidate.id)
      throw new Error(`the passes have lost step at ${live.id} and ${candidate.id}`);
    const { facts } = live;
    this.requests += 1;
    if (facts.hasContent) this.#withContent += 1;
    if (this.#from === "" || facts.at < this.#from) this.#from = facts.at;
    if (facts.at > this.#to) this.#to = facts.at;
    this.#acts.live[live.act] += 1;
    this.#acts.candidate[candidate.act] += 1;
    this.#micros.live += live.micros;
    this.#micros.candidate += candidate.micros;
    if (facts.isOwnRevision && live.unknown.length === 0) {
      this.#fidelity.compared += 1;
      if (facts.recorded === live.act) this.#fidelity.alike += 1;
    }
    for (const seat of live.seats) this.#seat(seat.seat).live[seat.would] += 1;
    for (const seat of candidate.seats) this.#seat(seat.seat).candidate[seat.would] += 1;
    const change = this.#changeOf(live, candidate);
    for (const group of GROUPS) {
      const row = this.#row(group, group === "hour" ? `${facts.at.slice(0, 13)}:00Z` : facts[group]);
      row.requests += 1;
      if (change !== undefined) row[change] += 1;
    }
    if (change === undefined) return;
    const by = (change === "newlyBlocked" ? candidate : live).seats.filter(({ applied }) => isBlock(applied));
    for (const { seat } of by) this.#seat(seat)[change] += 1;
    if (change === "newlyBlocked") this.#newlyBlocked += 1;
    else this.#newlyFreed += 1;
    this.#sample(change, live, by);
  }

  report(revisions: { readonly live: string; readonly candidate: string }, skipped: number): RehearsalReport {
    const per = (micros: number) => Math.round((micros / Math.max(1, this.requests)) * 10) / 10;
    const { live, candidate } = this.#micros;
    return {
      ...revisions,
      from: this.#from,
      to: this.#to,
      requests: this.requests,
      withContent: this.#withContent,
      skipped,
      newlyBlocked: this.#newlyBlocked,
      newlyFreed: this.#newlyFreed,
      changedAct: this.#changedAct,
      acts: this.#acts,
      seats: [...this.#seats.values()],
      by: {
        org: worst(this.#groups.org),
        tier: worst(this.#groups.tier),
        language: worst(this.#groups.language),
        hour: worst(this.#groups.hour),
      },
      examples: this.#examples,
      ids: this.#ids,
      cost: { live: per(live), candidate: per(candidate), added: per(candidate - live) },
      unknown: { requests: this.#unknown, why: this.#why, freedWithoutAnswer: this.#freedWithoutAnswer },
      fidelity: this.#fidelity,
    };
  }

  /** A block is certain whatever else could not be judged; an open door is only where nothing is unknown. */
  #changeOf(live: Outcome, candidate: Outcome): "newlyBlocked" | "newlyFreed" | undefined {
    for (const why of new Set([...live.unknown, ...candidate.unknown])) this.#why[why] += 1;
    const wasBlocked = isBlock(live.act);
    const isBlocked = isBlock(candidate.act);
    if (wasBlocked && isBlocked) return undefined;
    // Freed at the prompt: what its answer would have met is another question, asked apart.
    const doubts = candidate.unknown.filter((why) => why !== "answer");
    if ((!wasBlocked && live.unknown.length > 0) || (!isBlocked && doubts.length > 0)) {
      this.#unknown += 1;
      return undefined;
    }
    if (live.act !== candidate.act) this.#changedAct += 1;
    if (wasBlocked === isBlocked) return undefined;
    if (isBlocked) return "newlyBlocked";
    if (candidate.unknown.includes("answer")) this.#freedWithoutAnswer += 1;
    return "newlyFreed";
  }

  #seat(seat: string): SeatFigures {
    let figures = this.#seats.get(seat);
    if (figures === undefined) {
      figures = { seat, newlyBlocked: 0, newlyFreed: 0, live: none(), candidate: none() };
      this.#seats.set(seat, figures);
    }
    return figures;
  }

  #row(group: Group, wanted: string): Change {
    const rows = this.#groups[group];
    const key = rows.has(wanted) || rows.size < KEYS_MAX ? wanted : REST;
    let row = rows.get(key);
    if (row === undefined) {
      row = { key, requests: 0, newlyBlocked: 0, newlyFreed: 0 };
      rows.set(key, row);
    }
    return row;
  }

  /** Each has the same chance to be shown (reservoir sampling, Vitter's algorithm R), and the same run shows the same. */
  #sample(change: "newlyBlocked" | "newlyFreed", { id, facts }: Outcome, by: readonly SeatOutcome[]): void {
    if (this.#ids[change].length < IDS_MAX) this.#ids[change].push(id);
    const seen = change === "newlyBlocked" ? this.#newlyBlocked : this.#newlyFreed;
    const examples = this.#examples[change];
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    const at = examples.length < EXAMPLES_MAX ? examples.length : Math.floor((this.#random / 2 ** 32) * seen);
    if (at >= EXAMPLES_MAX) return;
    examples[at] = {
      id,
      at: facts.at,
      org: facts.org,
      seats: by.map(({ seat }) => seat),
      reasons: [...new Set(by.flatMap(({ reasons }) => reasons))].slice(0, 6),
    };
  }
}

function isBlock(act: Act): boolean {
  return act === "block" || act === "throttle";
}

function worst(rows: ReadonlyMap<string, Change>): readonly Change[] {
  const weight = ({ newlyBlocked, newlyFreed }: Change) => newlyBlocked + newlyFreed;
  return [...rows.values()]
    .sort((a, b) => weight(b) - weight(a) || b.requests - a.requests)
    .slice(0, ROWS_MAX);
}
