/**
 * Who vouches for a model file. A model decides what passes, so whoever can swap it can open the gate: it is served
 * only with an Ed25519 signature of a signer that the policy (or this file) names. `MODEL.sig` beside `MODEL` holds
 * the signature over the file's bytes in base64; a signer is a raw public key of 32 bytes in base64.
 */
import { createPublicKey, sign, verify } from "node:crypto";

/** Signs what ships in config/models; an operator who trains puts their own in the seat's `signers`. */
export const SHIPPED_SIGNERS: readonly string[] = ["X8d4HUOuWr6fUeiG+s4grYsSSXBUTS3Cw6iEjZ3tauE="];

/** DER of an Ed25519 public key up to the key itself (RFC 8410, section 4). */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** Undefined where `signer` is 32 bytes in base64, else what is wrong with it. */
export function signerProblem(signer: string): string | undefined {
  const isKey = /^[A-Za-z0-9+/]{43}=$/.test(signer) && Buffer.from(signer, "base64").length === KEY_BYTES;
  return isKey ? undefined : "must be an Ed25519 public key: 32 bytes in base64";
}

/** Undefined where one of the signers signed these bytes, else what is wrong. */
export function verifyModel(
  bytes: Uint8Array,
  signature: string,
  signers: readonly string[],
): string | undefined {
  const given = Buffer.from(signature.trim(), "base64");
  if (given.length !== SIGNATURE_BYTES) return "it is no Ed25519 signature: 64 bytes in base64";
  for (const signer of signers) {
    if (signerProblem(signer) !== undefined) continue;
    const der = Buffer.concat([SPKI_PREFIX, Buffer.from(signer, "base64")]);
    if (verify(null, bytes, createPublicKey({ key: der, format: "der", type: "spki" }), given))
      return undefined;
  }
  return "none of the signers signed the model as it is";
}

/** The content of `MODEL.sig`. Deterministic: the same model and key give the same signature. */
export function signModel(bytes: Uint8Array, privateKeyPem: string): string {
  return `${sign(null, bytes, privateKeyPem).toString("base64")}\n`;
}

/** The signer that a private or public key in PEM stands for, as `signers` name it. */
export function signerOf(pem: string): string {
  const der = createPublicKey(pem).export({ format: "der", type: "spki" });
  return der.subarray(SPKI_PREFIX.length).toString("base64");
}
