/**
 * How recorded content lies on disk: what people wrote to a model, so always encrypted (AES-256-GCM), in segments
 * that are deleted whole when their time is over. Reader and writer share this, nothing else.
 *
 *   <20 digits>.content = header | batch | batch | ...
 *   header  "SPCONT1\n" 8 | id of the key 8 | made, ms since the epoch 8 | random 8
 *   batch   length 4 | nonce 12 | ciphertext | tag 16      bound to its header and its place by the tag
 *   inside  frame, frame ...: length of meta 4 | length of body 4 | meta as JSON | body as it came
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { join } from "node:path";
import { createOnce, readIfThere } from "../files/create-once.ts";
import type { ChannelKind } from "../layer/index.ts";

export const CONTENT_KEY_VARIABLE = "SALLYPORT_CONTENT_KEY";
export const HEADER_BYTES = 32;
const MAGIC = Buffer.from("SPCONT1\n");
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** A longer batch is damage. */
const BATCH_BYTES_MAX = 268_435_456;

/** A run of an answer's text, all of one channel together. */
export interface AnswerText {
  readonly channel: string;
  readonly kind: ChannelKind;
  readonly choice: number;
  readonly text: string;
}

/** What is kept of one request beside its decision; `body` is what came, to the byte. */
export interface ContentRecord {
  readonly id: string;
  /** RFC 3339, when the request came. */
  readonly at: string;
  readonly org: string;
  readonly endUser: string;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** Without credentials. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** As the upstream sent it, before any redaction; null where none came. */
  readonly answer: {
    readonly status: number;
    /** False where it broke off, or was stopped. */
    readonly isWhole: boolean;
    readonly texts: readonly AnswerText[];
  } | null;
}

export interface ContentKey {
  readonly key: KeyObject;
  /** Tells two keys apart without giving either away. */
  readonly id: Buffer;
}

/** From the environment, or a file that is made at first need. Throws an Error that names the fix. */
export function openContentKey(
  dataDir: string,
  env: Readonly<Record<string, string | undefined>>,
  { make }: { readonly make: boolean },
): ContentKey {
  const given = env[CONTENT_KEY_VARIABLE]?.trim();
  if (given !== undefined && given !== "") return keyFrom(given, CONTENT_KEY_VARIABLE);
  const path = join(dataDir, "content.key");
  const kept = readIfThere(path);
  if (kept !== undefined) return keyFrom(kept, path);
  if (!make)
    throw new Error(`there is no key to read content with: set ${CONTENT_KEY_VARIABLE}, or restore ${path}`);
  return keyFrom(createOnce(path, `${randomBytes(32).toString("base64")}\n`), path);
}

function keyFrom(text: string, source: string): ContentKey {
  const bytes = Buffer.from(text.trim(), "base64");
  if (bytes.length !== 32) throw new Error(`${source} must be 32 bytes in base64: openssl rand -base64 32`);
  const id = createHash("sha256").update("sallyport content key\0").update(bytes).digest().subarray(0, 8);
  return { key: createSecretKey(bytes), id };
}

export function newHeader({ id }: ContentKey, madeMs: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  id.copy(header, 8);
  header.writeBigUInt64BE(BigInt(Math.max(0, Math.trunc(madeMs))), 16);
  randomBytes(8).copy(header, 24);
  return header;
}

/** Undefined for what is no segment of content. */
export function readHeader(bytes: Buffer): { readonly keyId: Buffer; readonly madeMs: number } | undefined {
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return undefined;
  return { keyId: bytes.subarray(8, 16), madeMs: Number(bytes.readBigUInt64BE(16)) };
}

export function frameOf({ body, ...meta }: ContentRecord): Buffer {
  const text = Buffer.from(JSON.stringify(meta));
  const frame = Buffer.allocUnsafe(8 + text.length + body.length);
  frame.writeUInt32BE(text.length, 0);
  frame.writeUInt32BE(body.length, 4);
  text.copy(frame, 8);
  body.copy(frame, 8 + text.length);
  return frame;
}

export function* framesIn(plain: Buffer): Generator<Buffer> {
  for (let at = 0; at + 8 <= plain.length; ) {
    const length = 8 + plain.readUInt32BE(at) + plain.readUInt32BE(at + 4);
    if (at + length > plain.length) return;
    yield plain.subarray(at, at + length);
    at += length;
  }
}

export function recordOf(frame: Buffer): ContentRecord {
  const bodyAt = 8 + frame.readUInt32BE(0);
  const meta = JSON.parse(frame.toString("utf8", 8, bodyAt)) as Omit<ContentRecord, "body">;
  return { ...meta, body: frame.subarray(bodyAt) };
}

/** One batch as it goes to disk, its length before it. */
export function sealed(
  frames: readonly Buffer[],
  { key }: ContentKey,
  header: Buffer,
  index: number,
): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv("aes-256-gcm", key, nonce).setAAD(placeOf(header, index));
  const parts = frames.map((frame) => cipher.update(frame));
  const rest = [cipher.final(), cipher.getAuthTag()];
  const length = Buffer.alloc(4);
  const bytes = Buffer.concat([length, nonce, ...parts, ...rest]);
  bytes.writeUInt32BE(bytes.length - 4, 0);
  return bytes;
}

/** Whole batches of a segment; what is torn or was tampered with ends the reading. */
export function* batchesIn(
  bytes: Buffer,
  { key }: ContentKey,
): Generator<{ readonly at: number; readonly plain: Buffer }> {
  const header = bytes.subarray(0, HEADER_BYTES);
  let index = 0;
  for (let at = HEADER_BYTES; at + 4 <= bytes.length; index += 1) {
    const length = bytes.readUInt32BE(at);
    const end = at + 4 + length;
    if (length < NONCE_BYTES + TAG_BYTES || length > BATCH_BYTES_MAX || end > bytes.length) return;
    const plain = opened(bytes.subarray(at + 4, end), key, header, index);
    if (plain === undefined) return;
    yield { at, plain };
    at = end;
  }
}

function opened(batch: Buffer, key: KeyObject, header: Buffer, index: number): Buffer | undefined {
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, batch.subarray(0, NONCE_BYTES))
      .setAAD(placeOf(header, index))
      .setAuthTag(batch.subarray(batch.length - TAG_BYTES));
    return Buffer.concat([
      decipher.update(batch.subarray(NONCE_BYTES, batch.length - TAG_BYTES)),
      decipher.final(),
    ]);
  } catch {
    return undefined;
  }
}

function placeOf(header: Buffer, index: number): Buffer {
  const place = Buffer.alloc(HEADER_BYTES + 4);
  header.copy(place);
  place.writeUInt32BE(index, HEADER_BYTES);
  return place;
}
