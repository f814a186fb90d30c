/**
 * Finds what is encoded in a text, and says what would stand in its place. Each finder takes a folded text (its
 * case kept) and yields patches, in order and without overlap; views.ts lays them over the text. A finder runs
 * only where the scan saw evidence, is linear, and never throws: what does not decode to words is left alone.
 */
import type { Patch } from "./lay.ts";
import { isReadable, textOf } from "./readable.ts";
import { AMPERSAND, BACKSLASH, type Evidence, MORSE, PERCENT, PLUS, type Region } from "./scan.ts";
import { reversedPatches, reversedWordPatches, rot13Patches } from "./turned.ts";
import { backwards, turned } from "./units.ts";
import { leetPatches, spacedPatches } from "./words.ts";

/** Steps that can lead to a view; each is also a view's kind. */
export const STEPS = [
  "spaced",
  "leet",
  "rot13",
  "reversed",
  "base64",
  "base32",
  "hex",
  "binary",
  "decimal",
  "url",
  "escape",
  "entity",
  "morse",
  "tag",
  "selector",
] as const;
export type Step = (typeof STEPS)[number];

export interface Finder {
  readonly step: Step;
  /** Whether the scan saw anything that is worth a look. */
  isWorth(evidence: Evidence): boolean;
  find(text: string, evidence: Evidence): Patch[];
}

const sees = (bit: number) => (evidence: Evidence) => (evidence.seen & bit) !== 0;

/** Cheap ones first: under a budget, the first are sure to be tried. */
export const FINDERS: readonly Finder[] = [
  {
    step: "base64",
    isWorth: hasRuns,
    find: (text, { runs }) => within(text, wrapped(text, runs), BASE64, base64Text),
  },
  { step: "url", isWorth: sees(PERCENT), find: urlPatches },
  { step: "escape", isWorth: sees(BACKSLASH), find: (text) => matches(text, ESCAPES, escapedText) },
  { step: "entity", isWorth: sees(AMPERSAND), find: (text) => matches(text, ENTITIES, entityText) },
  {
    step: "spaced",
    isWorth: ({ singles }) => singles.length > 0,
    find: (text, { singles }) => spacedPatches(text, singles),
  },
  {
    step: "rot13",
    isWorth: ({ rot13 }) => rot13.length > 0,
    find: (text, { rot13 }) => rot13Patches(text, rot13),
  },
  { step: "reversed", isWorth: isReversed, find: (text, { reversed }) => reversedPatches(text, reversed) },
  {
    step: "reversed",
    isWorth: isReversed,
    find: (text, { reversed }) => reversedWordPatches(text, reversed),
  },
  { step: "hex", isWorth: hasRuns, find: (text, { runs }) => within(text, runs, HEX, hexText) },
  { step: "hex", isWorth: hasCodes, find: (text, { codes }) => within(text, codes, SPACED_HEX, hexText) },
  { step: "base32", isWorth: hasRuns, find: (text, { runs }) => within(text, runs, BASE32, base32Text) },
  {
    step: "leet",
    isWorth: ({ leet }) => leet.length > 0,
    find: (text, { leet }) => leetPatches(text, leet, { fits: false }),
  },
  {
    step: "leet",
    isWorth: ({ leet }) => leet.length > 0,
    find: (text, { leet }) => leetPatches(text, leet, { fits: true }),
  },
  { step: "binary", isWorth: hasRuns, find: (text, { runs }) => within(text, runs, BINARY, binaryText) },
  { step: "binary", isWorth: hasCodes, find: (text, { codes }) => within(text, codes, BINARY, binaryText) },
  {
    step: "decimal",
    isWorth: hasCodes,
    find: (text, { codes }) => within(text, codes, DECIMAL, decimalText),
  },
  { step: "morse", isWorth: sees(MORSE), find: (text) => matches(text, MORSE_CODE, morseText) },
];

function hasRuns({ runs }: Evidence): boolean {
  return runs.length > 0;
}
function hasCodes({ codes }: Evidence): boolean {
  return codes.length > 0;
}
function isReversed({ reversed }: Evidence): boolean {
  return reversed.length > 0;
}

/** As `matches`, in these regions alone. */
function within(
  text: string,
  regions: readonly Region[],
  pattern: RegExp,
  decode: (match: string) => string | undefined,
): Patch[] {
  const patches: Patch[] = [];
  for (const { start, end } of regions) {
    for (const patch of matches(text.slice(start, end), pattern, decode))
      patches.push({ start: patch.start + start, end: patch.end + start, text: patch.text });
  }
  return patches;
}

/** Least length of a line that is wrapped, and of what may follow it. */
const WRAPPED_UNITS_MIN = 40;
const RUN_UNIT = /[A-Za-z0-9+/=_-]/;

/** Runs with the lines that go on below them. */
function wrapped(text: string, runs: readonly Region[]): Region[] {
  const whole: Region[] = [];
  for (const run of runs) {
    const last = whole.at(-1);
    if (last !== undefined && run.start < last.end) continue;
    let { end } = run;
    let line = end - run.start;
    while (line >= WRAPPED_UNITS_MIN) {
      let next = end;
      if (text[next] === "\r") next += 1;
      if (text[next] !== "\n") break;
      const from = next + 1;
      next = from;
      while (RUN_UNIT.test(text[next] ?? "")) next += 1;
      if (next === from) break;
      line = next - from;
      end = next;
    }
    whole.push({ start: run.start, end });
  }
  return whole;
}

/** One patch for each match of `pattern` that `decode` makes sense of. */
function matches(text: string, pattern: RegExp, decode: (match: string) => string | undefined): Patch[] {
  const patches: Patch[] = [];
  pattern.lastIndex = 0;
  for (let found = pattern.exec(text); found !== null; found = pattern.exec(text)) {
    const decoded = decode(found[0]);
    if (decoded !== undefined)
      patches.push({ start: found.index, end: found.index + found[0].length, text: decoded });
  }
  return patches;
}

/** Wrapped in lines or not, in either alphabet. */
const BASE64 = /[A-Za-z0-9+/_-]{16,}(?:\r?\n[A-Za-z0-9+/_-]+)*={0,2}/g;

function base64Text(match: string): string | undefined {
  return (
    base64Bytes(match) ??
    base64Bytes(match.slice(match.lastIndexOf("/") + 1)) ??
    // Neither rot13 nor a reversal of base64 looks like English before base64 is undone.
    base64Bytes(turned(match.length > BASE64_TURNED_MAX ? match.slice(0, BASE64_TURNED_MAX) : match)) ??
    (match.length > BASE64_TURNED_MAX ? undefined : base64Bytes(backwards(match)))
  );
}

/** Longest run that is also tried turned and backwards. */
const BASE64_TURNED_MAX = 4096;

/** Buffer reads both alphabets, and skips the ends of lines. */
function base64Bytes(match: string): string | undefined {
  if (match.length < 16) return undefined;
  // Most long runs are identifiers and paths: a look at their first bytes tells.
  if (!isReadable(Buffer.from(match.slice(0, 64), "base64"))) return undefined;
  return textOf(Buffer.from(match, "base64"));
}

const BASE32 = /[A-Z2-7]{16,}={0,6}|[a-z2-7]{24,}={0,6}/g;
const BASE32_VALUES = new Int8Array(128).fill(-1);
[..."abcdefghijklmnopqrstuvwxyz234567"].forEach((letter, value) => {
  BASE32_VALUES[letter.charCodeAt(0)] = value;
  BASE32_VALUES[letter.toUpperCase().charCodeAt(0)] = value;
});

function base32Text(match: string): string | undefined {
  const bytes: number[] = [];
  let held = 0;
  let bits = 0;
  for (let i = 0; i < match.length; i++) {
    const value = BASE32_VALUES[match.charCodeAt(i)]!;
    if (value < 0) break;
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((held >> bits) & 0xff);
    if (bytes.length === 12 && !isReadable(Buffer.from(bytes))) return undefined;
  }
  return textOf(Buffer.from(bytes));
}

/** "69676e"; and "69 67 6e", "0x69, 0x67", "69:67:6e". "\x69" is an escape. */
const HEX = /(?:[0-9a-fA-F]{2}){6,}/g;
const SPACED_HEX = /(?:0x)?[0-9a-fA-F]{2}(?:[ ,:;\n]{1,2}(?:0x)?[0-9a-fA-F]{2}){5,}/g;

function hexText(match: string): string | undefined {
  const digits = match.replace(/0x|[^0-9a-fA-F]/g, "");
  if (!isReadable(Buffer.from(digits.slice(0, 48), "hex"))) return undefined;
  return textOf(Buffer.from(digits, "hex"));
}

const BINARY = /[01]{7,8}(?:[ ,\n-]{0,2}[01]{7,8}){3,}/g;

function binaryText(match: string): string | undefined {
  const groups = /[^01]/.test(match) ? match.split(/[^01]+/) : (match.match(/[01]{8}/g) ?? []);
  return textOf(Buffer.from(groups.map((bits) => Number.parseInt(bits, 2))));
}

/** Character codes: "105 103 110 111". */
const DECIMAL = /\b\d{2,3}(?:[ ,;\n]{1,2}\d{2,3}){5,}\b/g;

function decimalText(match: string): string | undefined {
  const codes = match.split(/\D+/).map(Number);
  return codes.some((code) => code > 255) ? undefined : textOf(Buffer.from(codes));
}

const ESCAPES =
  /(?:\\u\{[0-9a-fA-F]{1,6}\}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\x[0-9a-fA-F]{2}|\\[0-3][0-7]{2}|\\[nrtbf"'/\\])+/g;
const ESCAPE = /\\(?:u\{([0-9a-fA-F]+)\}|[uUx]([0-9a-fA-F]+)|([0-3][0-7]{2})|(.))/g;

/** Bytes beyond ASCII, which may be parts of characters. */
const BYTES = /(?:\\x[0-9a-fA-F]{2})*\\x[89a-fA-F][0-9a-fA-F](?:\\x[0-9a-fA-F]{2})*/g;

function escapedText(match: string): string {
  const whole = match.replace(BYTES, (bytes) =>
    Buffer.from(bytes.replaceAll("\\x", ""), "hex").toString("utf8"),
  );
  return whole.replace(ESCAPE, (_, braced?: string, hex?: string, octal?: string, letter?: string) => {
    if (letter !== undefined) return "nrtbf".includes(letter) ? "\n" : letter;
    return pointText(
      octal === undefined ? Number.parseInt(braced ?? hex ?? "", 16) : Number.parseInt(octal, 8),
    );
  });
}

const ENTITIES = /(?:&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});?)+/g;
const ENTITY = /&(?:#(\d+)|#[xX]([0-9a-fA-F]+)|([a-zA-Z]+));?/g;
const NAMED: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: " ",
  colon: ":",
  comma: ",",
  period: ".",
  excl: "!",
  num: "#",
  lpar: "(",
  rpar: ")",
  lsqb: "[",
  rsqb: "]",
  newline: "\n",
  tab: "\t",
  shy: "",
  zwnj: "",
  zwj: "",
};

function entityText(match: string): string | undefined {
  const text = match.replace(ENTITY, (whole: string, decimal?: string, hex?: string, name?: string) => {
    if (name !== undefined) return NAMED[name.toLowerCase()] ?? whole;
    return pointText(decimal === undefined ? Number.parseInt(hex ?? "", 16) : Number(decimal));
  });
  return text === match ? undefined : text;
}

function pointText(point: number): string {
  return point <= 0x10ffff ? String.fromCodePoint(point) : "";
}

/** Escapes by runs, so that bytes of one character stay together; "+" is a space where there are escapes. */
function urlPatches(text: string, { seen }: Evidence): Patch[] {
  const pattern = (seen & PLUS) === 0 ? /(?:%[0-9a-fA-F]{2})+/g : /(?:%[0-9a-fA-F]{2})+|\+/g;
  const patches = matches(text, pattern, (match) =>
    match === "+" ? " " : Buffer.from(match.replaceAll("%", ""), "hex").toString("utf8"),
  );
  return patches.some((patch) => patch.end - patch.start > 1) ? patches : [];
}

const MORSE_CODE = /[.\-_]{1,6}(?:[ /|\n]{1,3}[.\-_]{1,6}){4,}/g;
const MORSE_LETTERS = new Map(
  "a.- b-... c-.-. d-.. e. f..-. g--. h.... i.. j.--- k-.- l.-.. m-- n-. o--- p.--. q--.- r.-. s... t- u..- v...- w.-- x-..- y-.-- z--.. 0----- 1.---- 2..--- 3...-- 4....- 5..... 6-.... 7--... 8---.. 9----. ..-.-.- ,--..-- ?..--.. '.----. !-.-.-- :---... --....-"
    .split(" ")
    .map((entry) => [entry.slice(1), entry[0]!] as const),
);

function morseText(match: string): string | undefined {
  let unknown = 0;
  const words = match.split(/ ?[/|\n] ?| {2,}/).map((word) =>
    word
      .split(" ")
      .map((code) => {
        const letter = MORSE_LETTERS.get(code.replaceAll("_", "-"));
        if (letter === undefined) unknown += 1;
        return letter ?? "";
      })
      .join(""),
  );
  const text = words.join(" ");
  return unknown * 4 > text.length || !/[a-z].*[a-z].*[a-z]/.test(text) ? undefined : text;
}
