/** What single units are, and where words begin, also in JSON text that is still escaped. */

export const LETTER = 1;
export const DIGIT = 2;
/** Beside letters and digits in the local part of an e-mail address. */
const LOCAL = 3;

/** What each unit is: letters are those of Latin, Greek and Cyrillic; scripts without spaces have none here. */
export const CLASS = new Uint8Array(0x10000);
for (let unit = 0; unit < 0x600; unit++) {
  const text = String.fromCharCode(unit);
  if (/\d/.test(text)) CLASS[unit] = DIGIT;
  else if (/[\p{L}\p{M}]/u.test(text)) CLASS[unit] = LETTER;
  else if (/[._%+'-]/.test(text)) CLASS[unit] = LOCAL;
}

const BACKSLASH = 92;
export const isWord = (unit: number): boolean => CLASS[unit] === LETTER || CLASS[unit] === DIGIT;
const isEscape = (unit: number): boolean =>
  unit === 110 || unit === 114 || unit === 116 || unit === 98 || unit === 102 || unit === 117;

/** In JSON text "\n" and its like are two units, and "\u00e9" six: neither belongs to the word behind it. */
function endsEscape(text: string, at: number): boolean {
  const unit = text.charCodeAt(at - 1);
  if (isEscape(unit) && unit !== 117 && text.charCodeAt(at - 2) === BACKSLASH) return true;
  return text.charCodeAt(at - 6) === BACKSLASH && /^u[0-9a-fA-F]{4}$/.test(text.slice(at - 5, at));
}

export function endsBefore(text: string, at: number): boolean {
  return at === 0 || !isWord(text.charCodeAt(at - 1)) || endsEscape(text, at);
}

export function beginsWord(text: string, at: number): boolean {
  if (text.charCodeAt(at - 1) === BACKSLASH && isEscape(text.charCodeAt(at))) return false;
  return endsBefore(text, at);
}

/** Capital letters. */
const CAPITAL = new Uint8Array(0x10000);
for (let unit = 0; unit < 0x600; unit++) if (/\p{Lu}/u.test(String.fromCharCode(unit))) CAPITAL[unit] = 1;

export const isCapital = (unit: number): boolean => CAPITAL[unit] === 1;

const OTHER_LETTERS: Readonly<Record<string, string>> = {
  ø: "o",
  ł: "l",
  đ: "d",
  ß: "ss",
  æ: "ae",
  þ: "th",
  ð: "d",
  ı: "i",
};

/** Lower case without accents. */
export function fold(word: string): string {
  const lower = word.toLowerCase();
  if (/^[a-z]*$/.test(lower)) return lower;
  return lower
    .normalize("NFD")
    .replace(/\p{M}/gu, "")
    .replace(/[øłđßæþðı]/g, (letter) => OTHER_LETTERS[letter] ?? letter);
}
