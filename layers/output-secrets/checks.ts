/** Decoders for secrets whose form can be proved rather than guessed. Pure; false for anything unreadable. */

export const CHECKS = { jwt: isJwtHead, basic: isBasicCredential } as const;

/** The first part decodes to JSON that names an algorithm. */
export function isJwtHead(token: string): boolean {
  const head = decode(token.slice(0, token.indexOf(".")), "base64url");
  try {
    const parsed: unknown = JSON.parse(head);
    return typeof parsed === "object" && parsed !== null && "alg" in parsed;
  } catch {
    return false;
  }
}

/** Base64 of printable text with a colon: "user:password". What is seen may be the beginning only. */
export function isBasicCredential(encoded: string): boolean {
  const text = decode(encoded.slice(0, encoded.length - (encoded.length % 4)), "base64");
  return /^[\x20-\x7e]+$/.test(text);
}

function decode(text: string, encoding: "base64" | "base64url"): string {
  return Buffer.from(text, encoding).toString("latin1");
}
