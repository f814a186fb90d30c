/**
 * What is stored of the people and programs that may use the admin API: accounts, their sessions, and named
 * bearer tokens. The same shapes on file and on Redis. No password, session id or token is in any of them in clear.
 */
import { z } from "zod";

export const ACCOUNTS_MAX = 1_000;
export const TOKENS_MAX = 1_000;
export const SESSIONS_MAX = 1_000;
export const SESSIONS_PER_ACCOUNT_MAX = 10;

/** From the least to the most, but for `sre`, who tunes defences and rules on nobody. */
export const ROLES = ["viewer", "analyst", "senior-analyst", "sre", "admin"] as const;
export type Role = (typeof ROLES)[number];

export const role = z.enum(ROLES);
/** In lower case: two accounts never differ by case alone. It becomes the actor of records, and part of URLs. */
export const operatorName = z.string().regex(/^[a-z0-9][a-z0-9_.@+-]{0,63}$/, {
  error: "must be 1 to 64 of a-z, digits and . _ @ + -, and start with a letter or digit",
});
/** Of a token: its actor is "token:" and the name, and an actor has at most 64 characters. */
export const tokenName = operatorName.max(58, { error: "must have at most 58 characters" });

const instant = z.iso.datetime({ offset: true });
const keyedHash = z.string().regex(/^[\w-]{43}$/, { error: "must be an HMAC-SHA-256 in base64url" });
const by = z.string().min(1).max(100);

export const accountRecord = z.strictObject({
  /** The account's name. */
  id: operatorName,
  /** As operators-password.ts writes it, parameters and salt included. */
  password: z.string().max(200),
  role,
  disabled: z.boolean(),
  /** Made anew with password, role and `disabled`: sessions of before end with it. */
  epoch: z.string().regex(/^[\w-]{8,32}$/),
  createdAt: instant,
  createdBy: by,
  lastLoginAt: instant.optional(),
});
export type AccountRecord = Readonly<z.infer<typeof accountRecord>>;

export const sessionRecord = z.strictObject({
  /** Keyed hash of the session's id. */
  id: keyedHash,
  account: operatorName,
  epoch: accountRecord.shape.epoch,
  createdAt: instant,
  /** Some minutes behind the last call, so that not every call is a write. */
  seenAt: instant,
});
export type SessionRecord = Readonly<z.infer<typeof sessionRecord>>;

export const tokenId = z.string().regex(/^tok_\w{1,40}$/, { error: 'must look like "tok_1a2b3c"' });

export const tokenRecord = z.strictObject({
  id: tokenId,
  hash: keyedHash,
  /** How the token starts, for people to tell tokens apart. */
  prefix: z.string().max(20),
  name: tokenName,
  role,
  createdAt: instant,
  createdBy: by,
  expiresAt: instant.optional(),
  revokedAt: instant.optional(),
});
export type TokenRecord = Readonly<z.infer<typeof tokenRecord>>;
