/**
 * The one table of metrics: what is exposed, what question it answers, and which values each label may
 * have. metrics.ts makes exactly these (a test holds the two together), docs and dashboards are written
 * from it, and nothing that a caller chooses can grow it past its bounds.
 */
import { ACTS, ENCODER_SKIPS, ENTITY_KINDS, JUDGE_FAILURES, PROBLEMS, TIERS } from "../layer/index.ts";

/** The values a label may have, or how many; what does not fit becomes "other". */
export type LabelBound = readonly string[] | number;

export interface MetricRow {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  /** The question that it answers. */
  readonly help: string;
  readonly unit: "requests" | "seconds" | "bytes" | "tokens" | "events" | "1";
  readonly labels: Readonly<Record<string, LabelBound>>;
  /** Upper bounds; histograms only. */
  readonly buckets?: readonly number[];
  /** Asked of its owner when metrics are scraped, instead of being counted. */
  readonly isRead?: true;
}

const CAUSES = ["complete", ...Object.keys(PROBLEMS)];
const UPSTREAM_OUTCOMES = ["answered", ...CAUSES.filter((cause) => cause.startsWith("upstream_"))];
const DIALECTS = ["openai", "anthropic"];
const STATUSES = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const ROUTES_MAX = 100;
const SEATS_MAX = 200;
const REASONS_MAX = 300;
export const MODELS_MAX = 100;
/** Two dialects of at most 16 targets each. */
const UPSTREAM_TARGETS_MAX = 32;

const SEAT_SECONDS = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1,
];
const REQUEST_SECONDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];
/** Bounds that the OpenTelemetry conventions for generative AI advise. */
const GEN_AI_SECONDS = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const GEN_AI_FIRST_SECONDS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];
const GEN_AI_TOKENS = [
  1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
];
const GEN_AI = {
  gen_ai_operation_name: ["chat", "text_completion", "embeddings"],
  gen_ai_provider_name: DIALECTS,
  gen_ai_request_model: MODELS_MAX,
};

export const METRICS = {
  requests: {
    name: "sallyport_requests_total",
    type: "counter",
    unit: "requests",
    help: "How many requests ended, how, and why?",
    labels: { route: ROUTES_MAX, dialect: DIALECTS, act: ACTS, cause: CAUSES, status: STATUSES },
  },
  requestSeconds: {
    name: "sallyport_request_duration_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long do requests take from their first byte to the answer's last?",
    labels: { route: ROUTES_MAX },
    buckets: REQUEST_SECONDS,
  },
  requestBytes: {
    name: "sallyport_request_bytes_total",
    type: "counter",
    unit: "bytes",
    help: "How many bytes of bodies come in and go out?",
    labels: { direction: ["in", "out"] },
  },
  rejected: {
    name: "sallyport_rejected_total",
    type: "counter",
    unit: "requests",
    help: "How many connections or requests were turned away before they could be read?",
    labels: { code: CAUSES },
  },
  seatVerdicts: {
    name: "sallyport_seat_verdicts_total",
    type: "counter",
    unit: "requests",
    help: 'What does each seat decide (act), and is it applied? applied="false": shadow mode, or outside the rollout.',
    labels: { seat: SEATS_MAX, mode: ["shadow", "enforce"], act: ACTS, applied: ["true", "false"] },
  },
  seatStates: {
    name: "sallyport_seat_runs_total",
    type: "counter",
    unit: "requests",
    help: "Did each seat run to its end? failed and timed_out are never counted as a verdict.",
    labels: {
      seat: SEATS_MAX,
      state: ["ran", "not_reached", "skipped_sample", "skipped_when", "switched_off", "failed", "timed_out"],
    },
  },
  seatSeconds: {
    name: "sallyport_seat_duration_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How much time does each seat take of a request, all phases together?",
    labels: { seat: SEATS_MAX },
    buckets: SEAT_SECONDS,
  },
  seatFindings: {
    name: "sallyport_seat_findings_total",
    type: "counter",
    unit: "1",
    help: "Which reasons does each seat find?",
    labels: { seat: SEATS_MAX, reason: REASONS_MAX },
  },
  upstreamRequests: {
    name: "sallyport_upstream_requests_total",
    type: "counter",
    unit: "requests",
    help: "How many calls went upstream, and how did they end?",
    labels: { upstream: DIALECTS, outcome: UPSTREAM_OUTCOMES },
  },
  upstreamSeconds: {
    name: "sallyport_upstream_head_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long does an upstream take to start its answer?",
    labels: { upstream: DIALECTS },
    buckets: REQUEST_SECONDS,
  },
  streamEvents: {
    name: "sallyport_stream_events_total",
    type: "counter",
    unit: "events",
    help: "How many events were streamed?",
    labels: { dialect: DIALECTS },
  },
  streamFirstByte: {
    name: "sallyport_stream_first_byte_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long do callers wait for the first byte of a streamed answer?",
    labels: { dialect: DIALECTS },
    buckets: REQUEST_SECONDS,
  },
  streamLateSpans: {
    name: "sallyport_stream_late_spans_total",
    type: "counter",
    unit: "1",
    help: "How many redactions came after their text had left? More than 0: a seat breaks its bound.",
    labels: { dialect: DIALECTS },
  },
  holdBytes: {
    name: "sallyport_hold_bytes",
    type: "histogram",
    unit: "bytes",
    help: "How much text (UTF-16, two bytes a unit) did a stream hold back at its peak?",
    labels: { dialect: DIALECTS },
    buckets: [0, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576],
  },
  killSwitches: {
    name: "sallyport_kill_switches",
    type: "gauge",
    unit: "1",
    help: "Which kill switches are in force?",
    labels: { kind: ["seat", "layer", "rule"], target: REASONS_MAX },
    isRead: true,
  },
  heldNow: {
    name: "sallyport_held_bytes",
    type: "gauge",
    unit: "bytes",
    help: "How much do all streams together keep now: held back, begun and not ended, written and not taken?",
    labels: {},
    isRead: true,
  },
  heldPeak: {
    name: "sallyport_held_bytes_peak",
    type: "gauge",
    unit: "bytes",
    help: "How much was that at most since the start? Near limits.holdTotalBytesMax, answers end as hold_exhausted.",
    labels: {},
    isRead: true,
  },
  connections: {
    name: "sallyport_connections_open",
    type: "gauge",
    unit: "1",
    help: "How many client connections are open?",
    labels: {},
    isRead: true,
  },
  running: {
    name: "sallyport_requests_running",
    type: "gauge",
    unit: "requests",
    help: "How many requests are under way?",
    labels: {},
    isRead: true,
  },
  policyRevision: {
    name: "sallyport_policy_revision_info",
    type: "gauge",
    unit: "1",
    help: "Which policy is served? Always 1; the label says it.",
    labels: { revision: 1 },
  },
  policyReloads: {
    name: "sallyport_policy_reload_total",
    type: "counter",
    unit: "1",
    help: "How many changes of the policy were applied, and how many refused?",
    labels: { result: ["applied", "unchanged", "refused"] },
  },
  policyWithdrawals: {
    name: "sallyport_policy_withdrawals_total",
    type: "counter",
    unit: "1",
    help: "How many changes of the policy did the guard find bad, by which figure, and what became of them?",
    labels: {
      figure: ["block", "would_block", "error", "latency", "appeal"],
      outcome: ["withdrawn", "watched", "overtaken"],
    },
  },
  spoolRecords: {
    name: "sallyport_spool_records_total",
    type: "counter",
    unit: "1",
    help: "How many decisions were written to the spool?",
    labels: {},
    isRead: true,
  },
  spoolDropped: {
    name: "sallyport_spool_dropped_total",
    type: "counter",
    unit: "1",
    help: "How many decisions could not be kept? More than 0 is an alarm.",
    labels: {},
    isRead: true,
  },
  spoolSegmentsDropped: {
    name: "sallyport_spool_segments_dropped_total",
    type: "counter",
    unit: "1",
    help: "How many segments were dropped before the ledger had read them?",
    labels: {},
    isRead: true,
  },
  spoolBytes: {
    name: "sallyport_spool_bytes",
    type: "gauge",
    unit: "bytes",
    help: "How much disk does the spool take?",
    labels: {},
    isRead: true,
  },
  spoolAccepting: {
    name: "sallyport_spool_accepting",
    type: "gauge",
    unit: "1",
    help: "Are decisions kept (1), or requests refused because they cannot be (0)?",
    labels: {},
    isRead: true,
  },
  auditRecords: {
    name: "sallyport_audit_records_total",
    type: "counter",
    unit: "1",
    help: "How many audit records did this process write?",
    labels: {},
    isRead: true,
  },
  auditFailures: {
    name: "sallyport_audit_failures_total",
    type: "counter",
    unit: "1",
    help: "How many audit records and checkpoints could not be written? More than 0 is an alarm: changes are refused.",
    labels: { what: ["record", "checkpoint"] },
    isRead: true,
  },
  auditBytes: {
    name: "sallyport_audit_bytes",
    type: "gauge",
    unit: "bytes",
    help: "How much disk does the audit chain take? At audit.totalBytesMax changes are refused.",
    labels: {},
    isRead: true,
  },
  auditUnchecked: {
    name: "sallyport_audit_records_unchecked",
    type: "gauge",
    unit: "1",
    help: "How many records at the end of the chain does no checkpoint of this process cover yet?",
    labels: {},
    isRead: true,
  },
  counterKeys: {
    name: "sallyport_counter_keys",
    type: "gauge",
    unit: "1",
    help: "How many callers do the rate limits tell apart now?",
    labels: {},
    isRead: true,
  },
  counterLeases: {
    name: "sallyport_limit_leases_open",
    type: "gauge",
    unit: "1",
    help: "How many running requests hold a reserve or a slot of a limit in this process?",
    labels: {},
    isRead: true,
  },
  limitTakes: {
    name: "sallyport_limit_takes_total",
    type: "counter",
    unit: "requests",
    help: "Who answered for the limits: this process alone, Redis, what this process knew, its own share, or the posture?",
    labels: { by: ["memory", "shared", "known", "share", "posture"] },
    isRead: true,
  },
  limitSettlesPending: {
    name: "sallyport_limit_settles_pending",
    type: "gauge",
    unit: "1",
    help: "How many counters wait for Redis to hear what was used?",
    labels: {},
    isRead: true,
  },
  limitSettlesLost: {
    name: "sallyport_limit_settles_lost_total",
    type: "counter",
    unit: "1",
    help: "How often did Redis stay away too long to be told what was used? More than 0: limits are too generous.",
    labels: {},
    isRead: true,
  },
  redisUp: {
    name: "sallyport_redis_up",
    type: "gauge",
    unit: "1",
    help: "Does Redis answer (1), or does each seat's own choice hold (0)? No value: none is named.",
    labels: {},
    isRead: true,
  },
  replicas: {
    name: "sallyport_replicas",
    type: "gauge",
    unit: "1",
    help: "How many gateways share this Redis, as far as this one knows?",
    labels: {},
    isRead: true,
  },
  tiers: {
    name: "sallyport_tier_requests_total",
    type: "counter",
    unit: "requests",
    help: "How are callers of each standing treated?",
    labels: { tier: TIERS, act: ACTS },
  },
  reputationEntities: {
    name: "sallyport_reputation_entities",
    type: "gauge",
    unit: "1",
    help: "How many organisations, keys, end users, addresses and networks have a record here?",
    labels: {},
    isRead: true,
  },
  sanctionsActive: {
    name: "sallyport_sanctions_active",
    type: "gauge",
    unit: "1",
    help: "How many sanctions are in force, and on what?",
    labels: { kind: ENTITY_KINDS },
    isRead: true,
  },
  encoderTexts: {
    name: "sallyport_encoder_texts_total",
    type: "counter",
    unit: "1",
    help: "What became of texts for the sentence encoder: embedded, known, or skipped because full, late, failed or gone?",
    labels: { outcome: ["embedded", "known", ...ENCODER_SKIPS] },
    isRead: true,
  },
  encoderWaiting: {
    name: "sallyport_encoder_texts_waiting",
    type: "gauge",
    unit: "1",
    help: "How many texts wait for the sentence encoder, or are in it?",
    labels: {},
    isRead: true,
  },
  encoderSeconds: {
    name: "sallyport_encoder_seconds_total",
    type: "counter",
    unit: "seconds",
    help: "How long did embedded texts take, their wait included? Over the rate of embedded: the mean.",
    labels: {},
    isRead: true,
  },
  exemplars: {
    name: "sallyport_exemplars",
    type: "gauge",
    unit: "1",
    help: "How many exemplars, bad and good, are known here?",
    labels: {},
    isRead: true,
  },
  canaryUses: {
    name: "sallyport_canary_key_uses_total",
    type: "counter",
    unit: "requests",
    help: "How often was a key used that nobody should have? More than 0: keys have leaked.",
    labels: {},
  },
  upstreamLimit: {
    name: "sallyport_upstream_concurrency_limit",
    type: "gauge",
    unit: "requests",
    help: "How many requests at once is an upstream thought to bear?",
    labels: { dialect: DIALECTS, target: UPSTREAM_TARGETS_MAX },
    isRead: true,
  },
  upstreamInFlight: {
    name: "sallyport_upstream_requests_running",
    type: "gauge",
    unit: "requests",
    help: "How many requests are under way at an upstream?",
    labels: { dialect: DIALECTS, target: UPSTREAM_TARGETS_MAX },
    isRead: true,
  },
  upstreamEjected: {
    name: "sallyport_upstream_ejected",
    type: "gauge",
    unit: "1",
    help: "Is an upstream left out because it failed (1)?",
    labels: { dialect: DIALECTS, target: UPSTREAM_TARGETS_MAX },
    isRead: true,
  },
  upstreamRetries: {
    name: "sallyport_upstream_retries_total",
    type: "counter",
    unit: "requests",
    help: "How many requests were asked a second time?",
    labels: { dialect: DIALECTS },
    isRead: true,
  },
  upstreamShed: {
    name: "sallyport_upstream_shed_total",
    type: "counter",
    unit: "requests",
    help: "How many requests were turned away because the upstream was full, by the caller's standing?",
    labels: { dialect: DIALECTS, tier: TIERS },
    isRead: true,
  },
  judgeQuestions: {
    name: "sallyport_judge_questions_total",
    type: "counter",
    unit: "1",
    help: "How many questions did each seat have for its judge, and how did they end?",
    labels: { seat: SEATS_MAX, outcome: ["answered", ...JUDGE_FAILURES] },
    isRead: true,
  },
  judgeSeconds: {
    name: "sallyport_judge_answer_seconds_total",
    type: "counter",
    unit: "seconds",
    help: "How long were answers of the judge waited for, all together? Over the answered questions: the mean.",
    labels: { seat: SEATS_MAX },
    isRead: true,
  },
  judgeOpen: {
    name: "sallyport_judge_circuit_open",
    type: "gauge",
    unit: "1",
    help: "Is a judge left alone because it failed (1)?",
    labels: { seat: SEATS_MAX },
    isRead: true,
  },
  counterOverflow: {
    name: "sallyport_counter_overflow_total",
    type: "counter",
    unit: "requests",
    help: "How many requests were counted together because there were too many callers?",
    labels: {},
    isRead: true,
  },
  genAiSeconds: {
    name: "gen_ai_server_request_duration_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long do model calls take? (OpenTelemetry gen_ai.server.request.duration)",
    labels: { ...GEN_AI, error_type: ["", ...CAUSES, "4xx", "5xx"] },
    buckets: GEN_AI_SECONDS,
  },
  genAiFirstSeconds: {
    name: "gen_ai_server_time_to_first_token_seconds",
    type: "histogram",
    unit: "seconds",
    help: "How long until a streamed answer starts? (OpenTelemetry gen_ai.server.time_to_first_token)",
    labels: GEN_AI,
    buckets: GEN_AI_FIRST_SECONDS,
  },
  genAiTokens: {
    name: "gen_ai_client_token_usage",
    type: "histogram",
    unit: "tokens",
    help: "How many tokens does a call take? (OpenTelemetry gen_ai.client.token.usage)",
    labels: { ...GEN_AI, gen_ai_token_type: ["input", "output"] },
    buckets: GEN_AI_TOKENS,
  },
} as const satisfies Readonly<Record<string, MetricRow>>;

export type MetricId = keyof typeof METRICS;

/** Rows of one kind: what may be counted, set, observed or asked. */
export type MetricIdWhere<Shape> = {
  [Id in MetricId]: (typeof METRICS)[Id] extends Shape ? Id : never;
}[MetricId];

/** The table as Markdown, for the docs. */
export function renderMetricsTable(): string {
  const rows = Object.values<MetricRow>(METRICS).map(({ name, type, unit, labels, help }) => {
    const bounds = Object.entries(labels).map(([label, bound]) =>
      typeof bound === "number" ? `${label} (≤ ${bound})` : label,
    );
    return `| \`${name}\` | ${type} | ${unit} | ${bounds.join(", ")} | ${help} |`;
  });
  return [
    "| name | type | unit | labels | question |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    "A label value beyond a bound is counted as `other`. Beside these stand prom-client's `process_*` and `nodejs_*`.",
    "",
  ].join("\n");
}
