/**
 * Shares what this process learns of entities with all others, behind the requests. Redis holds one hash for each
 * entity; one script both adds and answers, in Redis's own time, so that no replica's clock matters:
 *
 *   feed -> owed (summed up per entity) --every 100 ms--> sent (one batch, one id) --> script --> PUBLISH
 *             ^ kept while Redis is away                   | not answered: sent again,      |
 *             |                                            | the script knows the id        v
 *   look -> asked (not known, or not heard of for 5 s) --> script                  every replica: new sum
 *
 * The local sum of an entity is always what Redis last told of it plus what is owed and sent.
 */
import type { EntityKind } from "../layer/index.ts";
import { ENTITY_KINDS } from "../layer/index.ts";
import type { SharedRedis } from "./redis.ts";
import { RedisRefused } from "./redis.ts";
import { defineScript, runScript } from "./redis-script.ts";
import {
  type Contribution,
  decayed,
  type EntityTables,
  type Gift,
  HALF_LIFE_MS,
  type Known,
  NETWORKS_MAX,
  POINTS_MAX,
  POINTS_MIN,
  REASONS_MAX,
  Tally,
} from "./reputation-memory.ts";

const FLUSH_MS = 100;
const RETRY_MS = 250;
const ASK_MS = 5;
/** What Redis told longer ago is asked for again, behind the request. */
const FRESH_MS = 5_000;
const BATCH_MAX = 250;
/** Nobody waits for a batch, and a stall of this process must not count as Redis's. */
const DEADLINE_MS = 1_000;
/** Entities whose points wait for Redis; what comes past it stays in this process and is counted as unsent. */
const OWED_MAX = 50_000;
/** Entities waiting to be asked for; past it they are asked for when they are seen again. */
const ASKED_MAX = 10_000;
/** A batch's part that Redis refuses so often is given up, so that it does not hold up the others for ever. */
const TRIES_MAX = 20;
/** An entity that this process does not hold is taken over from a message where it has so much against it. */
const ADOPTED_POINTS_MIN = 0.1;

/**
 * KEYS[1] the entity's hash: s sum, t when, h half-life, e epoch, v version, f first seen, w reasons, n networks,
 * b batches. The epoch is given when the hash is made: who remembers another one knows what Redis has lost.
 * ARGV: the change as JSON ("" only reads), channel, kind, id, replica. Answers JSON with ages instead of times.
 */
const SCRIPT = defineScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local row = redis.call('HMGET', KEYS[1], 's', 't', 'h', 'v', 'f', 'w', 'n', 'b', 'e')
local op = ARGV[1] ~= '' and cjson.decode(ARGV[1]) or nil
local h = op and op.h or tonumber(row[3] or ${HALF_LIFE_MS})
local function worth(points, at)
  if at >= now then return points end
  return points * 2 ^ ((at - now) / h)
end
local s = worth(tonumber(row[1] or 0), tonumber(row[2] or now))
local v = tonumber(row[4] or 0)
local f = tonumber(row[5] or 0)
local w = row[6] and cjson.decode(row[6]) or {}
local n = row[7] and cjson.decode(row[7]) or {}
local b = row[8] or ''
local e = row[9] or ''
local isLost = op ~= nil and op.e ~= '' and (e ~= op.e or v < op.k)
-- What was lost comes first: a change without it would pass for all there is.
if isLost and not op.r then return cjson.encode({ l = true }) end
if op and not string.find(b, ' ' .. op.b .. ' ', 1, true) then
  if isLost then
    s = math.max(s, op.r.s)
    v = math.max(v, op.k)
    if #w < #op.r.w then
      w = op.r.w
      for _, one in ipairs(w) do one[3] = now - one[3] end
    end
  end
  s = math.min(${POINTS_MAX}, math.max(0, s + op.p))
  for _, one in ipairs(op.w) do
    one[3] = now - one[3]
    for i, old in ipairs(w) do
      if old[1] == one[1] then
        one[2] = one[2] + worth(old[2], old[3])
        one[5] = one[5] + old[5]
        table.remove(w, i)
        break
      end
    end
    table.insert(w, 1, one)
  end
  while #w > ${REASONS_MAX} do table.remove(w) end
  if op.f then
    local first = now - op.f
    if f == 0 or first < f then f = first end
  end
  local count = 0
  for name, age in pairs(op.n or {}) do
    local first = now - age
    if not n[name] or first < n[name] then n[name] = first end
  end
  for _ in pairs(n) do count = count + 1 end
  while count > ${NETWORKS_MAX} do
    local oldest
    for name, first in pairs(n) do
      if not oldest or first < n[oldest] then oldest = name end
    end
    n[oldest] = nil
    count = count - 1
  end
  v = v + 1
  if e == '' then e = op.b end
  redis.call('HSET', KEYS[1], 'e', e, 's', string.format('%.17g', s), 't', string.format('%.0f', now), 'h', h, 'v', v,
    'f', string.format('%.0f', f), 'w', cjson.encode(w), 'n', cjson.encode(n), 'b', string.sub(' ' .. op.b .. ' ' .. b, 1, 600))
  local ttl = 90 * 86400000
  if f == 0 and count == 0 then
    ttl = math.min(ttl, math.max(3600000, h * math.log(math.max(2, s / ${POINTS_MIN})) / math.log(2)))
  end
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ttl))
  if op.p ~= 0 or isLost then
    redis.call('PUBLISH', ARGV[2], cjson.encode({ k = ARGV[3], i = ARGV[4], s = s, e = e, v = v, h = h, r = ARGV[5] }))
  end
elseif f ~= 0 and redis.call('PTTL', KEYS[1]) < 60 * 86400000 then
  redis.call('PEXPIRE', KEYS[1], 90 * 86400000)
end
for _, one in ipairs(w) do one[3] = now - one[3] end
for name, first in pairs(n) do n[name] = now - first end
return cjson.encode({ s = s, e = e, v = v, h = h, f = f ~= 0 and now - f or -1, w = w, n = n })`);

/** [reason, points, age in ms, request, times, by] */
type Row = readonly [string, number, number, string, number, string];

interface Answer {
  readonly s: number;
  readonly e: string;
  readonly v: number;
  readonly h: number;
  readonly f: number;
  /** Empty Lua tables come as {}. */
  readonly w: readonly Row[] | Readonly<Record<string, never>>;
  readonly n: Readonly<Record<string, number>>;
}

/** Nothing was changed: Redis has lost what this process remembers of the entity, and must be told that too. */
interface Lost {
  readonly l: true;
}

/** Points that Redis has not been told yet; a pardon may make them negative. */
class Debt extends Tally {
  tellsFirst = false;
  readonly networks = new Set<string>();
  /** Redis has lost what this process knows, and is told all of it. */
  restores = false;

  override get pointsMin(): number {
    return -2 * POINTS_MAX;
  }
}

/** One debt on its way, under an id by which the script knows it again. */
interface Sent {
  readonly known: Known;
  readonly debt: Debt;
  readonly id: string;
  tries: number;
}

export interface SharedStats {
  readonly owed: number;
  /** Entities that a full queue kept from being told; their points hold in this process alone. */
  readonly unsent: number;
  readonly asking: number;
  /** Why the last batch failed; undefined since one succeeded. */
  readonly problem: string | undefined;
}

export interface SharedReputationOptions {
  readonly redis: SharedRedis;
  readonly tables: EntityTables;
  readonly now: () => number;
  /** Something of an entity has changed from outside. */
  readonly onChange: () => void;
}

export class SharedReputation {
  readonly #redis: SharedRedis;
  readonly #tables: EntityTables;
  readonly #now: () => number;
  readonly #onChange: () => void;
  readonly #channel: string;
  readonly #owed = new Map<Known, Debt>();
  readonly #sent = new Map<Known, Sent>();
  #asked = new Set<Known>();
  #flushTimer: NodeJS.Timeout | undefined;
  #askTimer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> | undefined;
  #asking: Promise<void> | undefined;
  #batches = 0;
  #unsent = 0;
  #problem: string | undefined;
  #isClosed = false;
  /** What was asked for before may have changed unheard. */
  #heardSinceMs = 0;

  constructor({ redis, tables, now, onChange }: SharedReputationOptions) {
    this.#redis = redis;
    this.#tables = tables;
    this.#now = now;
    this.#onChange = onChange;
    this.#channel = `${redis.prefix}:reputation`;
    redis.onState((isUp) => {
      if (!isUp) return;
      // Messages may have been missed.
      this.#heardSinceMs = this.#now();
      void this.flush();
    });
  }

  async open(): Promise<void> {
    await this.#redis.subscribe(this.#channel, (message) => this.#hear(message));
  }

  /** Asks for an entity behind the request, where that is due. */
  ask(known: Known, nowMs: number): void {
    if (nowMs - known.askedMs < FRESH_MS && known.askedMs >= this.#heardSinceMs) return;
    if (!this.#redis.isUp || this.#asked.size >= ASKED_MAX) return;
    known.askedMs = nowMs;
    this.#asked.add(known);
    if (this.#asking === undefined) this.#askTimer ??= setTimeout(() => void this.#askAll(), ASK_MS).unref();
  }

  /** Asks now; false where Redis does not answer. */
  async refresh(known: Known): Promise<boolean> {
    known.askedMs = this.#now();
    return this.#askFor([known]);
  }

  give(known: Known, gift: Gift, nowMs: number, halfLifeMs: number, share: number): void {
    this.#debtOf(known)?.give(gift, nowMs, halfLifeMs, share);
  }

  noteFirst(known: Known): void {
    const debt = this.#debtOf(known);
    if (debt !== undefined) debt.tellsFirst = true;
  }

  noteNetwork(known: Known, network: string): void {
    const debt = this.#debtOf(known);
    if (debt === undefined) return;
    debt.networks.add(network);
    // The latest are kept, as they are everywhere.
    if (debt.networks.size > NETWORKS_MAX)
      for (const first of debt.networks.values()) {
        debt.networks.delete(first);
        break;
      }
  }

  /** Until what is owed now was told, or Redis does not answer. */
  async settle(): Promise<void> {
    await this.flush(); // one that is under way may have begun before the last feed
    await this.flush();
  }

  flush(): Promise<void> {
    this.#flushing ??= this.#flushAll().finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  stats(): SharedStats {
    return {
      owed: this.#owed.size + this.#sent.size,
      unsent: this.#unsent,
      asking: this.#asked.size,
      problem: this.#problem,
    };
  }

  async close(): Promise<void> {
    await this.settle();
    this.#isClosed = true;
    clearTimeout(this.#flushTimer);
    clearTimeout(this.#askTimer);
    await this.#asking;
  }

  #debtOf(known: Known): Debt | undefined {
    let debt = this.#owed.get(known);
    if (debt === undefined) {
      if (this.#owed.size >= OWED_MAX) {
        this.#unsent += 1;
        return undefined;
      }
      debt = new Debt();
      debt.atMs = this.#now();
      this.#owed.set(known, debt);
      this.#flushSoon(FLUSH_MS);
    }
    return debt;
  }

  #flushSoon(delayMs: number): void {
    if (this.#isClosed) return;
    this.#flushTimer ??= setTimeout(() => {
      this.#flushTimer = undefined;
      void this.flush();
    }, delayMs).unref();
  }

  async #flushAll(): Promise<void> {
    // What is fed meanwhile waits for its own batch: a hot caller is one script in FLUSH_MS, not one in each round trip.
    let left = this.#owed.size + this.#sent.size;
    let isRefused = false;
    while (left > 0 && this.#redis.isUp && !isRefused) {
      this.#load();
      left -= this.#sent.size;
      isRefused = !(await this.#sendBatch());
    }
    // While Redis is away, its return starts the next try.
    if (this.#redis.isUp && this.#owed.size + this.#sent.size > 0)
      this.#flushSoon(isRefused ? RETRY_MS : FLUSH_MS);
  }

  #load(): void {
    for (const [known, debt] of this.#owed) {
      if (this.#sent.size >= BATCH_MAX) return;
      if (this.#sent.has(known)) continue;
      this.#owed.delete(known);
      const id = `${this.#redis.replica}.${(this.#batches++).toString(36)}`;
      this.#sent.set(known, { known, debt, id, tries: 0 });
    }
  }

  /** False where Redis did not answer, or refused all of it. */
  async #sendBatch(): Promise<boolean> {
    const batch = [...this.#sent.values()];
    const nowMs = this.#now();
    const answers = await this.#run(
      batch.map((sent) => ({ known: sent.known, change: this.#changeOf(sent, nowMs) })),
    );
    if (answers === undefined) return false;
    let isAnyDone = false;
    for (const [i, sent] of batch.entries()) {
      const answer = answers[i];
      if (answer === undefined || "l" in answer) {
        if (answer !== undefined) {
          sent.debt.restores = true;
          isAnyDone = true;
        }
        sent.tries += 1;
        if (sent.tries < TRIES_MAX) continue;
        this.#unsent += 1;
      }
      this.#sent.delete(sent.known);
      isAnyDone = true;
      if (answer !== undefined && !("l" in answer)) this.#learn(sent.known, answer, sent);
    }
    return isAnyDone;
  }

  async #askAll(): Promise<void> {
    this.#askTimer = undefined;
    this.#asking = (async () => {
      while (this.#asked.size > 0 && !this.#isClosed) {
        const batch = [...this.#asked.values().take(BATCH_MAX)];
        for (const known of batch) this.#asked.delete(known);
        if (!(await this.#askFor(batch))) {
          // They are asked for again when they are seen again.
          this.#asked = new Set();
        }
      }
    })();
    await this.#asking;
    this.#asking = undefined;
  }

  async #askFor(batch: readonly Known[]): Promise<boolean> {
    const answers = await this.#run(batch.map((known) => ({ known, change: "" })));
    if (answers === undefined) return false;
    for (const [i, known] of batch.entries()) {
      const answer = answers[i];
      if (answer !== undefined && !("l" in answer)) this.#learn(known, answer, undefined);
    }
    return true;
  }

  /** One pipeline; an entry is undefined where Redis refused it, the whole where it does not answer. */
  async #run(
    calls: readonly { readonly known: Known; readonly change: string }[],
  ): Promise<(Answer | Lost | undefined)[] | undefined> {
    const { replica, prefix } = this.#redis;
    try {
      // Commands of one turn share the connection's writes; a pipeline of ioredis cannot cross a cluster's slots.
      const replies = await this.#redis.run(
        (client) =>
          Promise.allSettled(
            calls.map(({ known, change }) =>
              runScript(
                client,
                SCRIPT,
                [`${prefix}:rep:{${known.kind}:${known.id}}`],
                [change, this.#channel, known.kind, known.id, replica],
              ),
            ),
          ).then((settled) => {
            // Where every one failed, that says something of Redis, and `run` is to judge it.
            const failed = settled.find((one) => one.status === "rejected");
            if (failed !== undefined && settled.every((one) => one.status === "rejected"))
              throw failed.reason;
            return settled;
          }),
        DEADLINE_MS,
      );
      const refused = replies.find((one) => one.status === "rejected");
      this.#problem = refused === undefined ? undefined : messageOf(refused.reason);
      return replies.map((one) => (one.status === "fulfilled" ? answerOf(one.value) : undefined));
    } catch (error) {
      this.#problem = messageOf(error);
      return error instanceof RedisRefused ? calls.map(() => undefined) : undefined;
    }
  }

  /** Takes over what Redis told; `sent` has arrived with it, and so has all that this process remembered. */
  #learn(known: Known, answer: Answer, sent: Sent | undefined): void {
    const nowMs = this.#now();
    const h = answer.h;
    const isSame = answer.e === known.epoch;
    if (isSame && answer.v < known.version && sent !== undefined) {
      // A message has told of a later sum, which holds what was sent, while that still was added to it.
      known.set(known.at(nowMs, h) - decayed(sent.debt.points, nowMs - sent.debt.atMs, h), nowMs, h);
    } else if (
      isSame ? answer.v >= known.version : sent !== undefined || !this.#remembersMore(known, nowMs, h)
    ) {
      const ahead = this.#ahead(known, nowMs, h);
      known.set(answer.s + ahead, nowMs, h);
      known.epoch = answer.e;
      known.version = answer.v;
      if (ahead === 0) known.because = contributionsOf(answer, nowMs);
    } else {
      // Redis has lost it, or a message came in between; the script can tell.
      const debt = this.#debtOf(known);
      if (debt !== undefined) debt.restores = true;
    }
    known.isLearnt = true;
    if (answer.f >= 0) {
      const firstMs = nowMs - answer.f;
      // Ages go through two clocks: a second's difference is none.
      if (!known.noteFirst(firstMs) && firstMs - known.firstMs > 1_000) this.noteFirst(known);
    } else if (known.firstMs !== 0) this.noteFirst(known);
    const networks = Object.entries(answer.n);
    // Redis knows none: it has lost them, or never heard of them.
    if (networks.length === 0) for (const name of known.networks?.keys() ?? []) this.noteNetwork(known, name);
    for (const [network, age] of networks) known.noteNetwork(network, nowMs - age);
    this.#onChange();
  }

  /** From another epoch than Redis's, and worth keeping. */
  #remembersMore(known: Known, nowMs: number, halfLifeMs: number): boolean {
    return (
      known.epoch !== "" && known.at(nowMs, halfLifeMs) - this.#ahead(known, nowMs, halfLifeMs) >= POINTS_MIN
    );
  }

  /** What this process has given and Redis's last word does not hold yet. */
  #ahead(known: Known, nowMs: number, halfLifeMs: number): number {
    const owed = this.#owed.get(known);
    const sent = this.#sent.get(known)?.debt;
    let points = 0;
    if (owed !== undefined) points += decayed(owed.points, nowMs - owed.atMs, halfLifeMs);
    if (sent !== undefined) points += decayed(sent.points, nowMs - sent.atMs, halfLifeMs);
    return points;
  }

  #hear(message: string): void {
    const told = toldBy(message);
    if (told === undefined || told.r === this.#redis.replica) return;
    const table = this.#tables[told.k];
    let known = table.peek(told.i);
    if (known === undefined) {
      if (told.s < ADOPTED_POINTS_MIN) return;
      known = table.admit(told.i, false);
    }
    const nowMs = this.#now();
    known.askedMs = 0; // the reasons, or what was lost, are asked for when it is next seen
    if (told.e === known.epoch ? told.v <= known.version : this.#remembersMore(known, nowMs, told.h)) return;
    known.set(told.s + this.#ahead(known, nowMs, told.h), nowMs, told.h);
    known.epoch = told.e;
    known.version = told.v;
    this.#onChange();
  }

  #changeOf({ known, debt, id }: Sent, nowMs: number): string {
    const h = debt.points === 0 ? known.halfLifeMs : debt.halfLifeMs;
    const ageOf = (ms: number) => Math.max(0, nowMs - ms);
    return JSON.stringify({
      b: id,
      h,
      e: known.epoch,
      k: known.version,
      p: decayed(debt.points, nowMs - debt.atMs, h),
      // Oldest first: each goes to the front of the list.
      w: rowsOf(debt.because, nowMs).reverse(),
      ...(debt.tellsFirst && known.firstMs !== 0 && { f: ageOf(known.firstMs) }),
      ...(debt.networks.size > 0 && {
        n: Object.fromEntries(
          [...debt.networks].map((name) => [name, ageOf(known.networks?.get(name) ?? nowMs)]),
        ),
      }),
      ...(debt.restores && {
        r: {
          s: Math.max(0, known.at(nowMs, h) - this.#ahead(known, nowMs, h)),
          w: rowsOf(known.because, nowMs),
        },
      }),
    });
  }
}

function rowsOf(because: readonly Contribution[], nowMs: number): Row[] {
  return because.map(({ reason, points, at, requestId, times, by }) => [
    reason,
    points,
    Math.max(0, nowMs - at),
    requestId,
    times,
    by ?? "",
  ]);
}

function contributionsOf({ w }: Answer, nowMs: number): Contribution[] {
  if (!Array.isArray(w)) return [];
  return (w as readonly Row[]).map(([reason, points, ageMs, requestId, times, by]) => ({
    reason,
    points,
    at: nowMs - ageMs,
    requestId,
    times,
    ...(by !== "" && { by }),
  }));
}

function answerOf(reply: unknown): Answer | Lost | undefined {
  try {
    return JSON.parse(String(reply)) as Answer | Lost;
  } catch {
    return undefined;
  }
}

interface Told {
  readonly k: EntityKind;
  readonly i: string;
  readonly s: number;
  readonly e: string;
  readonly v: number;
  readonly h: number;
  readonly r: string;
}

/** Undefined for a message that is none of ours. */
function toldBy(message: string): Told | undefined {
  try {
    const told = JSON.parse(message) as Partial<Told>;
    const isWhole =
      ENTITY_KINDS.includes(told.k as EntityKind) &&
      typeof told.i === "string" &&
      typeof told.e === "string" &&
      Number.isFinite(told.s) &&
      Number.isFinite(told.v) &&
      Number.isFinite(told.h);
    return isWhole ? (told as Told) : undefined;
  } catch {
    return undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
