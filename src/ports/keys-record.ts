/**
 * One virtual key as it is stored: its keyed hash, whom it belongs to and what it may be used for. The same
 * shape in keys.json and on Redis; the key in clear is nowhere.
 */
import { z } from "zod";
import { parseScopeNetwork } from "./keys-scope.ts";
import type { LegacyRows } from "./table.ts";

export const KEYS_MAX = 100_000;

/** What identifies an account: it becomes a label in decisions, exports and URLs. */
export const accountName = z
  .string()
  .regex(/^[\w.@:-]{1,64}$/, { error: "must be 1 to 64 of letters, digits and . _ @ : -" });
export const keyName = z
  .string()
  .regex(/^[\p{L}\p{N}\p{P}\p{S} ]{0,100}$/u, { error: "must be at most 100 printable characters" });
const instant = z.iso.datetime({ offset: true });
const keyId = z.string().regex(/^key_\w{1,40}$/, { error: 'must look like "key_1a2b3c"' });

/** A full record stays well below the 16,384 characters that a table takes for a row. */
const ENTRIES_MAX = 50;
/** An empty list could be read as "nothing" or as "all": it is neither, it is an error. */
const NOT_EMPTY = { error: "must name at least one; leave it out to allow all" };
const TOO_MANY = { error: `must name at most ${ENTRIES_MAX}` };

export const keyScopes = z.strictObject({
  /** Route ids, such as "openai.chat"; "pass_through" for all that the policy passes through. */
  routes: z
    .array(z.string().regex(/^[a-z][\w.-]{0,63}$/, { error: 'must be a route id such as "openai.chat"' }))
    .min(1, NOT_EMPTY)
    .max(ENTRIES_MAX, TOO_MANY)
    .optional(),
  models: z
    .array(
      z.string().regex(/^[^\s*]{0,128}\*?$/, {
        error: 'must be a model\'s name such as "gpt-5", or its start and one "*" such as "gpt-5*"',
      }),
    )
    .min(1, NOT_EMPTY)
    .max(ENTRIES_MAX, TOO_MANY)
    .optional(),
  networks: z
    .array(
      z.string().refine((text) => parseScopeNetwork(text) !== undefined, {
        error: "must be an address or a CIDR such as 192.0.2.0/24 or 2001:db8::/32",
      }),
    )
    .min(1, NOT_EMPTY)
    .max(ENTRIES_MAX, TOO_MANY)
    .optional(),
});
export type KeyScopes = Readonly<z.infer<typeof keyScopes>>;

export const keyRecord = z.strictObject({
  id: keyId,
  hash: z.string().regex(/^[\w-]{43}$/, { error: "must be an HMAC-SHA-256 in base64url" }),
  /** How the key starts, for people to tell keys apart. */
  prefix: z.string().max(20),
  org: accountName,
  project: accountName,
  name: keyName,
  createdAt: instant,
  expiresAt: instant.optional(),
  revokedAt: instant.optional(),
  scopes: keyScopes.optional(),
  /** Nobody should ever use it: whoever does has stolen it. */
  canary: z.literal(true).optional(),
  /** The key that was made to take its place. */
  replacedBy: keyId.optional(),
  rotatedFrom: keyId.optional(),
});
export type KeyRecord = Readonly<z.infer<typeof keyRecord>>;

const keysFileBefore = z.object({ version: z.literal(1), pepper: z.string(), keys: z.array(z.unknown()) });

/** keys.json as it was written before keys were a table; the next change writes it anew, with all that is in it. */
export function legacyKeys(json: unknown): LegacyRows | undefined {
  const parsed = keysFileBefore.safeParse(json);
  return parsed.success ? { stamp: parsed.data.pepper, rows: parsed.data.keys } : undefined;
}
