/**
 * Sanctions: what is applied to an organisation, a key, an end user, an address or a network, and until when. They
 * lie in a table that every replica holds whole, so that one that is imposed here is in force everywhere within a
 * second, and asking costs a request no wait. Redis away: what was in force stays in force.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Entity, Sanction } from "../layer/index.ts";
import type { SharedRedis } from "./redis.ts";
import { type Entities, SanctionIndex } from "./sanctions-index.ts";
import {
  endMsOf,
  entityId,
  isOver,
  type NewSanction,
  newRow,
  type SanctionRow,
  sanctionRow,
} from "./sanctions-row.ts";
import { openTable, type Table } from "./table.ts";

export type { Entities } from "./sanctions-index.ts";
export type { NewSanction, SanctionRow } from "./sanctions-row.ts";

const ROWS_MAX = 100_000;
/** So long a sanction stays to be looked up after its end. */
const KEPT_MS = 30 * 86_400_000;
const SWEEP_EVERY_MS = 60_000;
/** What one write removes at most of what has ended. */
const SWEPT_MAX = 1_000;

export interface SanctionsOptions {
  readonly dataDir: string;
  readonly redis?: SharedRedis | undefined;
  /** ms since the epoch. */
  readonly now?: (() => number) | undefined;
  readonly rowsMax?: number | undefined;
  /** Told once when the store becomes unreadable, and with undefined when it can be read again. */
  readonly onProblem?: ((problem: string | undefined) => void) | undefined;
}

export interface SanctionFilter {
  /** In force now, or not. */
  readonly active?: boolean | undefined;
  readonly entity?: Entity | undefined;
}

export interface Sanctions {
  /** Most severe first; the same frozen empty array where nothing is in force. */
  inForce(entities: Entities): readonly Sanction[];
  /** In force here when it resolves. Rejects with a RangeError that names the field, or where it cannot be stored. */
  impose(wanted: NewSanction): Promise<SanctionRow>;
  /** Undefined where there is no such sanction. What has ended already stays as it is. */
  lift(id: string, by: string): Promise<SanctionRow | undefined>;
  get(id: string): SanctionRow | undefined;
  /** Newest first. Throws a RangeError where the entity's id is none. */
  list(filter?: SanctionFilter): readonly SanctionRow[];
  onChange(listener: () => void): void;
  readonly problem: string | undefined;
  close(): Promise<void>;
}

export async function openSanctions(options: SanctionsOptions): Promise<Sanctions> {
  const { dataDir, redis, now = Date.now, rowsMax = ROWS_MAX, onProblem } = options;
  const table = await openTable<SanctionRow>({
    name: "sanctions",
    row: sanctionRow,
    rowsMax,
    path: join(dataDir, "sanctions.json"),
    redis,
    ...(onProblem !== undefined && { onProblem }),
  });
  return new TableSanctions(table, now, rowsMax);
}

class TableSanctions implements Sanctions {
  readonly #table: Table<SanctionRow>;
  readonly #now: () => number;
  readonly #rowsMax: number;
  readonly #index: SanctionIndex;
  #sweptMs = Number.NEGATIVE_INFINITY;

  constructor(table: Table<SanctionRow>, now: () => number, rowsMax: number) {
    this.#table = table;
    this.#now = now;
    this.#rowsMax = rowsMax;
    this.#index = new SanctionIndex(now);
    const present = [...table.values()].map((row) => ({ id: row.id, before: undefined, after: row }));
    this.#index.follow(present);
    table.onChange((changes) => this.#index.follow(changes));
  }

  get problem(): string | undefined {
    return this.#table.problem;
  }

  inForce(entities: Entities): readonly Sanction[] {
    return this.#index.inForce(entities);
  }

  async impose(wanted: NewSanction): Promise<SanctionRow> {
    const row = newRow(wanted, `sanc_${randomBytes(9).toString("hex")}`, this.#now());
    // One that is due matters more than those that have ended, however lately.
    if (this.#table.size >= this.#rowsMax) await this.#remove(this.#ended(0, 1));
    await this.#table.change(row.id, () => row);
    this.#sweep();
    return row;
  }

  async lift(id: string, by: string): Promise<SanctionRow | undefined> {
    const nowMs = this.#now();
    const liftedBy = sanctionRow.shape.by.safeParse(by);
    if (!liftedBy.success) throw new RangeError(`by: ${liftedBy.error.issues[0]?.message}`);
    const row = await this.#table.change(id, (now) => {
      if (now === undefined || isOver(now, nowMs)) return undefined;
      return { ...now, liftedAt: new Date(nowMs).toISOString(), liftedBy: by };
    });
    this.#sweep();
    return row;
  }

  get(id: string): SanctionRow | undefined {
    return this.#table.get(id);
  }

  list({ active, entity }: SanctionFilter = {}): readonly SanctionRow[] {
    const nowMs = this.#now();
    const wanted = entity && entityId(entity.kind, entity.id);
    if (wanted !== undefined && "problem" in wanted) throw new RangeError(`entity.id: ${wanted.problem}`);
    const found: SanctionRow[] = [];
    for (const row of this.#table.values()) {
      if (entity !== undefined && (row.entity.kind !== entity.kind || row.entity.id !== wanted?.id)) continue;
      if (active !== undefined && active === isOver(row, nowMs)) continue;
      found.push(row);
    }
    return found.sort((one, other) =>
      one.createdAt === other.createdAt
        ? one.id < other.id
          ? -1
          : 1
        : one.createdAt < other.createdAt
          ? 1
          : -1,
    );
  }

  onChange(listener: () => void): void {
    this.#table.onChange(listener);
  }

  close(): Promise<void> {
    return this.#table.close();
  }

  /** Behind a write, now and then; what fails is tried with a later one. */
  #sweep(): void {
    const nowMs = this.#now();
    if (nowMs - this.#sweptMs < SWEEP_EVERY_MS && nowMs >= this.#sweptMs) return;
    const ended = this.#ended(KEPT_MS, SWEPT_MAX);
    if (ended.length < SWEPT_MAX) this.#sweptMs = nowMs;
    this.#remove(ended).catch(() => {});
  }

  /** Ids of those that ended at least `agoMs` ago, the longest ago first. */
  #ended(agoMs: number, max: number): readonly string[] {
    const nowMs = this.#now();
    const latestMs = nowMs - agoMs;
    const ended: { readonly id: string; readonly endMs: number }[] = [];
    for (const row of this.#table.values()) {
      if (!isOver(row, nowMs)) continue;
      const endMs = endMsOf(row);
      if (endMs <= latestMs) ended.push({ id: row.id, endMs });
    }
    ended.sort((one, other) => one.endMs - other.endMs);
    return ended.slice(0, max).map(({ id }) => id);
  }

  async #remove(ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => this.#table.change(id, () => null)));
  }
}
