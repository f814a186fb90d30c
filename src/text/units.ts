/** A text changed unit by unit, without a string for each: at 3 ns a unit, a megabyte takes no longer than a scan of it. */

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
