/**
 * The secret that turns a presented key into the hash that is stored: from the environment, or a file that
 * is made at first start. Without it a stolen keys.json cannot be tried against guessed keys.
 */
import { createHmac, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { join } from "node:path";
import { createOnce, readIfThere } from "../files/create-once.ts";

export const PEPPER_VARIABLE = "SALLYPORT_KEY_PEPPER";
const PEPPER_UNITS_MIN = 16;

export class Pepper {
  // As a KeyObject an HMAC takes 1.7 µs; from raw bytes 11 µs.
  readonly #key: KeyObject;

  constructor(secret: string) {
    this.#key = createSecretKey(secret, "utf8");
  }

  digest(text: string): Buffer {
    return createHmac("sha256", this.#key).update(text).digest();
  }

  /** Tells two peppers apart without giving either away; kept in keys.json. */
  fingerprint(): string {
    return this.digest("sallyport: which pepper is this?").toString("base64url").slice(0, 16);
  }
}

export function openPepper(dataDir: string, env: Readonly<Record<string, string | undefined>>): Pepper {
  const given = env[PEPPER_VARIABLE];
  if (given !== undefined && given !== "") return new Pepper(checked(given, PEPPER_VARIABLE));
  const path = join(dataDir, "pepper");
  const secret = readIfThere(path) ?? createOnce(path, `${randomBytes(32).toString("base64url")}\n`);
  return new Pepper(checked(secret.trim(), path));
}

function checked(secret: string, source: string): string {
  if (secret.length >= PEPPER_UNITS_MIN) return secret;
  throw new Error(
    `${source} is too short for a pepper: it must have at least ${PEPPER_UNITS_MIN} characters`,
  );
}
