/**
 * Whether an address carries data out. An address that the conversation itself holds was not made of what was said
 * in it; any other one is looked at for words of the conversation, for bytes that decode to text, and for more
 * opaque data than a link needs. An address that is fetched without a click is held to less.
 */
import type { Prompt } from "../../src/layer/index.ts";
import { isReadable } from "../../src/text/readable.ts";
import { GRAM_SYMBOLS, GramSet, gramsShared } from "./grams.ts";
import { symbolsOf } from "./symbols.ts";

export interface Address {
  readonly host: string;
  /** Labels of the host beside its last two, as they were written. */
  readonly labels: string;
  /** User and password, path, query and fragment. */
  readonly rest: string;
}

const ADDRESS = /^(?:https?:)?[/\\]*([^/\\?#]*)(.*)$/is;

export function readAddress(url: string): Address {
  const [, authority = "", rest = ""] = ADDRESS.exec(url) ?? [];
  const at = authority.lastIndexOf("@");
  const host = authority
    .slice(at + 1)
    .replace(/:\d*$/, "")
    .replace(/\.$/, "");
  const labels = host.split(".").slice(0, -2).join("");
  return { host: host.toLowerCase(), labels, rest: at < 0 ? rest : `${authority.slice(0, at)}/${rest}` };
}

/** "docs.example.com" exactly; "*.example.com" what is below it, and itself. */
export function isListed(host: string, hosts: readonly string[]): boolean {
  return hosts.some((entry) =>
    entry.startsWith("*.") ? host === entry.slice(2) || host.endsWith(entry.slice(1)) : host === entry,
  );
}

/** Grams of the conversation in a row that make an address suspect: this many letters and eleven more. */
const SHARED_EMBEDDED = 13;
const SHARED_LINKED = 40;
/** A token that decodes to text, and one that decodes to nothing known. */
const DECODED_UNITS_MIN = 20;
const DECODED_BYTES_MIN = 10;
const OPAQUE_EMBEDDED = 72;
const OPAQUE_LINKED = 200;
/** Words in one value of an embedded address. */
const WORDS_MIN = 6;
const WORD_UNITS_MIN = 40;

const TOKEN = /[A-Za-z0-9+/_-]{20,}/g;
const HEX = /^(?:[0-9a-f]{2})+$/i;
/** Labels of a host: names that are looked up carry data too. */
const LABELS_UNITS_MIN = 32;

export interface Conversation {
  /** Whether the conversation itself holds this text. */
  holds(text: string): boolean;
  readonly grams: GramSet;
}

/** Why the address is suspect; undefined: it is not. */
export function carries(
  { labels, rest }: Address,
  isEmbedded: boolean,
  conversation: Conversation,
): "words" | "encoded" | "opaque" | undefined {
  const told = labels.length >= LABELS_UNITS_MIN ? `${labels}/${rest}` : rest;
  if (told.length < DECODED_UNITS_MIN) return undefined;
  const plain = percentDecoded(told);
  const enough = isEmbedded ? SHARED_EMBEDDED : SHARED_LINKED;
  let opaque = 0;
  for (const [token] of plain.matchAll(TOKEN)) {
    if (isEncoded(token)) return "encoded";
    if (isOpaque(token)) opaque += token.length;
  }
  if (opaque >= (isEmbedded ? OPAQUE_EMBEDDED : OPAQUE_LINKED)) return "opaque";
  if (isEmbedded && hasSentence(plain)) return "words";
  if (plain.length >= enough + GRAM_SYMBOLS && gramsShared(plain, conversation.grams, enough) >= enough)
    return "words";
  return undefined;
}

function percentDecoded(text: string): string {
  if (!text.includes("%")) return text;
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (run) =>
    Buffer.from(run.replaceAll("%", ""), "hex").toString("utf8"),
  );
}

/** A path is many tokens, and base64 may hold "/" as well; where it begins among others, nobody says. */
function isEncoded(token: string): boolean {
  for (const part of token.includes("/") ? [token, ...token.split("/")] : [token]) {
    if (part.length < DECODED_UNITS_MIN) continue;
    const isHex = HEX.test(part);
    if (!isHex && !/[A-Z]/.test(part)) continue;
    if (isHex ? reads(part, "hex") : [0, 1, 2, 3].some((from) => reads(part.slice(from), "base64")))
      return true;
  }
  return false;
}

function reads(part: string, encoding: "hex" | "base64"): boolean {
  const bytes = Buffer.from(part, encoding);
  return bytes.length >= DECODED_BYTES_MIN && isReadable(bytes);
}

/** Neither words with hyphens nor a number: letters and digits mixed as no language mixes them. */
function isOpaque(token: string): boolean {
  let changes = 0;
  let digits = 0;
  for (let i = 0; i < token.length; i++) {
    const kind = unitKind(token.charCodeAt(i));
    if (kind === 1) digits += 1;
    if (i > 0 && kind !== unitKind(token.charCodeAt(i - 1))) changes += 1;
  }
  return digits > 0 && digits < token.length && changes * 4 >= token.length;
}

function unitKind(unit: number): number {
  if (unit >= 48 && unit <= 57) return 1;
  if (unit >= 97) return 2;
  return unit >= 65 && unit <= 90 ? 3 : 4;
}

function hasSentence(text: string): boolean {
  const query = text.indexOf("?");
  if (query < 0) return false;
  for (const pair of text.slice(query + 1).split(/[&#;]/)) {
    const value = pair.slice(pair.indexOf("=") + 1);
    if (value.length < WORD_UNITS_MIN) continue;
    if ((value.match(/[a-z]{2,}(?=[\s+_.,-]|$)/gi) ?? []).length >= WORDS_MIN) return true;
  }
  return false;
}

/** Of a long conversation, the newest. */
const CONVERSATION_UNITS_MAX = 65_536;
const CONVERSATION_KINDS: ReadonlySet<string> = new Set(["text", "tool-result", "tool-arguments", "unknown"]);

/** Read once it is needed: most answers hold no address that is worth a look. */
export function conversationOf(prompt: Prompt | undefined): Conversation {
  let grams: GramSet | undefined;
  const leaves = (prompt?.leaves ?? []).filter(({ kind }) => CONVERSATION_KINDS.has(kind));
  return {
    holds: (text) => leaves.some((leaf) => leaf.text.includes(text)),
    get grams() {
      if (grams !== undefined) return grams;
      grams = new GramSet();
      let left = CONVERSATION_UNITS_MAX;
      for (const { text } of leaves.toReversed()) {
        if (left <= 0) break;
        grams.add(symbolsOf(text.slice(-left)).symbols, { kind: "conversation", via: "", letters: 1 });
        left -= text.length;
      }
      return grams;
    },
  };
}
