/**
 * Reads the JSON body of an admin call: bounded in bytes, strict UTF-8. A body that is too large is answered
 * while it still arrives, so that the caller learns why; whoever sends on after that is cut off.
 */
import type { IncomingMessage } from "node:http";

/** The largest body that a row takes which names no other bound (a key with three full lists of scopes) has 40 kB. */
export const BODY_BYTES_MAX = 65_536;

export type ReadBody =
  /** `value` is undefined where there was no body. */
  | { readonly state: "read"; readonly value: unknown }
  | { readonly state: "too_large" }
  | { readonly state: "bad"; readonly why: string }
  /** The caller left. */
  | { readonly state: "gone" };

export async function readJson(request: IncomingMessage, bytesMax = BODY_BYTES_MAX): Promise<ReadBody> {
  if (Number(request.headers["content-length"] ?? 0) > bytesMax) return { state: "too_large" };
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    // Left open when it is left early: destroying the request would take the answer along.
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      bytes += (chunk as Buffer).length;
      if (bytes > bytesMax) return { state: "too_large" };
      chunks.push(chunk as Buffer);
    }
  } catch {
    return { state: "gone" };
  }
  if (bytes === 0) return { state: "read", value: undefined };
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    return { state: "bad", why: "the body must be UTF-8" };
  }
  try {
    return { state: "read", value: JSON.parse(text) };
  } catch {
    // What the parser says would quote the body.
    return { state: "bad", why: "the body must be JSON" };
  }
}
