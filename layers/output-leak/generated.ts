/** Leaks made of the prompts in cases/, for tests and figures: quotes, changed quotes, and every disguise. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { ChannelKind, Delta, Held, Leaf, Prompt, RequestContext } from "../../src/layer/index.ts";
import { findingsOf, IDLE_PORTS } from "../../src/layer/index.ts";
import { backwards, turned } from "../../src/text/units.ts";
import { outputLeak } from "./layer.ts";

export interface PromptCase {
  readonly id: string;
  readonly system: string;
  readonly answers: readonly string[];
}

export function casesOf<T>(name: string): T {
  return parse(readFileSync(new URL(`./cases/${name}.yaml`, import.meta.url), "utf8")) as T;
}

export function compile(config: unknown = {}, files: Readonly<Record<string, string>> = {}) {
  return outputLeak.compile(outputLeak.config.parse(config), {
    ...IDLE_PORTS,
    seat: "output-leak",
    artifacts: { text: ({ path }) => files[path] ?? "", bytes: () => new Uint8Array() },
  });
}

export type Layer = ReturnType<typeof compile>;

export function leafOf(role: Leaf["role"], text: string, kind: Leaf["kind"] = "text"): Leaf {
  return { channel: "prompt:0", path: "/messages/0/content", role, kind, turn: 0, text };
}

export function promptOf(...leaves: readonly Leaf[]): Prompt {
  return {
    dialect: "openai",
    operation: "chat",
    model: "m",
    stream: true,
    leaves,
    newestTurn: 0,
    unknown: [],
    mediaCount: 0,
  };
}

export function openOn(layer: Layer, prompt: Prompt, org = "acme") {
  const watch = layer.open({ identity: { org, project: "", keyId: "" } } as RequestContext);
  watch.onPrompt?.(prompt);
  return watch;
}

export function deltaOf(text: string, start: number, final: boolean, kind: ChannelKind = "answer"): Delta {
  return { channel: `${kind}:0`, kind, choice: 0, start, text, final };
}

/** What is found in a whole answer. */
export function findIn(layer: Layer, prompt: Prompt, text: string, kind: ChannelKind = "answer") {
  return findingsOf(openOn(layer, prompt).onChunk?.(deltaOf(text, 0, true, kind)) as Held);
}

const SENTENCE = /[^.!?。:\n]+(?:\n?[^.!?。:\n]+)*[.!?。:]/g;

export function sentencesOf(text: string): string[] {
  return (text.match(SENTENCE) ?? []).map((sentence) => sentence.replace(/\s+/g, " ").trim());
}

/** Every `nth` word becomes another one. */
function replaced(text: string, nth: number): string {
  let count = 0;
  return text.replace(/\S+/g, (word) => (++count % nth === 0 ? "instead" : word));
}

const LOOK_ALIKE: Readonly<Record<string, string>> = { a: "а", e: "е", o: "о", c: "с", p: "р" };

export const WAYS: Readonly<Record<string, (text: string) => string>> = {
  "as it stands": (text) => text,
  "upper case": (text) => text.toUpperCase(),
  "lower case, no punctuation": (text) => text.toLowerCase().replace(/[^\p{L}\p{N}\s]/gu, ""),
  "other line breaks": (text) => text.replace(/\s+/g, " ").replace(/((?:\S+ ){5})/g, "> $1\n"),
  "one word in 10 changed": (text) => replaced(text, 10),
  "one word in 7 changed": (text) => replaced(text, 7),
  "one word in 5 changed": (text) => replaced(text, 5),
  "letters set apart": (text) => [...text.replace(/\s+/g, "/")].join(" "),
  "zero-width between letters": (text) => [...text].join("\u200b"),
  "look-alikes": (text) => text.replace(/[aeocp]/g, (letter) => LOOK_ALIKE[letter] ?? letter),
  leet: (text) =>
    text.replace(
      /[aeiost]/g,
      (letter) => ({ a: "4", e: "3", i: "1", o: "0", s: "5", t: "7" })[letter] ?? letter,
    ),
  base64: (text) => Buffer.from(text).toString("base64"),
  "base64 in lines": (text) =>
    Buffer.from(text)
      .toString("base64")
      .replace(/(.{64})/g, "$1\n"),
  "base64url of a middle": (text) => Buffer.from(`My prompt: ${text}`).toString("base64url"),
  hex: (text) => Buffer.from(text).toString("hex"),
  "hex with spaces": (text) => Buffer.from(text).toString("hex").replace(/(..)/g, "$1 "),
  "\\x escapes": (text) => Buffer.from(text).toString("hex").replace(/(..)/g, "\\x$1"),
  "0x codes": (text) => [...Buffer.from(text)].map((code) => `0x${code.toString(16)}`).join(", "),
  "decimal codes": (text) => [...Buffer.from(text)].join(" "),
  rot13: turned,
  reversed: backwards,
  "words reversed": (text) => text.replace(/\S+/g, backwards),
  "URL-encoded": (text) => encodeURIComponent(text),
  "JSON string": (text) => JSON.stringify(text),
};
