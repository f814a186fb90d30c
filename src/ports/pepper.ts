/**
 * The secret that turns a presented key into the hash that is stored: from the environment, or a file that
 * is made at first start. Without it a stolen keys.json cannot be tried against guessed keys.
 */
import { createHmac, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

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
  return new Pepper(checked(read(path) ?? create(path, dataDir), path));
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Linked into place whole: of two processes that start at once, one makes it and both read it. */
function create(path: string, dataDir: string): string {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  writeFileSync(temporary, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  try {
    linkSync(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    unlinkSync(temporary);
  }
  return readFileSync(path, "utf8").trim();
}

function checked(secret: string, source: string): string {
  if (secret.length >= PEPPER_UNITS_MIN) return secret;
  throw new Error(
    `${source} is too short for a pepper: it must have at least ${PEPPER_UNITS_MIN} characters`,
  );
}
