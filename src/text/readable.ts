/**
 * Tells words from noise: bytes that decode to text are a message, bytes that do not are a key, a picture or an
 * identifier that happened to be spelled in base64's alphabet.
 */

/** Share of bytes that must be letters, digits, white space or usual punctuation. */
const READABLE_SHARE_MIN = 0.9;
const READABLE_BYTES_MIN = 6;

/** True for what may be the beginning of a text in UTF-8 or UTF-16; a sequence cut at the end is forgiven. */
export function isReadable(bytes: Buffer): boolean {
  const { length } = bytes;
  if (length < READABLE_BYTES_MIN) return false;
  let plain = 0;
  let zeros = 0;
  for (let i = 0; i < length; i++) {
    const byte = bytes[i]!;
    if ((byte >= 32 && byte < 127) || (byte >= 9 && byte <= 13)) plain += 1;
    else if (byte === 0) zeros += 1;
  }
  if (plain >= length * READABLE_SHARE_MIN) return true;
  if (zeros > 0) return zeros >= length * 0.4 && zeros + plain >= length * READABLE_SHARE_MIN;
  return isUtf8Words(bytes, plain);
}

/** Other scripts: lead and continuation bytes where UTF-8 has them, and nearly nothing else. */
function isUtf8Words(bytes: Buffer, plain: number): boolean {
  let sequences = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte < 0x80) continue;
    const more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
    if (more === 0 || byte > 0xf4) return false;
    for (let k = 1; k <= more && i + k < bytes.length; k++) if ((bytes[i + k]! & 0xc0) !== 0x80) return false;
    sequences += Math.min(more + 1, bytes.length - i);
    i += more;
  }
  return plain + sequences >= bytes.length * READABLE_SHARE_MIN;
}

/** The text that the bytes spell, if it is one. */
export function textOf(bytes: Buffer): string | undefined {
  const head = bytes.length > 256 ? bytes.subarray(0, 256) : bytes;
  if (!isReadable(head)) return undefined;
  let zeros = 0;
  for (const byte of head) if (byte === 0) zeros += 1;
  if (zeros < head.length * 0.4) return bytes.toString("utf8");
  return utf16Of(bytes, bytes[0] === 0 ? 1 : 0);
}

/**
 * From a copy at an even address and of whole units: where both are odd, Node (24.21) writes a byte past the array that
 * it makes, and any text in big-endian UTF-16 could bring the process down.
 */
function utf16Of(bytes: Buffer, from: number): string {
  const units = new Uint16Array((bytes.length - from) >> 1);
  const copy = Buffer.from(units.buffer);
  bytes.copy(copy, 0, from);
  return copy.toString("utf16le");
}
