/**
 * Ports without a world behind them: every limit admits, nobody is known, nobody has a past. For what
 * compiles a policy without serving it, such as `sallyport check`.
 */
import {
  type CallerRecord,
  type Counters,
  ENTITY_KINDS,
  type Encoder,
  type EntityKind,
  type Exemplars,
  type Identities,
  type Judges,
  type RecentTexts,
  type Reputation,
  type Taken,
} from "./ports.ts";

const ADMITTED: Taken = {
  admitted: true,
  by: "memory",
  refusedBy: -1,
  retryAfterMs: 0,
  levels: [],
  lease: undefined,
};

const NO_RECORD: CallerRecord = {
  points: Object.fromEntries(ENTITY_KINDS.map((kind) => [kind, 0])) as Record<EntityKind, number>,
  ageMs: Number.POSITIVE_INFINITY,
  networkAgeMs: Number.POSITIVE_INFINITY,
  country: "",
  asn: "",
  sanctions: [],
};

export const IDLE_PORTS: {
  readonly counters: Counters;
  readonly identities: Identities;
  readonly reputation: Reputation;
  readonly encoder: Encoder;
  readonly exemplars: Exemplars;
  readonly recent: RecentTexts;
  readonly judges: Judges;
} = {
  counters: { take: () => ADMITTED, known: () => undefined },
  identities: {
    find: () => ({ state: "unknown" }),
    ownKeyId: () => "own_",
    issuer: () => ({
      verify: () => ({ state: "no_keys", why: "nothing is fetched here" }),
      known: () => undefined,
    }),
  },
  reputation: { look: () => NO_RECORD, feed: () => undefined },
  encoder: { encode: async () => ({ kind: "skipped", cause: "failed" }) },
  exemplars: { size: 0, copyOf: () => undefined, nearest: () => ({}) },
  recent: { note: () => undefined, nearest: () => 0, knows: () => false },
  judges: {
    open: () => ({ ask: async () => ({ kind: "failed", cause: "gone" }), close: async () => undefined }),
  },
};
