/**
 * Canary tokens: words that mean nothing and stand in a prompt, so that an answer (or a log, or a web page) that
 * holds one tells that the prompt got out, and whose. One key gives every organisation a token of its own.
 */
import { createHmac } from "node:crypto";

export const CANARY_KEY_CHARS_MIN = 16;

/** "cnry" and 24 hex digits of HMAC-SHA-256 over the organisation's name. */
export function canaryOf(key: string, org: string): string {
  return `cnry${createHmac("sha256", key).update(org).digest("hex").slice(0, 24)}`;
}
