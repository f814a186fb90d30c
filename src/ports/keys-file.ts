/**
 * keys.json: the virtual keys of one data folder, each as a keyed hash. Written under a lock and replaced
 * in one step, so that writers in several processes lose nothing and readers never see half a file.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { tryLock } from "../files/lock-file.ts";
import { replaceFile } from "../files/replace-file.ts";

const KEYS_MAX = 100_000;
const LOCK_WAIT_MS = 5_000;
const LOCK_POLL_MS = 15;

/** What identifies an account: it becomes a label in decisions, exports and URLs. */
export const accountName = z
  .string()
  .regex(/^[\w.@:-]{1,64}$/, { error: "must be 1 to 64 of letters, digits and . _ @ : -" });
export const keyName = z
  .string()
  .regex(/^[\p{L}\p{N}\p{P}\p{S} ]{0,100}$/u, { error: "must be at most 100 printable characters" });
const instant = z.iso.datetime({ offset: true });

const keyRecord = z.strictObject({
  id: z.string().regex(/^key_\w{1,40}$/, { error: 'must look like "key_1a2b3c"' }),
  hash: z.string().regex(/^[\w-]{43}$/, { error: "must be an HMAC-SHA-256 in base64url" }),
  /** How the key starts, for people to tell keys apart. */
  prefix: z.string().max(20),
  org: accountName,
  project: accountName,
  name: keyName,
  createdAt: instant,
  expiresAt: instant.optional(),
  revokedAt: instant.optional(),
});
export type KeyRecord = Readonly<z.infer<typeof keyRecord>>;

const keysFile = z.strictObject({
  version: z.literal(1),
  /** Which pepper the hashes were made with. */
  pepper: z.string(),
  keys: z.array(keyRecord).max(KEYS_MAX, { error: `holds more than ${KEYS_MAX} keys` }),
});
export type KeysFile = Readonly<z.infer<typeof keysFile>>;

/** Undefined where there is no file yet; throws an error that names the file and the place in it. */
export function readKeysFile(path: string, pepper: string): KeysFile | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${path} is not valid JSON: restore it from a backup`);
  }
  const parsed = keysFile.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`${path}: ${issue?.path.join(".") || "the file"}: ${issue?.message}`);
  }
  if (parsed.data.pepper !== pepper) {
    throw new Error(
      `${path} was written with another pepper, so that no key in it can match: restore the file "pepper" ` +
        "beside it, or set SALLYPORT_KEY_PEPPER to what it was",
    );
  }
  return parsed.data;
}

/** Reads, changes and replaces the file while no other process may; `change` answers undefined to leave it. */
export async function changeKeysFile(
  path: string,
  pepper: string,
  change: (keys: readonly KeyRecord[]) => readonly KeyRecord[] | undefined,
): Promise<void> {
  const untilMs = performance.now() + LOCK_WAIT_MS;
  let lock = tryLock(`${path}.lock`);
  while (!lock.held) {
    if (performance.now() > untilMs) {
      throw new Error(`${path} has been locked by process ${lock.holderPid} for ${LOCK_WAIT_MS / 1000} s`);
    }
    await sleep(LOCK_POLL_MS);
    lock = tryLock(`${path}.lock`);
  }
  try {
    const keys = change(readKeysFile(path, pepper)?.keys ?? []);
    if (keys === undefined) return;
    if (keys.length > KEYS_MAX) throw new Error(`${path} already holds ${KEYS_MAX} keys, the most it may`);
    const file: KeysFile = { version: 1, pepper, keys: [...keys] };
    await replaceFile(path, `${JSON.stringify(file, null, 1)}\n`);
  } finally {
    lock.release();
  }
}
