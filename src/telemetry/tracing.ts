/**
 * Traces over OTLP/HTTP: one server span a request with the gen_ai.* attributes, and one child for each
 * seat. Off unless a collector is named: then nothing is loaded (the SDK takes 190 ms to load) and a request
 * costs one comparison. Spans carry names, codes and counts; never a prompt, an answer or a credential.
 */
import type { Context, Span, Tracer } from "@opentelemetry/api";
import type { Decision, SeatRecord } from "../ledger/decision.ts";
import { genAiOperation } from "./metrics.ts";

export interface TracingOptions {
  /** Base URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318. */
  readonly otlpUrl?: string | undefined;
  /** 0..1: share of requests traced where the caller did not decide. */
  readonly traceSample: number;
  readonly serviceName?: string;
}

export interface SeatTiming {
  readonly seat: string;
  /** performance.now() */
  readonly startedMs: number;
  readonly spentMs: number;
}

export interface RequestTrace {
  /** W3C `traceparent` for the upstream: it continues under this request's span. */
  readonly traceparent: string;
  readonly traceId: string;
  finish(decision: Decision, seatTimings: readonly SeatTiming[]): void;
}

export interface Tracing {
  /** Undefined when this request is not traced. Header names are lower case. */
  start(headers: Readonly<Record<string, string>>): RequestTrace | undefined;
  /** Sends what is waiting. */
  close(): Promise<void>;
}

/** Spans that wait for the collector; more are dropped by the SDK. */
const QUEUE_SPANS_MAX = 2048;
const EXPORT_TIMEOUT_MS = 3_000;
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const NO_TRACE_ID = "0".repeat(32);
const NO_SPAN_ID = "0".repeat(16);

export async function openTracing(options: TracingOptions): Promise<Tracing> {
  const { otlpUrl, traceSample, serviceName = "sallyport" } = options;
  if (otlpUrl === undefined) return { start: () => undefined, close: async () => {} };
  const [
    { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace },
    sdk,
    { OTLPTraceExporter },
    { resourceFromAttributes },
  ] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-trace-node"),
    import("@opentelemetry/exporter-trace-otlp-http"),
    import("@opentelemetry/resources"),
  ]);
  const url = `${otlpUrl.replace(/\/+$/, "").replace(/\/v1\/traces$/, "")}/v1/traces`;
  const exporter = new OTLPTraceExporter({ url, timeoutMillis: EXPORT_TIMEOUT_MS });
  const provider = new sdk.NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": serviceName }),
    // Which request is traced is decided in `start`; what gets here is recorded.
    sampler: new sdk.AlwaysOnSampler(),
    spanProcessors: [new sdk.BatchSpanProcessor(exporter, { maxQueueSize: QUEUE_SPANS_MAX })],
  });
  const tracer: Tracer = provider.getTracer("sallyport");

  return {
    start(headers) {
      const given = headers["traceparent"];
      const parent = given === undefined ? undefined : readTraceparent(given);
      if (!(parent?.isSampled ?? Math.random() < traceSample)) return undefined;
      const above =
        parent === undefined
          ? ROOT_CONTEXT
          : trace.setSpanContext(ROOT_CONTEXT, { ...parent.ids, traceFlags: 1, isRemote: true });
      const span = tracer.startSpan("request", { kind: SpanKind.SERVER, startTime: Date.now() }, above);
      const { traceId, spanId } = span.spanContext();
      return {
        traceId,
        traceparent: `00-${traceId}-${spanId}-01`,
        finish(decision, seatTimings) {
          describe(span, decision);
          if (decision.status >= 500 || (decision.cause !== "complete" && decision.status < 400)) {
            span.setStatus({ code: SpanStatusCode.ERROR });
          }
          seatSpans(tracer, trace.setSpan(above, span), decision, seatTimings);
          span.end();
        },
      };
    },
    async close() {
      // A collector that is away must not keep the process: the export's own time limit ends this.
      await provider.shutdown().catch(() => {});
    },
  };
}

interface Parent {
  readonly ids: { readonly traceId: string; readonly spanId: string };
  readonly isSampled: boolean;
}

/** W3C Trace Context, version 00; undefined for anything else, which then starts a trace of its own. */
export function readTraceparent(value: string): Parent | undefined {
  const parts = TRACEPARENT.exec(value);
  const traceId = parts?.[1];
  const spanId = parts?.[2];
  if (traceId === undefined || spanId === undefined) return undefined;
  if (traceId === NO_TRACE_ID || spanId === NO_SPAN_ID) return undefined;
  return { ids: { traceId, spanId }, isSampled: (Number.parseInt(parts![3]!, 16) & 1) === 1 };
}

function describe(span: Span, decision: Decision): void {
  const operation = genAiOperation(decision.operation);
  span.updateName(
    operation === undefined ? decision.route || decision.cause : `${operation} ${decision.model}`.trimEnd(),
  );
  span.setAttributes({
    "http.route": decision.route,
    "sallyport.request.id": decision.id,
    "sallyport.revision": decision.revision,
    "sallyport.act": decision.act,
    "sallyport.would": decision.would,
    "sallyport.cause": decision.cause,
    "sallyport.org": decision.org,
    "sallyport.project": decision.project,
    "sallyport.key.id": decision.keyId,
    ...(decision.status > 0 && { "http.response.status_code": decision.status }),
    ...(decision.cause !== "complete" && { "error.type": decision.cause }),
  });
  if (operation === undefined) return;
  span.setAttributes({
    "gen_ai.operation.name": operation,
    "gen_ai.provider.name": decision.dialect,
    ...(decision.model !== "" && { "gen_ai.request.model": decision.model }),
    ...(decision.inputTokens !== null && { "gen_ai.usage.input_tokens": decision.inputTokens }),
    ...(decision.outputTokens !== null && { "gen_ai.usage.output_tokens": decision.outputTokens }),
  });
}

function seatSpans(tracer: Tracer, below: Context, decision: Decision, timings: readonly SeatTiming[]): void {
  const records = new Map<string, SeatRecord>(decision.seats.map((record) => [record.seat, record]));
  for (const { seat, startedMs, spentMs } of timings) {
    const record = records.get(seat);
    if (record === undefined) continue;
    const startTime = performance.timeOrigin + startedMs;
    const span = tracer.startSpan(`seat ${seat}`, { startTime }, below);
    span.setAttributes({
      "sallyport.seat.id": seat,
      "sallyport.seat.mode": record.mode,
      "sallyport.seat.state": record.state,
      "sallyport.seat.would": record.would,
      "sallyport.seat.applied": record.applied,
      ...(record.findings.length > 0 && {
        "sallyport.seat.reasons": [...new Set(record.findings.map(({ reason }) => reason))],
      }),
    });
    span.end(startTime + spentMs);
  }
}
