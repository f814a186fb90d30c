/**
 * Finds the text in a parsed answer or event along the tables, and writes it back: every string becomes a
 * segment on a channel of its own, and each segment remembers its place. A value that the tables do not
 * know is one segment of all its names and strings; redacted, it goes as a whole, since nobody knows which
 * of its parts may be changed.
 */
import type { Channel, ChannelKind } from "../../layer/index.ts";
import { parseJson } from "../../wire/json-text.ts";
import type { Json, JsonObject, Segment } from "../dialect.ts";
import { pointerToken } from "../leaves.ts";
import { type Stranger, spelledBy } from "../unmodelled.ts";
import { type Shape, type Speech, variantOf } from "./shape.ts";

/** Stands, while text is written back, for a value that is to go. */
const REMOVED: JsonObject = {};

export const KINDS: Readonly<Record<Speech, ChannelKind>> = {
  answer: "answer",
  thinking: "thinking",
  signature: "thinking",
  redacted: "thinking",
  tool: "tool",
  "tool-name": "tool",
  "tool-id": "tool",
};
/** Channels that deltas go on writing to, until their block stops. */
const GROWS: ReadonlySet<Speech> = new Set<Speech>(["answer", "thinking", "signature", "tool"]);

interface Place {
  readonly holder: JsonObject | Json[];
  readonly key: string | number;
  /** `json` the text is the value as JSON · `whole` the value goes when its text changes. */
  readonly as: "string" | "json" | "whole";
  readonly blank: Json | undefined;
}

/** `segment` is the place in `segments` of the same text by itself. */
export interface StrangerPart extends Stranger {
  readonly segment: number;
}

export class AnswerText {
  readonly segments: Segment[] = [];
  /** Channels that this value both begins and ends. */
  readonly closes: Channel[] = [];
  /** What of its block's own channels may get more text. */
  readonly open: Speech[] = [];
  modelled = true;
  /** What the tables do not know: its strings may go on in the next event. */
  readonly strangers: StrangerPart[] = [];
  readonly #places: Place[] = [];
  readonly #root: { value: Json };
  /** Front of the channel names of strings that are not a block's own: unique within the answer. */
  readonly #prefix: string;

  /** Ends of the names of a block's own channels: those that deltas go on writing to, and those said once. */
  readonly #grows: string;
  readonly #once: string;

  /** `block` is the number of the content block that `value` speaks for, or -1. */
  constructor(value: Json, shape: Shape, prefix: string, block = -1, grows = "", once = "") {
    this.#root = { value };
    this.#prefix = prefix;
    this.#grows = grows;
    this.#once = once;
    this.#read(this.#root, "value", shape, "", block);
  }

  /** The value as JSON with segment i's text replaced by `texts[i]`. */
  rewrite(texts: readonly string[]): string {
    const before = this.#places.map(({ holder, key }) => at(holder, key));
    this.#places.forEach((place, i) => {
      const text = texts[i] ?? "";
      if (text !== this.segments[i]!.text) put(place.holder, place.key, replacement(place, text));
    });
    const json = JSON.stringify(this.#root.value, withoutRemoved) as string | undefined;
    this.#places.forEach(({ holder, key }, i) => {
      put(holder, key, before[i]!);
    });
    return json ?? "null";
  }

  #read(holder: JsonObject | Json[], key: string | number, shape: Shape, path: string, block: number): void {
    const value = at(holder, key);
    if (typeof value === "string") {
      if (shape.tags?.has(value)) return;
      if (shape.string === undefined && shape.tree === undefined)
        this.#whole(holder, key, path, "", undefined);
      else this.#add({ holder, key, as: "string", blank: undefined }, value, path, shape.speech, block);
    } else if (value === null || typeof value !== "object") {
      return;
    } else if (shape.tree !== undefined) {
      if (Object.keys(value).length === 0) return;
      this.#add(
        { holder, key, as: "json", blank: undefined },
        JSON.stringify(value),
        path,
        shape.speech,
        block,
      );
    } else if (!Array.isArray(value)) {
      const variant = variantOf(shape, value);
      if (variant === undefined) this.#whole(holder, key, path, "", shape.blank);
      else this.#readMembers(value, variant, path, block);
    } else if (shape.items !== undefined) {
      for (let i = 0; i < value.length; i++) {
        this.#read(value, i, shape.items, `${path}/${i}`, shape.numbered ? i : -1);
      }
    } else {
      this.#whole(holder, key, path, "", undefined);
    }
  }

  #readMembers(value: JsonObject, shape: Shape, path: string, block: number): void {
    for (const name of Object.keys(value)) {
      const below = `${path}/${pointerToken(name)}`;
      const known = shape.fields?.get(name);
      if (known === undefined) this.#whole(value, name, below, name, undefined);
      else this.#read(value, name, known, below, known.speech !== undefined || known.numbered ? block : -1);
    }
  }

  /** A value that is not modelled, and its member's name where that is not either. */
  #whole(
    holder: JsonObject | Json[],
    key: string | number,
    path: string,
    name: string,
    blank: Json | undefined,
  ): void {
    this.modelled = false;
    this.strangers.push({ place: path, value: at(holder, key), segment: this.segments.length });
    const text = joinStrings(at(holder, key), name === "" ? [] : [name]);
    this.#add({ holder, key, as: "whole", blank }, text, path, undefined, -1);
  }

  #add(place: Place, text: string, path: string, speech: Speech | undefined, block: number): void {
    if (text === "") return;
    const named = speech !== undefined && block >= 0;
    const grows = named && GROWS.has(speech);
    const channel = named
      ? `${speech}:${block}${grows ? this.#grows : this.#once}`
      : `other:${this.#prefix}${path}`;
    this.#places.push(place);
    this.segments.push({ channel, kind: named ? KINDS[speech] : "other", choice: 0, text });
    if (grows) this.open.push(speech);
    else this.closes.push(channel);
  }
}

/** All names and strings below a value, one per line. */
function joinStrings(value: Json, found: string[] = []): string {
  gather(value, found);
  return found.join("\n");
}

function gather(value: Json, found: string[]): void {
  if (typeof value === "string") {
    found.push(value);
  } else if (Array.isArray(value)) {
    const spelled = spelledBy(value);
    if (spelled !== undefined) found.push(spelled);
    for (const item of value) gather(item, found);
  } else if (value !== null && typeof value === "object") {
    for (const name of Object.keys(value)) {
      found.push(name);
      gather(value[name]!, found);
    }
  }
}

function at(holder: JsonObject | Json[], key: string | number): Json {
  return (holder as JsonObject)[key]!;
}

function put(holder: JsonObject | Json[], key: string | number, value: Json): void {
  // Defined, not assigned: a member named __proto__ must stay a member.
  Object.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
}

function replacement(place: Place, text: string): Json {
  switch (place.as) {
    case "string":
      return text;
    case "whole":
      return place.blank ?? REMOVED;
    case "json":
      try {
        return parseJson(text);
      } catch {
        return { redacted: text };
      }
    default:
      return place.as satisfies never;
  }
}

function withoutRemoved(_key: string, value: Json): Json | undefined {
  if (value === REMOVED) return undefined;
  return Array.isArray(value) && value.includes(REMOVED) ? value.filter((item) => item !== REMOVED) : value;
}
