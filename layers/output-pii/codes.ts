/**
 * Personal data with a form of its own: e-mail addresses, accounts, cards, national numbers, addresses of hosts and
 * devices, phone numbers. Begins at every word and number, and is through with most words at their end.
 */
import { isIPv6 } from "node:net";
import { mod97 } from "./checks.ts";
import { IBAN_LENGTHS, type Kind, NUMBER_ROWS, type NumberRow, type Sight } from "./kinds.ts";
import { FAILS, matchAt, type Pattern, WAITS } from "./partial.ts";
import { PHONE_UNITS_MAX, type PhoneRules, phoneAt } from "./phone.ts";
import type { Reader } from "./reader.ts";
import { beginsWord, CLASS, DIGIT, endsBefore, isCapital, isWord, LETTER } from "./units.ts";

/** RFC 5321, 4.5.3.1: the local part, and the longest path without its brackets. */
const LOCAL_UNITS_MAX = 64;
const EMAIL_UNITS_MAX = 254;
/** An address of version 6 with one of version 4 at its end. */
const IP6_UNITS_MAX = 45;
const IBAN_UNITS_MAX = 42;
const NEAR_UNITS = 48;
/** Of a card number, which has the longest run of them. */
const DIGITS_MAX = 19;
/** No number has its first digit later than this in a word. */
const WORD_FRONT_UNITS = 16;

/** Units that may wait for each kind: its longest text, and one or two that show that it has ended. */
const UNITS_MAX: Readonly<Partial<Record<Kind, number>>> = {
  email: EMAIL_UNITS_MAX + 1,
  phone: PHONE_UNITS_MAX + 10,
  card: 25,
  iban: IBAN_UNITS_MAX + 1,
  "national-number": 24,
  ip: IP6_UNITS_MAX + 1,
  mac: 64,
  imei: 20,
};

/** Words are held to their end, as each may be the front of an e-mail address. */
export function codesHoldMax(kinds: readonly Kind[]): number {
  return Math.max(0, ...kinds.map((kind) => UNITS_MAX[kind] ?? 0));
}

const DOMAIN =
  /(?:[0-9A-Za-z\u00c0-\u05ff](?:[0-9A-Za-z\u00c0-\u05ff-]{0,61}[0-9A-Za-z\u00c0-\u05ff])?\.)+(?:xn--[0-9A-Za-z-]{2,59}|[A-Za-z\u00c0-\u05ff]{2,24})(?![0-9A-Za-z\u00c0-\u05ff])/y;

/** WAITS where the word may go on and no front of it has said yet what it is. */
function wordAt(text: string, at: number, open: boolean): number {
  let i = at;
  while (i < at + WORD_FRONT_UNITS && isWord(text.charCodeAt(i))) i++;
  return open && i === text.length ? WAITS : FAILS;
}

/** The end of the e-mail address that begins at `at`, FAILS or WAITS. */
function emailAt(text: string, at: number, open: boolean): number {
  let i = at;
  const localTo = Math.min(text.length, at + LOCAL_UNITS_MAX);
  while (i < localTo && CLASS[text.charCodeAt(i)] !== 0) i++;
  if (i === text.length) return open ? WAITS : FAILS;
  if (text[i] !== "@") return FAILS;
  const from = i + 1;
  const to = Math.min(text.length, at + EMAIL_UNITS_MAX);
  for (i = from; i < to; ) {
    const unit = text.charCodeAt(i);
    if (!isWord(unit) && unit !== 45 && unit !== 46) break;
    i++;
  }
  if (i === text.length && i < at + EMAIL_UNITS_MAX && open) return WAITS;
  const domain = text.slice(from, i);
  DOMAIN.lastIndex = 0;
  if (!DOMAIN.test(domain)) return FAILS;
  const end = from + DOMAIN.lastIndex;
  const isRemote = text[end] === ":" && text.slice(at, from) === "git@";
  if (end === text.length && open && text.slice(at, from) === "git@") return WAITS;
  return isRemote ? FAILS : end;
}

function ibanAt(text: string, at: number, open: boolean): number {
  const head = text.slice(at, at + 4);
  if (!/^[A-Za-z]{2}\d{2}$/.test(head)) return FAILS;
  const length = IBAN_LENGTHS.get(head.slice(0, 2).toUpperCase());
  if (length === undefined) return FAILS;
  let number = "";
  let i = at;
  for (; number.length < length && i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (isWord(unit) && unit < 128) number += text[i];
    else if (number.length % 4 !== 0 || !(unit === 32 || unit === 45 || unit === 0xa0)) return FAILS;
    else if (!isWord(text.charCodeAt(i - 1))) return FAILS;
  }
  if (i === text.length && open) return WAITS;
  if (number.length < length || isWord(text.charCodeAt(i))) return FAILS;
  return mod97(number.toUpperCase()) ? i : FAILS;
}

/** Of an address of version 6: a digit, a colon, a full stop. */
function isHexadecimal(unit: number): boolean {
  return (
    (unit >= 48 && unit <= 58) || (unit >= 97 && unit <= 102) || (unit >= 65 && unit <= 70) || unit === 46
  );
}

/** Octets stand before: what follows is the rest of a fingerprint. */
function isInFingerprint(text: string, at: number): boolean {
  return text[at - 1] === ":" && isHexadecimal(text.charCodeAt(at - 2));
}

/** Version 6 alone; at least one digit, so that no path of a program (`a::b`) is one. */
function ip6At(text: string, at: number, open: boolean): number {
  if (isInFingerprint(text, at)) return FAILS;
  let i = at;
  let colons = 0;
  const to = Math.min(text.length, at + IP6_UNITS_MAX);
  for (; i < to && isHexadecimal(text.charCodeAt(i)); i++) if (text.charCodeAt(i) === 58) colons += 1;
  if (i === text.length && open) return WAITS;
  if (colons < 2) return FAILS;
  if (isWord(text.charCodeAt(i))) return FAILS;
  const written = text.slice(at, i).replace(/(?<!:):$|\.+$/, "");
  const groups = written.split(":");
  if (groups.length < 3 || !/\d/.test(written) || (groups.length < 4 && groups[0]!.length < 4)) return FAILS;
  return isIPv6(written) ? at + written.length : FAILS;
}

/** More of the same number stands before. */
function goesOnFrom(text: string, at: number): boolean {
  const unit = text.charCodeAt(at - 1);
  return (unit === 95 || (unit >= 44 && unit <= 47)) && CLASS[text.charCodeAt(at - 2)] === DIGIT;
}

/** More of the same number follows: a version, a serial. */
function goesOn(text: string, end: number, open: boolean): boolean | "waits" {
  if (!/[-._]/.test(text[end] ?? "")) return false;
  if (end + 1 === text.length) return open ? "waits" : false;
  return CLASS[text.charCodeAt(end + 1)] === DIGIT;
}

export interface CodeRules {
  readonly kinds: ReadonlySet<Kind>;
  readonly phone: PhoneRules;
}

export class CodeReader implements Reader {
  readonly #kinds: ReadonlySet<Kind>;
  /** By how many digits a number begins with: what it may be, in the order of the table. */
  readonly #tries: readonly (readonly { row: NumberRow; pattern: Pattern }[])[];
  readonly #phone: PhoneRules;

  constructor(rules: CodeRules) {
    this.#kinds = rules.kinds;
    const tries = NUMBER_ROWS.filter((row) => rules.kinds.has(row.kind)).flatMap((row) =>
      row.patterns.map((pattern) => ({ row, pattern })),
    );
    this.#tries = Array.from({ length: DIGITS_MAX + 2 }, (_, digits) =>
      tries.filter(({ pattern }) => digits >= pattern.digitsMin && digits <= pattern.digitsMax),
    );
    this.#phone = rules.phone;
  }

  seek(text: string, from: number): number {
    for (let at = from; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      const kind = CLASS[unit];
      if (kind === LETTER || kind === DIGIT) {
        if (!beginsWord(text, at)) continue;
        const plainTo = kind === LETTER ? endOfPlain(text, at) : at;
        if (plainTo === at) return at;
        at = plainTo;
      } else if (unit === 40 || unit === 43) {
        if (endsBefore(text, at)) return at;
      } else if (unit === 58 && text.charCodeAt(at - 1) !== 58 && endsBefore(text, at)) return at;
    }
    return text.length;
  }

  judge(text: string, at: number, open: boolean): Sight | "waits" | undefined {
    const unit = text.charCodeAt(at);
    const kinds = this.#kinds;
    if (!isWord(unit)) return unit === 58 ? this.#colons(text, at, open) : this.#phoneMark(text, at, open);
    const email = kinds.has("email") ? emailAt(text, at, open) : wordAt(text, at, open);
    if (email === WAITS) return "waits";
    if (email > 0) return sight("email", "email", 0.95, at, email);
    if (!mayBeNumber(text, at)) return undefined;
    if (CLASS[unit] === LETTER && kinds.has("iban")) {
      const end = ibanAt(text, at, open);
      if (end === WAITS) return "waits";
      if (end > 0) return sight("iban", "iban", 0.99, at, end);
    }
    if (goesOnFrom(text, at)) return undefined;
    if (kinds.has("ip")) {
      const end = ip6At(text, at, open);
      if (end === WAITS) return "waits";
      if (end > 0) return sight("ip", "ip", 0.95, at, end);
    }
    let before: string | undefined;
    const digits = digitsAt(text, at);
    if (open && digits > 0 && digits <= DIGITS_MAX && at + digits === text.length) return "waits";
    for (const { row, pattern } of this.#tries[Math.min(digits, DIGITS_MAX + 1)]!) {
      if (row.kind === "mac" && isInFingerprint(text, at)) continue;
      const end = matchAt(pattern, text, at, open);
      if (end === WAITS) return "waits";
      if (end === FAILS) continue;
      const more = goesOn(text, end, open);
      if (more === "waits") return "waits";
      if (more || !row.accepts(text.slice(at, end))) continue;
      before ??= nearOf(text, at);
      if (row.near !== undefined && !row.near.test(before)) continue;
      return sight(row.kind, row.id, row.near === undefined ? 0.95 : 0.9, at, end);
    }
    return CLASS[unit] === DIGIT ? this.#phoneAt(text, at, open) : undefined;
  }

  #colons(text: string, at: number, open: boolean): Sight | "waits" | undefined {
    if (!this.#kinds.has("ip")) return undefined;
    if (at + 1 === text.length) return open ? "waits" : undefined;
    if (text[at + 1] !== ":") return undefined;
    const end = ip6At(text, at, open);
    return end === WAITS ? "waits" : end > 0 ? sight("ip", "ip", 0.9, at, end) : undefined;
  }

  #phoneMark(text: string, at: number, open: boolean): Sight | "waits" | undefined {
    if (at + 1 === text.length) return open && this.#kinds.has("phone") ? "waits" : undefined;
    const next = text.charCodeAt(at + 1);
    if (CLASS[next] !== DIGIT && next !== 43 && next !== 40) return undefined;
    return this.#phoneAt(text, at, open);
  }

  #phoneAt(text: string, at: number, open: boolean): Sight | "waits" | undefined {
    if (!this.#kinds.has("phone")) return undefined;
    const end = phoneAt(this.#phone, text, at, open, nearOf);
    return end === WAITS ? "waits" : end > 0 ? sight("phone", "phone", 0.8, at, end) : undefined;
  }
}

/** How many digits stand at `at`. */
function digitsAt(text: string, at: number): number {
  let i = at;
  while (CLASS[text.charCodeAt(i)] === DIGIT) i++;
  return i - at;
}

/**
 * Where a word ends that can be nothing but a word: letters, then a space or the like. Else `at`, as for two capitals,
 * which may be the front of a number.
 */
function endOfPlain(text: string, at: number): number {
  let i = at + 1;
  while (CLASS[text.charCodeAt(i)] === LETTER) i++;
  const next = text.charCodeAt(i);
  const isPlain =
    !(i - at === 2 && isCapital(text.charCodeAt(at))) &&
    (next === 32 || next === 44 || next === 10 || next === 59 || next === 41);
  return isPlain ? i : at;
}

function sight(kind: Kind, id: string, score: number, start: number, end: number): Sight {
  return { kind, id, score, start, end };
}

function nearOf(text: string, at: number): string {
  return text
    .slice(Math.max(0, at - NEAR_UNITS), at)
    .replace(/\\[nrtbf]/g, " ")
    .toLowerCase();
}

/**
 * Whether the word at `at` may begin a number: it has a digit, or it is two letters as of a British national
 * insurance number, or a few hexadecimal digits before a colon, a hyphen or a full stop.
 */
function mayBeNumber(text: string, at: number): boolean {
  let i = at;
  for (; i < at + WORD_FRONT_UNITS; i++) {
    const kind = CLASS[text.charCodeAt(i)];
    if (kind === DIGIT) return true;
    if (kind !== LETTER) break;
  }
  if (i - at > 4) return false;
  const next = text.charCodeAt(i);
  return (
    (i - at === 2 && next === 32 && isCapital(text.charCodeAt(at))) ||
    next === 58 ||
    next === 45 ||
    next === 46
  );
}
