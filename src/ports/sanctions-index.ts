/**
 * Which sanctions are in force on a caller: asked for every request, so it is Map look-ups and, where nothing
 * is in force, no allocation. A network is found by cutting the caller's address to each prefix length that any
 * sanction has; what an address came to is kept until the next change. Expiry needs no timer: every list knows
 * until when it is right.
 *
 *     address -> [its own list, the list of 192.0.2.0/24, ...] -> what of them is in force now
 */
import { type EntityKind, SANCTION_ACTS, type Sanction } from "../layer/index.ts";
import { addressEntity, networkText, parseAddress, parseNetwork } from "../text/network.ts";
import { isOver, type SanctionRow } from "./sanctions-row.ts";
import type { RowChange } from "./table-rows.ts";

/** Addresses whose networks are remembered; one more and all are forgotten, at the cost of microseconds each. */
const ADDRESSES_MAX = 10_000;
/** A longer text is no address, and is not remembered. */
const ADDRESS_UNITS_MAX = 64;

const NONE: readonly Sanction[] = Object.freeze([]);
const NO_LISTS: readonly EntityList[] = Object.freeze([]);

export interface Entities {
  readonly org?: string | undefined;
  readonly key?: string | undefined;
  /** "org/user". */
  readonly endUser?: string | undefined;
  /** As the connection shows it. */
  readonly address?: string | undefined;
}

export class SanctionIndex {
  readonly #now: () => number;
  readonly #lists: Readonly<Record<EntityKind, Map<string, EntityList>>> = {
    org: new Map(),
    key: new Map(),
    end_user: new Map(),
    address: new Map(),
    network: new Map(),
  };
  /** How many networks of each prefix length have a list: IPv4, IPv6. */
  readonly #prefixes = [new Map<number, number>(), new Map<number, number>()] as const;
  readonly #byAddress = new Map<string, readonly EntityList[]>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Most severe first; the same frozen empty array where nothing is in force. */
  inForce({ org, key, endUser, address }: Entities): readonly Sanction[] {
    let found = this.#of("org", org, NONE);
    found = this.#of("key", key, found);
    found = this.#of("end_user", endUser, found);
    if (address === undefined) return found;
    const lists = this.#listsOf(address);
    if (lists.length === 0) return found;
    for (const list of lists) found = joined(found, list.inForce(this.#now()));
    return found;
  }

  follow(changes: readonly RowChange<SanctionRow>[]): void {
    const nowMs = this.#now();
    for (const { before, after } of changes) {
      if (before !== undefined) this.#remove(before);
      if (after !== undefined && !isOver(after, nowMs)) this.#add(after);
    }
  }

  #of(kind: EntityKind, id: string | undefined, found: readonly Sanction[]): readonly Sanction[] {
    const lists = this.#lists[kind];
    if (id === undefined || lists.size === 0) return found;
    const list = lists.get(id);
    return list === undefined ? found : joined(found, list.inForce(this.#now()));
  }

  #listsOf(address: string): readonly EntityList[] {
    if (this.#lists.address.size === 0 && this.#lists.network.size === 0) return NO_LISTS;
    const known = this.#byAddress.get(address);
    if (known !== undefined) return known;
    const lists = this.#findLists(address);
    if (address.length > ADDRESS_UNITS_MAX) return lists;
    if (this.#byAddress.size >= ADDRESSES_MAX) this.#byAddress.clear();
    this.#byAddress.set(address, lists);
    return lists;
  }

  #findLists(text: string): readonly EntityList[] {
    // An entity's id may be asked for too: the /64 of an IPv6 address.
    const network = parseNetwork(text);
    const address = network?.address ?? parseAddress(text);
    if (address === undefined) return NO_LISTS;
    const found: EntityList[] = [];
    const own = this.#lists.address.get(network === undefined ? addressEntity(text) : text);
    if (own !== undefined) found.push(own);
    for (const prefix of this.#prefixes[address.length === 2 ? 0 : 1].keys()) {
      if (network !== undefined && prefix > network.prefix) continue;
      const list = this.#lists.network.get(networkText(address, prefix));
      if (list !== undefined) found.push(list);
    }
    return found.length === 0 ? NO_LISTS : found;
  }

  #add(row: SanctionRow): void {
    const { kind, id } = row.entity;
    const lists = this.#lists[kind];
    const list = lists.get(id);
    if (list !== undefined) {
      list.add(sanctionOf(row));
      return;
    }
    lists.set(id, new EntityList(sanctionOf(row)));
    this.#countList(kind, id, 1);
  }

  #remove({ id, entity }: SanctionRow): void {
    const list = this.#lists[entity.kind].get(entity.id);
    if (list === undefined || !list.remove(id)) return;
    this.#lists[entity.kind].delete(entity.id);
    this.#countList(entity.kind, entity.id, -1);
  }

  #countList(kind: EntityKind, id: string, by: 1 | -1): void {
    if (kind !== "address" && kind !== "network") return;
    this.#byAddress.clear();
    if (kind === "address") return;
    const network = parseNetwork(id);
    if (network === undefined) return;
    const counts = this.#prefixes[network.address.length === 2 ? 0 : 1];
    const count = (counts.get(network.prefix) ?? 0) + by;
    if (count > 0) counts.set(network.prefix, count);
    else counts.delete(network.prefix);
  }
}

/** The sanctions on one entity: those in force now, and until when that holds. */
class EntityList {
  #all: Sanction[];
  #current: readonly Sanction[] = NONE;
  #untilMs = Number.NEGATIVE_INFINITY;

  constructor(first: Sanction) {
    this.#all = [first];
  }

  inForce(nowMs: number): readonly Sanction[] {
    if (nowMs < this.#untilMs) return this.#current;
    const current = this.#all.filter(({ expiresMs }) => expiresMs === undefined || expiresMs > nowMs);
    let untilMs = Number.POSITIVE_INFINITY;
    for (const { expiresMs } of current)
      if (expiresMs !== undefined && expiresMs < untilMs) untilMs = expiresMs;
    this.#current = current.length === 0 ? NONE : Object.freeze(current.sort(bySeverity));
    this.#untilMs = untilMs;
    return this.#current;
  }

  add(sanction: Sanction): void {
    this.#all.push(sanction);
    this.#untilMs = Number.NEGATIVE_INFINITY;
  }

  /** True when none is left. */
  remove(id: string): boolean {
    this.#all = this.#all.filter((sanction) => sanction.id !== id);
    this.#untilMs = Number.NEGATIVE_INFINITY;
    return this.#all.length === 0;
  }
}

function sanctionOf({ id, entity, act, reason, limitScale = 1, expiresAt }: SanctionRow): Sanction {
  return Object.freeze({
    id,
    entity,
    act,
    reason,
    limitScale,
    ...(expiresAt !== undefined && { expiresMs: Date.parse(expiresAt) }),
  });
}

function joined(one: readonly Sanction[], other: readonly Sanction[]): readonly Sanction[] {
  if (other.length === 0) return one;
  if (one.length === 0) return other;
  return Object.freeze([...one, ...other].sort(bySeverity));
}

/** Of two alike the stricter scale first, then the one that lasts longer. */
function bySeverity(one: Sanction, other: Sanction): number {
  return (
    SANCTION_ACTS.indexOf(other.act) - SANCTION_ACTS.indexOf(one.act) ||
    one.limitScale - other.limitScale ||
    (other.expiresMs ?? Number.MAX_VALUE) - (one.expiresMs ?? Number.MAX_VALUE) ||
    (one.id < other.id ? -1 : 1)
  );
}
