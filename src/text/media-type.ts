/**
 * What base64 holds, told by its first bytes: what a request says of its own media is the caller's word. Only the
 * head is decoded, so that the cost does not grow with the image.
 */

/** Bytes of the head that are looked at: RIFF and ISO media name their type within 16, tar within 262. */
const HEAD_BYTES = 64;
/** Base64 for it, with room for line breaks. */
const HEAD_UNITS = 256;

type Magic = readonly [type: string, offset: number, bytes: string];

/** Latin-1. Longer and rarer ones first. */
const MAGICS: readonly Magic[] = [
  ["image/png", 0, "\x89PNG\r\n\x1a\n"],
  ["image/jpeg", 0, "\xff\xd8\xff"],
  ["image/gif", 0, "GIF87a"],
  ["image/gif", 0, "GIF89a"],
  ["image/bmp", 0, "BM"],
  ["image/tiff", 0, "II*\x00"],
  ["image/tiff", 0, "MM\x00*"],
  ["application/pdf", 0, "%PDF-"],
  ["application/zip", 0, "PK\x03\x04"],
  ["application/zip", 0, "PK\x05\x06"],
  ["application/gzip", 0, "\x1f\x8b"],
  ["application/x-ole", 0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
  ["application/x-elf", 0, "\x7fELF"],
  ["application/x-msdownload", 0, "MZ"],
  ["audio/flac", 0, "fLaC"],
  ["audio/ogg", 0, "OggS"],
  ["audio/mpeg", 0, "ID3"],
  ["video/webm", 0, "\x1a\x45\xdf\xa3"],
];
const RIFF: Readonly<Record<string, string>> = { WEBP: "image/webp", WAVE: "audio/wav", "AVI ": "video/avi" };
/** The brand behind "ftyp". */
const BRANDS: readonly (readonly [brand: RegExp, type: string])[] = [
  [/^avi[fs]$/, "image/avif"],
  [/^(hei[cxms]|hev[cxms]|mif1|msf1)$/, "image/heic"],
  [/^M4[AB] $/, "audio/mp4"],
];
/** Names of one type. */
const ALIASES: Readonly<Record<string, string>> = {
  "image/jpg": "image/jpeg",
  "image/pjpeg": "image/jpeg",
  "image/heif": "image/heic",
  "audio/mp3": "audio/mpeg",
  "audio/x-wav": "audio/wav",
  "audio/wave": "audio/wav",
  "audio/vnd.wave": "audio/wav",
  "audio/opus": "audio/ogg",
  "audio/m4a": "audio/mp4",
  "audio/x-m4a": "audio/mp4",
  "audio/x-flac": "audio/flac",
  "audio/webm": "video/webm",
  "application/x-zip-compressed": "application/zip",
};
/** Formats that are one inside: an office document is a zip. */
const INSIDE: readonly (readonly [type: RegExp, holder: string])[] = [
  [
    /^application\/(vnd\.openxmlformats-officedocument\.|vnd\.oasis\.opendocument\.|epub\+zip|java-archive)/,
    "application/zip",
  ],
  [/^application\/(msword|vnd\.ms-(excel|powerpoint|outlook))$/, "application/x-ole"],
];

export type MediaKind = "image" | "audio" | "video" | "file";

export function mediaKindOf(type: string): MediaKind {
  const [top] = type.split("/");
  return top === "image" || top === "audio" || top === "video" ? top : "file";
}

/** Lower case, without parameters, one name for each type. */
export function mediaTypeNamed(text: string): string {
  const bare = text.split(";", 1)[0]!.trim().toLowerCase();
  return ALIASES[bare] ?? bare;
}

/** Undefined where no known beginning is there: plain text, or something else. */
export function sniffBase64(text: string): {
  readonly type: string | undefined;
  readonly looksLikeText: boolean;
} {
  const head = headOf(text);
  return { type: sniff(head), looksLikeText: head.length > 0 && isText(head) };
}

/** Whether bytes that look like `found` may be called `said`. */
export function mayBeCalled(said: string, found: string): boolean {
  if (said === found) return true;
  if (INSIDE.some(([type, holder]) => holder === found && type.test(said))) return true;
  // One container for both.
  return said.endsWith("/mp4") && found.endsWith("/mp4");
}

/** At most how many bytes the base64 holds; a little more where line breaks stand in it. */
export function decodedBytesMax(text: string): number {
  return Math.ceil((text.length * 3) / 4);
}

function headOf(text: string): Buffer {
  return Buffer.from(text.slice(0, HEAD_UNITS).replace(/[\r\n]/g, ""), "base64").subarray(0, HEAD_BYTES);
}

function sniff(head: Buffer): string | undefined {
  const text = head.toString("latin1");
  if (text.startsWith("RIFF")) return RIFF[text.slice(8, 12)];
  if (text.slice(4, 8) === "ftyp") {
    const brand = text.slice(8, 12);
    return BRANDS.find(([pattern]) => pattern.test(brand))?.[1] ?? "video/mp4";
  }
  const known = MAGICS.find(([, offset, bytes]) => text.startsWith(bytes, offset));
  if (known !== undefined) return known[0];
  // An MPEG audio frame: eleven bits set, a layer that exists.
  const [first = 0, second = 0] = head;
  return first === 0xff && (second & 0xe0) === 0xe0 && (second & 0x06) !== 0 ? "audio/mpeg" : undefined;
}

/** No control characters but white space; bytes above ASCII may be UTF-8. */
function isText(head: Buffer): boolean {
  return !head.some((byte) => byte < 32 && byte !== 9 && byte !== 10 && byte !== 12 && byte !== 13);
}
