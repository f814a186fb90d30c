/**
 * Plain numbers behind the metrics. prom-client hashes the labels at every update (0.37 µs each); here a
 * label set is found once through nested maps, and prom-client sees the numbers only when it is scraped.
 * What a label may hold is checked when a value is first seen, so that no caller can grow a metric.
 */
import type { Counter, MetricObjectWithValues, MetricValueWithName } from "prom-client";
import type { LabelBound, MetricRow } from "./metrics-table.ts";

export const OTHER = "other";

export class Cell {
  value = 0;
  readonly #bounds: readonly number[];
  readonly counts: Float64Array;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  add(amount: number): void {
    this.value += amount;
  }

  set(amount: number): void {
    this.value = amount;
  }

  /** Into the first bucket that holds it; `value` is the sum. */
  observe(amount: number): void {
    const bounds = this.#bounds;
    let i = 0;
    while (i < bounds.length && amount > bounds[i]!) i++;
    this.counts[i]! += 1;
    this.value += amount;
  }
}

type Branch = Map<string, Branch | Cell>;

/** Values that one label has had, up to its bound. */
export class Names {
  readonly #known: Set<string>;
  readonly #max: number;

  constructor(bound: LabelBound) {
    this.#known = new Set(typeof bound === "number" ? [] : bound);
    this.#max = typeof bound === "number" ? bound : 0;
  }

  has(value: string): boolean {
    return this.#known.has(value);
  }

  admit(value: string): string {
    if (value === OTHER || this.#known.has(value)) return value;
    if (this.#known.size >= this.#max) return OTHER;
    this.#known.add(value);
    return value;
  }
}

/** What an owner answers when it is asked: one number, or one for each set of label values. */
export type Figures = number | readonly (readonly [labels: readonly string[], value: number])[];

export class Family {
  readonly row: MetricRow;
  readonly #labels: readonly string[];
  #names: Names[];
  readonly #root: Branch = new Map();
  #cells: { readonly labels: Readonly<Record<string, string>>; readonly cell: Cell }[] = [];

  constructor(row: MetricRow) {
    this.row = row;
    this.#labels = Object.keys(row.labels);
    this.#names = Object.values(row.labels).map((bound) => new Names(bound));
    if (this.#labels.length === 0 && row.isRead !== true) this.#cellOf([]);
  }

  /** The numbers of one label set; values in the order of the row's labels. */
  at(...values: string[]): Cell {
    let node: Branch | Cell | undefined = this.#root;
    for (let i = 0; i < values.length; i++) {
      node = (node as Branch).get(values[i]!);
      if (node === undefined) return this.#cellOf(values.map((value, at) => this.#names[at]!.admit(value)));
    }
    return node instanceof Cell ? node : this.#cellOf(values);
  }

  clear(): void {
    this.#root.clear();
    this.#cells = [];
    this.#names = Object.values(this.row.labels).map((bound) => new Names(bound));
  }

  /** What prom-client's registry wants of a metric; its types know only its own classes. */
  exported(read: () => Figures | undefined): Counter {
    const { name, help, type } = this.row;
    const get = async () => {
      const now = this.row.isRead === true ? read() : undefined;
      if (typeof now === "number") this.#cellOf([]).set(now);
      else for (const [labels, value] of now ?? []) this.at(...labels).set(value);
      return { name, help, type, aggregator: "sum", values: this.#values() };
    };
    return { name, help, type, aggregator: "sum", get } as unknown as Counter;
  }

  #cellOf(values: readonly string[]): Cell {
    if (values.length !== this.#labels.length)
      throw new RangeError(`${this.row.name}: one value for each label`);
    let branch = this.#root;
    for (const value of values.slice(0, -1)) {
      let next = branch.get(value);
      if (!(next instanceof Map)) {
        next = new Map();
        branch.set(value, next);
      }
      branch = next;
    }
    const last = values.at(-1) ?? "";
    const known = branch.get(last);
    if (known instanceof Cell) return known;
    const cell = new Cell(this.row.buckets ?? []);
    branch.set(last, cell);
    this.#cells.push({
      labels: Object.fromEntries(this.#labels.map((label, i) => [label, values[i]!])),
      cell,
    });
    return cell;
  }

  #values(): MetricObjectWithValues<MetricValueWithName<string>>["values"] {
    const { name, type, buckets = [] } = this.row;
    if (type !== "histogram") {
      return this.#cells.map(({ labels, cell }) => ({ labels, value: cell.value, metricName: name }));
    }
    return this.#cells.flatMap(({ labels, cell }) => {
      let count = 0;
      const steps = [...buckets, "+Inf"].map((le, i) => {
        count += cell.counts[i]!;
        return { labels: { ...labels, le }, value: count, metricName: `${name}_bucket` };
      });
      return [
        ...steps,
        { labels, value: cell.value, metricName: `${name}_sum` },
        { labels, value: count, metricName: `${name}_count` },
      ];
    });
  }
}
