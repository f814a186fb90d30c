/** What a presented credential looks like, before anybody is asked whose it is. */

const TOKEN_UNITS_MAX = 8_192;
const TOKEN_SHAPE = /^[\w-]+\.[\w-]+\.[\w-]+$/;
/** Every token's header is a JSON object, and `{"` in base64url begins so. */
const TOKEN_START = "eyJ";
/** Some vendors' keys are tokens of their own, so that length alone says little. */
const OWN_KEY_SHAPE = /^[\x21-\x7e]{16,4096}$/;
/** A key of ours that is not in the table: mistyped, removed or of another house. It goes to no upstream. */
const VIRTUAL_KEY_SHAPE = /^sp-[0-9A-Za-z]{32}$/;

/** The `iss` that a credential claims; undefined where it is no token. Nothing is verified here. */
export function issuerNamed(credential: string): string | undefined {
  if (!credential.startsWith(TOKEN_START) || credential.length > TOKEN_UNITS_MAX) return undefined;
  if (!TOKEN_SHAPE.test(credential)) return undefined;
  const start = credential.indexOf(".") + 1;
  const payload = Buffer.from(credential.slice(start, credential.indexOf(".", start)), "base64url");
  try {
    const claims = JSON.parse(payload.toString()) as { readonly iss?: unknown } | null;
    return typeof claims?.iss === "string" ? claims.iss : undefined;
  } catch {
    return undefined;
  }
}

/** Whether it may be a caller's own key for the upstream. */
export function mayBeOwnKey(credential: string): boolean {
  return OWN_KEY_SHAPE.test(credential) && !VIRTUAL_KEY_SHAPE.test(credential);
}
