/**
 * A Lua script and the way to run it: by its hash, and in full where the server has not seen it (a new server, a
 * SCRIPT FLUSH, another node of a cluster). Our own rather than ioredis's defineCommand, which remembers per socket
 * what was sent and adds untyped methods to the client.
 */
import { createHash } from "node:crypto";
import { Cluster, type Redis } from "ioredis";

export interface RedisScript {
  readonly lua: string;
  readonly sha: string;
}

export function defineScript(lua: string): RedisScript {
  return { lua, sha: createHash("sha1").update(lua).digest("hex") };
}

/** Makes a script known before it is first needed, which then takes one round trip; what fails is made up for then. */
export async function loadScript(client: Redis | Cluster, { lua }: RedisScript): Promise<void> {
  const nodes = client instanceof Cluster ? client.nodes("master") : [client];
  await Promise.allSettled(nodes.map((node) => node.script("LOAD", lua)));
}

/** In a cluster, all keys must carry one hash tag. */
export function runScript(
  client: Redis | Cluster,
  script: RedisScript,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  return client.evalsha(script.sha, keys.length, ...keys, ...args).catch((error: unknown) => {
    if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
    return client.eval(script.lua, keys.length, ...keys, ...args);
  });
}
