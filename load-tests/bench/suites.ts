/**
 * What the bench measures, as data. A suite is a list of workloads, the variants that run them, and the bars
 * that are held against the figures; a workload is one way of asking, and says which figures come of it.
 * A further suite is a further entry here; a workload that two suites share runs once for both.
 */
import type { Load, LoadResult } from "./load.ts";
import { percentile } from "./statistics.ts";

/** What one run of a workload against one variant gave. */
export interface Run extends LoadResult {
  readonly load: Load;
  /** CPU time of the variant's processes, threads and children included; 0 for `direct`. */
  readonly cpuMicros: number;
  /** The same of a store that the variant keeps its state in; undefined where it has none. */
  readonly storeCpuMicros: number | undefined;
}

export interface Workload {
  readonly name: string;
  /** `requests` is multiplied by what `--requests` is to its default, and is at least `connections`. */
  readonly load: Load;
  /** Figures of one run; the report takes the median of the rounds. */
  figures(run: Run): Readonly<Record<string, number>>;
}

/**
 * Holds when `figure` of `variant` is at most `limit`: by itself, as so many times that of `against`, or as
 * what it is above that of `addedTo`. A limit that is a name is another figure of the variant.
 */
export interface Bar {
  readonly bar: string;
  readonly variant: string;
  readonly figure: string;
  readonly against?: string;
  readonly addedTo?: string;
  readonly limit: number | string;
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

const CHAT_MANY: Workload = {
  name: "chat, 16 connections",
  // CPU time is told in steps of 10 ms: at 4,500 requests one step is 2 µs of each.
  load: { connections: 16, requests: 4500, events: 0 },
  figures: (run) => ({
    cpuMicrosPerRequest: run.cpuMicros / run.load.requests,
    ...(run.storeCpuMicros !== undefined && {
      storeCpuMicrosPerRequest: run.storeCpuMicros / run.load.requests,
    }),
    requestsPerSecond: run.load.requests / run.seconds,
    p50Ms: percentile(run.answerMs, 0.5),
    p99Ms: percentile(run.answerMs, 0.99),
  }),
};

const CHAT_ALONE: Workload = {
  name: "chat, 1 connection",
  load: { connections: 1, requests: 150, events: 0 },
  figures: (run) => ({
    firstByteP50Ms: percentile(run.firstWordMs, 0.5),
    aloneP50Ms: percentile(run.answerMs, 0.5),
  }),
};

const CHAT_LONG: Workload = {
  name: "chat of 100 KB, 4 connections",
  load: { connections: 4, requests: 120, events: 0, bodyBytes: 102_400 },
  figures: (run) => ({ cpuMicrosPerLongRequest: run.cpuMicros / run.load.requests }),
};

/** The names that start with `added` are differences to `direct`, worked out by the report. */
export const SUITES: readonly Suite[] = [
  {
    name: "http",
    variants: VARIANTS,
    workloads: [CHAT_MANY, CHAT_ALONE],
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
    variants: [...VARIANTS, "sallyport-output"],
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
      {
        bar: "CPU per streamed event, every layer on answers, against http-proxy",
        variant: "sallyport-output",
        figure: "cpuMicrosPerEvent",
        against: "http-proxy",
        limit: 3,
      },
      {
        bar: "added first text at p50, ms, every layer on answers",
        variant: "sallyport-output",
        figure: "addedStreamFirstByteP50Ms",
        limit: 2,
        strict: true,
      },
    ],
  },
  {
    name: "limits",
    variants: ["direct", "sallyport-bare", "sallyport-limits", "sallyport-limits-redis"],
    workloads: [CHAT_MANY, CHAT_ALONE],
    bars: [
      {
        bar: "CPU added by auth, reputation and four limits in memory, µs/request",
        variant: "sallyport-limits",
        figure: "cpuMicrosPerRequest",
        addedTo: "sallyport-bare",
        limit: 15,
      },
      {
        bar: "p50 added by counting on Redis, ms, at most one take's round trip",
        variant: "sallyport-limits-redis",
        figure: "aloneP50Ms",
        addedTo: "sallyport-limits",
        limit: "takeP50Ms",
      },
    ],
  },
  {
    name: "prompt",
    variants: ["direct", "http-proxy", "sallyport-bare", "sallyport-prompt"],
    workloads: [CHAT_MANY, CHAT_LONG],
    bars: [
      {
        bar: "CPU added by canonical text, 212 rules and stage one, 1 KB, µs/request",
        variant: "sallyport-prompt",
        figure: "cpuMicrosPerRequest",
        addedTo: "sallyport-bare",
        limit: 60,
      },
      {
        bar: "CPU added by the same, 100 KB, µs/request",
        variant: "sallyport-prompt",
        figure: "cpuMicrosPerLongRequest",
        addedTo: "sallyport-bare",
        limit: 8000,
      },
    ],
  },
];
