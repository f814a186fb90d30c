/**
 * The stack, from the ground up: one line a part, each with the reason why it stands in that place. What is
 * opened first is closed last. `sallyport serve` calls this; tests call it with port 0 and layers of their own.
 */
import { layerKinds } from "../layers/index.ts";
import { openAdmin } from "./console/admin.ts";
import { adminRoutes } from "./console/routes.ts";
import { anthropic } from "./dialect/anthropic/index.ts";
import { openai } from "./dialect/openai/index.ts";
import { openGateway } from "./http/gateway.ts";
import type { Services } from "./http/services.ts";
import { Upstream } from "./http/upstream.ts";
import type { DialectName, LayerKind } from "./layer/index.ts";
import { openSpool } from "./ledger/spool.ts";
import { VerdictCache } from "./pipeline/verdict-cache.ts";
import type { GatewayConfig } from "./policy/gateway-file.ts";
import { formatProblems } from "./policy/problems.ts";
import { openPolicy } from "./policy/store.ts";
import { MemoryCounters } from "./ports/counters-memory.ts";
import { openIdentities } from "./ports/identities.ts";
import { openLogger } from "./telemetry/logger.ts";
import { openMetrics } from "./telemetry/metrics.ts";
import { openObserver } from "./telemetry/observer.ts";
import { openTracing } from "./telemetry/tracing.ts";

export interface SallyportOptions {
  readonly config: GatewayConfig;
  readonly configDir: string;
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly adminToken: string;
  readonly bootstrapKey: string | undefined;
  /** More kinds than the registry holds; tests bring probes. */
  readonly moreLayers?: readonly LayerKind[];
}

export type Sallyport = Awaited<ReturnType<typeof openSallyport>>;

export async function openSallyport(options: SallyportOptions) {
  const { config, configDir, dataDir, env } = options;
  const { limits, timeouts } = config;
  // Whatever fails below, what was opened before it is closed again.
  await using opening = new AsyncDisposableStack();

  // Words first: whatever fails below can say so.
  const log = openLogger({ level: config.telemetry.logLevel });
  const metrics = openMetrics();
  const tracing = await openTracing(config.telemetry);
  opening.defer(() => tracing.close());

  // The spool before any request: what cannot be recorded is not answered.
  const spool = openSpool({
    dir: `${dataDir}/spool`,
    ...config.spool,
    onAlarm: (alarm) => log.error({ ...alarm }, "the spool's state changed"),
  });
  opening.defer(() => spool.close());

  // State that outlives every policy: a reload forgives nobody.
  const identities = await openIdentities({
    dataDir,
    env,
    bootstrapKey: options.bootstrapKey,
    onProblem: (found) => log.error({ problem: found ?? "readable again" }, "the key file's state changed"),
  });
  opening.defer(() => identities.close());
  const counters = new MemoryCounters({ keysMax: limits.counterKeysMax });

  // The policy next, as it needs the ports; a bad one leaves the last good one in place.
  const policy = await openPolicy({
    configDir,
    dataDir,
    kinds: [...layerKinds, ...(options.moreLayers ?? [])],
    portsFor: (seat) => ({ counters: counters.forSeat(seat), identities }),
    pollMs: config.policyPollMs,
    onReload(result) {
      metrics.policyReload(result);
      const problems = result.result === "unchanged" ? [] : result.problems;
      const fields = { result: result.result, revision: result.revision };
      if (problems.length === 0) log.info(fields, "policy");
      else log.warn({ ...fields, problem: formatProblems(problems) }, "the policy on file is not served");
    },
  });
  opening.defer(() => policy.close());

  // Upstreams are connected to lazily; one that is away answers with its own code.
  const upstreams = openUpstreams(config);
  for (const upstream of Object.values(upstreams)) opening.defer(() => upstream.close());

  // What each exchange may reach, and nothing more.
  const cache = new VerdictCache({ entriesMax: limits.verdictCacheEntries });
  const services: Services = {
    limits,
    timeouts,
    dialects: { openai, anthropic },
    upstreams,
    cache,
    observer: openObserver({ metrics, tracing, log }),
    current: () => policy.current(),
    pin: () => policy.pin(),
    unpin: (snapshot) => policy.unpin(snapshot),
    record: (decision, written) => spool.enqueue(decision, written),
    recording: () => spool.accepting,
  };

  // Admin stands beside the gateway, on a port of its own, behind its own token.
  const state = { draining: false };
  const routes = adminRoutes({
    policy,
    identities,
    spool,
    metrics,
    metricsAccess: config.admin.metrics,
    state,
    upstreams: Object.fromEntries(Object.entries(upstreams).map(([name, { origin }]) => [name, origin])),
  });
  const admin = await openAdmin({ ...config.admin.listen, token: options.adminToken, routes });
  opening.defer(() => admin.close());

  // The listener last: it takes requests as soon as it exists.
  const gateway = await openGateway({
    ...config.listen,
    services,
    headerBytesMax: limits.headerBytesMax,
    headersCountMax: limits.headersCountMax,
    connectionsMax: limits.connectionsMax,
    headersMs: timeouts.headersMs,
    keepAliveMs: timeouts.keepAliveMs,
    bodyMs: timeouts.bodyMs,
    idleMs: timeouts.idleMs,
    onRejected: (code) => metrics.rejected(code),
  });

  // Figures that are looked up when metrics are scraped, and cost nothing before.
  metrics.read("connections", () => gateway.connections);
  metrics.read("running", () => gateway.active);
  metrics.read("spoolRecords", () => spool.stats().appended);
  metrics.read("spoolDropped", () => spool.stats().dropped);
  metrics.read("spoolSegmentsDropped", () => spool.stats().segmentsDropped);
  metrics.read("spoolBytes", () => spool.stats().bytes);
  metrics.read("spoolAccepting", () => (spool.accepting ? 1 : 0));
  metrics.read("counterKeys", () => counters.stats().keys);
  metrics.read("counterOverflow", () => counters.stats().overflowed);

  const opened = opening.move();
  return {
    gateway,
    admin,
    policy,
    identities,
    spool,
    /** Refuses new requests, lets running ones end within the grace time, then closes what was opened, last first. */
    async close(graceMs: number = timeouts.drainMs): Promise<void> {
      state.draining = true;
      await gateway.drain(graceMs);
      await opened.disposeAsync();
    },
  };
}

function openUpstreams({
  upstreams,
  limits,
  timeouts,
}: GatewayConfig): Partial<Record<DialectName, Upstream>> {
  const open: Partial<Record<DialectName, Upstream>> = {};
  for (const dialect of ["openai", "anthropic"] as const) {
    const named = upstreams[dialect];
    if (named === undefined) continue;
    open[dialect] = new Upstream({
      dialect,
      url: named.url,
      key: named.key,
      connectionsMax: limits.upstreamConnectionsMax,
      connectMs: timeouts.upstreamConnectMs,
      firstByteMs: timeouts.firstByteMs,
      idleMs: timeouts.idleMs,
    });
  }
  return open;
}
