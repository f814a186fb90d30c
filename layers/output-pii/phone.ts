/**
 * Phone numbers. Where one may begin, its digits and separators are read; the longest front that ends with a group
 * and that something speaks for is the number: a country code that libphonenumber knows, a word before or after, a
 * number that is valid in a region of the configuration, or a grouping that hardly anything else has.
 */
import { type CountryCode, isSupportedCountry, parsePhoneNumberFromString } from "libphonenumber-js/min";
import { FAILS, matchAt, readPattern, WAITS } from "./partial.ts";

/** ITU-T E.164. */
const DIGITS_MAX = 15;
const DIGITS_MIN = 7;
/** The shortest that a word before it makes a phone number. */
const DIGITS_MIN_NEAR = 6;
export const PHONE_UNITS_MAX = 40;

export function isRegion(region: string): region is CountryCode {
  return isSupportedCountry(region);
}

export interface PhoneRules {
  readonly regions: readonly CountryCode[];
  /** A word that announces one, in the text before in lower case. */
  readonly near: RegExp;
  /** A word behind it. */
  readonly after: RegExp;
}

interface Run {
  /** Where each group of digits (with its parenthesis) ends. */
  readonly ends: readonly number[];
  readonly digits: number;
  readonly waits: boolean;
}

const EXTENSION = readPattern(" ?(?:x|ext\\.?|#) ?\\d{1,6}", true);
/** Longest of what `after` may name, with its separator. */
const AFTER_UNITS = 9;

const GROUPS_MAX = 7;
/** Fronts of one run about which libphonenumber is asked. */
const TRIED_MAX = 2;

const isDigit = (unit: number): boolean => unit >= 48 && unit <= 57;

/** Space, no-break space, hyphens, full stop and slash may stand between groups, two in a row at most. */
function isSeparator(unit: number): boolean {
  return (
    unit === 32 ||
    unit === 45 ||
    unit === 46 ||
    unit === 47 ||
    unit === 0xa0 ||
    (unit >= 0x2010 && unit <= 0x2013)
  );
}

function readRun(text: string, at: number, open: boolean): Run {
  const limit = Math.min(text.length, at + PHONE_UNITS_MAX);
  const ends: number[] = [];
  let digits = 0;
  let separators = 0;
  let inside = false;
  let i = text[at] === "+" ? at + 1 : at;
  for (; i < limit; i++) {
    const unit = text.charCodeAt(i);
    if (isDigit(unit)) {
      if (digits++ === DIGITS_MAX) return { ends, digits, waits: false };
      separators = 0;
      if (i + 1 === limit || !isDigit(text.charCodeAt(i + 1))) {
        if (!inside && ends.push(i + 1) === GROUPS_MAX)
          return { ends, digits, waits: open && i + 1 === text.length };
      }
    } else if (unit === 40 && !inside) inside = true;
    else if (unit === 41 && inside) {
      inside = false;
      separators = 0;
      ends.push(i + 1);
    } else if (unit === 43 && inside && text.charCodeAt(i - 1) === 40) continue;
    else if (!inside && isSeparator(unit) && separators < 2 && digits > 0) separators += 1;
    else break;
  }
  return { ends, digits, waits: open && i === text.length };
}

/** The end of the number that begins at `at`, FAILS or WAITS. `nearOf` gives the text before it, in lower case. */
export function phoneAt(
  rules: PhoneRules,
  text: string,
  at: number,
  open: boolean,
  nearOf: (text: string, at: number) => string,
): number {
  const { ends, digits: all, waits } = readRun(text, at, open);
  if (waits) return WAITS;
  if (ends.length === 0 || all < DIGITS_MIN_NEAR) return FAILS;
  const before = nearOf(text, at);
  const isAnnounced = rules.near.test(before);
  // What libphonenumber is asked about costs 100 times the rest: not again for each place in a row of numbers.
  const isFirst = !/[\d)][ .\-/]{1,2}$/.test(before);
  let tried = 0;
  for (let i = ends.length - 1; i >= 0; i--) {
    const end = ends[i]!;
    if (/[0-9A-Za-z]/.test(text[end] ?? "") && !/^x/i.test(text.slice(end, end + 1))) continue;
    const written = text.slice(at, end);
    const digits = written.replace(/\D/g, "");
    if (digits.length < DIGITS_MIN_NEAR || digits.length > DIGITS_MAX) continue;
    const extended = matchAt(EXTENSION, text, end, open);
    if (extended === WAITS) return WAITS;
    const to = Math.max(end, extended);
    if (isPhone(written, digits, isAnnounced || extended > 0)) return to;
    if (isFirst && tried++ < TRIED_MAX && isNational(rules, written, digits)) return to;
    if (open && text.length < to + AFTER_UNITS && /^[ -]{0,2}[a-z]*$/i.test(text.slice(to))) return WAITS;
    if (digits.length >= DIGITS_MIN && rules.after.test(text.slice(to, to + AFTER_UNITS))) return to;
  }
  return FAILS;
}

/** Announced, these are groups of a number. */
const THOUSANDS = /^\d{1,3}(?:[. ]\d{3})+$/;
/** Dates, sums in thousands and numbers with a fraction. */
const OTHERWISE =
  /^(?:(?:19|20)\d\d[-./ ]\d\d?[-./ ]\d\d?.*|\d\d?[-./]\d\d?[-./](?:19|20)?\d\d|(?:19|20)\d\d ?[-/\u2010-\u2013] ?(?:19|20)?\d\d|\d{1,3}(?:[. ]\d{3})+|\d+\.\d+|\d{1,3}(?:\.\d{1,3}){3}|97[89][- ](?:\d[- ]?){10}|\d{5}-\d{4})$/;
/** North American, with a trunk zero, or an area in parentheses: groupings that are phone numbers' own. */
const GROUPED =
  /^(?:(?:\+?1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}|0\d{1,4}[-. /]\d{2,4}(?:[-. ]?\d{2,4}){1,4}|0\d{1,4}[-/]\d{5,8}|\(0?\d{1,4}\)[ -]?\d{3,4}[- ]?\d{3,5}|\d{2}(?:-\d{2}){3})$/;

function isPhone(written: string, digits: string, isAnnounced: boolean): boolean {
  if (written.startsWith("+") || written.startsWith("00")) {
    const number = parsePhoneNumberFromString(`+${digits.replace(/^00/, "")}`);
    if (number?.isPossible()) return true;
  }
  if (isAnnounced) return THOUSANDS.test(written) || !OTHERWISE.test(written);
  return digits.length > DIGITS_MIN && GROUPED.test(written) && !OTHERWISE.test(written);
}

/** Valid in one of the regions, and written in groups of two digits at least, but for the first. */
function isNational(rules: PhoneRules, written: string, digits: string): boolean {
  if (digits.length < DIGITS_MIN || OTHERWISE.test(written)) return false;
  if (!/^\(?\d+(?:[^\d]+\d\d+){1,5}$/.test(written)) return false;
  return rules.regions.some((region) => parsePhoneNumberFromString(digits, region)?.isValid() ?? false);
}
