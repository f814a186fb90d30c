/**
 * What one process remembers of entities: risk points that decay, why they were given, and since when an entity is
 * known. Each kind of entity has a table of its own with a bound of its own, so that a flood of one kind (addresses
 * are cheap, and so are names of end users) never pushes an organisation or a key out.
 */
import type { EntityKind } from "../layer/index.ts";

/** Points beyond it say nothing more (1 - e^-32 is 1) and would only take longer to decay: five half-lives to 1. */
export const POINTS_MAX = 32;
/** Below it nothing is known against an entity. */
export const POINTS_MIN = 0.001;
export const HALF_LIFE_MS = 24 * 3_600_000;
/** Reasons that are kept of each entity, the latest. */
export const REASONS_MAX = 8;
export const NETWORKS_MAX = 32;

/** Shares of the bound on entities; what is forgotten first is what was least recently touched, kind by kind. */
const SHARES: Readonly<Record<EntityKind, number>> = {
  org: 0.1,
  key: 0.2,
  end_user: 0.3,
  address: 0.3,
  network: 0.1,
};

/** Points that were given for one reason: all of them together, valued at `at`. */
export interface Contribution {
  readonly reason: string;
  points: number;
  /** The latest, ms since the epoch. */
  at: number;
  /** Of the latest; "" where no request was the cause. */
  requestId: string;
  /** How often. */
  times: number;
  /** Who gave them, where a person did. */
  by?: string;
}

export interface Gift {
  readonly reason: string;
  readonly points: number;
  readonly requestId: string;
  readonly by?: string | undefined;
}

/** Points after some time: half of them are left after each half-life. */
export function decayed(points: number, elapsedMs: number, halfLifeMs: number): number {
  // A clock that was set back must not make points grow.
  if (points === 0 || elapsedMs <= 0) return points;
  return points * 2 ** (-elapsedMs / halfLifeMs);
}

/** A sum of points and what it came from. */
export class Tally {
  points = 0;
  atMs = 0;
  halfLifeMs = HALF_LIFE_MS;
  /** At most REASONS_MAX, the latest first, one for each reason: a flood of one reason hides no other. */
  because: Contribution[] = NO_CONTRIBUTIONS;

  at(nowMs: number, halfLifeMs: number): number {
    const points = decayed(this.points, nowMs - this.atMs, halfLifeMs);
    return points < POINTS_MIN ? 0 : points;
  }

  /** False where this request gave points for this reason before: two seats that feed one finding count it once. */
  give({ reason, points, requestId, by }: Gift, nowMs: number, halfLifeMs: number, share = 1): boolean {
    const known = this.because.findIndex((one) => one.reason === reason);
    const given = points * share;
    if (known >= 0) {
      const one = this.because[known]!;
      if (requestId !== "" && one.requestId === requestId) return false;
      one.points = decayed(one.points, nowMs - one.at, halfLifeMs) + given;
      one.at = nowMs;
      one.requestId = requestId;
      one.times += 1;
      if (by !== undefined) one.by = by;
      this.#toFront(known, one);
    } else {
      const one: Contribution = { reason, points: given, at: nowMs, requestId, times: 1 };
      if (by !== undefined) one.by = by;
      if (this.because === NO_CONTRIBUTIONS) this.because = [one];
      else {
        if (this.because.length < REASONS_MAX) this.because.push(one);
        this.#toFront(this.because.length - 1, one);
      }
    }
    this.set(decayed(this.points, nowMs - this.atMs, halfLifeMs) + given, nowMs, halfLifeMs);
    return true;
  }

  set(points: number, nowMs: number, halfLifeMs: number): void {
    this.points = Math.min(POINTS_MAX, Math.max(this.pointsMin, points));
    this.atMs = nowMs;
    this.halfLifeMs = halfLifeMs;
  }

  /** What is known is never less than nothing; what is still to be told may be (a pardon). */
  get pointsMin(): number {
    return 0;
  }

  #toFront(index: number, one: Contribution): void {
    for (let i = index; i > 0; i--) this.because[i] = this.because[i - 1]!;
    this.because[0] = one;
  }
}

const NO_CONTRIBUTIONS: Contribution[] = Object.freeze([]) as unknown as Contribution[];

/** One entity, as far as this process knows it. */
export class Known extends Tally {
  readonly kind: EntityKind;
  readonly id: string;
  /** When an organisation or a key was first seen, ms since the epoch; 0 where nobody knows. */
  firstMs = 0;
  /** Of a key: its networks, and since when each is known. */
  networks: Map<string, number> | undefined = undefined;
  /** Which life of the shared row this was learnt from, and how often that had changed; "" and 0 from none. */
  epoch = "";
  version = 0;
  /** False until the shared store has told what it knows. */
  isLearnt: boolean;
  /** When the shared store was last asked. */
  askedMs = 0;
  newer: Known | undefined = undefined;
  older: Known | undefined = undefined;

  constructor(kind: EntityKind, id: string, isLearnt: boolean) {
    super();
    this.kind = kind;
    this.id = id;
    this.isLearnt = isLearnt;
  }

  /** Notes a network of a key; answers false where it (or an earlier first use of it) was known. */
  noteNetwork(network: string, firstMs: number): boolean {
    this.networks ??= new Map();
    const known = this.networks.get(network);
    if (known !== undefined && known <= firstMs) return false;
    this.networks.set(network, firstMs);
    if (this.firstMs === 0 || firstMs < this.firstMs) this.firstMs = firstMs;
    if (this.networks.size > NETWORKS_MAX) {
      let oldest = network;
      let oldestMs = firstMs;
      for (const [name, ms] of this.networks) {
        if (ms >= oldestMs || name === network) continue;
        oldest = name;
        oldestMs = ms;
      }
      this.networks.delete(oldest);
    }
    return true;
  }

  /** Notes when the entity was first seen; false where an earlier time was known. */
  noteFirst(firstMs: number): boolean {
    if (this.firstMs !== 0 && this.firstMs <= firstMs) return false;
    this.firstMs = firstMs;
    return true;
  }
}

/** Entities of one kind in order of their last touch; the list runs through the entities themselves. */
export class EntityTable {
  readonly kind: EntityKind;
  readonly max: number;
  evicted = 0;
  readonly #byId = new Map<string, Known>();
  #newest: Known | undefined;
  #oldest: Known | undefined;

  constructor(kind: EntityKind, max: number) {
    this.kind = kind;
    this.max = max;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Without touching it. */
  peek(id: string): Known | undefined {
    return this.#byId.get(id);
  }

  get(id: string): Known | undefined {
    const known = this.#byId.get(id);
    if (known !== undefined && known !== this.#newest) {
      this.#unlink(known);
      this.#link(known);
    }
    return known;
  }

  /** Only where `get` found none. The least recently touched goes where the table is full. */
  admit(id: string, isLearnt: boolean): Known {
    const known = new Known(this.kind, id, isLearnt);
    this.#byId.set(id, known);
    this.#link(known);
    if (this.#byId.size > this.max && this.#oldest !== undefined) {
      const gone = this.#oldest;
      this.#unlink(gone);
      this.#byId.delete(gone.id);
      this.evicted += 1;
    }
    return known;
  }

  each(look: (known: Known) => void): void {
    for (let at = this.#newest; at !== undefined; at = at.older) look(at);
  }

  /** The most recently touched first. */
  latest(max: number): Known[] {
    const found: Known[] = [];
    for (let at = this.#newest; at !== undefined && found.length < max; at = at.older) found.push(at);
    return found;
  }

  #link(known: Known): void {
    known.older = this.#newest;
    known.newer = undefined;
    if (this.#newest !== undefined) this.#newest.newer = known;
    this.#newest = known;
    this.#oldest ??= known;
  }

  #unlink(known: Known): void {
    const { newer, older } = known;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    known.newer = undefined;
    known.older = undefined;
  }
}

export type EntityTables = Readonly<Record<EntityKind, EntityTable>>;

export function entityTables(entitiesMax: number): EntityTables {
  const table = (kind: EntityKind) =>
    new EntityTable(kind, Math.max(1, Math.floor(entitiesMax * SHARES[kind])));
  return {
    org: table("org"),
    key: table("key"),
    end_user: table("end_user"),
    address: table("address"),
    network: table("network"),
  };
}
