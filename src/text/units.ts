/**
 * A text unit by unit. Read through a typed array, as asking a string for each of its units costs twice as much as
 * copying it and reading the copy; changed without a string for each unit. At 3 ns a unit and less, a megabyte takes no
 * longer than a scan of it.
 */

/** Longest text whose copy stays for the next one to be written over; a longer one has an array of its own. */
const KEPT_UNITS_MAX = 1 << 16;

/** Below this many units asking for each costs less than the call that copies them. */
const SHORT_UNITS = 48;

const kept = new Uint16Array(KEPT_UNITS_MAX + 1);
const keptBytes = Buffer.from(kept.buffer);

/**
 * The units of text [start, end) from index 0 on, and at least one cell behind them that holds anything. One array for
 * all texts: it holds these units until the next call, so nobody keeps it or calls what may read another text.
 */
export function unitsOf(text: string, start = 0, end = text.length): Uint16Array {
  const part = start === 0 && end === text.length ? text : text.slice(start, end);
  if (part.length < SHORT_UNITS) {
    for (let i = 0; i < part.length; i++) kept[i] = part.charCodeAt(i);
    return kept;
  }
  if (part.length <= KEPT_UNITS_MAX) {
    keptBytes.write(part, 0, part.length * 2, "utf16le");
    return kept;
  }
  const own = new Uint16Array(part.length + 1);
  Buffer.from(own.buffer).write(part, "utf16le");
  return own;
}

const TURNED = new Uint16Array(0x10000);
for (let unit = 0; unit < 0x10000; unit++) TURNED[unit] = unit;
for (let i = 0; i < 26; i++) {
  TURNED[97 + i] = 97 + ((i + 13) % 26);
  TURNED[65 + i] = 65 + ((i + 13) % 26);
}

/** rot13. */
export function turned(text: string): string {
  const made = new Uint16Array(text.length);
  for (let i = 0; i < text.length; i++) made[i] = TURNED[text.charCodeAt(i)]!;
  return textOf(made);
}

/** From its end; units that come in pairs stay in order. */
export function backwards(text: string): string {
  const { length } = text;
  const made = new Uint16Array(length);
  for (let i = 0; i < length; i++) made[length - 1 - i] = text.charCodeAt(i);
  for (let i = 0; i + 1 < length; i++) {
    const low = made[i]!;
    const high = made[i + 1]!;
    if ((low & 0xfc00) !== 0xdc00 || (high & 0xfc00) !== 0xd800) continue;
    made[i] = high;
    made[i + 1] = low;
    i += 1;
  }
  return textOf(made);
}

function textOf(units: Uint16Array<ArrayBuffer>): string {
  return Buffer.from(units.buffer, 0, units.length * 2).toString("utf16le");
}
