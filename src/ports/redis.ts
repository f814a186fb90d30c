/**
 * Redis or Redis Cluster behind one connection, with one word on whether it answers. Redis may be slow, frozen, gone
 * or read-only at any moment; a request must not find that out by waiting. So the first command that misses its
 * deadline ends the asking: those that wait beside it give up with it, callers are refused at once, and a probe alone
 * goes on until it is answered.
 *
 *            command missed its deadline, connection broke, READONLY, LOADING, ...
 *       up ------------------------------------------------------------------------> away
 *        ^                                                                            |
 *        +-- a probe that writes (this process's heartbeat) was answered: every <-----+
 *            250 ms; a connection silent for 2 s is replaced (a half-open one never speaks)
 *
 * A timer that is due looks at the socket once more before it judges: a stall of this process is not Redis's.
 */
import { randomBytes } from "node:crypto";
import { Cluster, type Redis } from "ioredis";
import {
  connectionOf,
  type RedisClient,
  type RedisConnection,
  type RedisSettings,
} from "./redis-connection.ts";
import { defineScript, runScript } from "./redis-script.ts";
import { RedisSubscriber } from "./redis-subscriber.ts";

export interface RedisTimes {
  readonly probeMs: number;
  /** A connection that says nothing for so long while away is replaced. */
  readonly silentMs: number;
  readonly heartbeatMs: number;
  /** A gateway process whose last heartbeat is older is not counted. */
  readonly freshMs: number;
  /** How long openRedis waits for the first answer. */
  readonly openMs: number;
}

export const REDIS_TIMES: RedisTimes = {
  probeMs: 250,
  silentMs: 2000,
  heartbeatMs: 1000,
  freshMs: 3500,
  openMs: 1000,
};

export type { RedisClient, RedisSettings } from "./redis-connection.ts";

export interface SharedRedis {
  readonly client: RedisClient;
  readonly isCluster: boolean;
  readonly prefix: string;
  /** Random id of this process. */
  readonly replica: string;
  /** False from the first command that missed its deadline until a probe is answered. */
  readonly isUp: boolean;
  /** Why it is away, or what went wrong last; without names, values or secrets. */
  readonly problem: string | undefined;
  /** Gateway processes with a fresh heartbeat, at least 1; the last count is kept while away. */
  readonly liveReplicas: number;
  /**
   * Rejects with RedisAway at once while away, and at the deadline; with RedisRefused where Redis answered with an
   * error that concerns this command alone. The command may still be carried out after its deadline.
   */
  run<T>(command: (client: RedisClient) => Promise<T>, deadlineMs?: number): Promise<T>;
  /** Called with each change, and with `true` again after a subscription was broken: messages may be missing. */
  onState(listener: (isUp: boolean) => void): void;
  /** Over a connection of its own, which subscribes again whenever it was broken. Resolves within a second. */
  subscribe(channel: string, listener: (message: string) => void): Promise<void>;
  close(): Promise<void>;
}

export class RedisAway extends Error {
  override readonly name = "RedisAway";
}
export class RedisRefused extends Error {
  override readonly name = "RedisRefused";
}

/** Resolves within a second also when nothing listens: it then is not up, and goes on trying. */
export async function openRedis(
  settings: RedisSettings,
  times: Partial<RedisTimes> = {},
): Promise<SharedRedis> {
  const link = new RedisLink(connectionOf(settings), settings, { ...REDIS_TIMES, ...times });
  await link.opened();
  return link;
}

/** A timer that comes so late, or a turn so long, says that this process was held up, not that Redis is slow. */
const STALL_MS = 10;
/** A process that is held up again and again lets nobody wait for so much more than the deadline ... */
const HELD_UP_MS_MAX = 150;
/** ... and holds Redis for away all the same when nothing at all was heard of it for so long. */
const UNHEARD_MS_MAX = 500;
/** Answers of the server that concern every command, not the one that was sent. */
const SERVER_WIDE =
  /^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MISCONF|OOM|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|UNBLOCKED|BUSY|ERR max number of clients)/;
/** A slot is on its way between two nodes, or just arrived: both answer. */
const SLOT_MOVES = /\b(TRYAGAIN|MOVED|ASK)\b/;

/** Counts the gateway processes by their heartbeats, in Redis's own time. It writes: a read-only server fails it. */
const HEARTBEAT = defineScript(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 60000, '+inf')
redis.call('PEXPIRE', KEYS[1], 60000)
return redis.call('ZCARD', KEYS[1])`);

class RedisLink implements SharedRedis {
  readonly prefix: string;
  readonly replica = randomBytes(6).toString("base64url");
  readonly #connection: RedisConnection;
  readonly #timeoutMs: number;
  readonly #times: RedisTimes;
  readonly #password: string | undefined;
  readonly #listeners: ((isUp: boolean) => void)[] = [];
  readonly #ticks: NodeJS.Timeout;
  #client: RedisClient;
  #subscriber: RedisSubscriber | undefined;
  #isUp = false;
  #isClosed = false;
  #problem: string | undefined;
  #liveReplicas = 1;
  /** When this connection was made or last gave an answer to a probe. */
  #heardMs = performance.now();
  #probeSentMs: number | undefined;
  #heartbeatMs = 0;
  #upSinceMs = 0;
  /** When a command was last answered. */
  #answeredMs = 0;
  /** Each gives its command up: who waits on a server that is away has nothing to wait for. */
  readonly #giveUps = new Set<(why: string) => void>();

  constructor(connection: RedisConnection, settings: RedisSettings, times: RedisTimes) {
    this.#connection = connection;
    this.prefix = settings.prefix;
    this.#timeoutMs = settings.timeoutMs;
    this.#password = connection.plain(0).password;
    this.#times = times;
    this.#client = this.#open();
    this.#ticks = setInterval(() => this.#tick(), times.probeMs);
    this.#ticks.unref();
  }

  get client(): RedisClient {
    return this.#client;
  }
  get isCluster(): boolean {
    return this.#connection.isCluster;
  }
  get isUp(): boolean {
    return this.#isUp;
  }
  get problem(): string | undefined {
    return this.#problem;
  }
  get liveReplicas(): number {
    return this.#liveReplicas;
  }

  run<T>(command: (client: RedisClient) => Promise<T>, deadlineMs = this.#timeoutMs): Promise<T> {
    if (!this.#isUp) return Promise.reject(new RedisAway(this.#problem ?? "Redis does not answer"));
    const client = this.#client;
    return new Promise<T>((resolve, reject) => {
      let isOpen = true;
      const giveUp = (why: string) => {
        clearTimeout(timer);
        this.#giveUps.delete(giveUp);
        isOpen = false;
        reject(new RedisAway(why));
      };
      const missed = () => {
        const why = `Redis did not answer within ${deadlineMs} ms`;
        giveUp(why);
        this.#goAway(client, why);
      };
      // The caller is answered otherwise, before the deadline of whoever asked for it; of Redis it says nothing yet.
      const heldUp = () => {
        const why = "this gateway was held up";
        giveUp(why);
        if (performance.now() - this.#answeredMs > UNHEARD_MS_MAX) this.#goAway(client, why);
      };
      // Timers come before the sockets in a turn of the event loop, setImmediate after them: what has come is read
      // before the verdict. A long turn may have read the socket at its start; then the next one decides.
      const look = (sinceMs: number) => {
        setImmediate(() => {
          const nowMs = performance.now();
          if (!isOpen) return;
          if (nowMs > giveUpMs) heldUp();
          else if (nowMs - sinceMs > STALL_MS) look(nowMs);
          else missed();
        });
      };
      let dueMs = performance.now() + deadlineMs;
      const giveUpMs = dueMs + HELD_UP_MS_MAX;
      const due = () => {
        const nowMs = performance.now();
        if (nowMs - dueMs <= STALL_MS || nowMs > giveUpMs) {
          look(nowMs);
          return;
        }
        // This process was held up: the caller's time is lost, and Redis may have waited for the same processor.
        dueMs = nowMs + deadlineMs;
        timer = setTimeout(due, deadlineMs);
      };
      let timer = setTimeout(due, deadlineMs);
      const ended = () => {
        clearTimeout(timer);
        this.#giveUps.delete(giveUp);
        isOpen = false;
      };
      this.#giveUps.add(giveUp);
      command(client).then(
        (value) => {
          ended();
          this.#answeredMs = performance.now();
          resolve(value);
        },
        (error: unknown) => {
          if (!isOpen) return;
          ended();
          reject(this.#judged(client, error));
        },
      );
    });
  }

  onState(listener: (isUp: boolean) => void): void {
    this.#listeners.push(listener);
  }

  async subscribe(channel: string, listener: (message: string) => void): Promise<void> {
    this.#subscriber ??= new RedisSubscriber({
      connection: this.#connection,
      silentMs: this.#times.silentMs,
      onResubscribed: () => {
        if (this.#isUp) this.#tell();
      },
    });
    await within(this.#times.openMs, this.#subscriber.subscribe(channel, listener));
  }

  /** Once it answers, or after `openMs`. */
  opened(): Promise<void> {
    const up = new Promise<void>((resolve) => {
      this.onState((isUp) => {
        if (isUp) resolve();
      });
    });
    return within(this.#times.openMs, up);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#ticks);
    this.#subscriber?.close();
    const client = this.#client;
    // The others' shares grow at once rather than when the heartbeat has gone stale.
    if (this.#isUp)
      await within(
        200,
        client.zrem(this.#heartbeatKey(), this.replica).catch(() => 0),
      );
    this.#isUp = false;
    drop(client);
  }

  #heartbeatKey(): string {
    return `${this.prefix}:replicas`;
  }

  #tick(): void {
    const nowMs = performance.now();
    if (this.#isUp) {
      if (nowMs - this.#heartbeatMs < this.#times.heartbeatMs) return;
      this.#heartbeatMs = nowMs;
      this.run((client) => this.#beat(client)).catch(() => {}); // run() has drawn the consequence
      return;
    }
    if (nowMs - this.#heardMs > this.#times.silentMs || this.#client.status === "end") this.#replace();
    else this.#probe();
  }

  #beat(client: RedisClient): Promise<void> {
    const args = [this.replica, this.#times.freshMs];
    return runScript(client, HEARTBEAT, [this.#heartbeatKey()], args).then((count) => {
      // After an outage the others' heartbeats are stale too: a lower count is believed once they had time to beat.
      const isSettled = this.#isUp && performance.now() - this.#upSinceMs > this.#times.freshMs;
      const seen = Math.max(1, Number(count));
      this.#liveReplicas = isSettled ? seen : Math.max(this.#liveReplicas, seen);
    });
  }

  #probe(): void {
    const client = this.#client;
    const nowMs = performance.now();
    if (client.status !== "ready" || this.#isClosed) return;
    if (this.#probeSentMs !== undefined && nowMs - this.#probeSentMs < 2 * this.#times.probeMs) return;
    this.#probeSentMs = nowMs;
    const nodes = client instanceof Cluster ? everyMaster(client) : Promise.resolve();
    nodes
      .then(() => this.#beat(client))
      .then(
        () => this.#comeUp(client),
        (error: unknown) => {
          if (client !== this.#client) return;
          this.#probeSentMs = undefined;
          this.#problem = this.#wordsOf(error);
          // It speaks, but is the wrong one now (or still loading): where its name leads may have changed.
          if (/^READONLY/.test(this.#problem)) this.#replace();
          else if (client instanceof Cluster && client.status === "ready") client.refreshSlotsCache();
        },
      );
  }

  #comeUp(client: RedisClient): void {
    if (client !== this.#client || this.#isUp || this.#isClosed) return;
    this.#probeSentMs = undefined;
    this.#heardMs = performance.now();
    this.#upSinceMs = this.#heardMs;
    this.#heartbeatMs = this.#heardMs;
    this.#answeredMs = this.#heardMs;
    this.#isUp = true;
    this.#tell();
  }

  #goAway(client: RedisClient, why: string): void {
    if (client !== this.#client || !this.#isUp) return;
    this.#isUp = false;
    this.#problem = why;
    this.#heardMs = performance.now();
    for (const giveUp of this.#giveUps) giveUp(why);
    this.#tell();
    this.#probe();
  }

  #tell(): void {
    const isUp = this.#isUp;
    for (const listener of this.#listeners) listener(isUp);
  }

  /** What a failed command says of Redis as a whole. */
  #judged(client: RedisClient, error: unknown): RedisAway | RedisRefused {
    const words = this.#wordsOf(error);
    const isReply = error instanceof Error && error.name === "ReplyError";
    if ((isReply && !SERVER_WIDE.test(words)) || SLOT_MOVES.test(words)) return new RedisRefused(words);
    this.#goAway(client, words);
    return new RedisAway(words);
  }

  /** ioredis hangs the whole command on its errors, AUTH's too: only the words go on. */
  #wordsOf(error: unknown): string {
    const words = error instanceof Error ? error.message : String(error);
    const safe = this.#password ? words.replaceAll(this.#password, "***") : words;
    return safe.slice(0, 300);
  }

  #open(): RedisClient {
    const client = this.#connection.open();
    client.on("error", (error: unknown) => {
      if (client !== this.#client) return;
      this.#problem = this.#wordsOf(error);
    });
    client.on("close", () => this.#goAway(client, "the connection to Redis was closed"));
    client.on("ready", () => {
      if (client === this.#client && !this.#isUp) this.#probe();
    });
    return client;
  }

  #replace(): void {
    const old = this.#client;
    this.#client = this.#open();
    this.#probeSentMs = undefined;
    this.#heardMs = performance.now();
    drop(old);
  }
}

/** Rejects unless every slot has an owner and every owner answers: one frozen node in three would fail every third take. */
async function everyMaster(cluster: Cluster): Promise<void> {
  const owners = new Set<string>();
  for (let slot = 0; slot < 16_384; slot++) {
    const owner = cluster.slots[slot]?.[0];
    if (owner === undefined) throw new Error("CLUSTERDOWN a hash slot has no owner");
    owners.add(owner);
  }
  const masters = new Map(cluster.nodes("master").map((node) => [addressOf(node), node]));
  await Promise.all(
    [...owners].map((owner) => {
      const node = masters.get(owner);
      if (node === undefined) throw new Error("no connection to a master of the cluster");
      return node.time();
    }),
  );
}

function addressOf(node: Redis): string {
  const { host, port } = node.options;
  return `${host}:${port}`;
}

/** Ends the sockets themselves: a polite end waits for the other side, which may never speak again. */
function drop(client: RedisClient): void {
  const nodes = client instanceof Cluster ? client.nodes() : [client];
  client.disconnect();
  for (const node of nodes) node.stream?.destroy();
}

async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}
