/**
 * The upstream of one dialect as the gateway sees it: one or several targets, each with a limit that is learnt,
 * an eye on whether it is fit, and requests that are tried once more where that is safe. What does not fit is
 * shed at once, the worse standings first. There is no queue: a model API queues for itself, a wait here would
 * only hide the overload from the caller's own back-off, and a queue needs a bound of its own.
 */
import type { Dispatcher } from "undici";
import type { DialectName, Tier } from "../layer/index.ts";
import { type Credential, credentialFor, type Direct, Upstream, type UpstreamCall } from "./upstream.ts";
import { type AttemptHost, type Caller, UpstreamAttempts } from "./upstream-attempt.ts";
import type { EjectionSettings } from "./upstream-health.ts";
import type { OrgKeys } from "./upstream-keys.ts";
import type { LimitSettings } from "./upstream-limit.ts";
import { RetryBudget, type RetrySettings } from "./upstream-retry.ts";
import { chooseTarget, makeTarget, type Target } from "./upstream-target.ts";
import { WindowCount } from "./upstream-window.ts";

export interface UpstreamSetOptions {
  readonly dialect: DialectName;
  readonly targets: readonly {
    readonly name: string;
    readonly url: string;
    readonly key: string | undefined;
    readonly weight: number;
  }[];
  /** Keys of single organisations; everybody else's requests carry the target's key. */
  readonly orgKeys?: OrgKeys | undefined;
  readonly overload: LimitSettings;
  readonly ejection: EjectionSettings;
  readonly retry: RetrySettings;
  /** To each target; the limit never goes above it, or requests would wait unseen for a connection. */
  readonly connectionsMax: number;
  readonly connectMs: number;
  readonly firstByteMs: number;
  readonly idleMs: number;
  readonly random?: () => number;
}

/** Nobody was asked: the request is refused at once, and may come back after this time. */
export interface Refused {
  readonly code: "overloaded";
  readonly retryAfterMs: number;
}

export interface UpstreamStats {
  readonly targets: readonly {
    readonly name: string;
    readonly limit: number;
    readonly inFlight: number;
    readonly connected: number;
    readonly isEjected: boolean;
    readonly failures: number;
    readonly ejections: number;
  }[];
  readonly shed: Readonly<Record<Tier, number>>;
  readonly retries: number;
}

const RETRY_AFTER_MS_MIN = 250;
const RETRY_AFTER_MS_MAX = 30_000;
/** Before anything was answered. */
const SERVICE_MS_UNKNOWN = 1_000;
const PRESSURE_WINDOW_MS = 5_000;
/** Weight of one answer in the mean time that an answer takes. */
const SERVICE_WEIGHT = 0.05;

export class UpstreamSet {
  readonly #dialect: DialectName;
  readonly #targets: readonly Target[];
  readonly #orgKeys: OrgKeys | undefined;
  readonly #budget: RetryBudget;
  readonly #host: AttemptHost;
  readonly #random: () => number;
  readonly #shed: Record<Tier, number> = { trusted: 0, normal: 0, new: 0, risky: 0, suspended: 0 };
  readonly #recentlyShed = new WindowCount(PRESSURE_WINDOW_MS);
  readonly #recentlyCompleted = new WindowCount(PRESSURE_WINDOW_MS);
  #retries = 0;
  #serviceMs = SERVICE_MS_UNKNOWN;

  constructor(options: UpstreamSetOptions) {
    const { dialect, connectionsMax, connectMs, firstByteMs, idleMs, ejection } = options;
    this.#dialect = dialect;
    this.#orgKeys = options.orgKeys;
    this.#random = options.random ?? Math.random;
    const overload = bounded(options.overload, connectionsMax);
    this.#targets = options.targets.map(({ name, url, key, weight }) => {
      const upstream = new Upstream({ dialect, url, key, connectionsMax, connectMs, firstByteMs, idleMs });
      return makeTarget({ name, weight, upstream, overload, ejection });
    });
    this.#budget = new RetryBudget(options.retry);
    this.#host = {
      retry: options.retry,
      budget: this.#budget,
      elsewhere: (than, tier, nowMs) =>
        this.#targets.length === 1
          ? undefined
          : chooseTarget(this.#targets, { tier, nowMs, random: this.#random, not: than }),
      onUnfit: (target, nowMs) => this.#eject(target, nowMs),
      onRetry: () => {
        this.#retries += 1;
      },
      onCompleted: (spentMs, nowMs) => {
        this.#recentlyCompleted.add(nowMs);
        this.#serviceMs += (spentMs - this.#serviceMs) * SERVICE_WEIGHT;
      },
    };
  }

  get origins(): readonly string[] {
    return this.#targets.map(({ upstream }) => upstream.origin);
  }

  /** Undefined: under way, and the handler hears how it goes. Otherwise the handler hears nothing. */
  dispatch(call: UpstreamCall, handler: Dispatcher.DispatchHandler, caller: Caller): Refused | undefined {
    const nowMs = performance.now();
    const target = this.#choose(caller.tier, nowMs);
    if (target === undefined) return this.#refuse(caller.tier, nowMs);
    this.#budget.request(nowMs);
    const credential = this.#credentialOf(caller);
    new UpstreamAttempts(this.#host, target, { call, handler, caller, credential }).start(nowMs);
    return undefined;
  }

  /** Where a WebSocket or a pass-through request goes, and the headers that carry the credential. */
  direct(caller: Pick<Caller, "org" | "ownKey">): Direct {
    const nowMs = performance.now();
    const target =
      chooseTarget(this.#targets, { tier: "trusted", nowMs, random: this.#random }) ?? this.#targets[0]!;
    return target.upstream.direct(this.#credentialOf(caller));
  }

  stats(): UpstreamStats {
    const targets = this.#targets.map(({ name, limit, health, upstream }) => ({
      name,
      limit: limit.limit,
      inFlight: limit.inFlight,
      connected: upstream.connected,
      isEjected: health.isEjected,
      failures: health.failures,
      ejections: health.ejections,
    }));
    return { targets, shed: { ...this.#shed }, retries: this.#retries };
  }

  async close(): Promise<void> {
    this.#orgKeys?.close();
    await Promise.all(this.#targets.map(({ upstream }) => upstream.close()));
  }

  #choose(tier: Tier, nowMs: number): Target | undefined {
    if (this.#targets.length > 1) return chooseTarget(this.#targets, { tier, nowMs, random: this.#random });
    const only = this.#targets[0]!;
    return only.limit.hasRoom(tier) ? only : undefined;
  }

  #credentialOf({ org, ownKey }: Pick<Caller, "org" | "ownKey">): Credential | undefined {
    if (ownKey !== undefined) return credentialFor(this.#dialect, ownKey);
    return this.#orgKeys?.of(org);
  }

  /** Half of the targets stay, however they fail: what is left must be able to carry the load. */
  #eject(target: Target, nowMs: number): void {
    const away = this.#targets.filter(({ health }) => health.isEjected || health.isProbing);
    if (!away.includes(target) && (away.length + 1) * 2 > this.#targets.length) return;
    target.health.eject(nowMs);
  }

  /**
   * With twice as many shed as served, there is room for a caller after about three services. A spread of a
   * quarter keeps those who were shed together from coming back together.
   */
  #refuse(tier: Tier, nowMs: number): Refused {
    this.#shed[tier] += 1;
    this.#recentlyShed.add(nowMs);
    const pressure = this.#recentlyShed.total(nowMs) / Math.max(1, this.#recentlyCompleted.total(nowMs));
    const waitMs = this.#serviceMs * (1 + pressure) * (0.75 + 0.5 * this.#random());
    const retryAfterMs = Math.round(Math.min(RETRY_AFTER_MS_MAX, Math.max(RETRY_AFTER_MS_MIN, waitMs)));
    return { code: "overloaded", retryAfterMs };
  }
}

function bounded(overload: LimitSettings, connectionsMax: number): LimitSettings {
  const concurrencyMax = Math.min(overload.concurrencyMax, connectionsMax);
  const concurrencyMin = Math.min(overload.concurrencyMin, concurrencyMax);
  const concurrencyStart = Math.min(Math.max(overload.concurrencyStart, concurrencyMin), concurrencyMax);
  return { ...overload, concurrencyMin, concurrencyStart, concurrencyMax };
}
