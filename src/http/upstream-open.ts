/** From gateway.yaml's words to open upstreams: the set of each dialect, with the keys of its organisations. */
import type { DialectName } from "../layer/index.ts";
import type { GatewayConfig } from "../policy/gateway-file.ts";
import { OrgKeys } from "./upstream-keys.ts";
import { UpstreamSet } from "./upstream-set.ts";

type Config = Pick<GatewayConfig, "upstreams" | "upstreamRules" | "limits" | "timeouts">;

export interface OpenUpstreamsOptions {
  /** A file of keys cannot be read any more, or (undefined) can again. */
  readonly onKeysProblem?: (problem: string | undefined) => void;
}

/** @throws where an organisation's key is named and cannot be had: its requests would go out on another account. */
export async function openUpstreams(
  { upstreams, upstreamRules, limits, timeouts }: Config,
  { onKeysProblem }: OpenUpstreamsOptions = {},
): Promise<Partial<Record<DialectName, UpstreamSet>>> {
  const open: Partial<Record<DialectName, UpstreamSet>> = {};
  for (const dialect of ["openai", "anthropic"] as const) {
    const named = upstreams[dialect];
    if (named === undefined) continue;
    const keys: Record<string, string> = {};
    for (const { org, keyEnv, key } of named.orgKeys) {
      if (key === undefined)
        throw new Error(
          `upstreams.${dialect}.orgKeys.${org}: the environment variable ${keyEnv} is not set; set it, or take the line out`,
        );
      keys[org] = key;
    }
    const path = named.orgKeysFile;
    const orgKeys =
      path === undefined && named.orgKeys.length === 0
        ? undefined
        : await OrgKeys.open({ dialect, keys, path, ...(onKeysProblem && { onProblem: onKeysProblem }) });
    open[dialect] = new UpstreamSet({
      dialect,
      targets: named.targets,
      orgKeys,
      ...upstreamRules,
      connectionsMax: limits.upstreamConnectionsMax,
      connectMs: timeouts.upstreamConnectMs,
      firstByteMs: timeouts.firstByteMs,
      idleMs: timeouts.idleMs,
    });
  }
  return open;
}
