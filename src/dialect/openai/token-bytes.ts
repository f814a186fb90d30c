/**
 * The bytes that stand beside each token of logprobs. They say what the token says, and the token is what is
 * judged; bytes that say something else would be text that nobody reads but the client.
 */
import type { Json } from "../dialect.ts";
import { spelledBy } from "../unmodelled.ts";
import { isObject } from "./shape.ts";

/** A token that is a part of a character is told as escapes or marks; so many plain bytes may stand beside it. */
const PLAIN_BYTES_MAX = 3;

/** What bytes spell that are not their token's, those of other tokens included; "" where all are. */
export function foreignBytes(logprobs: Json | undefined): string {
  if (Array.isArray(logprobs)) return logprobs.map((token) => foreignOf(token)).join("");
  if (!isObject(logprobs)) return "";
  return foreignBytes(logprobs["content"]) + foreignBytes(logprobs["refusal"]);
}

function foreignOf(token: Json): string {
  if (!isObject(token)) return "";
  const { bytes, top_logprobs: others } = token;
  const foreign = Array.isArray(others) ? foreignBytes(others) : "";
  if (!Array.isArray(bytes)) return foreign;
  const spelled = spelledBy(bytes) ?? "";
  if (spelled === "" || spelled === token["token"]) return foreign;
  const isOwn = Buffer.from(spelled, "latin1").toString("utf8") === token["token"];
  let plain = 0;
  for (const byte of bytes) if ((byte as number) < 128) plain += 1;
  return isOwn || (plain < bytes.length && plain <= PLAIN_BYTES_MAX) ? foreign : spelled + foreign;
}
