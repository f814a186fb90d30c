/**
 * The cookie that carries a session's id. HttpOnly: no script reads it. SameSite=Strict: no other site's page sends
 * it. Behind TLS it is Secure and named `__Host-`, which no sibling domain can set.
 */
import type { IncomingHttpHeaders } from "node:http";

export function cookieName(isSecure: boolean): string {
  return isSecure ? "__Host-sallyport" : "sallyport";
}

/** Undefined where there is none, or two: one of them was planted. */
export function cookieIn({ cookie }: IncomingHttpHeaders, isSecure: boolean): string | undefined {
  if (cookie === undefined) return undefined;
  const start = `${cookieName(isSecure)}=`;
  const own = cookie
    .split(";")
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(start));
  return own.length === 1 ? own[0]!.slice(start.length) : undefined;
}

export function cookieOf(secret: string, expiresMs: number, isSecure: boolean): string {
  const maxAgeSec = Math.max(0, Math.floor((expiresMs - Date.now()) / 1_000));
  return `${cookieName(isSecure)}=${secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${maxAgeSec}${isSecure ? "; Secure" : ""}`;
}

export function noCookie(isSecure: boolean): string {
  return cookieOf("", 0, isSecure);
}
