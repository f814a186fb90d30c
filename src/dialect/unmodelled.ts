/**
 * The text of events that a dialect does not model. Clients join what stands at one place of such events
 * (data that is not JSON, a member of JSON), so each place has one channel for the whole stream: a secret cut
 * over two events is seen whole. Names say what an event is and are judged apart, or they would stand between.
 */
import type { Channel } from "../layer/index.ts";
import type { Json, Segment } from "./dialect.ts";

/** Places with a channel of their own; what lies past them shares the channel of data that is not JSON. */
const PLACES_MAX = 1_024;
/** Longer paths share that channel too: a deep body must not make long names. */
const PATH_UNITS_MAX = 256;
const SHARED: Channel = "other:unmodelled";
/** Members of an event that say which run its text belongs to. */
const RUNS = ["index", "output_index", "content_index", "summary_index"];

export class Unmodelled {
  readonly #places = new Set<Channel>();

  /** `root` is undefined for data that is not JSON. The names come last and are the whole of their channel, `closes`. */
  read(event: string, data: string, root: Json | undefined, ordinal: number): UnmodelledText {
    const names = event === "" ? [] : [event];
    const texts = new Map<Channel, string>();
    if (typeof root === "string") texts.set(SHARED, root);
    else if (typeof root !== "object" || root === null) texts.set(SHARED, data);
    else this.#gather(root, runOf(root), names, texts);
    const segments: Segment[] = [];
    for (const [channel, text] of texts) if (text !== "") segments.push(segmentOf(channel, text));
    if (names.length === 0) return { segments, closes: [] };
    const channel = `other:names:${ordinal}`;
    return { segments: [...segments, segmentOf(channel, names.join("\n"))], closes: [channel] };
  }

  #gather(value: Json, path: string, names: string[], texts: Map<Channel, string>): void {
    if (typeof value === "string") {
      const channel = this.#channel(path);
      const before = texts.get(channel);
      texts.set(channel, before === undefined ? value : `${before}\n${value}`);
    } else if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) this.#gather(value[i]!, below(path, String(i)), names, texts);
    } else if (value !== null && typeof value === "object") {
      for (const name of Object.keys(value)) {
        const member = value[name]!;
        names.push(name);
        if (name === "type" && typeof member === "string") names.push(member);
        else this.#gather(member, below(path, name), names, texts);
      }
    }
  }

  #channel(path: string): Channel {
    if (path === "" || path.length > PATH_UNITS_MAX) return SHARED;
    const channel = `${SHARED}:${path}`;
    if (this.#places.has(channel)) return channel;
    if (this.#places.size >= PLACES_MAX) return SHARED;
    this.#places.add(channel);
    return channel;
  }
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

function runOf(root: Json): string {
  if (root === null || typeof root !== "object" || Array.isArray(root)) return "";
  const numbers = RUNS.map((name) => root[name]).filter((value) => typeof value === "number");
  return numbers.join(":");
}
