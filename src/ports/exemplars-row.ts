/**
 * An exemplar as it is stored: what is needed to know its like again, and nothing to read it by. The text itself is
 * sensitive and stays with whoever added it; its hash tells that the same text is added twice.
 */
import { hash } from "node:crypto";
import { z } from "zod";
import type { TextPrint } from "../layer/index.ts";
import type { SimHash } from "../text/simhash.ts";

/** The first numbers of an embedding: what the encoder was trained to give, of unit length. */
export const VECTOR_SIZE = 512;
export const TEXT_UNITS_MAX = 16_384;
const VECTOR_UNITS = Math.ceil(VECTOR_SIZE / 3) * 4;

const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u;
const words = (max: number) =>
  z
    .string()
    .min(1, { error: "must not be empty" })
    .max(max, { error: `must be at most ${max} characters` })
    .regex(PRINTABLE, { error: "must be printable characters on one line" });

export const exemplarRow = z.strictObject({
  id: z.string().regex(/^ex_[0-9a-f]{20}$/, { error: 'must look like "ex_" and 20 hex digits' }),
  label: z.enum(["bad", "good"]),
  mode: z.enum(["enforce", "shadow"]),
  /** Why, in words for people; never the text. */
  reason: words(500),
  note: words(200).optional(),
  by: words(100),
  createdAt: z.iso.datetime(),
  /** Hex SHA-256 of the folded text. */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** UTF-16 units of the folded text. */
  units: z.int().min(1),
  /** 16 hex digits; absent for a text of a few words, which has no copies. */
  simhash: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .optional(),
  /** Signed bytes in base64, of any scale. */
  vector: z.string().length(VECTOR_UNITS),
});
export type ExemplarRow = Readonly<z.infer<typeof exemplarRow>>;

export interface NewExemplar {
  readonly text: string;
  readonly label: "bad" | "good";
  readonly reason: string;
  readonly by: string;
  readonly mode?: "enforce" | "shadow" | undefined;
  readonly note?: string | undefined;
}

/** Throws a RangeError that names the field. `folded` is the text's plain view. */
export function newExemplarRow(
  { label, mode = "enforce", reason, note, by }: NewExemplar,
  made: {
    readonly folded: string;
    readonly print: SimHash | undefined;
    readonly embedding: Float32Array;
    readonly nowMs: number;
  },
): ExemplarRow {
  const digest = hash("sha256", made.folded, "hex");
  const parsed = exemplarRow.safeParse({
    id: `ex_${digest.slice(0, 20)}`,
    label,
    mode,
    reason,
    ...(note !== undefined && { note }),
    by,
    createdAt: new Date(made.nowMs).toISOString(),
    hash: digest,
    units: made.folded.length,
    ...(made.print !== undefined && { simhash: hexOf(made.print) }),
    vector: packVector(made.embedding),
  });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new RangeError(`${issue?.path.join(".") || "text"}: ${issue?.message ?? "is not valid"}`);
}

export function printOf({ simhash, units }: ExemplarRow): TextPrint | undefined {
  if (simhash === undefined) return undefined;
  return {
    high: Number.parseInt(simhash.slice(0, 8), 16) | 0,
    low: Number.parseInt(simhash.slice(8), 16) | 0,
    units,
  };
}

function hexOf({ low, high }: SimHash): string {
  const hex = (bits: number) => (bits >>> 0).toString(16).padStart(8, "0");
  return hex(high) + hex(low);
}

/** A byte a number: the largest becomes 127. What this loses of a cosine is below 0.005. */
export function packVector(embedding: Float32Array): string {
  const vector = embedding.subarray(0, VECTOR_SIZE);
  let largest = 1e-9;
  for (const value of vector) largest = Math.max(largest, Math.abs(value));
  return Buffer.from(Int8Array.from(vector, (value) => Math.round((value / largest) * 127)).buffer).toString(
    "base64",
  );
}

/** Of unit length. */
export function unpackVector(packed: string): Float32Array {
  return unitVector(Float32Array.from(new Int8Array(Buffer.from(packed, "base64"))));
}

export function unitVector(embedding: Float32Array): Float32Array {
  const vector = embedding.slice(0, VECTOR_SIZE);
  let square = 0;
  for (const value of vector) square += value * value;
  const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
  return vector.map((value) => value * scale);
}
