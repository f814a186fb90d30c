/** Decoders for secrets whose form can be proved rather than guessed. Pure; false for anything unreadable. */

export const CHECKS = { jwt: isJwtHead, basic: isBasicCredential, random: isRandom } as const;

/** The first part decodes to JSON that names an algorithm. */
export function isJwtHead(token: string): boolean {
  const head = decode(token.slice(0, token.indexOf(".")), "base64url");
  try {
    const parsed: unknown = JSON.parse(head);
    return typeof parsed === "object" && parsed !== null && "alg" in parsed;
  } catch {
    return false;
  }
}

/** Base64 of printable text with a colon: "user:password". What is seen may be the beginning only. */
export function isBasicCredential(encoded: string): boolean {
  const text = decode(encoded.slice(0, encoded.length - (encoded.length % 4)), "base64");
  return /^[\x20-\x7e]+$/.test(text);
}

/** What a broken value counts at least, and for each unit: words and camelCase stay below, random hex lies at 0.4. */
const BREAKS_MIN = 3.5;
const BREAKS_SHARE = 0.17;

/**
 * Drawn by chance rather than made of words. Words are long runs of one case; chance breaks them: digits stand between
 * letters, and runs of one or two letters stand against digits or the other case. Dashes, dots and the like begin anew.
 */
export function isRandom(value: string): boolean {
  let breaks = 0;
  let before: UnitClass = "other";
  for (let from = 0, to = 0; from < value.length; from = to) {
    const own = classOf(value.charCodeAt(from));
    for (to = from + 1; to < value.length && classOf(value.charCodeAt(to)) === own; ) to++;
    const after = to < value.length ? classOf(value.charCodeAt(to)) : "other";
    if (own === "digit") breaks += isLetter(before) && isLetter(after) ? 1 : 0;
    else if (own === "lower") breaks += to - from <= 2 && (before !== "other" || after === "digit") ? 1 : 0;
    else if (own === "upper") breaks += to - from <= 2 && (before === "digit" || after === "digit") ? 1 : 0;
    before = own;
  }
  return breaks >= Math.max(BREAKS_MIN, BREAKS_SHARE * value.length);
}

type UnitClass = "lower" | "upper" | "digit" | "other";

function classOf(unit: number): UnitClass {
  if (unit >= 97 && unit <= 122) return "lower";
  if (unit >= 65 && unit <= 90) return "upper";
  return unit >= 48 && unit <= 57 ? "digit" : "other";
}

function isLetter(units: UnitClass): boolean {
  return units === "lower" || units === "upper";
}

function decode(text: string, encoding: "base64" | "base64url"): string {
  return Buffer.from(text, encoding).toString("latin1");
}
