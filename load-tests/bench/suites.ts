/**
 * What the bench measures, as data. A suite is a list of workloads, the variants that run them, and the bars
 * that are held against the figures; a workload is one way of asking, and says which figures come of it.
 * A further suite is a further entry here.
 */
import type { Load, LoadResult } from "./load.ts";
import { percentile } from "./statistics.ts";

/** What one run of a workload against one variant gave. */
export interface Run extends LoadResult {
  readonly load: Load;
  /** CPU time of the variant's processes, threads and children included; 0 for `direct`. */
  readonly cpuMicros: number;
}

export interface Workload {
  readonly name: string;
  /** `requests` is multiplied by what `--requests` is to its default, and is at least `connections`. */
  readonly load: Load;
  /** Figures of one run; the report takes the median of the rounds. */
  figures(run: Run): Readonly<Record<string, number>>;
}

/** Holds when `figure` of `variant` is at most `limit`, or at most `limit` times that of `against`. */
export interface Bar {
  readonly bar: string;
  readonly variant: string;
  readonly figure: string;
  readonly against?: string;
  readonly limit: number;
  /** True: the limit itself falls short ("under 1 ms"). */
  readonly strict?: boolean;
}

export interface Suite {
  readonly name: string;
  readonly variants: readonly string[];
  readonly workloads: readonly Workload[];
  readonly bars: readonly Bar[];
}

const VARIANTS = ["direct", "nginx", "haproxy", "http-proxy", "portkey", "sallyport-bare", "sallyport-four"];

/** The names that start with `added` are differences to `direct`, worked out by the report. */
export const SUITES: readonly Suite[] = [
  {
    name: "http",
    variants: VARIANTS,
    workloads: [
      {
        name: "chat, 16 connections",
        load: { connections: 16, requests: 1500, events: 0 },
        figures: (run) => ({
          cpuMicrosPerRequest: run.cpuMicros / run.load.requests,
          requestsPerSecond: run.load.requests / run.seconds,
          p50Ms: percentile(run.answerMs, 0.5),
          p99Ms: percentile(run.answerMs, 0.99),
        }),
      },
      {
        name: "chat, 1 connection",
        load: { connections: 1, requests: 150, events: 0 },
        figures: (run) => ({ firstByteP50Ms: percentile(run.firstWordMs, 0.5) }),
      },
    ],
    bars: [
      {
        bar: "CPU per request, no seats, against http-proxy",
        variant: "sallyport-bare",
        figure: "cpuMicrosPerRequest",
        against: "http-proxy",
        limit: 1.2,
      },
      {
        bar: "CPU per request, four layers, against http-proxy",
        variant: "sallyport-four",
        figure: "cpuMicrosPerRequest",
        against: "http-proxy",
        limit: 2,
      },
      {
        bar: "CPU per request, four layers, against portkey with one regex guardrail",
        variant: "sallyport-four",
        figure: "cpuMicrosPerRequest",
        against: "portkey",
        limit: 0.2,
      },
      {
        bar: "added first byte at p50, ms, four layers, whole answer",
        variant: "sallyport-four",
        figure: "addedFirstByteP50Ms",
        limit: 1,
        strict: true,
      },
    ],
  },
  {
    name: "streams",
    variants: VARIANTS,
    workloads: [
      {
        name: "200 events, 8 connections",
        load: { connections: 8, requests: 32, events: 200 },
        figures: (run) => ({
          cpuMicrosPerEvent: run.cpuMicros / (run.load.requests * run.load.events),
          readsPerEvent: run.reads / (run.load.requests * run.load.events),
        }),
      },
      {
        name: "5 events, 1 connection",
        load: { connections: 1, requests: 40, events: 5 },
        figures: (run) => ({ streamFirstByteP50Ms: percentile(run.firstWordMs, 0.5) }),
      },
    ],
    bars: [
      {
        bar: "CPU per streamed event, four layers, against http-proxy",
        variant: "sallyport-four",
        figure: "cpuMicrosPerEvent",
        against: "http-proxy",
        limit: 2,
      },
      {
        bar: "added first byte at p50, ms, four layers, streamed answer",
        variant: "sallyport-four",
        figure: "addedStreamFirstByteP50Ms",
        limit: 1,
        strict: true,
      },
    ],
  },
];
