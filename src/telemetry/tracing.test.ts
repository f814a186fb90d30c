import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import type { Decision } from "../ledger/decision.ts";
import { openTracing, readTraceparent } from "./tracing.ts";

interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[];
  readonly status: { readonly code?: number };
}

async function collector(context: { after(cleanup: () => void): void }) {
  const spans: OtlpSpan[] = [];
  const bodies: string[] = [];
  const paths: (string | undefined)[] = [];
  const server = createServer(async (request, response) => {
    paths.push(request.url);
    let body = "";
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    for (const resource of JSON.parse(body).resourceSpans) {
      for (const scope of resource.scopeSpans) spans.push(...scope.spans);
    }
    response.setHeader("content-type", "application/json").end("{}");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans, bodies, paths };
}

const attributesOf = (span: OtlpSpan | undefined) =>
  Object.fromEntries(span?.attributes.map(({ key, value }) => [key, Object.values(value)[0]]) ?? []);

const DECISION: Decision = {
  v: 1,
  id: "req_1",
  at: "2026-11-20T10:00:00.000Z",
  revision: "abcdef012345",
  route: "openai.chat",
  dialect: "openai",
  operation: "chat",
  model: "gpt-4o-mini",
  stream: false,
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
    {
      seat: "auth",
      mode: "enforce",
      state: "ran",
      would: "allow",
      applied: "allow",
      findings: [],
      micros: 12,
    },
    {
      seat: "rules",
      mode: "shadow",
      state: "ran",
      would: "block",
      applied: "allow",
      findings: [
        { reason: "prompt.rule.x", score: 1, path: "/messages/0" },
        { reason: "prompt.rule.x", score: 1 },
      ],
      micros: 3000,
    },
  ],
  inputTokens: 10,
  outputTokens: 20,
  bytesIn: 1,
  bytesOut: 2,
  totalMs: 5,
  firstByteMs: 4,
  upstreamMs: 3,
  upstreamCalled: true,
};

test("off: nothing is traced", async () => {
  const tracing = await openTracing({ traceSample: 1 });
  assert.equal(tracing.start({ traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01` }), undefined);
  await tracing.close();
});

test("a request's span continues the caller's trace and holds one child per seat", async (context) => {
  const { url, spans, bodies, paths } = await collector(context);
  const tracing = await openTracing({ otlpUrl: url, traceSample: 0 });
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const trace = tracing.start({ traceparent: `00-${traceId}-b7ad6b7169203331-01` });
  assert.equal(trace?.traceId, traceId);
  const parent = readTraceparent(trace?.traceparent ?? "");
  assert.ok(parent?.isSampled);
  assert.notEqual(parent.ids.spanId, "b7ad6b7169203331");
  const startedMs = performance.now();
  trace?.finish(DECISION, [
    { seat: "auth", startedMs, spentMs: 0.012 },
    { seat: "rules", startedMs: startedMs + 1, spentMs: 3 },
  ]);
  const failed = tracing.start({ traceparent: `00-${traceId}-b7ad6b7169203331-01` });
  failed?.finish({ ...DECISION, status: 504, cause: "upstream_idle_timeout", seats: [] }, []);
  await tracing.close();

  assert.deepEqual([...new Set(paths)], ["/v1/traces"]);
  assert.equal(spans.length, 4);
  const request = spans.find(({ spanId }) => spanId === parent.ids.spanId);
  assert.equal(request?.name, "chat gpt-4o-mini");
  assert.equal(request?.parentSpanId, "b7ad6b7169203331");
  assert.equal(request?.kind, 2, "server");
  const told = attributesOf(request);
  for (const [key, value] of Object.entries({
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 20,
    "http.response.status_code": 200,
    "sallyport.request.id": "req_1",
    "sallyport.would": "block",
  })) {
    assert.equal(told[key], value, key);
  }
  const rules = spans.find(({ name }) => name === "seat rules");
  assert.equal(rules?.traceId, traceId);
  assert.equal(rules?.parentSpanId, parent.ids.spanId);
  const spentNs = BigInt(rules?.endTimeUnixNano ?? 0) - BigInt(rules?.startTimeUnixNano ?? 0);
  assert.ok(spentNs > 2_900_000n && spentNs < 3_100_000n, `${spentNs} ns`);
  assert.equal(attributesOf(rules)["sallyport.seat.mode"], "shadow");
  assert.deepEqual(attributesOf(rules)["sallyport.seat.reasons"], {
    values: [{ stringValue: "prompt.rule.x" }],
  });
  const bad = spans.find(({ attributes }) => attributes.some(({ key }) => key === "error.type"));
  assert.equal(attributesOf(bad)["error.type"], "upstream_idle_timeout");
  assert.equal(bad?.status.code, 2);
  for (const personal of ["end-user-7", "192.0.2.7", "/messages/0"])
    assert.ok(!bodies.join().includes(personal));
});

test("who is traced: the caller's flag decides, else the share", async (context) => {
  const { url } = await collector(context);
  const ids = `${"a".repeat(32)}-${"b".repeat(16)}`;
  const all = await openTracing({ otlpUrl: `${url}/`, traceSample: 1 });
  const none = await openTracing({ otlpUrl: url, traceSample: 0 });
  assert.equal(all.start({ traceparent: `00-${ids}-00` }), undefined);
  assert.ok(none.start({ traceparent: `00-${ids}-01` }));
  assert.ok(all.start({}));
  assert.equal(none.start({}), undefined);
  const own = all.start({ traceparent: "not a traceparent" });
  assert.match(own?.traceparent ?? "", /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  await all.close();
  await none.close();
});

test("a traceparent that breaks the rules is ignored", () => {
  const trace = "a".repeat(32);
  const span = "b".repeat(16);
  for (const bad of [
    "",
    `01-${trace}-${span}-01`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${"0".repeat(32)}-${span}-01`,
    `00-${trace}-${"0".repeat(16)}-01`,
    `00-${trace}-${span}-01-more`,
    `00-${trace}-${span}`,
  ]) {
    assert.equal(readTraceparent(bad), undefined, bad);
  }
});

test("a collector that is away costs requests nothing and does not keep the process", async () => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  const tracing = await openTracing({ otlpUrl: `http://127.0.0.1:${port}`, traceSample: 1 });
  tracing.start({})?.finish(DECISION, []);
  const startedMs = performance.now();
  await tracing.close();
  assert.ok(performance.now() - startedMs < 8_000);
});
