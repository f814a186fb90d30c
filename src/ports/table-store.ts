/**
 * How a table lies in Redis, and the few scripts that touch it; src/ports/table-redis.ts decides when. All keys
 * of a table carry its name as hash tag, so that in a cluster they are together.
 *
 *     {name}:rows   hash   id -> the row's JSON
 *     {name}:meta   hash   head, generation, stamp, count, filling
 *     {name}:log    list   the last records, newest first: `previous-head head id json`
 *
 * `head` names a state of the table, `version-random`: a version alone would name two states after a failover
 * that lost a write. A record fits a replica whose own head is the record's previous one; who has missed some
 * finds them in the log, who has missed many reads all rows. `generation` names a filling of Redis: another one
 * than a replica knows means that Redis had lost everything. `count` shows rows that were evicted.
 */
import { randomBytes } from "node:crypto";
import type { SharedRedis } from "./redis.ts";
import { defineScript, runScript } from "./redis-script.ts";

/** Records that a replica can be behind without reading all rows. */
const LOG_MAX = 256;
const PAGE_ROWS = 500;
/** A table is not on a request's path: it can wait longer than the counters before it calls Redis away. */
const DEADLINE_MS = 1_000;

const LOOK = defineScript(`
local meta = redis.call('HMGET', KEYS[2], 'head', 'generation', 'stamp', 'filling', 'count')
local isWhole = meta[1] and redis.call('HLEN', KEYS[1]) == tonumber(meta[5])
return {meta[1] or '', meta[2] or '', meta[3] or '', meta[4] or '', isWhole and '1' or ''}`);

/** Rows without meta are taken as they are. */
const FOUND = defineScript(`
local count = redis.call('HLEN', KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'head', 'count')
if meta[1] and count == tonumber(meta[2]) then return 0 end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[2], 'head', ARGV[1], 'generation', ARGV[2], 'stamp', ARGV[3], 'filling', '1', 'count', count)
return 1`);

const NEXT_HEAD = `
local function nextHead(head, random)
  return string.format('%d-%s', tonumber(string.match(head, '^%d+')) + 1, random)
end`;

const OFFER = defineScript(`${NEXT_HEAD}
local meta = redis.call('HMGET', KEYS[2], 'head', 'generation')
if meta[2] ~= ARGV[1] then return -1 end
local count = redis.call('HLEN', KEYS[1])
local added = 0
for i = 4, #ARGV, 2 do
  if count + added < tonumber(ARGV[3]) then
    added = added + redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
if added > 0 then
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[2], 'head', nextHead(meta[1], ARGV[2]), 'count', count + added)
end
return added`);

const FILLED = defineScript(`
redis.call('HDEL', KEYS[2], 'filling')
return redis.call('PUBLISH', ARGV[1], '')`);

const READ = defineScript(`
return {redis.call('HGET', KEYS[2], 'generation') or '', redis.call('HGET', KEYS[1], ARGV[1]) or ''}`);

const WRITE = defineScript(`${NEXT_HEAD}
local generation, random, id, expected, text, max, channel = unpack(ARGV)
local meta = redis.call('HMGET', KEYS[2], 'head', 'generation')
if meta[2] ~= generation then return {'lost', ''} end
local now = redis.call('HGET', KEYS[1], id) or ''
if now ~= expected then return {'other', now} end
if now == '' and redis.call('HLEN', KEYS[1]) >= tonumber(max) then return {'full', ''} end
if text == '' then redis.call('HDEL', KEYS[1], id) else redis.call('HSET', KEYS[1], id, text) end
local head = nextHead(meta[1], random)
redis.call('HSET', KEYS[2], 'head', head, 'count', redis.call('HLEN', KEYS[1]))
local record = meta[1] .. ' ' .. head .. ' ' .. id .. ' ' .. text
redis.call('LPUSH', KEYS[3], record)
redis.call('LTRIM', KEYS[3], 0, ${LOG_MAX - 1})
redis.call('PUBLISH', channel, record)
return {'written', record}`);

export interface Standing {
  readonly head: string;
  readonly generation: string;
  readonly stamp: string;
  /** Someone is still offering the rows that a new generation starts with. */
  readonly isFilling: boolean;
  /** False where Redis is empty or has lost rows. */
  readonly isWhole: boolean;
}

export interface TableRecord {
  readonly before: string;
  readonly head: string;
  readonly id: string;
  /** "" where the row was removed. */
  readonly text: string;
}

export type Written =
  | { readonly kind: "written"; readonly record: TableRecord }
  /** The row is another one by now. */
  | { readonly kind: "other"; readonly text: string }
  | { readonly kind: "full" | "lost" };

export class TableStore {
  readonly channel: string;
  readonly #redis: SharedRedis;
  readonly #keys: readonly string[];
  readonly #rowsKey: string;
  readonly #logKey: string;

  constructor(redis: SharedRedis, name: string) {
    const base = `${redis.prefix}:{${name}}`;
    this.#redis = redis;
    this.#rowsKey = `${base}:rows`;
    this.#logKey = `${base}:log`;
    this.#keys = [this.#rowsKey, `${base}:meta`, this.#logKey];
    this.channel = `${base}:changes`;
  }

  async look(): Promise<Standing> {
    const [head = "", generation = "", stamp = "", filling, whole] = await this.#words(LOOK, []);
    return { head, generation, stamp, isFilling: filling === "1", isWhole: whole === "1" };
  }

  /** Starts a new generation where Redis has none that is whole. */
  async found(version: number, stamp: string): Promise<void> {
    await this.#run(FOUND, [`${version}-${random()}`, random(), stamp]);
  }

  /** Adds those of the rows that Redis does not have; false where the generation is another one by now. */
  async offer(generation: string, rowsMax: number, entries: Iterable<[string, string]>): Promise<boolean> {
    let page: string[] = [];
    for (const entry of entries) {
      page.push(...entry);
      if (page.length < 2 * PAGE_ROWS) continue;
      if (Number(await this.#run(OFFER, [generation, random(), rowsMax, ...page])) < 0) return false;
      page = [];
    }
    if (page.length === 0) return true;
    return Number(await this.#run(OFFER, [generation, random(), rowsMax, ...page])) >= 0;
  }

  async filled(): Promise<void> {
    await this.#run(FILLED, [this.channel]);
  }

  async read(id: string): Promise<{ readonly generation: string; readonly text: string }> {
    const [generation = "", text = ""] = await this.#words(READ, [id]);
    return { generation, text };
  }

  async write(wanted: {
    readonly generation: string;
    readonly id: string;
    readonly expected: string;
    readonly text: string;
    readonly rowsMax: number;
  }): Promise<Written> {
    const { generation, id, expected, text, rowsMax } = wanted;
    const args = [generation, random(), id, expected, text, rowsMax, this.channel];
    const [kind, words = ""] = await this.#words(WRITE, args);
    switch (kind) {
      case "written":
        return { kind, record: recordOf(words) };
      case "other":
        return { kind, text: words };
      case "full":
      case "lost":
        return { kind };
      default:
        throw new Error(`Redis answered a table's script with "${kind}"`);
    }
  }

  /** The records that lead on from `head`, oldest first; undefined where the log no longer reaches back so far. */
  async since(head: string): Promise<readonly TableRecord[] | undefined> {
    const log = (
      await this.#redis.run((client) => client.lrange(this.#logKey, 0, LOG_MAX - 1), DEADLINE_MS)
    ).map(recordOf);
    const first = log.findIndex(({ before }) => before === head);
    return first < 0 ? undefined : log.slice(0, first + 1).reverse();
  }

  /** Every row that is there all the while; one that is changed in between may come as it was or as it is. */
  async *pages(): AsyncGenerator<readonly [string, string][]> {
    let cursor = "0";
    do {
      const from = cursor;
      const [next, flat] = await this.#redis.run(
        (client) => client.hscan(this.#rowsKey, from, "COUNT", PAGE_ROWS),
        DEADLINE_MS,
      );
      const page: [string, string][] = [];
      for (let i = 0; i + 1 < flat.length; i += 2) page.push([flat[i]!, flat[i + 1]!]);
      yield page;
      cursor = next;
    } while (cursor !== "0");
  }

  #run(script: ReturnType<typeof defineScript>, args: readonly (string | number)[]): Promise<unknown> {
    return this.#redis.run((client) => runScript(client, script, this.#keys, args), DEADLINE_MS);
  }

  async #words(script: ReturnType<typeof defineScript>, args: readonly (string | number)[]) {
    return (await this.#run(script, args)) as readonly string[];
  }
}

/** Heads and ids hold no space; the text may. */
export function recordOf(record: string): TableRecord {
  const one = record.indexOf(" ");
  const two = record.indexOf(" ", one + 1);
  const three = record.indexOf(" ", two + 1);
  return {
    before: record.slice(0, one),
    head: record.slice(one + 1, two),
    id: record.slice(two + 1, three),
    text: record.slice(three + 1),
  };
}

/** 0 for "". */
export function versionOfHead(head: string): number {
  return Number.parseInt(head, 10) || 0;
}

function random(): string {
  return randomBytes(6).toString("base64url");
}
