/**
 * The text of events that a dialect does not model. Clients join what stands at one place of such events
 * (data that is not JSON, a member of JSON), so each place has one channel for the whole stream: a secret cut
 * over two events is seen whole. Names say what an event is and are judged apart, or they would stand between.
 */
import type { Channel } from "../layer/index.ts";
import type { Json, Segment } from "./dialect.ts";

/** Places with a channel of their own; where there are more, the stream cannot be judged any longer. */
const PLACES_MAX = 1_024;
/** Longer paths have none either: a deep body must not make long names. */
const PATH_UNITS_MAX = 256;
const SHARED: Channel = "other:unmodelled";
/** Members of an event that say which run its text belongs to. */
const RUNS = ["index", "output_index", "content_index", "summary_index"];

/** A part of an event that its dialect does not model, and a name for the place where it stands. */
export interface Stranger {
  readonly place: string;
  readonly value: Json;
}

/** Where a string, or a list of byte values, stands. */
export interface Leaf {
  readonly holder: { [name: string]: Json | undefined };
  readonly key: string;
}

export interface Run<Part extends Stranger> extends Segment {
  readonly of: readonly Part[];
  readonly leaves: readonly Leaf[];
}

type Sink = (path: string, text: string, leaf: Leaf) => void;

export class Unmodelled {
  readonly #places = new Set<Channel>();
  #full = false;

  /** There were more places than can be told apart: what is cut over events there would not be seen whole. */
  get full(): boolean {
    return this.#full;
  }

  /**
   * `root` is undefined for data that is not JSON. Each string runs on from what stood at its place before; and as
   * nobody knows whether clients join them, all of them are told once more by themselves, names first, on a
   * channel of which they are the whole.
   */
  read(event: string, data: string, root: Json | undefined, ordinal: number): UnmodelledText {
    const alone = event === "" ? [] : [event];
    const texts = new Map<Channel, string>();
    if (typeof root !== "object" || root === null) {
      const text = typeof root === "string" ? root : data;
      texts.set(SHARED, text);
      alone.push(text);
    } else {
      const sink: Sink = (path, text) => {
        const channel = this.#channel(path);
        const before = texts.get(channel);
        texts.set(channel, before === undefined ? text : `${before}\n${text}`);
      };
      gather(root, runOf(root), sink, alone);
    }
    const segments: Segment[] = [];
    for (const [channel, text] of texts) if (text !== "") segments.push(segmentOf(channel, text));
    if (alone.length === 0) return { segments, closes: [] };
    const channel = `other:alone:${ordinal}`;
    return { segments: [...segments, segmentOf(channel, alone.join("\n"))], closes: [channel] };
  }

  /** The runs of parts of an event, and whose each is. By themselves, and by name, they are told elsewhere. */
  runs<Part extends Stranger>(strangers: readonly Part[]): readonly Run<Part>[] {
    const found = new Map<Channel, { text: string; readonly of: Part[]; readonly leaves: Leaf[] }>();
    for (const stranger of strangers) {
      const sink: Sink = (path, text, leaf) => {
        const channel = this.#channel(path);
        const run = found.get(channel);
        if (run === undefined) found.set(channel, { text, of: [stranger], leaves: [leaf] });
        else {
          run.text += text;
          run.of.push(stranger);
          run.leaves.push(leaf);
        }
      };
      gather(stranger.value, stranger.place, sink, [], { holder: { "": stranger.value }, key: "" });
    }
    const runs: Run<Part>[] = [];
    for (const [channel, { text, of, leaves }] of found)
      if (text !== "") runs.push({ ...segmentOf(channel, text), of, leaves });
    return runs;
  }

  #channel(path: string): Channel {
    if (path === "") return SHARED;
    const channel = `${SHARED}:${path}`;
    if (this.#places.has(channel)) return channel;
    if (this.#places.size >= PLACES_MAX || path.length > PATH_UNITS_MAX) {
      this.#full = true;
      return SHARED;
    }
    this.#places.add(channel);
    return channel;
  }
}

const ROOT: Leaf = { holder: {}, key: "" };

/** Every string below `value` to the sink, and with all names to `alone`. */
function gather(value: Json, path: string, sink: Sink, alone: string[], leaf = ROOT): void {
  if (typeof value === "string") {
    alone.push(value);
    sink(path, value, leaf);
  } else if (Array.isArray(value)) {
    const spelled = spelledBy(value);
    if (spelled !== undefined) {
      alone.push(spelled);
      sink(path, spelled, leaf);
      return;
    }
    const holder = value as unknown as Leaf["holder"];
    const down = new Map<string, string>();
    for (let i = 0; i < value.length; i++) {
      const item = value[i]!;
      collect(item, down);
      gather(item, below(path, indexOf(item) ?? String(i)), sink, alone, { holder, key: String(i) });
    }
    // Tokens stand in a list each with their text: read down the list they spell it.
    if (value.length > 1) for (const text of down.values()) alone.push(text);
  } else if (value !== null && typeof value === "object") {
    for (const name of Object.keys(value)) {
      const member = value[name]!;
      alone.push(name);
      if (name === "type" && typeof member === "string") alone.push(member);
      else gather(member, below(path, name), sink, alone, { holder: value as Leaf["holder"], key: name });
    }
  }
}

/** What a list of byte values spells; undefined for any other list. */
export function spelledBy(list: readonly Json[]): string | undefined {
  if (list.length === 0) return undefined;
  let text = "";
  for (const code of list) {
    if (typeof code !== "number" || !Number.isInteger(code) || code < 0 || code > 255) return undefined;
    text += String.fromCharCode(code);
  }
  return text;
}

/** The strings right in one item of a list, put to those of the items before it. */
function collect(item: Json, down: Map<string, string>): void {
  if (typeof item === "string") down.set("", (down.get("") ?? "") + item);
  else if (item !== null && typeof item === "object" && !Array.isArray(item)) {
    for (const name of Object.keys(item)) {
      const member = item[name];
      if (typeof member === "string" && name !== "type") down.set(name, (down.get(name) ?? "") + member);
    }
  }
}

/** Clients tell items of a list apart by their own `index` where they have one. */
export function indexOf(item: Json): string | undefined {
  const own = item !== null && typeof item === "object" && !Array.isArray(item) ? item["index"] : undefined;
  return typeof own === "number" || typeof own === "string" ? String(own) : undefined;
}

export interface UnmodelledText {
  readonly segments: readonly Segment[];
  readonly closes: readonly Channel[];
}

function segmentOf(channel: Channel, text: string): Segment {
  return { channel, kind: "other", choice: 0, text };
}

function below(path: string, name: string): string {
  return path.length > PATH_UNITS_MAX ? path : `${path}/${name}`;
}

export function runOf(root: Json): string {
  if (root === null || typeof root !== "object" || Array.isArray(root)) return "";
  const numbers = RUNS.map((name) => root[name]).filter((value) => typeof value === "number");
  return numbers.join(":");
}
