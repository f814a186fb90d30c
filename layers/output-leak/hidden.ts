/**
 * Finds what a reader does not see and a program obeys: tag characters and other runs of characters without a shape
 * (they carry bytes past people), bidirectional overrides (they show code in another order than it runs) and escape
 * sequences of terminals (they recolour, overwrite, write to the clipboard). A piece without any such unit costs one
 * native search; the rest is a walk by character that forgets nothing between pieces.
 *
 *   two in a row may be an emoji's dress: they wait for the next character, nothing else does
 */
import type { Delta } from "../../src/layer/index.ts";
import { addHit, FREE, type Hit } from "./hit.ts";

/** Units that may begin something; a plain text has none of them. */
const SUSPECT = new RegExp(
  `[${[
    "\\x00\\x05\\x07\\x08\\x0e\\x0f\\x1b\\x7f\\x90\\x9b\\x9d-\\x9f",
    "\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u3164\\ufeff\\uffa0",
    "\\u200b-\\u200f\\u202b\\u202d\\u202e\\u2060-\\u206f\\ufe00-\\ufe0f\\udb40",
  ].join("")}]`,
);

/** Characters in a row that nobody sees and that are no dress of an emoji or a letter. */
const RUN_MIN = 3;
/** Letters with something unseen between them, one in so many units, are a message too. */
const SCATTERED_MIN = 5;
const SCATTERED_UNITS = 8;
/** The three flags that are spelled in tags have at most six letters and an end. */
const FLAG_TAGS_MAX = 7;
const BLACK_FLAG = 0x1f3f4;
const CANCEL_TAG = 0xe007f;

const CSI_UNITS_MAX = 64;
const STRING_UNITS_MAX = 2_048;
/** Held at most: an escape of JSON in the middle of a run of two. */
export const HIDDEN_HELD_MAX = 32;

const ESC = 0x1b;

type Sequence = "begins" | "control" | "string" | "string-ends" | "none";

export class Hidden {
  readonly #delta: Pick<Delta, "channel" | "kind">;
  #hits: Hit[] = [];
  /** Unseen characters in a row: where they begin, what they weigh; -1 for none. */
  #runFrom = -1;
  #runWeight = 0;
  #runTags = 0;
  #isFlag = false;
  /** The character before. */
  #before = 0;
  #scattered = 0;
  #scatteredAt = 0;
  #sequence: Sequence = "none";
  #sequenceUnits = 0;
  /** A high surrogate, or an escape of JSON, that goes on in the next piece. */
  #rest = "";
  /** Something goes on from the piece before. */
  #isBusy = false;

  constructor(delta: Pick<Delta, "channel" | "kind">) {
    this.#delta = delta;
  }

  /** Adds to `hits`; answers from where text must be held. */
  read({ text, start, final }: Delta, hits: Hit[]): number {
    const isTool = this.#delta.kind === "tool";
    if (!this.#isBusy && !SUSPECT.test(text) && !(isTool && text.includes("\\"))) {
      if (text !== "") this.#before = lastPoint(text);
      // A flag may have been cut in two.
      this.#isBusy = this.#before >= 0xd800 && this.#before <= 0xdbff;
      if (this.#isBusy) this.#rest = text.slice(-1);
      return FREE;
    }
    this.#hits = hits;
    const whole = this.#rest + text;
    const base = start - this.#rest.length;
    const read = this.#walk(whole, base, isTool, final);
    this.#rest = whole.slice(read);
    this.#isBusy = this.#rest !== "" || this.#runFrom >= 0 || this.#sequence !== "none";
    let from = FREE;
    if (this.#runFrom >= 0 && this.#runWeight < RUN_MIN) from = this.#runFrom;
    // Half a character can be anything's beginning; only some of them are.
    const isHalf = this.#rest.length === 1 && this.#rest !== "\\" && this.#rest !== "\udb40";
    if (this.#rest !== "" && !(isHalf && this.#sequence === "none")) from = Math.min(from, base + read);
    return from;
  }

  /** Reads characters; answers how many units were read. */
  #walk(text: string, base: number, isTool: boolean, final: boolean): number {
    let i = 0;
    while (i < text.length) {
      const unit = text.charCodeAt(i);
      let point = unit;
      let units = 1;
      let isEscape = false;
      if (isTool && unit === 0x5c) {
        const escaped = escapeAt(text, i);
        if (escaped === undefined) {
          if (!final) return i;
        } else {
          ({ point, units } = escaped);
          isEscape = true;
        }
      }
      if (point >= 0xd800 && point <= 0xdbff) {
        const low = isTool && isEscape ? escapeAt(text, i + units) : rawAt(text, i + units);
        if (low === undefined && !final) return i;
        if (low !== undefined && low.point >= 0xdc00 && low.point <= 0xdfff) {
          point = 0x10000 + ((point - 0xd800) << 10) + (low.point - 0xdc00);
          units += low.units;
        }
      }
      this.#point(point, base + i, base + i + units, isTool, isEscape);
      i += units;
    }
    return i;
  }

  #point(point: number, start: number, end: number, isTool: boolean, isEscape: boolean): void {
    if (this.#inSequence(point, start, end, isTool && !isEscape)) {
      this.#before = point;
      return;
    }
    const weight = unseenWeight(point);
    if (weight > 0) this.#unseen(point, weight, start, end);
    else {
      this.#runFrom = -1;
      if (isControl(point)) this.#control(point, start, end);
      else if (isOverride(point)) this.#hit("bidi", start, end);
    }
    this.#before = point;
  }

  #unseen(point: number, weight: number, start: number, end: number): void {
    if (this.#runFrom < 0) {
      this.#runFrom = start;
      this.#runWeight = 0;
      this.#runTags = 0;
      this.#isFlag = this.#before === BLACK_FLAG && isTag(point);
    }
    if (isTag(point)) this.#runTags += 1;
    const isOfFlag = this.#isFlag && isTag(point) && this.#runTags <= FLAG_TAGS_MAX;
    if (isOfFlag) {
      if (point === CANCEL_TAG) {
        this.#runFrom = -1;
        return;
      }
      if (this.#runTags < FLAG_TAGS_MAX) return;
    }
    const was = this.#runWeight;
    this.#runWeight += isOfFlag || this.#isFlag ? RUN_MIN : weight;
    this.#isFlag = false;
    if (this.#runWeight >= RUN_MIN) this.#hit("hidden", was >= RUN_MIN ? start : this.#runFrom, end);
    else if (isWord(this.#before) && weight === 1 && !isSelector(point)) this.#scatter(start, end);
  }

  /** One between two letters of a word may be an accident; one between all of them is not. */
  #scatter(start: number, end: number): void {
    const fallen = Math.floor((start - this.#scatteredAt) / SCATTERED_UNITS);
    this.#scattered = Math.max(0, this.#scattered - fallen) + 1;
    this.#scatteredAt = start;
    if (this.#scattered >= SCATTERED_MIN) this.#hit("hidden", start, end);
  }

  #control(point: number, start: number, end: number): void {
    this.#hit("terminal", start, end);
    if (point === ESC) this.#begin("begins");
    else if (point === 0x9b) this.#begin("control");
    else if (point >= 0x90) this.#begin("string");
  }

  #begin(sequence: Sequence): void {
    this.#sequence = sequence;
    this.#sequenceUnits = 0;
  }

  /** True when the character belongs to the sequence; false when it stands for itself. */
  #inSequence(point: number, start: number, end: number, isBareJson: boolean): boolean {
    const sequence = this.#sequence;
    if (sequence === "none") return false;
    this.#sequenceUnits += 1;
    this.#sequence = "none";
    if (isBareJson && (point === 0x22 || point === 0x5c)) return false;
    if (sequence === "string-ends") {
      if (point !== 0x5c) return false;
    } else if (sequence === "string") {
      if (point === 10 || point === 13 || this.#sequenceUnits > STRING_UNITS_MAX) return false;
      if (point === ESC) this.#sequence = "string-ends";
      else if (point !== 7 && point !== 0x9c) this.#sequence = "string";
    } else {
      if (point < 0x20 || point > 0x7e || this.#sequenceUnits > CSI_UNITS_MAX) return false;
      this.#sequence = next(sequence, point);
    }
    this.#hit("terminal", start, end);
    return true;
  }

  #hit(kind: string, start: number, end: number): void {
    addHit(this.#hits, { kind, score: 0.9, where: { channel: this.#delta.channel, start, end } });
  }
}

/** What follows in a sequence (ECMA-48). */
function next(sequence: "begins" | "control", point: number): Sequence {
  if (sequence === "control") return point <= 0x3f ? "control" : "none";
  if (point === 0x5b) return "control";
  // Operating system command, device control, privacy message, application command, start of string.
  if ("]P^_X".includes(String.fromCharCode(point))) return "string";
  return point <= 0x2f ? "begins" : "none";
}

/** What a terminal obeys, without white space and what it leaves alone. */
const CONTROLS: ReadonlySet<number> = new Set([
  0,
  5,
  7,
  8,
  0xe,
  0xf,
  ESC,
  0x7f,
  0x90,
  0x9b,
  0x9d,
  0x9e,
  0x9f,
]);

function isControl(point: number): boolean {
  return CONTROLS.has(point);
}

/** Both overrides, and the embedding that turns what follows; left to right is how most text runs anyway. */
function isOverride(point: number): boolean {
  return point === 0x202b || point === 0x202d || point === 0x202e;
}

function isTag(point: number): boolean {
  return point >= 0xe0000 && point <= 0xe007f;
}

function isSelector(point: number): boolean {
  return (point >= 0xfe00 && point <= 0xfe0f) || (point >= 0xe0100 && point <= 0xe01ef);
}

/** 0: seen. A tag alone is enough. */
function unseenWeight(point: number): number {
  if (point < 0x34f) return 0;
  if (isTag(point)) return RUN_MIN;
  if (isSelector(point)) return 1;
  if (point >= 0x2000 && point <= 0x206f)
    return (point >= 0x200b && point <= 0x200f) ||
      point === 0x2060 ||
      (point >= 0x2061 && point <= 0x2065) ||
      point >= 0x206a
      ? 1
      : 0;
  return UNSEEN.has(point) ? 1 : 0;
}

const UNSEEN = new Set([
  0x34f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180c, 0x180d, 0x180e, 0x180f, 0x3164, 0xfeff, 0xffa0,
]);

function isWord(point: number): boolean {
  const lower = point | 32;
  return (lower >= 97 && lower <= 122) || (point >= 48 && point <= 57);
}

/** What a backslash of JSON and its followers stand for; undefined where there are too few of them yet. */
function escapeAt(text: string, at: number): { readonly point: number; readonly units: number } | undefined {
  if (text.charCodeAt(at) !== 0x5c) return at < text.length ? { point: 0, units: 0 } : undefined;
  if (at + 1 >= text.length) return undefined;
  const letter = text[at + 1]!;
  if (letter !== "u") return { point: ESCAPES[letter] ?? letter.charCodeAt(0), units: 2 };
  for (let i = 2; i < 6; i++) {
    if (at + i >= text.length) return undefined;
    if (!/[0-9a-fA-F]/.test(text[at + i]!)) return { point: 0x75, units: 2 };
  }
  return { point: Number.parseInt(text.slice(at + 2, at + 6), 16), units: 6 };
}

const ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, b: 0x20, f: 12 };

function rawAt(text: string, at: number): { readonly point: number; readonly units: number } | undefined {
  return at < text.length ? { point: text.charCodeAt(at), units: 1 } : undefined;
}

function lastPoint(text: string): number {
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xdc00 && last <= 0xdfff && text.length > 1 ? text.codePointAt(text.length - 2)! : last;
}
