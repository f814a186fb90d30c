/**
 * The exemplar bank: texts that people have judged, bad and good, by which the next of their kind is known. It lies in
 * a table that every replica holds whole, so that one that is added here counts everywhere within a second, long
 * before any model is trained again. Redis away: what was known stays known.
 */
import { join } from "node:path";
import type { Encoder, ExemplarMatch, Exemplars, TextPrint } from "../layer/index.ts";
import { canonical } from "../text/canonical.ts";
import { encoderParts } from "../text/model/scoring.ts";
import { simHash } from "../text/simhash.ts";
import { ExemplarIndex } from "./exemplars-index.ts";
import {
  type ExemplarRow,
  exemplarRow,
  type NewExemplar,
  newExemplarRow,
  TEXT_UNITS_MAX,
} from "./exemplars-row.ts";
import type { SharedRedis } from "./redis.ts";
import { openTable, type Table } from "./table.ts";

export type { ExemplarRow, NewExemplar } from "./exemplars-row.ts";

const ROWS_MAX = 10_000;

export interface ExemplarsOptions {
  readonly dataDir: string;
  readonly redis?: SharedRedis | undefined;
  readonly encoder: Encoder;
  /** ms since the epoch. */
  readonly now?: (() => number) | undefined;
  readonly rowsMax?: number | undefined;
  /** Told once when the store becomes unreadable, and with undefined when it can be read again. */
  readonly onProblem?: ((problem: string | undefined) => void) | undefined;
}

export interface ExemplarBank extends Exemplars {
  /**
   * In force here when it resolves; the same text a second time replaces the first. Rejects with a RangeError that
   * names the field, and with an Error where the encoder does not answer or the store cannot be written.
   */
  add(wanted: NewExemplar): Promise<ExemplarRow>;
  /** False where there is no such exemplar. */
  remove(id: string): Promise<boolean>;
  get(id: string): ExemplarRow | undefined;
  values(): Iterable<ExemplarRow>;
  readonly problem: string | undefined;
  close(): Promise<void>;
}

export async function openExemplars(options: ExemplarsOptions): Promise<ExemplarBank> {
  const { dataDir, redis, encoder, now = Date.now, rowsMax = ROWS_MAX, onProblem } = options;
  const table = await openTable<ExemplarRow>({
    name: "exemplars",
    row: exemplarRow,
    rowsMax,
    path: join(dataDir, "exemplars.json"),
    redis,
    ...(onProblem !== undefined && { onProblem }),
  });
  return new TableExemplars(table, encoder, now);
}

class TableExemplars implements ExemplarBank {
  readonly #table: Table<ExemplarRow>;
  readonly #encoder: Encoder;
  readonly #now: () => number;
  readonly #index = new ExemplarIndex();

  constructor(table: Table<ExemplarRow>, encoder: Encoder, now: () => number) {
    this.#table = table;
    this.#encoder = encoder;
    this.#now = now;
    for (const row of table.values()) this.#index.put(row);
    table.onChange((changes) => {
      for (const { id, after } of changes) {
        if (after === undefined) this.#index.remove(id);
        else this.#index.put(after);
      }
    });
  }

  get size(): number {
    return this.#index.size;
  }

  get problem(): string | undefined {
    return this.#table.problem;
  }

  copyOf(print: TextPrint): ExemplarMatch | undefined {
    return this.#index.copyOf(print);
  }

  nearest(embedding: Float32Array): { readonly bad?: ExemplarMatch; readonly good?: ExemplarMatch } {
    return this.#index.nearest(embedding);
  }

  async add(wanted: NewExemplar): Promise<ExemplarRow> {
    if (wanted.text.length > TEXT_UNITS_MAX) {
      throw new RangeError(`text: must be at most ${TEXT_UNITS_MAX} characters`);
    }
    const folded = canonical(wanted.text).views[0]?.text ?? "";
    if (folded.trim() === "") throw new RangeError("text: must hold words");
    // As the classifier asks: the same part of the same text, so that the two can be compared.
    const encoded = await this.#encoder.encode(encoderParts(wanted.text)[0] ?? "");
    if (encoded.kind === "skipped") {
      throw new Error(`The sentence encoder did not answer (${encoded.cause}), so nothing was added`);
    }
    const row = newExemplarRow(wanted, {
      folded,
      print: simHash(folded),
      embedding: encoded.embedding,
      nowMs: this.#now(),
    });
    return (await this.#table.change(row.id, () => row)) ?? row;
  }

  async remove(id: string): Promise<boolean> {
    let isThere = false;
    await this.#table.change(id, (row) => {
      isThere = row !== undefined;
      return null;
    });
    return isThere;
  }

  get(id: string): ExemplarRow | undefined {
    return this.#table.get(id);
  }

  values(): Iterable<ExemplarRow> {
    return this.#table.values();
  }

  close(): Promise<void> {
    return this.#table.close();
  }
}
