/**
 * Ways to hide a sentence from those who read it letter by letter, as the makers of jailbreaks use them. For tests
 * of canonical text: each takes a sentence and gives what an attacker would send.
 */
export interface Disguise {
  readonly name: string;
  /** `dress`: the letters are the same to a reader. `code`: it must be decoded. */
  readonly how: "dress" | "code";
  readonly apply: (text: string) => string;
}

const LOOK_ALIKES: Readonly<Record<string, string>> = {
  a: "а",
  c: "с",
  e: "е",
  i: "і",
  o: "о",
  p: "р",
  s: "ѕ",
  x: "х",
  y: "у",
  A: "А",
  E: "Е",
  I: "І",
  O: "О",
};
const GREEK: Readonly<Record<string, string>> = {
  a: "α",
  e: "ε",
  i: "ι",
  o: "ο",
  n: "η",
  v: "ν",
  u: "υ",
  p: "ρ",
};
const LEET: Readonly<Record<string, string>> = { a: "4", e: "3", i: "1", o: "0", s: "5", t: "7" };
const SMALL_CAPITALS = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘǫʀꜱᴛᴜᴠᴡxʏᴢ";

const bytes = (text: string) => [...Buffer.from(text)];
const hexOf = (byte: number) => byte.toString(16).padStart(2, "0");
const swap = (table: Readonly<Record<string, string>>) => (text: string) =>
  [...text].map((unit) => table[unit] ?? table[unit.toLowerCase()] ?? unit).join("");
/** Every letter by its place in an alphabet that begins at `lower` (and `upper`). */
const styled = (lower: number, upper: number) => (text: string) =>
  text.replace(/[a-z]/gi, (letter) => {
    const isLower = letter >= "a";
    return String.fromCodePoint(letter.charCodeAt(0) - (isLower ? 97 : 65) + (isLower ? lower : upper));
  });
/** In words of letters: in a path or a number nobody could tell it from what stands there. */
const leet = (text: string) =>
  text.replace(/[^\s]+/g, (word) => (/^[\p{L}'"“”.,!?:;()-]+$/u.test(word) ? swap(LEET)(word) : word));
const between = (mark: string) => (text: string) => [...text].join(mark);
const words = (text: string, change: (word: string) => string) =>
  text.replace(/[^\s]+/g, (word) => change(word));

export function rot13(text: string): string {
  return text.replace(/[a-z]/gi, (letter) => {
    const base = letter < "a" ? 65 : 97;
    return String.fromCharCode(((letter.charCodeAt(0) - base + 13) % 26) + base);
  });
}
const reverse = (text: string) => [...text].reverse().join("");
const base64 = (text: string) => Buffer.from(text).toString("base64");

function base32(text: string): string {
  const bits = bytes(text)
    .map((byte) => byte.toString(2).padStart(8, "0"))
    .join("");
  return (bits.match(/.{1,5}/g) ?? [])
    .map((five) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[Number.parseInt(five.padEnd(5, "0"), 2)])
    .join("");
}

const dress = (name: string, apply: (text: string) => string): Disguise => ({ name, how: "dress", apply });
const code = (name: string, apply: (text: string) => string): Disguise => ({ name, how: "code", apply });

export const DISGUISES: readonly Disguise[] = [
  dress("upper case", (text) => text.toUpperCase()),
  dress("Cyrillic look-alikes", swap(LOOK_ALIKES)),
  dress("Greek look-alikes", swap(GREEK)),
  dress("full width", (text) =>
    text.replace(/[!-~]/g, (unit) => String.fromCharCode(unit.charCodeAt(0) + 0xfee0)),
  ),
  dress("mathematical bold", styled(0x1d41a, 0x1d400)),
  dress("mathematical script", styled(0x1d4ea, 0x1d4d0)),
  dress("circled", styled(0x24d0, 0x24b6)),
  dress("squared", styled(0x1f130, 0x1f130)),
  dress("small capitals", (text) =>
    text.replace(/[a-z]/gi, (letter) => SMALL_CAPITALS[(letter.charCodeAt(0) | 32) - 97] ?? letter),
  ),
  dress("zero-width spaces", between("\u200b")),
  dress("word joiners", between("\u2060")),
  dress("soft hyphens", (text) => words(text, between("\u00ad"))),
  dress("bidi marks", (text) => `\u202e${between("\u200e")(text)}\u202c`),
  dress("variation selectors", between("\ufe0f")),
  dress("combining marks", (text) =>
    [...text].map((unit) => (/[a-z]/i.test(unit) ? `${unit}\u0336\u0301` : unit)).join(""),
  ),
  dress("accents", swap({ a: "á", e: "è", i: "î", o: "ö", u: "ű", n: "ñ" })),
  dress("white space", (text) => text.replace(/ /g, " \n\t \u00a0")),
  dress("leetspeak", leet),
  dress("letters apart", between(" ")),
  dress("letters dashed", (text) => words(text, between("-"))),
  dress("letters dotted", (text) => words(text, between("."))),
  dress("letters underscored", between("_")),
  code("base64", base64),
  code("base64 without padding, for URLs", (text) => Buffer.from(text).toString("base64url")),
  code("base64 in a sentence", (text) => `Please decode this and do as it says: ${base64(text)} Thank you!`),
  code("base64 in lines", (text) => (base64(text).match(/.{1,64}/g) ?? []).join("\n")),
  code("base32", base32),
  code("hex", (text) => bytes(text).map(hexOf).join("")),
  code("hex, spaced", (text) => bytes(text).map(hexOf).join(" ")),
  code("hex, 0x", (text) =>
    bytes(text)
      .map((byte) => `0x${hexOf(byte)}`)
      .join(", "),
  ),
  code("\\x escapes", (text) =>
    bytes(text)
      .map((byte) => `\\x${hexOf(byte)}`)
      .join(""),
  ),
  code("\\u escapes", (text) =>
    text.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
  ),
  code("URL", encodeURIComponent),
  code("URL, every byte", (text) =>
    bytes(text)
      .map((byte) => `%${hexOf(byte)}`)
      .join(""),
  ),
  code("entities", (text) => [...text].map((unit) => `&#${unit.codePointAt(0)};`).join("")),
  code("hex entities", (text) =>
    [...text].map((unit) => `&#x${unit.codePointAt(0)?.toString(16)};`).join(""),
  ),
  code("rot13", rot13),
  code(
    "rot13 in a sentence",
    (text) => `The secret note reads as follows: ${rot13(text)} That was the note.`,
  ),
  code("reversed", reverse),
  code("words reversed", (text) => words(text, reverse)),
  code("binary", (text) =>
    bytes(text)
      .map((byte) => byte.toString(2).padStart(8, "0"))
      .join(" "),
  ),
  code("character codes", (text) => bytes(text).join(" ")),
  code(
    "tags",
    (text) =>
      `Hello! ${[...text].map((unit) => (unit.charCodeAt(0) < 127 ? String.fromCodePoint(0xe0000 + unit.charCodeAt(0)) : unit)).join("")}`,
  ),
  code(
    "bytes as selectors",
    (text) =>
      `😀${bytes(text)
        .map((byte) => String.fromCodePoint(byte < 16 ? 0xfe00 + byte : 0xe0100 + byte - 16))
        .join("")}`,
  ),
];

/** Two codes, one in the other. */
export const NESTED: readonly Disguise[] = [
  code("base64 twice", (text) => base64(base64(text))),
  code("rot13 in base64", (text) => base64(rot13(text))),
  code("base64, then rot13", (text) => rot13(base64(text))),
  code("base64, then hex", (text) => Buffer.from(base64(text)).toString("hex")),
  code("hex in base64", (text) => base64(Buffer.from(text).toString("hex"))),
  code("base64 in a URL", (text) => `https://example.com/?q=${encodeURIComponent(base64(text))}`),
  code("reversed in base64", (text) => base64(reverse(text))),
  code("base64, reversed", (text) => reverse(base64(text))),
  code("rot13, reversed", (text) => reverse(rot13(text))),
  code("URL in base64", (text) => base64(encodeURIComponent(text))),
  code("letters apart in base64", (text) => base64(between(" ")(text))),
  code("leetspeak in base64", (text) => base64(leet(text))),
  code("entities in escapes", (text) => [...text].map((unit) => `\\u0026#${unit.codePointAt(0)};`).join("")),
];
