/**
 * Check digits and birth dates of numbers that name persons, cards and accounts. Every function takes the
 * number without separators, letters in upper case, and is pure. Weights are those of the issuing authorities.
 */

const at = (digits: string, index: number): number => digits.charCodeAt(index) - 48;

function weighted(digits: string, weights: readonly number[]): number {
  return weights.reduce((sum, weight, index) => sum + weight * at(digits, index), 0);
}

/** ISO/IEC 7812-1, annex B. */
export function luhn(digits: string): boolean {
  let sum = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = at(digits, digits.length - 1 - i);
    sum += i % 2 === 0 ? digit : digit > 4 ? digit * 2 - 9 : digit * 2;
  }
  return sum % 10 === 0;
}

/** ISO 13616: the first four units go to the end, letters count as 10 to 35, and the rest by 97 is 1. */
export function mod97(iban: string): boolean {
  let rest = 0;
  for (const unit of iban.slice(4) + iban.slice(0, 4)) {
    const value = Number.parseInt(unit, 36);
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97;
  }
  return rest === 1;
}

/** Whether there is such a day; the century is not known, so 29 February stands in any even year. */
function isDay(year: number, month: number, day: number): boolean {
  if (month < 1 || month > 12 || day < 1) return false;
  const last = month === 2 ? (year % 4 === 0 ? 29 : 28) : [4, 6, 9, 11].includes(month) ? 30 : 31;
  return day <= last;
}

const two = (text: string, index: number): number => Number(text.slice(index, index + 2));

/** Issuers' prefixes and lengths; the longest prefix comes first. */
const BRANDS: readonly (readonly [RegExp, readonly number[]])[] = [
  [/^3[47]/, [15]],
  [/^(?:30[0-5]|309|36|3[89])/, [14, 16, 17, 18, 19]],
  [/^(?:352[89]|35[3-8])/, [16, 17, 18, 19]],
  [/^4/, [13, 16, 19]],
  [/^(?:5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]],
  [/^(?:6011|64[4-9]|65|62|81)/, [16, 17, 18, 19]],
  [/^(?:50|5[6-9]|60|63|67)/, [13, 14, 15, 16, 17, 18, 19]],
  [/^220[0-4]/, [16, 17, 18, 19]],
];

function card(digits: string): boolean {
  if (/^(\d)\1+$/.test(digits)) return false;
  return (
    BRANDS.some(([prefix, lengths]) => lengths.includes(digits.length) && prefix.test(digits)) && luhn(digits)
  );
}

/** Area, group and serial as the Social Security Administration hands them out; there is no check digit. */
function ssn(digits: string): boolean {
  return !/^(?:000|666|9)|^.{3}00|0000$/.test(digits) && digits !== "078051120" && digits !== "123456789";
}

const DNI = "TRWAGMYFPDXBNJZSQVHLCKE";
function dni(number: string): boolean {
  const digits = number.slice(0, -1).replace(/^[XYZ]/, (letter) => String("XYZ".indexOf(letter)));
  return number.at(-1) === DNI[Number(digits) % 23];
}

/** Values of the units in odd places (the first is odd), by 0-9 and A-Z. */
const CODICE_ODD = [
  1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
];
function codiceFiscale(code: string): boolean {
  let sum = 0;
  for (let i = 0; i < 15; i++) {
    const unit = code.charCodeAt(i);
    const value = unit < 58 ? unit - 48 : unit - 65;
    sum += i % 2 === 0 ? CODICE_ODD[value]! : value;
  }
  return code.charCodeAt(15) - 65 === sum % 26;
}

function nir(number: string): boolean {
  const digits = number.replace("2A", "19").replace("2B", "18");
  return Number(97n - (BigInt(digits.slice(0, 13)) % 97n)) === Number(digits.slice(13));
}

/** ISO 7064 mod 11,10; of the first ten digits exactly one comes two or three times. */
function steuerId(digits: string): boolean {
  const counts = new Map<string, number>();
  for (const digit of digits.slice(0, 10)) counts.set(digit, (counts.get(digit) ?? 0) + 1);
  const repeated = [...counts.values()].filter((count) => count > 1);
  if (repeated.length !== 1 || repeated[0]! > 3 || digits[0] === "0") return false;
  let product = 10;
  for (let i = 0; i < 10; i++) {
    const sum = (at(digits, i) + product) % 10 || 10;
    product = (sum * 2) % 11;
  }
  return (11 - product) % 10 === at(digits, 10);
}

function bsn(digits: string): boolean {
  return Number(digits) > 0 && weighted(digits, [9, 8, 7, 6, 5, 4, 3, 2, -1]) % 11 === 0;
}

function rijksregister(digits: string): boolean {
  if (!isDay(two(digits, 0), two(digits, 2) % 20, two(digits, 4))) return false;
  const body = Number(digits.slice(0, 9));
  const check = two(digits, 9);
  return 97 - (body % 97) === check || 97 - ((body + 2_000_000_000) % 97) === check;
}

function pesel(digits: string): boolean {
  if (!isDay(two(digits, 0), two(digits, 2) % 20, two(digits, 4))) return false;
  return weighted(digits, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]) % 10 === 0;
}

function personnummer(digits: string): boolean {
  const ten = digits.slice(-10);
  const day = two(ten, 4);
  return isDay(two(ten, 0), two(ten, 2), day > 60 ? day - 60 : day) && luhn(ten);
}

const HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY";
function hetu(number: string): boolean {
  if (!isDay(two(number, 4), two(number, 2), two(number, 0))) return false;
  return HETU[Number(number.slice(0, 6) + number.slice(7, 10)) % 31] === number[10];
}

function fodselsnummer(digits: string): boolean {
  const day = two(digits, 0);
  if (!isDay(two(digits, 4), two(digits, 2), day > 40 ? day - 40 : day)) return false;
  return (
    weighted(digits, [3, 7, 6, 1, 8, 9, 4, 5, 2, 1]) % 11 === 0 &&
    weighted(digits, [5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]) % 11 === 0
  );
}

function cpf(digits: string): boolean {
  if (/^(\d)\1+$/.test(digits)) return false;
  const first = ((weighted(digits, [10, 9, 8, 7, 6, 5, 4, 3, 2]) * 10) % 11) % 10;
  const second = ((weighted(digits, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) * 10) % 11) % 10;
  return first === at(digits, 9) && second === at(digits, 10);
}

function rut(number: string): boolean {
  let sum = 0;
  for (let i = 0; i < number.length - 1; i++) sum += at(number, number.length - 2 - i) * (2 + (i % 6));
  return "0K987654321"[sum % 11] === number.at(-1);
}

function residentId(number: string): boolean {
  if (!isDay(Number(number.slice(6, 10)), two(number, 10), two(number, 12))) return false;
  if (!/^(?:19|20)/.test(number.slice(6))) return false;
  const sum = weighted(number, [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
  return "10X98765432"[sum % 11] === number[17];
}

/** Verhoeff's tables: products in the dihedral group of order ten, and the permutation by place. */
const DIHEDRAL =
  "0123456789123406789523401789563401289567401239567859876043216598710432765982104387659321049876543210";
const PERMUTED = "01234567891576283094580379614289160435279453126870428657390127938064157046913258";
function aadhaar(digits: string): boolean {
  let check = 0;
  for (let i = 0; i < digits.length; i++) {
    const moved = at(PERMUTED, (i % 8) * 10 + at(digits, digits.length - 1 - i));
    check = at(DIHEDRAL, check * 10 + moved);
  }
  return check === 0;
}

function southAfrica(digits: string): boolean {
  return isDay(two(digits, 0), two(digits, 2), two(digits, 4)) && at(digits, 10) < 2 && luhn(digits);
}

function nhs(digits: string): boolean {
  return weighted(digits, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]) % 11 === 0 && !/^(\d)\1+$/.test(digits);
}

/** Prefixes that are not given out; there is no check digit. */
function nino(number: string): boolean {
  return !/^(?:BG|GB|KN|NK|NT|TN|ZZ)/.test(number);
}

function residentRegistration(digits: string): boolean {
  if (!isDay(two(digits, 0), two(digits, 2), two(digits, 4))) return false;
  const sum = weighted(digits, [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
  return (11 - (sum % 11)) % 10 === at(digits, 12);
}

function kimlik(digits: string): boolean {
  const sum = (places: readonly number[]) => places.reduce((total, place) => total + at(digits, place), 0);
  const tenth = (sum([0, 2, 4, 6, 8]) * 7 - sum([1, 3, 5, 7]) + 100) % 10;
  return (
    digits[0] !== "0" &&
    tenth === at(digits, 9) &&
    sum([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) % 10 === at(digits, 10)
  );
}

function octets(address: string): boolean {
  const parts = address.split(".");
  return (
    parts.length === 4 && parts.every((octet) => Number(octet) < 256 && (octet === "0" || octet[0] !== "0"))
  );
}

/** Six octets (more are a fingerprint); all zeros and all ones name no device. */
function mac(digits: string): boolean {
  return digits.length === 12 && !/^(?:0+|F+)$/.test(digits);
}

export const CHECKS = {
  card,
  luhn,
  octets,
  mac,
  ssn,
  dni,
  "codice-fiscale": codiceFiscale,
  nir,
  "steuer-id": steuerId,
  bsn,
  rijksregister,
  pesel,
  personnummer,
  hetu,
  fodselsnummer,
  cpf,
  rut,
  "resident-id": residentId,
  aadhaar,
  "south-africa": southAfrica,
  nhs,
  nino,
  "resident-registration": residentRegistration,
  kimlik,
} as const;
