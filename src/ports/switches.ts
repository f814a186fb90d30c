/**
 * Kill switches: a seat, a layer or a rule that runs no more, on every replica within a second, without a change of
 * the policy. They lie in a table like sanctions. Whether one holds follows from the clock alone, looked at twice a
 * second: a clock that jumps and comes back leaves nothing behind.
 */
import { join } from "node:path";
import { z } from "zod";
import type { SharedRedis } from "./redis.ts";
import { openTable, type Table } from "./table.ts";

const ROWS_MAX = 500;
const LOOK_MS = 250;
const KINDS = ["seat", "layer", "rule"] as const;
const instant = z.iso.datetime({ offset: true });

const switchRow = z.strictObject({
  id: z.string(),
  kind: z.enum(KINDS),
  target: z.string().min(1).max(128),
  reason: z.string().min(1).max(500),
  by: z.string().min(1).max(64),
  at: instant,
  expiresAt: instant.optional(),
});
export type SwitchRow = Readonly<z.infer<typeof switchRow>>;

export interface NewSwitch {
  readonly kind: SwitchRow["kind"];
  readonly target: string;
  readonly reason: string;
  readonly by: string;
  /** Absent: until it is revived. */
  readonly expiresAt?: string | undefined;
}

export interface Switches {
  /** In force now; the same array until that changes. */
  active(): readonly SwitchRow[];
  kill(wanted: NewSwitch): Promise<SwitchRow>;
  /** False where nothing was switched off. */
  revive(kind: SwitchRow["kind"], target: string): Promise<boolean>;
  readonly problem: string | undefined;
  close(): Promise<void>;
}

export interface SwitchesOptions {
  readonly dataDir: string;
  readonly redis?: SharedRedis | undefined;
  /** ms since the epoch. */
  readonly now?: () => number;
  readonly onProblem?: (problem: string | undefined) => void;
}

export async function openSwitches(options: SwitchesOptions): Promise<Switches> {
  const { dataDir, redis, now = Date.now, onProblem } = options;
  const table = await openTable<SwitchRow>({
    name: "switches",
    row: switchRow,
    rowsMax: ROWS_MAX,
    path: join(dataDir, "switches.json"),
    redis,
    ...(onProblem !== undefined && { onProblem }),
  });
  return new TableSwitches(table, now);
}

class TableSwitches implements Switches {
  readonly #table: Table<SwitchRow>;
  readonly #now: () => number;
  readonly #timer: NodeJS.Timeout;
  #active: readonly SwitchRow[] = [];

  constructor(table: Table<SwitchRow>, now: () => number) {
    this.#table = table;
    this.#now = now;
    this.#look();
    table.onChange(() => this.#look());
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  get problem(): string | undefined {
    return this.#table.problem;
  }

  active(): readonly SwitchRow[] {
    return this.#active;
  }

  async kill({ kind, target, reason, by, expiresAt }: NewSwitch): Promise<SwitchRow> {
    const nowMs = this.#now();
    if (expiresAt !== undefined && Date.parse(expiresAt) <= nowMs)
      throw new RangeError("expiresAt: must lie in the future");
    const id = `${kind}:${target}`;
    const at = new Date(nowMs).toISOString();
    await this.#removeEnded(id);
    const row = { id, kind, target, reason, by, at, ...(expiresAt !== undefined && { expiresAt }) };
    await this.#table.change(id, () => row);
    return row;
  }

  async revive(kind: SwitchRow["kind"], target: string): Promise<boolean> {
    const id = `${kind}:${target}`;
    let wasOff = false;
    await this.#table.change(id, (row) => {
      wasOff = row !== undefined && isActive(row, this.#now());
      return row === undefined ? undefined : null;
    });
    return wasOff;
  }

  close(): Promise<void> {
    clearInterval(this.#timer);
    return this.#table.close();
  }

  #look(): void {
    const nowMs = this.#now();
    const active = [...this.#table.values()].filter((row) => isActive(row, nowMs));
    const isSame = active.length === this.#active.length && active.every((row, i) => row === this.#active[i]);
    if (!isSame) this.#active = active;
  }

  /** Room for a new one, when the table is full: those that have ended. */
  async #removeEnded(id: string): Promise<void> {
    if (this.#table.size < ROWS_MAX || this.#table.get(id) !== undefined) return;
    const nowMs = this.#now();
    const ended = [...this.#table.values()].filter((row) => !isActive(row, nowMs));
    await Promise.all(ended.map((row) => this.#table.change(row.id, () => null)));
  }
}

function isActive({ expiresAt }: SwitchRow, nowMs: number): boolean {
  return expiresAt === undefined || Date.parse(expiresAt) > nowMs;
}
