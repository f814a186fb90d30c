/**
 * The key that signs checkpoints (Ed25519). It comes from the environment, or is made on first start in the data
 * folder for its owner's eyes alone. The public half is exported beside the chain; a copy of that belongs where the
 * checkpoints are read, as whoever can write the data folder can replace it there.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createOnce, readIfThere } from "../files/create-once.ts";

/** The private key in PEM (PKCS #8), or the path of a file that holds it. */
export const AUDIT_KEY_VARIABLE = "SALLYPORT_AUDIT_KEY";
/** Every key that ever signed for this folder, in PEM, the present one last. */
const PUBLIC_KEY_FILE = "public-key.pem";
const PRIVATE_KEY_FILE = "signing-key.pem";

export interface AuditKey {
  readonly privateKey: KeyObject;
  readonly id: string;
  /** It has not signed for this folder before. */
  readonly isNew: boolean;
}

export function openAuditKey(auditDir: string, env: Readonly<Record<string, string | undefined>>): AuditKey {
  const { pem, source } = privatePem(auditDir, env[AUDIT_KEY_VARIABLE]?.trim() ?? "");
  const privateKey = parsed(pem, source);
  const publicKey = createPublicKey(privateKey);
  mkdirSync(auditDir, { recursive: true, mode: 0o700 });
  const path = publicKeyPath(auditDir);
  const known = readIfThere(path) ?? "";
  const own = publicKey.export({ format: "pem", type: "spki" }).toString();
  const isNew = !known.includes(own);
  if (isNew) appendFileSync(path, own, { mode: 0o644 });
  return { privateKey, id: keyId(publicKey), isNew };
}

export function publicKeyPath(auditDir: string): string {
  return join(auditDir, PUBLIC_KEY_FILE);
}

/** 64 bits of the key's hash: enough to tell keys apart by. */
export function keyId(key: KeyObject): string {
  return createHash("sha256")
    .update(key.export({ format: "der", type: "spki" }))
    .digest("hex")
    .slice(0, 16);
}

/** Every public key in a PEM file, by id. Throws an Error that says what is wrong with the file. */
export function readPublicKeys(path: string): ReadonlyMap<string, KeyObject> {
  const text = readIfThere(path);
  if (text === undefined) throw new Error(`${path}: there is no such file`);
  const blocks = text.match(/-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----/g) ?? [];
  const keys = blocks.map((block) => {
    try {
      return createPublicKey(block);
    } catch {
      throw new Error(`${path}: holds a public key that cannot be read`);
    }
  });
  if (keys.length === 0 || keys.some(({ asymmetricKeyType: type }) => type !== "ed25519")) {
    throw new Error(
      `${path}: must hold Ed25519 public keys in PEM, as ${PUBLIC_KEY_FILE} beside the chain does`,
    );
  }
  return new Map(keys.map((key) => [keyId(key), key]));
}

function privatePem(auditDir: string, given: string): { readonly pem: string; readonly source: string } {
  // In an environment, line feeds are often written as \n.
  if (given.startsWith("-----BEGIN"))
    return { pem: given.replaceAll("\\n", "\n"), source: AUDIT_KEY_VARIABLE };
  if (given !== "") {
    const pem = readIfThere(given);
    if (pem === undefined) throw new Error(`${AUDIT_KEY_VARIABLE}: there is no file ${given}`);
    return { pem, source: given };
  }
  const path = join(auditDir, PRIVATE_KEY_FILE);
  const made = () =>
    generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  return { pem: readIfThere(path) ?? createOnce(path, made()), source: path };
}

function parsed(pem: string, source: string): KeyObject {
  const fix = "must be an Ed25519 private key in PEM; `openssl genpkey -algorithm ed25519` makes one";
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // What the library says may quote what it was given.
    throw new Error(`${source}: ${fix}`);
  }
  if (key.asymmetricKeyType !== "ed25519") throw new Error(`${source}: ${fix}`);
  return key;
}
