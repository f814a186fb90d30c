/**
 * How callers stand with us, from what they did: risk points on organisation, key, end user, address and network,
 * which halve with each half-life. `look` answers from memory alone, as it stands in the way of every request;
 * `feed` changes memory at once and is told to the other gateways behind it, through Redis where there is one.
 * What is known outlives the process, in reputation.json.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type {
  Caller,
  CallerRecord,
  Entity,
  EntityKind,
  Identity,
  Reputation,
  RiskEntry,
  Sanction,
} from "../layer/index.ts";
import { ENTITY_KINDS } from "../layer/index.ts";
import { addressEntity, networkOf } from "../text/network.ts";
import { type Geo, NO_GEO } from "./geo.ts";
import { RecentAnswers } from "./geo-recent.ts";
import type { SharedRedis } from "./redis.ts";
import { readReputation, writeReputation } from "./reputation-file.ts";
import { type EntityTables, entityTables, HALF_LIFE_MS, type Known } from "./reputation-memory.ts";
import { SharedReputation } from "./reputation-redis.ts";
import type { Sanctions } from "./sanctions.ts";

const ENTITIES_MAX = 200_000;
const WRITE_MS = 30_000;
/** Callers' addresses whose entities and country are kept at hand, about 300 bytes each. */
const PLACES_MAX = 65_536;
/** Longer names (of end users; they come from bodies) are cut there: two that begin alike so far are one. */
const ID_UNITS_MAX = 600;
/** What a key is used from in its first day is where it lives, not a new network. */
const SETTLING_MS = 24 * 3_600_000;

/**
 * How much of a finding falls on whom. The nearer the one who did it, the more: a platform's key is not condemned by
 * one of its users as fast as that user, nor an organisation by one of its keys, nor an operator's whole network.
 */
const SHARE_BY_KEY: Readonly<Record<EntityKind, number>> = {
  org: 0.25,
  key: 1,
  end_user: 0,
  address: 1,
  network: 0.25,
};
const SHARE_BY_USER: Readonly<Record<EntityKind, number>> = {
  ...SHARE_BY_KEY,
  org: 0.1,
  key: 0.25,
  end_user: 1,
};

const NO_POINTS: Readonly<Record<EntityKind, number>> = Object.freeze({
  org: 0,
  key: 0,
  end_user: 0,
  address: 0,
  network: 0,
});
const NO_SANCTIONS: readonly Sanction[] = Object.freeze([]);

export interface ReputationOptions {
  readonly dataDir: string;
  readonly redis?: SharedRedis | undefined;
  readonly sanctions?: Pick<Sanctions, "inForce"> | undefined;
  readonly geo?: Geo | undefined;
  readonly entitiesMax?: number | undefined;
  /** ms since the epoch. */
  readonly now?: () => number;
  readonly writeMs?: number;
  /** Told once when reputation.json cannot be written, and with undefined when it can be again. */
  readonly onProblem?: ((problem: string | undefined) => void) | undefined;
}

export interface Explanation {
  readonly entity: Entity;
  /** As of now. */
  readonly points: number;
  /** 1 - e^-points: what these points alone would make of a caller. */
  readonly risk: number;
  readonly firstSeenMs?: number;
  /** What gave points, the latest first: one for each reason, all that it gave together, as of now. */
  readonly causes: readonly {
    readonly reason: string;
    readonly points: number;
    readonly atMs: number;
    readonly requestId?: string;
    readonly times: number;
    readonly by?: string;
  }[];
  readonly sanctions: readonly Sanction[];
}

export interface ReputationStore extends Reputation {
  /** Asks Redis first, where there is one. */
  explain(entity: Entity, halfLifeMs: number): Promise<Explanation>;
  /** A person's word; negative points forgive. Resolves once it was told to Redis, or Redis did not answer. */
  adjust(
    entity: Entity,
    points: number,
    why: { readonly reason: string; readonly by: string },
  ): Promise<void>;
  /** Of those that this process holds: whoever was fed since it started, anywhere, and who was in its file. */
  worst(filter: {
    readonly kind?: EntityKind | undefined;
    readonly max: number;
  }): readonly { readonly entity: Entity; readonly points: number }[];
  stats(): ReputationStats;
  /** Why reputation.json could not be written, or Redis could not be told. */
  readonly problem: string | undefined;
  close(): Promise<void>;
}

export type ReputationStats = Readonly<
  Record<EntityKind | "entities" | "evicted" | "owed" | "unsent" | "asking", number>
>;

/** Throws where reputation.json is there and cannot be read. */
export async function openReputation(options: ReputationOptions): Promise<ReputationStore> {
  mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
  const store = new KeptReputation(options);
  await store.open();
  return store;
}

/** What an address comes down to. */
interface Place {
  readonly address: string;
  readonly network: string;
  readonly country: string;
  readonly asn: string;
}

class KeptReputation implements ReputationStore {
  readonly #path: string;
  readonly #tables: EntityTables;
  readonly #shared: SharedReputation | undefined;
  readonly #sanctions: Pick<Sanctions, "inForce"> | undefined;
  readonly #geo: Geo;
  readonly #places: RecentAnswers<Place>;
  readonly #now: () => number;
  readonly #onProblem: ((problem: string | undefined) => void) | undefined;
  readonly #writeMs: number;
  #geoRevision: number;
  #isChanged = false;
  #fileProblem: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: ReputationOptions) {
    const { dataDir, redis, sanctions, geo = NO_GEO, now = Date.now } = options;
    this.#path = join(dataDir, "reputation.json");
    this.#tables = entityTables(options.entitiesMax ?? ENTITIES_MAX);
    this.#now = now;
    this.#sanctions = sanctions;
    this.#geo = geo;
    this.#geoRevision = geo.revision;
    this.#places = new RecentAnswers(PLACES_MAX, (address) => placeOf(address, geo));
    this.#onProblem = options.onProblem;
    this.#writeMs = options.writeMs ?? WRITE_MS;
    const onChange = () => {
      this.#isChanged = true;
    };
    this.#shared =
      redis === undefined ? undefined : new SharedReputation({ redis, tables: this.#tables, now, onChange });
  }

  async open(): Promise<void> {
    readReputation(this.#path, this.#tables);
    await this.#shared?.open();
    this.#timer = setInterval(() => void this.#write(), this.#writeMs).unref();
  }

  get problem(): string | undefined {
    return this.#fileProblem ?? this.#shared?.stats().problem;
  }

  look({ identity, address }: Caller, halfLifeMs: number): CallerRecord {
    const nowMs = this.#now();
    const place = this.#placeOf(address);
    const named = accountable(identity);
    let ageMs = Number.POSITIVE_INFINITY;
    let networkAgeMs = Number.POSITIVE_INFINITY;
    let org = 0;
    let key = 0;
    let endUser = 0;
    if (named !== undefined) {
      const knownOrg = this.#seen("org", named.org, nowMs);
      org = knownOrg.at(nowMs, halfLifeMs);
      ageMs = this.#ageOf(knownOrg, named.sinceMs, nowMs);
      const knownKey = this.#seen("key", named.keyId, nowMs);
      key = knownKey.at(nowMs, halfLifeMs);
      networkAgeMs = this.#networkAgeOf(knownKey, place.network, nowMs);
      if (named.endUser !== undefined)
        endUser = this.#pointsOf("end_user", endUserId(named.org, named.endUser), nowMs, halfLifeMs);
    }
    const ofAddress = this.#pointsOf("address", place.address, nowMs, halfLifeMs);
    const ofNetwork = place.network === "" ? 0 : this.#pointsOf("network", place.network, nowMs, halfLifeMs);
    const isClean = org + key + endUser + ofAddress + ofNetwork === 0;
    return {
      points: isClean ? NO_POINTS : { org, key, end_user: endUser, address: ofAddress, network: ofNetwork },
      ageMs,
      networkAgeMs,
      country: place.country,
      asn: place.asn,
      sanctions: this.#sanctionsOn(identity, address),
    };
  }

  feed({ identity, address }: Caller, entries: readonly RiskEntry[], halfLifeMs: number): void {
    const place = this.#placeOf(address);
    const named = accountable(identity);
    const shares = named?.endUser === undefined ? SHARE_BY_KEY : SHARE_BY_USER;
    const nowMs = this.#now();
    for (const { finding, points, requestId } of entries) {
      if (points === 0) continue;
      const gift = { reason: finding.reason, points, requestId };
      const give = (kind: EntityKind, id: string) => {
        const known = this.#held(kind, id);
        if (!known.give(gift, nowMs, halfLifeMs, shares[kind])) return;
        this.#shared?.give(known, gift, nowMs, halfLifeMs, shares[kind]);
      };
      if (named !== undefined) {
        give("org", named.org);
        give("key", named.keyId);
        if (named.endUser !== undefined) give("end_user", endUserId(named.org, named.endUser));
      }
      give("address", place.address);
      if (place.network !== "") give("network", place.network);
      this.#isChanged = true;
    }
  }

  async explain(entity: Entity, halfLifeMs: number): Promise<Explanation> {
    const id = idOf(entity);
    const table = this.#tables[entity.kind];
    let known = table.peek(id);
    if (this.#shared !== undefined) {
      known ??= table.admit(id, false);
      await this.#shared.refresh(known);
    }
    const nowMs = this.#now();
    const points = known?.at(nowMs, halfLifeMs) ?? 0;
    const sanctions = this.#sanctionsOf(entity);
    if (known === undefined) return { entity, points, risk: 0, causes: [], sanctions };
    return {
      entity,
      points,
      risk: -Math.expm1(-points),
      ...(known.firstMs !== 0 && { firstSeenMs: known.firstMs }),
      causes: known.because.map((one) => ({
        reason: one.reason,
        points: one.points * 2 ** (-Math.max(0, nowMs - one.at) / halfLifeMs),
        atMs: one.at,
        ...(one.requestId !== "" && { requestId: one.requestId }),
        times: one.times,
        ...(one.by !== undefined && { by: one.by }),
      })),
      sanctions,
    };
  }

  async adjust(
    entity: Entity,
    points: number,
    { reason, by }: { readonly reason: string; readonly by: string },
  ): Promise<void> {
    if (!Number.isFinite(points)) throw new RangeError("points: must be a number");
    const known = this.#held(entity.kind, idOf(entity));
    // A pardon takes off what all replicas know, not what this one does.
    if (this.#shared !== undefined) await this.#shared.refresh(known);
    const nowMs = this.#now();
    const halfLifeMs = known.points === 0 ? HALF_LIFE_MS : known.halfLifeMs;
    const gift = { reason, points, requestId: "", by };
    known.give(gift, nowMs, halfLifeMs);
    this.#isChanged = true;
    if (this.#shared === undefined) return;
    this.#shared.give(known, gift, nowMs, halfLifeMs, 1);
    await this.#shared.settle();
  }

  worst({ kind, max }: { readonly kind?: EntityKind | undefined; readonly max: number }): readonly {
    readonly entity: Entity;
    readonly points: number;
  }[] {
    const nowMs = this.#now();
    // The worst first. A new one sinks in from the end: most entities are not among them, and cost one comparison.
    const worst: { entity: Entity; points: number }[] = [];
    for (const one of kind === undefined ? ENTITY_KINDS : [kind]) {
      this.#tables[one].each((known) => {
        const points = known.at(nowMs, known.halfLifeMs);
        if (points === 0 || (worst.length >= max && points <= worst[max - 1]!.points)) return;
        let at = worst.length < max ? worst.length : max - 1;
        for (; at > 0 && worst[at - 1]!.points < points; at--) worst[at] = worst[at - 1]!;
        worst[at] = { entity: { kind: one, id: known.id }, points };
      });
    }
    return worst;
  }

  stats(): ReputationStats {
    const { owed = 0, unsent = 0, asking = 0 } = this.#shared?.stats() ?? {};
    const { org, key, end_user, address, network } = this.#tables;
    const all = [org, key, end_user, address, network];
    return {
      org: org.size,
      key: key.size,
      end_user: end_user.size,
      address: address.size,
      network: network.size,
      entities: all.reduce((sum, { size }) => sum + size, 0),
      evicted: all.reduce((sum, { evicted }) => sum + evicted, 0),
      owed,
      unsent,
      asking,
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#shared?.close();
    await this.#write();
  }

  #placeOf(address: string): Place {
    if (this.#geo.revision !== this.#geoRevision) {
      this.#geoRevision = this.#geo.revision;
      this.#places.clear();
    }
    return this.#places.get(address);
  }

  /** Kept from the first sight on: when that was is what is known of it. */
  #seen(kind: "org" | "key", id: string, nowMs: number): Known {
    const known = this.#held(kind, id);
    this.#shared?.ask(known, nowMs);
    return known;
  }

  #held(kind: EntityKind, id: string): Known {
    const table = this.#tables[kind];
    return table.get(id) ?? table.admit(id, this.#shared === undefined);
  }

  /** Where all is in this memory, what is not there has no points and needs no place. */
  #pointsOf(kind: EntityKind, id: string, nowMs: number, halfLifeMs: number): number {
    const shared = this.#shared;
    if (shared === undefined) return this.#tables[kind].get(id)?.at(nowMs, halfLifeMs) ?? 0;
    const known = this.#held(kind, id);
    shared.ask(known, nowMs);
    return known.at(nowMs, halfLifeMs);
  }

  #ageOf(org: Known, sinceMs: number | undefined, nowMs: number): number {
    if (sinceMs !== undefined && (org.firstMs === 0 || sinceMs < org.firstMs)) {
      this.#noteFirst(org, sinceMs);
    } else if (org.firstMs === 0) {
      if (!org.isLearnt) return Number.POSITIVE_INFINITY;
      this.#noteFirst(org, nowMs);
    }
    return Math.max(0, nowMs - org.firstMs);
  }

  #noteFirst(known: Known, firstMs: number): void {
    known.noteFirst(firstMs);
    this.#isChanged = true;
    this.#shared?.noteFirst(known);
  }

  #networkAgeOf(key: Known, network: string, nowMs: number): number {
    if (network === "") return Number.POSITIVE_INFINITY;
    const firstMs = key.networks?.get(network);
    if (firstMs === undefined) {
      // Another replica may know it well.
      if (!key.isLearnt) return Number.POSITIVE_INFINITY;
      if (key.firstMs === 0) this.#noteFirst(key, nowMs);
      key.noteNetwork(network, nowMs);
      this.#isChanged = true;
      this.#shared?.noteNetwork(key, network);
    }
    const seenMs = firstMs ?? nowMs;
    return seenMs - key.firstMs < SETTLING_MS ? Number.POSITIVE_INFINITY : Math.max(0, nowMs - seenMs);
  }

  #sanctionsOn(identity: Identity | undefined, address: string): readonly Sanction[] {
    if (this.#sanctions === undefined) return NO_SANCTIONS;
    if (identity === undefined) return this.#sanctions.inForce({ address });
    const { org, keyId: key, endUser } = identity;
    if (endUser === undefined) return this.#sanctions.inForce({ org, key, address });
    return this.#sanctions.inForce({ org, key, endUser: `${org}/${endUser}`, address });
  }

  #sanctionsOf({ kind, id }: Entity): readonly Sanction[] {
    if (this.#sanctions === undefined) return NO_SANCTIONS;
    switch (kind) {
      case "org":
        return this.#sanctions.inForce({ org: id });
      case "key":
        return this.#sanctions.inForce({ key: id });
      case "end_user":
        return this.#sanctions.inForce({ endUser: id });
      case "address":
      case "network":
        // An operator's number finds none: sanctions name networks as CIDRs, and the two meet at addresses.
        return this.#sanctions.inForce({ address: id });
      default:
        return kind satisfies never;
    }
  }

  #write(): Promise<void> {
    this.#writing = this.#writing.then(async () => {
      if (!this.#isChanged) return;
      this.#isChanged = false;
      try {
        await writeReputation(this.#path, this.#tables, this.#now());
        this.#report(undefined);
      } catch (error) {
        this.#isChanged = true;
        this.#report(`${this.#path} cannot be written: ${error instanceof Error ? error.message : error}`);
      }
    });
    return this.#writing;
  }

  #report(problem: string | undefined): void {
    if (problem === this.#fileProblem) return;
    this.#fileProblem = problem;
    this.#onProblem?.(problem);
  }
}

/** Who can be held to what they did: not those who proved nothing, whom anybody could be. */
function accountable(identity: Identity | undefined): Identity | undefined {
  return identity === undefined || identity.proof === "none" ? undefined : identity;
}

/** However a person wrote it. */
function idOf({ kind, id }: Entity): string {
  return kind === "address" && !id.includes("/") ? addressEntity(id) : id.slice(0, ID_UNITS_MAX);
}

/** The same name under two organisations is two users. */
function endUserId(org: string, endUser: string): string {
  const id = `${org}/${endUser}`;
  return id.length > ID_UNITS_MAX ? id.slice(0, ID_UNITS_MAX) : id;
}

function placeOf(raw: string, geo: Geo): Place {
  const { country, asn } = geo.look(raw);
  return { address: addressEntity(raw), network: asn === "" ? networkOf(raw) : asn, country, asn };
}
