/**
 * What the admin API works on, each part as narrow as the routes need it. main.ts hands over the real ones;
 * this folder opens none of them and knows not where they keep their state.
 */
import type { Await, DialectName, Entity, SanctionAct, Tier } from "../layer/index.ts";
import type { AuditStats } from "../ledger/audit.ts";
import type { AuditPage, AuditQuery } from "../ledger/audit-reader.ts";
import type { Spool } from "../ledger/spool.ts";
import type { GuardStatus } from "../policy/guard/guard.ts";
import type { FiledWithdrawal } from "../policy/guard/watchman.ts";
import type { PolicyStore } from "../policy/store.ts";
import type { ExemplarBank } from "../ports/exemplars.ts";
import type { KeyRecord, KeyScopes } from "../ports/keys-record.ts";
import type { Operators } from "../ports/operators.ts";
import type { Sanctions } from "../ports/sanctions.ts";
import type { Switches } from "../ports/switches.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { LoginLimits } from "./attempts.ts";

export interface AdminParts {
  readonly policy: Pick<
    PolicyStore,
    "current" | "status" | "reload" | "history" | "source" | "validate" | "change" | "withdraw"
  >;
  readonly guard: { status(): GuardStatus; filed(): readonly FiledWithdrawal[] };
  readonly operators: Pick<Operators, "accounts" | "sessions" | "tokens" | "setUp">;
  readonly logins: LoginLimits;
  /** TLS stands in front: cookies are for it alone. */
  readonly isSecure: boolean;
  readonly identities: KeyAdmin;
  readonly switches: Pick<Switches, "active" | "kill" | "revive">;
  readonly sanctions: SanctionAdmin;
  readonly exemplars: ExemplarAdmin;
  readonly reputation: ReputationAdmin;
  /** How the reputation seats of the served policy read points; in the order of the seats. */
  readonly reputationSeats: () => readonly ReputationSeat[];
  readonly counters: CounterAdmin;
  /** The limits of the served policy, in the order of the seats. */
  readonly limits: () => readonly LimitListing[];
  /** Undefined where no Redis is named. */
  readonly redis: RedisState | undefined;
  readonly upstreams: Readonly<Partial<Record<DialectName, UpstreamAdmin>>>;
  readonly spool: Pick<Spool, "accepting" | "stats">;
  readonly audit: { read(query: AuditQuery): Promise<AuditPage>; stats(): AuditStats };
  readonly metrics: Pick<Metrics, "expose" | "contentType">;
  readonly metricsAccess: "open" | "token";
  readonly state: { readonly draining: boolean };
}

export type KeyListing = Omit<KeyRecord, "hash">;

export interface KeyAdmin {
  create(key: {
    readonly org: string;
    readonly project: string;
    readonly name: string;
    readonly expiresAt?: string;
    readonly scopes?: KeyScopes;
    readonly canary?: boolean;
  }): Promise<{ readonly id: string; readonly key: string }>;
  list(): readonly KeyListing[];
  /** RangeError "id: why" for a key that cannot be rotated. */
  rotate(
    id: string,
    options: { readonly overlapSec: number },
  ): Promise<{ readonly id: string; readonly key: string }>;
  /** False where there is no such key. */
  revoke(id: string): Promise<boolean>;
}

export type SanctionAdmin = Pick<Sanctions, "impose" | "lift" | "get" | "list">;

export type ExemplarAdmin = Pick<ExemplarBank, "add" | "remove" | "get" | "values">;

/** Why an entity stands where it stands. Points decay by half in each half-life. */
export interface ReputationExplanation {
  readonly points: number;
  readonly firstSeenMs?: number;
  /** What gave points, the latest first. */
  readonly causes: readonly {
    readonly reason: string;
    readonly points: number;
    readonly times: number;
    readonly atMs: number;
    readonly requestId?: string;
    readonly by?: string;
  }[];
  /** In force. */
  readonly sanctions: readonly { readonly id: string; readonly act: SanctionAct }[];
}

export interface ReputationAdmin {
  explain(entity: Entity, halfLifeMs: number): Await<ReputationExplanation>;
  /** Negative points forgive. Rejects where it could not be told to the store. */
  adjust(entity: Entity, points: number, why: { readonly reason: string; readonly by: string }): Await<void>;
  worst(filter: {
    readonly kind?: Entity["kind"];
    readonly max: number;
  }): Await<readonly { readonly entity: Entity; readonly points: number }[]>;
  stats(): object;
}

/** How a seat of the served policy reads points. */
export interface ReputationSeat {
  readonly seat: string;
  readonly mode: "shadow" | "enforce";
  readonly halfLifeMs: number;
  /** For an entity that is known by its points alone. */
  tierAt(points: number): { readonly tier: Tier; readonly risk: number };
}

export interface LimitListing {
  readonly seat: string;
  readonly mode: "shadow" | "enforce";
  readonly name: string;
  readonly of: string;
  readonly per: readonly string[];
  readonly limit: number;
  readonly windowSec: number;
  readonly scale: Readonly<Record<string, number>>;
}

export interface CounterRow {
  readonly seat: string;
  readonly key: string;
  readonly used: number;
  readonly reserved: number;
  readonly windowSec: number;
  readonly resetMs: number;
}

export interface CounterAdmin {
  inspect(
    seat: string | undefined,
    filter: { readonly contains?: string; readonly max: number },
  ): Await<readonly CounterRow[]>;
  /** False where there is no such counter. */
  reset(seat: string, key: string): Await<boolean>;
  stats(): object;
}

export interface RedisState {
  readonly isUp: boolean;
  readonly isCluster: boolean;
  /** Random id of this process. */
  readonly replica: string;
  readonly liveReplicas: number;
  readonly problem: string | undefined;
}

/** The model APIs of one dialect. */
export interface UpstreamAdmin {
  /** Addresses without credentials, in the order of `targets`. */
  readonly origins: readonly string[];
  stats(): {
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
  };
}
