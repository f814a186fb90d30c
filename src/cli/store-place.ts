/**
 * Where a gateway keeps what people manage on its own machine, for commands that work at the stores themselves: the
 * data folder or Redis, as gateway.yaml and the environment say, unless a flag says otherwise.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { loadGateway } from "../policy/gateway-file.ts";
import { formatProblems } from "../policy/problems.ts";
import { PEPPER_VARIABLE } from "../ports/pepper.ts";
import { openRedis, type SharedRedis } from "../ports/redis.ts";
import { UsageError } from "./admin-client.ts";

export const PLACE_USAGE = `  --data DIR      data folder of the gateway (default: data in gateway.yaml)
  --config DIR    folder with the gateway's gateway.yaml (default: ./config, else the shipped one)
  --redis URL     where the stores are, such as redis://127.0.0.1:6379 (default: stores in gateway.yaml)

Environment: SALLYPORT_REDIS_URL, SALLYPORT_REDIS_PASSWORD and SALLYPORT_KEY_PEPPER, where the gateway has them.`;

const SHIPPED_CONFIG = resolve(import.meta.dirname, "../../config");

export interface PlaceFlags {
  readonly data?: string | undefined;
  readonly config?: string | undefined;
  readonly redis?: string | undefined;
}

export interface StorePlace {
  readonly dataDir: string;
  /** Undefined: the store is the data folder. The caller closes it. */
  readonly redis: SharedRedis | undefined;
  /** For people. */
  readonly name: string;
}

/** `what` lies there: for the message that says why it cannot be reached. */
export async function openPlace(
  { data, config, redis: url }: PlaceFlags,
  env: Readonly<Record<string, string | undefined>>,
  what: string,
): Promise<StorePlace> {
  if (url !== undefined && !/^rediss?:\/\/[^/]/.test(url)) {
    throw new UsageError('--redis: takes "redis://HOST:PORT" or "rediss://HOST:PORT"');
  }
  const configDir = resolve(config ?? (existsSync("config") ? "config" : SHIPPED_CONFIG));
  const loaded = await loadGateway(configDir, url === undefined ? env : { ...env, SALLYPORT_REDIS_URL: url });
  if (!loaded.ok)
    throw new Error(`the gateway's settings cannot be read\n${formatProblems(loaded.problems)}`);
  const { stores } = loaded.config;
  const dataDir = data ?? loaded.config.data;
  if (stores.redis === undefined) return { dataDir, redis: undefined, name: dataDir };
  // One made here would lock every gateway out that has another.
  if (!env[PEPPER_VARIABLE] && !existsSync(join(dataDir, "pepper"))) {
    throw new Error(
      `${what} are on Redis: set ${PEPPER_VARIABLE} to what the gateways have, ` +
        `or give the data folder of one of them with --data (${dataDir} has no pepper)`,
    );
  }
  const redis = await openRedis(stores.redis);
  if (redis.isUp) return { dataDir, redis, name: "Redis" };
  const { problem } = redis;
  await redis.close();
  throw new Error(
    `Redis does not answer (${problem ?? "no connection"}): check --redis, SALLYPORT_REDIS_URL or stores in gateway.yaml`,
  );
}
