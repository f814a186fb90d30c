/**
 * Writes small databases in MaxMind's format (specification 2.0), so that country and operator of an address are
 * tested on real files without anybody's licence: a binary tree over the bits of an address, then the rows that its
 * leaves point to, then the metadata.
 */
import { parseNetwork } from "../../src/text/network.ts";

export type MmdbValue =
  | string
  | number
  | boolean
  | readonly MmdbValue[]
  | { readonly [name: string]: MmdbValue };

export interface MmdbOptions {
  /** 4: a tree of IPv4 alone. By default 6, with IPv4 under ::/96 as MaxMind lays it. */
  readonly ipVersion?: 4 | 6;
  readonly recordSize?: 24 | 28 | 32;
  readonly type?: string;
}

/** Rows by CIDR, such as `{ "192.0.2.0/24": { country: { iso_code: "DE" } } }`; a longer prefix wins. */
export function mmdb(
  rows: Readonly<Record<string, MmdbValue>>,
  { ipVersion = 6, recordSize = 24, type = "Test" }: MmdbOptions = {},
): Buffer {
  const data = new DataSection();
  const tree = new Tree();
  const networks = Object.entries(rows).map(([text, row]) => {
    const network = parseNetwork(text);
    if (network === undefined) throw new RangeError(`${text} is not a CIDR`);
    const isIpv4 = network.address.length === 2;
    if (!isIpv4 && ipVersion === 4) throw new RangeError(`${text} does not fit into a tree of IPv4`);
    const bits = network.address.map((group) => group.toString(2).padStart(16, "0")).join("");
    const front = isIpv4 && ipVersion === 6 ? "0".repeat(96) : "";
    return { path: front + bits.slice(0, network.prefix), row };
  });
  for (const { path, row } of networks.sort((a, b) => a.path.length - b.path.length)) {
    tree.insert(path, data.offsetOf(row));
  }
  const metadata = encode({
    node_count: new Sized(tree.nodes.length, 6),
    record_size: new Sized(recordSize, 5),
    ip_version: new Sized(ipVersion, 5),
    database_type: type,
    languages: ["en"],
    binary_format_major_version: new Sized(2, 5),
    binary_format_minor_version: new Sized(0, 5),
    build_epoch: new Sized(1_700_000_000, 9),
    description: { en: "made by a test" },
  });
  return Buffer.concat([
    tree.encode(recordSize),
    Buffer.alloc(16),
    data.bytes(),
    Buffer.from("\xab\xcd\xefMaxMind.com", "latin1"),
    metadata,
  ]);
}

type Branch = number | { readonly data: number } | undefined;

class Tree {
  /** Left and right of each node: another node, a row, or nothing. */
  readonly nodes: [Branch, Branch][] = [[undefined, undefined]];

  insert(path: string, data: number): void {
    if (path === "") throw new RangeError("a row for every address cannot be told from none");
    let node = 0;
    for (let i = 0; i < path.length - 1; i++) {
      const side = path[i] === "1" ? 1 : 0;
      let next = this.nodes[node]![side];
      if (typeof next !== "number") {
        // A row of a shorter prefix goes on to hold for what the longer one leaves over.
        this.nodes.push([next, next]);
        next = this.nodes.length - 1;
        this.nodes[node]![side] = next;
      }
      node = next;
    }
    this.nodes[node]![path.at(-1) === "1" ? 1 : 0] = { data };
  }

  encode(recordSize: 24 | 28 | 32): Buffer {
    const count = this.nodes.length;
    const recordOf = (branch: Branch) =>
      branch === undefined ? count : typeof branch === "number" ? branch : count + 16 + branch.data;
    return Buffer.concat(
      this.nodes.map((branches) => {
        const [left, right] = branches.map(recordOf) as [number, number];
        const node = Buffer.alloc(recordSize / 4);
        if (recordSize === 28) {
          node.writeUIntBE(left & 0xffffff, 0, 3);
          node[3] = ((left >>> 24) << 4) | (right >>> 24);
          node.writeUIntBE(right & 0xffffff, 4, 3);
        } else {
          node.writeUIntBE(left, 0, recordSize / 8);
          node.writeUIntBE(right, recordSize / 8, recordSize / 8);
        }
        return node;
      }),
    );
  }
}

class DataSection {
  readonly #chunks: Buffer[] = [];
  readonly #offsets = new Map<string, number>();
  #length = 0;

  /** Equal rows are written once. */
  offsetOf(row: MmdbValue): number {
    const key = JSON.stringify(row);
    const known = this.#offsets.get(key);
    if (known !== undefined) return known;
    const offset = this.#length;
    const chunk = encode(row);
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    this.#offsets.set(key, offset);
    return offset;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

/** A number whose type the specification fixes: 5 uint16, 6 uint32, 9 uint64. */
class Sized {
  readonly value: number;
  readonly type: 5 | 6 | 9;
  constructor(value: number, type: 5 | 6 | 9) {
    this.value = value;
    this.type = type;
  }
}

type Encodable = MmdbValue | Sized | { readonly [name: string]: Encodable };

function encode(value: Encodable): Buffer {
  if (typeof value === "string") {
    const text = Buffer.from(value, "utf8");
    return Buffer.concat([control(2, text.length), text]);
  }
  if (typeof value === "number") return encode(new Sized(value, 6));
  if (typeof value === "boolean") return control(14, value ? 1 : 0);
  if (value instanceof Sized) {
    const hex = value.value === 0 ? "" : value.value.toString(16);
    const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), "0"), "hex");
    return Buffer.concat([control(value.type, bytes.length), bytes]);
  }
  if (Array.isArray(value)) {
    return Buffer.concat([control(11, value.length), ...value.map((one: MmdbValue) => encode(one))]);
  }
  const entries = Object.entries(value as Readonly<Record<string, Encodable>>);
  return Buffer.concat([control(7, entries.length), ...entries.flatMap(([k, v]) => [encode(k), encode(v)])]);
}

/** The control byte: three bits of type, five of size; types past 7 and sizes past 28 spill into the next bytes. */
function control(type: number, size: number): Buffer {
  const front = size < 29 ? size : size < 285 ? 29 : 30;
  const bytes = [((type > 7 ? 0 : type) << 5) | front];
  if (type > 7) bytes.push(type - 7);
  if (front === 29) bytes.push(size - 29);
  if (front === 30) bytes.push((size - 285) >> 8, (size - 285) & 255);
  return Buffer.from(bytes);
}
