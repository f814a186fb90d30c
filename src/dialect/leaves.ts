/**
 * Gathers the leaves of a prompt. A dialect walks the parts that it models and hands everything else to
 * `tree`, which covers each string and each member name below a value, so that no field is ever skipped.
 */
import type { Leaf, LeafKind, Role } from "../layer/index.ts";
import type { Json } from "./dialect.ts";

/** What is known of the strings below a place in the body. */
export interface About {
  readonly role: Role;
  readonly kind: LeafKind;
  readonly turn: number;
}

export const PARAMETER: About = { role: "none", kind: "parameter", turn: -1 };
export const UNKNOWN: About = { role: "none", kind: "unknown", turn: -1 };

/** Line breaks are part of MIME base64; blanks are not, so plain words never pass for it. */
const BASE64 = /^[A-Za-z0-9+/_=\r\n-]+$/;
const URL_CHARS_MAX = 4_096;
const WEB_URL = /^https?:\/\/[^\s"'<>\\]+$/i;
const DATA_URL = /^data:[\w.+-]+\/[\w.+-]+(?:;[\w.+=-]+)*;base64,/i;

/** One reference token of a JSON Pointer (RFC 6901). */
export function pointerToken(name: string): string {
  return name.includes("~") || name.includes("/") ? name.replaceAll("~", "~0").replaceAll("/", "~1") : name;
}

export class Leaves {
  readonly list: Leaf[] = [];
  readonly unknown: string[] = [];
  mediaCount = 0;
  newestTurn = -1;

  add(path: string, text: string, about: About): void {
    if (about.turn > this.newestTurn) this.newestTurn = about.turn;
    this.list.push({
      channel: `prompt:${this.list.length}`,
      path,
      role: about.role,
      kind: about.kind,
      turn: about.turn,
      text,
    });
  }

  /**
   * Base64 (bare or as a data URL) and web addresses of ordinary length count as media; anything else that
   * claims to be is text, so a lie hides nothing.
   */
  media(path: string, text: string, about: About): void {
    const url = DATA_URL.exec(text);
    const encoded = url === null ? text : text.slice(url[0].length);
    const isMedia = BASE64.test(encoded) || (text.length <= URL_CHARS_MAX && WEB_URL.test(text));
    if (isMedia) this.mediaCount += 1;
    this.add(path, text, isMedia ? { ...about, kind: "media" } : about);
  }

  /** Every string and member name below `value`. */
  tree(path: string, value: Json | undefined, about: About): void {
    if (typeof value === "string") {
      this.add(path, value, about);
    } else if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) this.tree(`${path}/${i}`, value[i], about);
    } else if (value !== null && typeof value === "object") {
      for (const name of Object.keys(value)) {
        const below = `${path}/${pointerToken(name)}`;
        this.add(below, name, { role: about.role, kind: "key", turn: about.turn });
        this.tree(below, value[name], about);
      }
    }
  }

  /** A field that the dialect does not model: covered, and named for the policy's `unknownFields`. */
  unmodelled(path: string, name: string, value: Json | undefined, about: About): void {
    this.unknown.push(path);
    this.add(path, name, { role: about.role, kind: "key", turn: about.turn });
    this.tree(path, value, { role: about.role, kind: "unknown", turn: about.turn });
  }
}
