/**
 * The stack, from the ground up: one line a part, each with the reason why it stands in that place. What is
 * opened first is closed last. `sallyport serve` calls this; tests call it with port 0 and layers of their own.
 */
import { existsSync } from "node:fs";
import { layerKinds } from "../layers/index.ts";
import { openAdmin } from "./console/admin.ts";
import { LoginLimits } from "./console/attempts.ts";
import type { AuditEntry } from "./console/audited.ts";
import { adminRoutes } from "./console/routes.ts";
import { anthropic } from "./dialect/anthropic/index.ts";
import { openai } from "./dialect/openai/index.ts";
import { openGateway } from "./http/gateway.ts";
import type { Services } from "./http/services.ts";
import { openUpstreams } from "./http/upstream-open.ts";
import type { UpstreamStats } from "./http/upstream-set.ts";
import { ENTITY_KINDS, type Entity, type LayerKind } from "./layer/index.ts";
import { Audit, auditDirOf, checkpointsOf } from "./ledger/audit.ts";
import { isInside } from "./ledger/audit-checkpoints.ts";
import { openAuditKey } from "./ledger/audit-key.ts";
import { readAudit } from "./ledger/audit-reader.ts";
import { openContent } from "./ledger/content.ts";
import { openContentKey } from "./ledger/content-format.ts";
import { openSpool } from "./ledger/spool.ts";
import { HeldBudget } from "./pipeline/held-budget.ts";
import { VerdictCache } from "./pipeline/verdict-cache.ts";
import { type GatewayConfig, gatewaySchema } from "./policy/gateway-file.ts";
import { Guard } from "./policy/guard/guard.ts";
import { reasonOf, Watchman } from "./policy/guard/watchman.ts";
import { formatProblems } from "./policy/problems.ts";
import { openPolicy, type ReloadResult } from "./policy/store.ts";
import { SwitchBoard } from "./policy/switched-off.ts";
import { MemoryCounters } from "./ports/counters-memory.ts";
import type { RedisCounters } from "./ports/counters-redis.ts";
import { type EncoderStats, openEncoder } from "./ports/encoder.ts";
import { openExemplars } from "./ports/exemplars.ts";
import { openGeo } from "./ports/geo.ts";
import { openIdentities } from "./ports/identities.ts";
import { type JudgeFigures, openJudges } from "./ports/judges.ts";
import type { Resolve } from "./ports/judges-address.ts";
import { openOperators } from "./ports/operators.ts";
import { RecentTextStore } from "./ports/recent-texts.ts";
import { openRedis } from "./ports/redis.ts";
import { openReputation } from "./ports/reputation.ts";
import { openSanctions } from "./ports/sanctions.ts";
import { openSwitches } from "./ports/switches.ts";
import { asksEncoder, cautionsOf, limitsOf, reputationSeatsOf } from "./served.ts";
import { openLogger } from "./telemetry/logger.ts";
import { openMetrics } from "./telemetry/metrics.ts";
import { openObserver } from "./telemetry/observer.ts";
import { openTracing } from "./telemetry/tracing.ts";

export interface SallyportOptions {
  readonly config: GatewayConfig;
  readonly configDir: string;
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Opens the whole admin API. Absent: accounts and named tokens alone do. */
  readonly adminToken: string | undefined;
  readonly bootstrapKey: string | undefined;
  /** How judges' names are resolved; DNS by default. */
  readonly resolveJudge?: Resolve;
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

  // The audit chain before anything that can be changed: what cannot be put on record is not changed.
  const auditDir = auditDirOf(dataDir);
  const checkpoints = checkpointsOf(dataDir, config.audit.checkpoints);
  const audit = new Audit({
    ...config.audit,
    dir: auditDir,
    checkpoints,
    checkpointMs: config.audit.checkpointSec * 1_000,
    key: openAuditKey(auditDir, env),
    onProblem: (what, problem) =>
      problem === undefined
        ? log.info({ what }, "are written again")
        : log.error({ what, problem }, "cannot be written"),
  });
  opening.defer(() => audit.close());
  if (isInside(checkpoints, dataDir)) {
    const problem =
      "the audit chain's checkpoints lie in the data folder: whoever can write it can forge both. " +
      "Name a place elsewhere in audit.checkpoints of gateway.yaml";
    log.warn({ checkpoints, problem }, "served as it was asked for");
  }
  audit.note({ actor: "system", action: "gateway.start", target: `process ${process.pid}`, outcome: "done" });

  // What was asked and answered, where the operator wants it kept; off the path of requests. What an earlier
  // configuration kept goes in its time.
  const kept = existsSync(`${dataDir}/content`)
    ? gatewaySchema.parse({ record: { share: 0 } }).record
    : undefined;
  const record = config.record ?? kept;
  const content =
    record === undefined
      ? undefined
      : await openContent({
          ...record,
          dir: `${dataDir}/content`,
          key: openContentKey(dataDir, env, { make: true }),
          keepForMs: record.keepForHours * 3_600_000,
          onProblem: (problem) =>
            problem === undefined
              ? log.info("content is recorded again")
              : log.error({ problem }, "content cannot be recorded"),
        });
  if (content !== undefined) opening.defer(() => content.close());

  // Redis, where one is named: limits, keys, sanctions and reputation are then shared by all gateways. One that is
  // away stops nothing from starting: each seat says what holds meanwhile.
  const redis = config.stores.redis === undefined ? undefined : await openRedis(config.stores.redis);
  if (redis !== undefined) {
    opening.defer(() => redis.close());
    redis.onState((isUp) => {
      if (isUp) log.info({ replicas: redis.liveReplicas }, "redis answers");
      else log.error({ problem: redis.problem }, "redis is away");
    });
    if (!redis.isUp) log.error({ problem: redis.problem }, "redis is away");
  }

  // State that outlives every policy: a reload forgives nobody.
  const changed = (what: string) => (found: string | undefined) =>
    found === undefined
      ? log.info({ what }, "can be read again")
      : log.error({ what, problem: found }, "cannot be used; what was read last holds");
  const identities = await openIdentities({
    dataDir,
    env,
    bootstrapKey: options.bootstrapKey,
    redis,
    onProblem: changed("keys"),
    onIssuerProblem: (issuer, found) => changed(`the keys of the issuer ${issuer}`)(found),
  });
  opening.defer(() => identities.close());
  const counting = { keysMax: limits.counterKeysMax };
  const counters =
    redis === undefined
      ? new MemoryCounters(counting)
      : new (await import("./ports/counters-redis.ts")).RedisCounters({ redis, ...counting });
  opening.defer(() => counters.close());
  const sanctions = await openSanctions({ dataDir, redis, onProblem: changed("sanctions") });
  opening.defer(() => sanctions.close());
  const switches = await openSwitches({ dataDir, redis, onProblem: changed("kill switches") });
  opening.defer(() => switches.close());
  const geo = await openGeo({ ...config.geo, onProblem: changed("geo") });
  opening.defer(() => geo.close());
  const reputation = await openReputation({
    dataDir,
    redis,
    sanctions,
    geo,
    entitiesMax: limits.reputationEntitiesMax,
    onProblem: changed("reputation"),
  });
  opening.defer(() => reputation.close());

  // Remote guards, whose circuits outlive every policy; nobody is connected to before a seat asks.
  const judges = openJudges({
    env,
    ...(options.resolveJudge !== undefined && { resolve: options.resolveJudge }),
    onCircuit: ({ seat, origin, cause }) =>
      cause === undefined
        ? log.info({ seat, judge: origin }, "the judge is asked again")
        : log.error({ seat, judge: origin, cause }, "the judge fails and is left alone for a while"),
  });
  opening.defer(() => judges.close());

  // The encoder's threads start when a seat of the policy asks for them, else with the first text that does.
  const encoder = openEncoder({ ...config.encoder, onProblem: changed("the sentence encoder") });
  opening.defer(() => encoder.close());
  const exemplars = await openExemplars({ dataDir, redis, encoder, onProblem: changed("exemplars") });
  opening.defer(() => exemplars.close());
  const recent = new RecentTextStore();

  // Of the first policy it is told below, as there is no store to ask before.
  let caution: (() => void) | undefined;
  let adopted: (() => void) | undefined;

  // The policy next, as it needs the ports; a bad one leaves the last good one in place.
  const policy = await openPolicy({
    configDir,
    dataDir,
    kinds: [...layerKinds, ...(options.moreLayers ?? [])],
    portsFor: (seat) => ({
      counters: counters.forSeat(seat),
      identities,
      reputation,
      encoder,
      exemplars,
      recent: recent.forSeat(seat),
      judges: judges.forSeat(seat),
    }),
    pollMs: config.policyPollMs,
    onReload(result, origin) {
      metrics.policyReload(result);
      if (result.result !== "unchanged") audit.note(loadOf(result, origin?.by));
      const problems = result.result === "unchanged" ? [] : result.problems;
      const fields = { result: result.result, revision: result.revision };
      if (problems.length === 0) log.info(fields, "policy");
      else log.warn({ ...fields, problem: formatProblems(problems) }, "the policy on file is not served");
      if (result.result === "applied") {
        caution?.();
        adopted?.();
      }
    },
  });
  opening.defer(() => policy.close());
  if (asksEncoder(policy.current().seats)) encoder.warm();
  caution = () => {
    for (const problem of cautionsOf(policy.current().seats))
      log.warn({ problem }, "served as it was asked for");
  };
  caution();

  // The guard after it: it judges each change by what becomes of requests, and returns to the last good one.
  const guard = new Guard();
  adopted = () => guard.adopt(policy.current());
  adopted();
  const watchman = new Watchman({
    guard,
    policy,
    onFiled(filed) {
      metrics.policyWithdrawn(filed);
      log.error({ ...filed, reason: reasonOf(filed) }, "a change of the policy left a band");
    },
    onProblem: (problem, { revision, good }) =>
      log.error({ problem, revision, good }, "a bad change could not be withdrawn yet"),
  });
  opening.defer(() => watchman.close());

  // Upstreams are connected to lazily; one that is away answers with its own code.
  const upstreams = await openUpstreams(config, { onKeysProblem: changed("keys of organisations") });
  for (const upstream of Object.values(upstreams)) opening.defer(() => upstream.close());

  // What each exchange may reach, and nothing more.
  const cache = new VerdictCache({ entriesMax: limits.verdictCacheEntries });
  const held = new HeldBudget({ bytesMax: limits.holdTotalBytesMax });
  const services: Services = {
    limits,
    timeouts,
    dialects: { openai, anthropic },
    upstreams,
    cache,
    held,
    observer: openObserver({ metrics, tracing, log, onDecision: (decision) => guard.note(decision) }),
    current: () => policy.current(),
    pin: () => policy.pin(),
    unpin: (snapshot) => policy.unpin(snapshot),
    switchedOff: new SwitchBoard(() => switches.active()).for,
    record: (decision, written) => spool.enqueue(decision, written),
    recording: () => spool.accepting,
    content,
  };

  // Admin stands beside the gateway, on a port of its own, behind accounts and tokens of its own.
  const { url: adminUrl, sessionIdleMs, sessionMaxMs } = config.admin;
  const operators = await openOperators({
    dataDir,
    env,
    redis,
    times: { idleMs: sessionIdleMs, absoluteMs: sessionMaxMs },
    onProblem: changed("accounts, sessions or tokens of operators"),
  });
  opening.defer(() => operators.close());
  const state = { draining: false };
  const routes = adminRoutes({
    policy,
    switches,
    guard: { status: () => guard.status, filed: () => watchman.filed },
    operators,
    logins: new LoginLimits(),
    isSecure: adminUrl?.startsWith("https:") ?? false,
    identities,
    sanctions,
    exemplars,
    reputation,
    reputationSeats: () => reputationSeatsOf(policy.current().seats),
    counters,
    limits: () => limitsOf(policy.current().seats),
    redis,
    upstreams,
    spool,
    audit: { read: (query) => readAudit(auditDir, query), stats: () => audit.stats() },
    metrics,
    metricsAccess: config.admin.metrics,
    state,
  });
  const admin = await openAdmin({
    ...config.admin.listen,
    token: options.adminToken,
    readToken: env["SALLYPORT_ADMIN_READ_TOKEN"] || undefined,
    operators,
    url: adminUrl,
    routes,
    audit: {
      begin: (act) => audit.begin(act),
      refused(entry) {
        log.info(actionOf(entry), "an operator's action");
        return audit.refused(entry);
      },
      end(begun, entry) {
        log.info(actionOf(entry), "an operator's action");
        return audit.end(begun, entry);
      },
    },
    onFault: (error, action) => log.error({ action, err: error }, "an admin call failed"),
  });
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
  metrics.read("killSwitches", () =>
    switches.active().map(({ kind, target }) => [[kind, target], 1] as const),
  );
  metrics.read("connections", () => gateway.connections);
  metrics.read("running", () => gateway.active);
  metrics.read("heldNow", () => held.bytes);
  metrics.read("heldPeak", () => held.bytesPeak);
  metrics.read("spoolRecords", () => spool.stats().appended);
  metrics.read("spoolDropped", () => spool.stats().dropped);
  metrics.read("spoolSegmentsDropped", () => spool.stats().segmentsDropped);
  metrics.read("spoolBytes", () => spool.stats().bytes);
  metrics.read("spoolAccepting", () => (spool.accepting ? 1 : 0));
  metrics.read("auditRecords", () => audit.stats().records);
  metrics.read("auditFailures", () => [
    [["record"], audit.stats().recordFailures],
    [["checkpoint"], audit.stats().checkpointFailures],
  ]);
  metrics.read("auditBytes", () => audit.stats().bytes);
  metrics.read("auditUnchecked", () => audit.stats().head.seq - (audit.stats().checkpoint?.seq ?? 0));
  metrics.read("counterKeys", () => counters.stats().keys);
  metrics.read("counterOverflow", () => counters.stats().overflowed);
  metrics.read("counterLeases", () => counters.stats().leases);
  metrics.read("limitTakes", () => takesOf(counters.stats()));
  metrics.read("reputationEntities", () => reputation.stats().entities);
  metrics.read("sanctionsActive", () => activeByKind(sanctions.list({ active: true })));
  metrics.read("judgeQuestions", () => judges.stats().flatMap(askedOf));
  metrics.read("judgeSeconds", () =>
    judges.stats().map(({ seat, answeredMs }) => [[seat], answeredMs / 1000] as const),
  );
  metrics.read("judgeOpen", () =>
    judges.stats().map(({ seat, isOpen }) => [[seat], isOpen ? 1 : 0] as const),
  );
  metrics.read("encoderTexts", () => encoderOutcomes(encoder.stats()));
  metrics.read("encoderWaiting", () => encoder.stats().waiting);
  metrics.read("encoderSeconds", () => encoder.stats().spentMs / 1_000);
  metrics.read("exemplars", () => exemplars.size);
  if (redis !== undefined) {
    metrics.read("redisUp", () => (redis.isUp ? 1 : 0));
    metrics.read("replicas", () => redis.liveReplicas);
    metrics.read("limitSettlesPending", () => pendingOf(counters.stats()).pending);
    metrics.read("limitSettlesLost", () => pendingOf(counters.stats()).lost);
  }
  const everyTarget = (figure: (target: UpstreamStats["targets"][number]) => number) => () =>
    Object.entries(upstreams).flatMap(([dialect, upstream]) =>
      upstream.stats().targets.map((target) => [[dialect, target.name], figure(target)] as const),
    );
  metrics.read(
    "upstreamLimit",
    everyTarget(({ limit }) => limit),
  );
  metrics.read(
    "upstreamInFlight",
    everyTarget(({ inFlight }) => inFlight),
  );
  metrics.read(
    "upstreamEjected",
    everyTarget(({ isEjected }) => (isEjected ? 1 : 0)),
  );
  metrics.read("upstreamRetries", () =>
    Object.entries(upstreams).map(([dialect, upstream]) => [[dialect], upstream.stats().retries]),
  );
  metrics.read("upstreamShed", () =>
    Object.entries(upstreams).flatMap(([dialect, upstream]) =>
      Object.entries(upstream.stats().shed).map(([tier, count]) => [[dialect, tier], count] as const),
    ),
  );

  const opened = opening.move();
  return {
    gateway,
    admin,
    operators,
    policy,
    identities,
    sanctions,
    reputation,
    exemplars,
    encoder,
    counters,
    upstreams,
    spool,
    audit,
    content,
    held,
    /** Refuses new requests, lets running ones end within the grace time, then closes what was opened, last first. */
    async close(graceMs: number = timeouts.drainMs): Promise<void> {
      state.draining = true;
      await gateway.drain(graceMs);
      await opened.disposeAsync();
    },
  };
}

/** A change of policy for the audit chain, whoever asked for it. */
function loadOf(
  result: Exclude<ReloadResult, { readonly result: "unchanged" }>,
  by = "file",
): Parameters<Audit["note"]>[0] {
  const isApplied = result.result === "applied";
  const problems = result.problems
    .slice(0, 3)
    .map(({ file, line, path, message }) => ({ file, line, path, message }));
  const before = isApplied ? result.previous : undefined;
  return {
    ...{ actor: by, action: "policy.load", target: result.revision },
    outcome: isApplied ? "done" : "refused",
    ...(before !== undefined && { before }),
    after: { ...(isApplied && { servedFrom: result.servedFrom }), ...(problems.length > 0 && { problems }) },
  };
}

function actionOf({ actor, via, action, target, outcome, status }: AuditEntry) {
  return { actor, via, action, target, outcome, status };
}

function activeByKind(sanctions: readonly { readonly entity: Entity }[]): [string[], number][] {
  return ENTITY_KINDS.map((kind) => [[kind], sanctions.filter(({ entity }) => entity.kind === kind).length]);
}

function askedOf({ seat, answered, failed }: JudgeFigures): [string[], number][] {
  const outcomes = Object.entries({ answered, ...failed });
  return outcomes.map(([outcome, count]) => [[seat, outcome], count]);
}

function encoderOutcomes({ embedded, known, skipped }: EncoderStats): [string[], number][] {
  const outcomes = { embedded, known, ...skipped };
  return Object.entries(outcomes).map(([outcome, count]) => [[outcome], count]);
}

/** Who answered for the limits; with Redis named, this process's own memory only speaks for its share. */
type CounterStats = ReturnType<MemoryCounters["stats"]> | ReturnType<RedisCounters["stats"]>;

function takesOf(stats: CounterStats): [string[], number][] {
  if (!("shared" in stats)) return [];
  const { shared, known, insured, posture } = stats;
  return [
    [["shared"], shared],
    [["known"], known],
    [["share"], insured],
    [["posture"], posture],
  ];
}

function pendingOf(stats: CounterStats): { readonly pending: number; readonly lost: number } {
  return "pendingSettles" in stats
    ? { pending: stats.pendingSettles, lost: stats.lostSettles }
    : { pending: 0, lost: 0 };
}
