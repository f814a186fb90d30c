/**
 * A short word as two numbers that no other word has: 12 letters at most, 5 bits each, so that what was worked out of
 * a word can be kept in a table and found without a hash that somebody could collide with. Whoever walks a text makes
 * the key as it goes:
 *
 *   high = (high << 5) | (low >>> 25);  low = ((low << 5) & HALF_MASK) | letterCode[unit]
 */

/** Letters of a word that has a key. */
export const LETTERS_MAX = 12;
/** The half of a key that holds the last six letters. */
export const HALF_MASK = 2 ** 30 - 1;

/** By UTF-16 unit: 1..28 for a-z, "'" and "_"; 0 for what no key holds. */
export const letterCode = new Uint8Array(0x10000);
for (const [i, letter] of [..."abcdefghijklmnopqrstuvwxyz'_"].entries())
  letterCode[letter.charCodeAt(0)] = i + 1;

/** A slot's number, of `bits` bits, for the word with this key. */
export function slotOf(low: number, high: number, bits: number): number {
  return (Math.imul(low, 0x9e3779b1) + Math.imul(high, 0x85ebca6b)) >>> (32 - bits);
}
