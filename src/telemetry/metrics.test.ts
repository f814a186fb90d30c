import assert from "node:assert/strict";
import { test } from "node:test";
import type { Decision } from "../ledger/decision.ts";
import { openMetrics } from "./metrics.ts";
import { type LabelBound, METRICS, type MetricRow, MODELS_MAX, renderMetricsTable } from "./metrics-table.ts";

const ROWS: readonly MetricRow[] = Object.values(METRICS);

const DECISION: Decision = {
  v: 1,
  id: "req_1",
  at: "2026-11-20T10:00:00.000Z",
  revision: "abcdef012345",
  route: "openai.chat",
  dialect: "openai",
  operation: "chat",
  model: "gpt-4o-mini",
  stream: true,
  scanned: true,
  org: "acme",
  project: "chat",
  keyId: "key_1",
  endUser: "end-user-7",
  address: "192.0.2.7",
  proof: "key",
  tier: "normal",
  risk: 0,
  country: "",
  asn: "",
  act: "allow",
  would: "block",
  status: 200,
  cause: "complete",
  seats: [
    seat("auth", {}),
    seat("rules", {
      mode: "shadow",
      would: "block",
      findings: [{ reason: "prompt.rule.x", score: 1, path: "/messages/0/content" }],
    }),
    seat("judge", { state: "timed_out", findings: [{ reason: "layer.timeout", score: 1 }] }),
    seat("secrets", { state: "not_reached", micros: 0 }),
  ],
  inputTokens: 10,
  outputTokens: 300,
  bytesIn: 1000,
  bytesOut: 5000,
  totalMs: 812,
  firstByteMs: 203,
  upstreamMs: 199,
  upstreamCalled: true,
};

function seat(id: string, more: Partial<Decision["seats"][number]>): Decision["seats"][number] {
  const base = { seat: id, mode: "enforce", state: "ran", would: "allow", applied: "allow" } as const;
  return { ...base, findings: [], micros: 12, ...more };
}

/** Sample lines of Prometheus text by name and labels. */
async function scrape(metrics: ReturnType<typeof openMetrics>): Promise<Map<string, number>> {
  const lines = (await metrics.expose()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

test("the table and the registry hold the same metrics", async () => {
  const { registry } = openMetrics();
  const registered = registry.getMetricsAsArray().map(({ name }) => name);
  const own = registered.filter((name) => !/^(process|nodejs)_/.test(name));
  assert.deepEqual(own.sort(), ROWS.map(({ name }) => name).sort());
  assert.ok(registered.includes("process_cpu_user_seconds_total"));
  assert.ok(registered.includes("nodejs_eventloop_lag_p99_seconds"));
});

test("every row is fit to be read: a question, bounded labels, ascending buckets, Prometheus' naming", () => {
  for (const { name, type, help, labels, buckets, unit } of ROWS) {
    assert.match(name, /^(sallyport|gen_ai)_[a-z_]+$/);
    assert.match(help, /\?/, name);
    assert.equal(type === "histogram", buckets !== undefined, name);
    assert.equal(type === "counter", name.endsWith("_total"), name);
    if (type === "histogram" && unit === "seconds") assert.ok(name.endsWith("_seconds"), name);
    for (const [i, bound] of (buckets ?? []).entries()) assert.ok(i === 0 || bound > buckets![i - 1]!, name);
    for (const bound of Object.values(labels)) {
      assert.ok(typeof bound === "number" ? bound >= 1 && bound <= 300 : bound.length > 0, name);
    }
    assert.ok(renderMetricsTable().includes(`| \`${name}\` |`));
  }
});

test("one decision moves the figures that it should", async () => {
  const metrics = openMetrics();
  metrics.decision(DECISION, { events: 40, heldUnitsPeak: 100, lateSpans: 0 });
  metrics.decision({
    ...DECISION,
    route: "",
    status: 0,
    cause: "client_gone",
    upstreamCalled: false,
    seats: [],
  });
  metrics.rejected("headers_too_large");
  metrics.policyReload({ result: "applied", revision: "aaaaaaaaaaaa" });
  metrics.policyReload({ result: "refused", revision: "bbbbbbbbbbbb" });
  metrics.read("connections", () => 17);
  const found = await scrape(metrics);
  const expected: Readonly<Record<string, number>> = {
    'sallyport_requests_total{route="openai.chat",dialect="openai",act="allow",cause="complete",status="2xx"}': 1,
    'sallyport_requests_total{route="none",dialect="openai",act="allow",cause="client_gone",status="none"}': 1,
    'sallyport_request_duration_seconds_bucket{le="0.5",route="openai.chat"}': 0,
    'sallyport_request_duration_seconds_bucket{le="1",route="openai.chat"}': 1,
    'sallyport_request_duration_seconds_bucket{le="+Inf",route="openai.chat"}': 1,
    'sallyport_request_duration_seconds_sum{route="openai.chat"}': 0.812,
    'sallyport_request_bytes_total{direction="in"}': 2000,
    'sallyport_rejected_total{code="headers_too_large"}': 1,
    'sallyport_seat_verdicts_total{seat="auth",mode="enforce",act="allow",applied="true"}': 1,
    'sallyport_seat_verdicts_total{seat="rules",mode="shadow",act="block",applied="false"}': 1,
    'sallyport_seat_runs_total{seat="judge",state="timed_out"}': 1,
    'sallyport_seat_runs_total{seat="secrets",state="not_reached"}': 1,
    'sallyport_seat_duration_seconds_bucket{le="0.00001",seat="auth"}': 0,
    'sallyport_seat_duration_seconds_bucket{le="0.000025",seat="auth"}': 1,
    'sallyport_seat_findings_total{seat="rules",reason="prompt.rule.x"}': 1,
    'sallyport_upstream_requests_total{upstream="openai",outcome="answered"}': 1,
    'sallyport_upstream_head_seconds_count{upstream="openai"}': 1,
    'sallyport_stream_events_total{dialect="openai"}': 40,
    'sallyport_stream_late_spans_total{dialect="openai"}': 0,
    'sallyport_stream_first_byte_seconds_sum{dialect="openai"}': 0.203,
    'sallyport_hold_bytes_sum{dialect="openai"}': 200,
    sallyport_connections_open: 17,
    'sallyport_policy_revision_info{revision="bbbbbbbbbbbb"}': 1,
    'sallyport_policy_reload_total{result="applied"}': 1,
    'sallyport_policy_reload_total{result="refused"}': 1,
  };
  // The order of labels in a line is prom-client's affair.
  const sorted = (key: string) =>
    key.replace(/\{(.*)\}/, (_, all: string) => all.split(",").sort().join(","));
  const bySorted = new Map([...found].map(([key, value]) => [sorted(key), value]));
  for (const [key, value] of Object.entries(expected)) assert.equal(bySorted.get(sorted(key)), value, key);
  const names = [...found.keys()];
  for (const id of ["judge", "secrets"]) {
    assert.ok(!names.some((key) => key.startsWith("sallyport_seat_verdicts") && key.includes(id)), id);
  }
  assert.ok(!names.some((key) => key.includes("aaaaaaaaaaaa")), "an old revision is gone");
  const genAi = names.filter((key) => key.startsWith("gen_ai_server_request_duration_seconds_count"));
  assert.equal(genAi.length, 1);
  for (const label of ['operation_name="chat"', 'provider_name="openai"', 'request_model="gpt-4o-mini"']) {
    assert.ok(genAi[0]?.includes(`gen_ai_${label}`));
  }
  for (const secret of ["key_1", "end-user-7", "192.0.2.7"]) assert.ok(!names.join().includes(secret));
});

test("labels stay bounded, whatever callers name", async () => {
  const metrics = openMetrics();
  for (let i = 0; i < 3 * MODELS_MAX; i++) {
    metrics.decision({ ...DECISION, model: `nonsense-${i}`, status: 404, seats: [] });
    metrics.decision({ ...DECISION, route: `route-${i}`, seats: [] });
  }
  let models = await modelsOf(metrics);
  assert.deepEqual(models, ["gpt-4o-mini", "other"], "a model that no upstream answers to takes no place");
  for (let i = 0; i < 3 * MODELS_MAX; i++) metrics.decision({ ...DECISION, model: `real-${i}`, seats: [] });
  models = await modelsOf(metrics);
  assert.equal(models.length, MODELS_MAX + 1);
  const findings = Array.from({ length: 2000 }, (_, i) => ({ reason: `custom.${i}`, score: 1 }));
  metrics.decision({ ...DECISION, seats: [seat("own", { findings })] });
  const keys = [...(await scrape(metrics)).keys()];
  for (const { name, labels } of ROWS) {
    for (const [label, bound] of Object.entries<LabelBound>(labels)) {
      const most = typeof bound === "number" ? bound + 1 : bound.length + 1;
      const values = valuesIn(keys, name, label);
      assert.ok(values.length <= most, `${name}{${label}} has ${values.length} values`);
    }
  }
  assert.ok(valuesIn(keys, "sallyport_requests_total", "route").includes("other"));
});

function valuesIn(keys: Iterable<string>, name: string, label: string): string[] {
  const pattern = new RegExp(`[{,]${label}="([^"]*)"`);
  const values = new Set<string>();
  for (const key of keys) {
    const value = key.startsWith(name) ? pattern.exec(key)?.[1] : undefined;
    if (value !== undefined) values.add(value);
  }
  return [...values].sort();
}

const modelsOf = async (metrics: ReturnType<typeof openMetrics>) =>
  valuesIn((await scrape(metrics)).keys(), "gen_ai_server_request_duration_seconds", "gen_ai_request_model");

test("metrics of several processes can be added up", async () => {
  const { AggregatorRegistry } = await import("prom-client");
  const both = [openMetrics(), openMetrics()];
  for (const one of both) one.decision(DECISION);
  const sum = AggregatorRegistry.aggregate(
    await Promise.all(both.map((one) => one.registry.getMetricsAsJSON())),
  );
  const text = await sum.metrics();
  assert.match(text, /^sallyport_requests_total\{.*\} 2$/m);
  assert.match(text, /^sallyport_request_duration_seconds_bucket\{.*le="\+Inf".*\} 2$/m);
});
