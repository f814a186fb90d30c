/**
 * From settings to a connection of ioredis, single or Cluster, with everything turned off that waits or tries again by
 * itself: a caller of ours has 20 ms, and what was not answered is not to be carried out later.
 */
import { Cluster, Redis, type RedisOptions } from "ioredis";

export interface RedisSettings {
  /** "redis://host:port/db" or "rediss://..." for TLS. */
  readonly url: string | undefined;
  /** "host:port" of some nodes of a cluster ("rediss://host:port" for TLS); the others are found. */
  readonly nodes: readonly string[];
  /** Keys are `${prefix}:...`. */
  readonly prefix: string;
  /** How long a command may take. */
  readonly timeoutMs: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

export type RedisClient = Redis | Cluster;

/** With the shape of replies spelt out, as ioredis's types ask. */
export type PlainOptions = Omit<RedisOptions, "replyMapping"> & { replyMapping?: "legacy" };

export interface RedisConnection {
  readonly isCluster: boolean;
  /** Options of one plain connection; the n-th try goes to the n-th of a cluster's nodes. */
  plain(attempt: number): PlainOptions;
  open(): RedisClient;
}

export function connectionOf(settings: RedisSettings): RedisConnection {
  const { url, nodes, username, password } = settings;
  if (url === undefined && nodes.length === 0)
    throw new Error('stores.redis: give url (such as "redis://127.0.0.1:6379") or nodes');
  const base: PlainOptions = {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    connectionName: "sallyport",
    connectTimeout: 1000,
    maxLoadingRetryTime: 250,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    disableClientInfo: true,
    // Nothing here asks for maps or pushes; older servers need no second handshake.
    protocol: 2,
    ...(nodes.some((node) => node.startsWith("rediss://")) && { tls: {} }),
  };
  const isCluster = nodes.length > 0;
  const targets = isCluster ? nodes.map(nodeOf) : [urlOf(url ?? "")];
  const plain = (attempt: number): PlainOptions => ({
    ...base,
    enableOfflineQueue: false,
    retryStrategy: () => 100,
    ...targets[attempt % targets.length],
  });
  return {
    isCluster,
    plain,
    open() {
      if (!isCluster) return new Redis(plain(0));
      const cluster = {
        redisOptions: base,
        enableOfflineQueue: false,
        clusterRetryStrategy: () => 100,
        maxRedirections: 5,
        // A take waits 20 ms at most: what fails is answered by the policy's posture, not tried again.
        retryDelayOnFailover: 0,
        retryDelayOnClusterDown: 0,
        retryDelayOnTryAgain: 3,
        slotsRefreshTimeout: 500,
        slotsRefreshInterval: 1000,
      };
      return new Cluster(
        targets.map(({ host, port }) => ({ host, port })),
        cluster,
      );
    },
  };
}

function urlOf(text: string): PlainOptions {
  const parsed = URL.canParse(text) ? new URL(text) : undefined;
  if (parsed === undefined || !/^rediss?:$/.test(parsed.protocol) || parsed.hostname === "")
    throw new Error('stores.redis.url must be like "redis://host:6379" or "rediss://host:6379/0"');
  const db = parsed.pathname.replace(/^\//, "");
  if (!/^\d*$/.test(db))
    throw new Error("stores.redis.url: the path is the number of a database, such as /0");
  return {
    host: parsed.hostname.replace(/^\[|\]$/g, ""),
    port: parsed.port === "" ? 6379 : Number(parsed.port),
    db: Number(db),
    ...(parsed.username !== "" && { username: decodeURIComponent(parsed.username) }),
    ...(parsed.password !== "" && { password: decodeURIComponent(parsed.password) }),
    ...(parsed.protocol === "rediss:" && { tls: {} }),
  };
}

function nodeOf(text: string): PlainOptions {
  const match = /^(?:rediss?:\/\/)?(?:\[([^\]]+)\]|([^:/]+)):(\d{1,5})$/.exec(text);
  if (match === null)
    throw new Error(`stores.redis.nodes: "${text}" must be "host:port", or "rediss://host:port" for TLS`);
  return { host: match[1] ?? match[2] ?? "", port: Number(match[3]) };
}
