/**
 * For tests: simulated traffic of many tenants, bursty and with days and nights, as decisions for the guard. Rates of
 * refusal differ by tenant and drift; tenants come and go; attacks come in bursts. Everything follows from one seed.
 */
import type { Act, Tier } from "../../layer/index.ts";
import type { Seat, Snapshot } from "../snapshot.ts";
import type { Decided } from "./book.ts";

export interface Tenant {
  readonly org: string;
  readonly tier: Tier;
  /** Requests a second at noon. */
  readonly rps: number;
  /** Share that the rules alone refuse. */
  readonly refused: number;
}

/** Why a request is refused, or not. */
type Kind = "plain" | "rules" | "both" | "classifier" | "limits" | "bad";

const SEATS = ["auth", "limits", "rules", "classifier", "secrets"] as const;

/** What each seat would do with a request of a kind. */
const WOULD: Readonly<Record<Kind, Readonly<Partial<Record<(typeof SEATS)[number], Act>>>>> = {
  plain: {},
  rules: { rules: "block" },
  both: { rules: "block", classifier: "flag" },
  classifier: { classifier: "flag" },
  limits: { limits: "throttle" },
  bad: { rules: "block" },
};

export interface ChangeOfSeat {
  readonly mode?: "shadow" | "enforce";
  readonly rollout?: number;
}

/** A policy of five seats; `version` tells one state of the rules from another. */
export function policyOf(revision: string, version = "1", rules: ChangeOfSeat = {}): Snapshot {
  const seats = SEATS.map((id) => ({
    ...({ id, use: id, sample: 1, onError: "block", timeoutMs: 250, when: undefined } as const),
    mode: id === "classifier" ? ("shadow" as const) : ("enforce" as const),
    rollout: 100,
    fingerprint: id === "rules" ? version : "1",
    ...(id === "rules" && rules),
  }));
  return {
    ...{ revision, routes: new Set(["openai.chat"]), passThrough: [], redaction: "" },
    ...({ unknownFields: "scan", unknownEvents: "scan" } as const),
    seats: seats as unknown as readonly Seat[],
  };
}

export class Traffic {
  readonly random: () => number;
  readonly #templates = new Map<string, Decided>();
  /** Slow mood of a tenant: log of its load, log of its share of refusals. */
  readonly #moods = new Map<string, { load: number; refused: number }>();

  constructor(random: () => number) {
    this.random = random;
  }

  decision(revision: string, tenant: Tenant, kind: Kind, mode: "shadow" | "enforce" = "enforce"): Decided {
    const name = `${revision} ${tenant.org} ${kind} ${mode}`;
    let made = this.#templates.get(name);
    if (made === undefined) {
      const would = WOULD[kind];
      const seats = SEATS.map((seat) => ({
        seat,
        mode: seat === "classifier" ? ("shadow" as const) : seat === "rules" ? mode : ("enforce" as const),
        state: "ran",
        would: would[seat] ?? ("allow" as const),
        micros: 40,
      }));
      const strictest = would.rules ?? would.limits ?? would.classifier ?? "allow";
      const act = kind === "classifier" || (mode === "shadow" && kind !== "limits") ? "allow" : strictest;
      const { org, tier } = tenant;
      made = { revision, org, address: "192.0.2.1", tier, act, would: strictest, cause: "complete", seats };
      this.#templates.set(name, made);
      if (this.#templates.size > 5_000) this.#templates.clear();
    }
    return made;
  }

  /** One second of a tenant's ordinary traffic; its load and its refusals wander. */
  ordinary(revision: string, tenant: Tenant, day: number, note: (decision: Decided) => void): void {
    let mood = this.#moods.get(tenant.org);
    if (mood === undefined) {
      mood = { load: 0, refused: 0 };
      this.#moods.set(tenant.org, mood);
    }
    mood.load = mood.load * 0.98 + 0.1 * this.#normal();
    mood.refused = mood.refused * 0.999 + 0.008 * this.#normal();
    const requests = this.#poisson(tenant.rps * day * Math.exp(mood.load));
    const refused = Math.min(0.9, tenant.refused * Math.exp(mood.refused));
    let retries = 0;
    for (let i = 0; i < requests; i++) {
      const u = this.random();
      // A refused request is tried again at once, now and then.
      if (retries > 0 && u < 0.5) {
        retries -= 1;
        note(this.decision(revision, tenant, "rules"));
      } else if (u < refused) {
        if (this.random() < 0.2) retries = 1 + Math.trunc(this.random() * 3);
        note(this.decision(revision, tenant, this.random() < 0.3 ? "both" : "rules"));
      } else {
        note(
          this.decision(revision, tenant, u < refused + 0.01 ? "classifier" : u > 0.995 ? "limits" : "plain"),
        );
      }
    }
  }

  /** One second of an attack: what the rules refuse is mostly doubted by the classifier too. */
  attack(revision: string, tenant: Tenant, rps: number, note: (decision: Decided) => void): void {
    for (let i = this.#poisson(rps); i > 0; i--) {
      const u = this.random();
      const kind = u < 0.55 ? "both" : u < 0.75 ? "rules" : u < 0.9 ? "classifier" : "plain";
      note(this.decision(revision, tenant, kind));
    }
  }

  #poisson(mean: number): number {
    if (mean > 30) return Math.max(0, Math.round(mean + Math.sqrt(mean) * this.#normal()));
    const floor = Math.exp(-mean);
    let count = 0;
    for (let product = this.random(); product > floor; product *= this.random()) count++;
    return count;
  }

  #normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.random()));
    return radius * Math.cos(2 * Math.PI * this.random());
  }
}
