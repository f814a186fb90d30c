/**
 * What any client could have read of an answer, found without the gateway's own code: the bytes as they are,
 * every string of every event, and the runs that clients join: the strings that stand at one place of
 * successive events. Token bytes, unread lines and headers count too. A forbidden text that stands in any of
 * them, or a good part of it, has leaked.
 */
import type { Reply } from "./client.ts";

/** So many units of a secret in a row, and it counts as leaked: fewer could stand there by chance. */
export const PART_UNITS = 8;
/** Members by which clients tell runs of text apart. */
const INDICES = ["index", "output_index", "content_index", "summary_index", "item_id"];

export interface SseRecord {
  readonly event: string;
  readonly data: string;
}

/** The events of a body as a lenient reader takes them: any line end, an unended last event too. */
export function readEvents(body: string): SseRecord[] {
  const events: SseRecord[] = [];
  let event = "";
  let data: string[] = [];
  const close = () => {
    if (data.length > 0) events.push({ event, data: data.join("\n") });
    event = "";
    data = [];
  };
  for (const line of body.replace(/^\uFEFF/, "").split(/\r\n|\n|\r/)) {
    if (line === "") close();
    else if (line.startsWith("data")) data.push(line.slice(4).replace(/^: ?/, ""));
    else if (line.startsWith("event:")) event = line.slice(6).trim();
  }
  close();
  return events;
}

/** Every text that a client could have put together, by where it stood. */
export function textsOf(reply: Pick<Reply, "body" | "rawHeaders" | "trailers">): Map<string, string> {
  const texts = new Map<string, string>();
  const body = reply.body.toString("utf8");
  texts.set("bytes", body);
  texts.set("bytes, unescaped", unescaped(body));
  texts.set("headers", [...reply.rawHeaders, ...reply.trailers].join("\n"));
  const whole = parsed(body);
  if (whole !== undefined) gather(whole, "", texts);
  for (const { event, data } of readEvents(body)) {
    const value = parsed(data);
    if (value === undefined) {
      add(texts, "data that is not JSON", data);
      continue;
    }
    // Two readings: what one kind of event says, and what all that stands at one place says.
    const run = runOf(value);
    gather(value, `${run} `, texts);
    gather(value, `${typeOf(value) || event} ${run} `, texts);
  }
  return texts;
}

/** The place and the part of `secret` that got out, or undefined. */
export function leakOf(
  reply: Pick<Reply, "body" | "rawHeaders" | "trailers">,
  secret: string,
  partUnits: number,
): string | undefined {
  const parts = partsOf(secret, partUnits);
  for (const [place, text] of textsOf(reply)) {
    const at = parts.findIndex((part) => text.includes(part));
    if (at < 0) continue;
    const units = parts.slice(at).findIndex((part) => !text.includes(part));
    const most = (units < 0 ? parts.length - at : units) + partUnits - 1;
    return `${Math.min(most, secret.length)} of ${secret.length} units at ${place}`;
  }
  return undefined;
}

/** Whether a request that the upstream received still carries `text`, escaped or not. */
export function carries(body: Buffer, path: string, text: string): boolean {
  const sent = body.toString("utf8");
  if (sent.includes(text) || unescaped(sent).includes(text)) return true;
  return safelyDecoded(path).includes(text);
}

const cachedParts = new Map<string, readonly string[]>();
function partsOf(secret: string, units: number): readonly string[] {
  const key = `${units} ${secret}`;
  let parts = cachedParts.get(key);
  if (parts === undefined) {
    const count = Math.max(1, secret.length - units + 1);
    parts = Array.from({ length: count }, (_, at) => secret.slice(at, at + units));
    cachedParts.set(key, parts);
  }
  return parts;
}

function gather(value: unknown, path: string, texts: Map<string, string>): void {
  if (typeof value === "string") {
    add(texts, path, value);
  } else if (Array.isArray(value)) {
    const codes = value.filter((code) => Number.isInteger(code) && code >= 0 && code < 256) as number[];
    if (codes.length > 0 && codes.length === value.length)
      add(texts, `${path} as bytes`, Buffer.from(codes).toString("latin1"));
    for (const [i, item] of value.entries()) {
      const own = (item as { index?: unknown } | null)?.index;
      gather(item, `${path}/${typeof own === "number" ? own : i}`, texts);
      // Tokens stand in a list each with their text: read down the list they spell it.
      if (typeof item === "object" && item !== null) gatherFlat(item, `${path}/*`, texts);
      else if (typeof item === "string") add(texts, `${path}/*`, item);
    }
  } else if (typeof value === "object" && value !== null) {
    for (const [name, member] of Object.entries(value)) {
      add(texts, `${path} names`, `${name}\n`);
      gather(member, `${path}/${name}`, texts);
    }
  }
}

/** The strings and token bytes right in `item`, run on to what its siblings say. */
function gatherFlat(item: object, path: string, texts: Map<string, string>): void {
  for (const [name, member] of Object.entries(item)) {
    if (typeof member === "string") add(texts, `${path}/${name}`, member);
    else if (Array.isArray(member) && member.length > 0 && member.every((code) => Number.isInteger(code)))
      add(texts, `${path}/${name} as bytes`, Buffer.from(member as number[]).toString("latin1"));
  }
}

function add(texts: Map<string, string>, place: string, text: string): void {
  texts.set(place, (texts.get(place) ?? "") + text);
}

function typeOf(value: unknown): string {
  const type = (value as { type?: unknown } | null)?.type;
  return typeof type === "string" ? type : "";
}

function runOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return "";
  const record = value as Record<string, unknown>;
  return INDICES.map((name) => record[name] ?? "").join(":");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unescaped(text: string): string {
  return text.includes("\\")
    ? text.replace(/\\u([0-9a-fA-F]{4})|\\(.)/g, (_, code: string | undefined, unit: string | undefined) =>
        code === undefined ? (unit ?? "") : String.fromCharCode(Number.parseInt(code, 16)),
      )
    : text;
}

function safelyDecoded(path: string): string {
  try {
    return decodeURIComponent(path.replaceAll("+", " "));
  } catch {
    return path;
  }
}
