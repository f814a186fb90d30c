/**
 * Looking at the counters on Redis, and forgetting one: for people, so it may walk the keyspace, in steps that hold
 * Redis up for about a millisecond each and no further than a bound.
 */
import { Cluster, type Redis } from "ioredis";
import { FORGET } from "./counters-scripts.ts";
import type { CounterRow, InspectOptions } from "./counters-window.ts";
import type { SharedRedis } from "./redis.ts";
import { runScript } from "./redis-script.ts";

const SCAN_COUNT = 1000;
/** Keys of one master that are walked past at most. */
const SCANNED_MAX = 5_000_000;
const DEADLINE_MS = 1000;

export async function inspectCounters(
  redis: SharedRedis,
  nowMs: number,
  seat: string | undefined,
  { contains = "", max }: InspectOptions,
): Promise<CounterRow[]> {
  const rows: CounterRow[] = [];
  const pattern = `${glob(redis.prefix)}:{*}:c:${seat === undefined ? "*" : glob(seat)}:*${glob(contains)}*`;
  for await (const { node, keys } of scanned(redis, pattern)) {
    const found = await redis.run(() => Promise.all(keys.map((key) => node.hgetall(key))), DEADLINE_MS);
    for (const [i, fields] of found.entries()) {
      const name = nameOf(redis.prefix, keys[i]!, seat);
      if (name === undefined || !name.key.includes(contains)) continue;
      const row = rowOf(fields, nowMs);
      if (row.used + row.reserved > 0) rows.push({ ...name, ...row });
      if (rows.length >= max) return rows;
    }
  }
  return rows;
}

/** Every counter of that seat and key, whatever its group. */
export async function forgetCounter(redis: SharedRedis, seat: string, key: string): Promise<boolean> {
  let found = false;
  for await (const { keys } of scanned(redis, `${glob(redis.prefix)}:{*}:c:${glob(seat)}:${glob(key)}`)) {
    for (const each of keys) {
      const name = nameOf(redis.prefix, each, seat);
      if (name?.key !== key) continue;
      const forgot = await redis.run((client) => runScript(client, FORGET, [each], []), DEADLINE_MS);
      found ||= forgot === 1;
    }
  }
  return found;
}

async function* scanned(
  redis: SharedRedis,
  pattern: string,
): AsyncGenerator<{ readonly node: Redis; readonly keys: readonly string[] }> {
  const { client } = redis;
  for (const node of client instanceof Cluster ? client.nodes("master") : [client]) {
    let cursor = "0";
    for (let scannedKeys = 0; scannedKeys < SCANNED_MAX; scannedKeys += SCAN_COUNT) {
      const from = cursor;
      const [next, keys] = await redis.run(
        () => node.scan(from, "MATCH", pattern, "COUNT", SCAN_COUNT),
        DEADLINE_MS,
      );
      if (keys.length > 0) yield { node, keys };
      cursor = next;
      if (cursor === "0") break;
    }
  }
}

function rowOf(fields: Readonly<Record<string, string>>, nowMs: number): Omit<CounterRow, "seat" | "key"> {
  const windowMs = Number(fields["w"] ?? 0);
  let used = 0;
  let reserved = 0;
  let newestMs = 0;
  for (const [name, value] of Object.entries(fields)) {
    if (name.startsWith("r:")) {
      if (Number(fields[`x:${name.slice(2)}`] ?? 0) > nowMs) reserved += Number(value);
    } else if (/^\d+$/.test(name) && Number(name) > nowMs - windowMs) {
      used += Number(value);
      if (Number(value) > 0) newestMs = Math.max(newestMs, Number(name));
    }
  }
  const endMs = reserved > 0 && windowMs > 0 ? Math.max(newestMs, nowMs) : newestMs;
  const resetMs = endMs === 0 ? 0 : Math.max(0, Math.ceil(endMs + windowMs - nowMs));
  return { used, reserved, windowSec: windowMs / 1000, resetMs };
}

/** A group cannot hold the "}" that ends it; a seat's id holds no colon. */
function nameOf(
  prefix: string,
  redisKey: string,
  seat: string | undefined,
): { readonly seat: string; readonly key: string } | undefined {
  const start = redisKey.indexOf("}:c:", prefix.length);
  if (start < 0) return undefined;
  const rest = redisKey.slice(start + 4);
  const end = seat === undefined ? rest.indexOf(":") : seat.length;
  if (end < 0 || rest[end] !== ":") return undefined;
  const name = rest.slice(0, end);
  return seat === undefined || seat === name ? { seat: name, key: rest.slice(end + 1) } : undefined;
}

function glob(text: string): string {
  return text.replace(/[\\*?[\]^]/g, "\\$&");
}
