/**
 * The shape of gateway.yaml: what is fixed for the life of a process. Every limit and every timeout of the
 * gateway has its name and its default here; a file that says nothing, or no file at all, is a valid one.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  BASE_URL,
  isBaseUrl,
  type Upstreams,
  upstreamsFrom,
  upstreamsSchema,
  urlFrom,
} from "./gateway-upstreams.ts";
import { type FileProblem, formatProblems, tidyProblems, wholeFileProblem } from "./problems.ts";
import { checkShape } from "./schema-issues.ts";
import { readYaml } from "./yaml-source.ts";

const GATEWAY_FILE = "gateway.yaml";
const GATEWAY_BYTES_MAX = 262_144;

const MiB = 1_048_576;

/** Largest delay that a timer takes, about 24 days. */
const MS_MAX = 2_147_483_647;

const bytes = (value: number, text: string, max = 4_294_967_296) =>
  z.int().min(1).max(max).default(value).describe(text);
const count = (value: number, text: string) => z.int().min(1).max(1_000_000).default(value).describe(text);
const ms = (value: number, text: string) => z.int().min(1).max(MS_MAX).default(value).describe(text);
const listen = (value: string, text: string) =>
  z
    .string()
    .refine((address) => parseListen(address) !== undefined, {
      error: 'expected HOST:PORT, such as "127.0.0.1:8080" or "[::1]:8080"; port 0 takes any free one',
    })
    .default(value)
    .describe(text);

const redisStore = z
  .strictObject({
    url: z
      .string()
      .refine(isRedisUrl, {
        error:
          'expected "redis://HOST:PORT" or "rediss://HOST:PORT", without a password: that comes from SALLYPORT_REDIS_PASSWORD',
      })
      .optional()
      .describe(
        "One Redis server, such as redis://127.0.0.1:6379. SALLYPORT_REDIS_URL overrides it. Absent: nodes are named.",
      ),
    nodes: z
      .array(z.string().refine((node) => parseListen(node) !== undefined, { error: "expected HOST:PORT" }))
      .min(1)
      .max(64)
      .optional()
      .describe(
        "Some nodes of a Redis Cluster, HOST:PORT each; the others are found through them. Absent: url is named.",
      ),
    prefix: z
      .string()
      .regex(/^[\w.-]{1,40}$/, { error: "1 to 40 of letters, digits and . _ -" })
      .default("sallyport")
      .describe("Start of every key; gateways with the same prefix share their state."),
    timeoutMs: z
      .int()
      .min(1)
      .max(1_000)
      .default(20)
      .describe("Time for an answer before Redis counts as away and each seat's own choice holds."),
  })
  .refine(({ url, nodes }) => url === undefined || nodes === undefined, {
    path: ["nodes"],
    error: "name either url (one server) or nodes (a cluster)",
  })
  .describe(
    "Redis for limits, keys, reputation and sanctions that hold across gateways. Absent: each gateway has its own.",
  );

export const gatewaySchema = z.strictObject({
  listen: listen("127.0.0.1:8080", "Address of the gateway, HOST:PORT."),
  admin: z
    .strictObject({
      listen: listen("127.0.0.1:8081", "Address of the admin listener: health, metrics and the admin API."),
      metrics: z
        .enum(["open", "token"])
        .default("open")
        .describe(
          "Whether /metrics is open to whoever reaches the admin listener, or needs a token or a session.",
        ),
      url: z
        .string()
        .refine(isConsoleUrl, {
          error: 'expected the address alone, such as "https://sallyport.example.org", without a path',
        })
        .optional()
        .describe(
          "Address under which people open the admin listener. https, for TLS in front of it, makes cookies Secure. Absent: the Host that they name, over http.",
        ),
      sessionIdleMs: z
        .int()
        .min(60_000)
        .max(86_400_000)
        .default(1_800_000)
        .describe("A session that was not used for so long is over."),
      sessionMaxMs: z
        .int()
        .min(60_000)
        .max(604_800_000)
        .default(43_200_000)
        .describe("A session that is so old is over, used or not."),
    })
    .prefault({})
    .describe("The admin listener."),
  data: z
    .string()
    .min(1)
    .max(4096)
    .default("data")
    .describe(
      "Folder for all state: keys, decisions, the last good policy. Relative to the working directory.",
    ),
  upstreams: upstreamsSchema,
  stores: z
    .strictObject({
      redis: redisStore.optional(),
    })
    .prefault({})
    .describe(
      "Where state lives that several gateways share. Nothing named: in this process and its data folder.",
    ),
  geo: z
    .strictObject({
      country: z
        .string()
        .min(1)
        .max(4096)
        .optional()
        .describe(
          "Path of a MaxMind-format database (.mmdb) that tells an address's country. Absent: no country is known.",
        ),
      asn: z
        .string()
        .min(1)
        .max(4096)
        .optional()
        .describe(
          "Path of a MaxMind-format database (.mmdb) that tells an address's network (ASN). Absent: none is known.",
        ),
    })
    .prefault({})
    .describe("Databases on addresses; re-read when they are replaced. Absent: country and asn are unknown."),
  encoder: z
    .strictObject({
      workers: z
        .int()
        .min(1)
        .max(64)
        .default(1)
        .describe("Threads that encode; each takes some 100 MB, and a core while it is busy."),
      queueMax: z
        .int()
        .min(0)
        .max(1_000)
        .default(16)
        .describe("Texts that may wait for a thread; the next one is not encoded, and the record says so."),
      timeoutMs: ms(
        200,
        "For one text, its wait included. Keep it below the timeoutMs of the seats that ask: theirs ends all else.",
      ),
    })
    .prefault({})
    .describe(
      "The sentence encoder behind prompt-classifier's second stage; it starts with the first text that asks for it.",
    ),
  limits: z
    .strictObject({
      headerBytesMax: bytes(32_768, "Bytes of a request's headers; more is 431.", 16 * MiB),
      headersCountMax: count(200, "Header fields of a request; more is 431."),
      bodyBytesMax: bytes(32 * MiB, "Bytes of a request's body, inflated; more is 413."),
      bodyDepthMax: z
        .int()
        .min(1)
        .max(1000)
        .default(128)
        .describe("Nesting of a request's JSON; deeper is 400."),
      connectionsMax: count(10_000, "Client connections at once; more are closed on arrival."),
      upstreamConnectionsMax: count(
        512,
        "Connections to each upstream; further requests wait for a free one.",
      ),
      answerBytesMax: bytes(64 * MiB, "Bytes of an answer that is not streamed."),
      eventBytesMax: bytes(MiB, "Bytes of one streamed event."),
      holdBytesMax: bytes(
        MiB,
        "Bytes of one stream that are held back for its layers; more ends the answer.",
      ),
      holdTotalBytesMax: bytes(
        256 * MiB,
        "Bytes that all streams together keep: held back, begun and not ended, written and not taken. A stream that needs more ends.",
      ),
      verdictCacheEntries: z
        .int()
        .min(0)
        .max(10_000_000)
        .default(65_536)
        .describe("Verdicts on earlier turns that are kept, about 200 bytes each; 0 judges every turn anew."),
      counterKeysMax: count(
        1_000_000,
        "Keys that the limits count in memory; beyond it new ones share one window.",
      ),
      reputationEntitiesMax: count(
        200_000,
        "Organisations, keys, end users, addresses and networks whose reputation is kept in memory; beyond it the least recently seen are forgotten.",
      ),
    })
    .prefault({})
    .describe("What one request, and all of them together, may take."),
  timeouts: z
    .strictObject({
      headersMs: ms(10_000, "For a request's headers to arrive."),
      bodyMs: ms(30_000, "For a request's body to arrive."),
      upstreamConnectMs: ms(5_000, "For a connection to the upstream."),
      firstByteMs: ms(120_000, "For the upstream to start its answer."),
      idleMs: ms(60_000, "Between two pieces of an answer."),
      totalMs: ms(900_000, "For a whole exchange, from the request's head to the answer's end."),
      keepAliveMs: ms(75_000, "An idle client connection is closed after this."),
      drainMs: ms(30_000, "After SIGTERM, for the requests under way to end."),
    })
    .prefault({})
    .describe("Waits, in milliseconds; each has its own error code."),
  spool: z
    .strictObject({
      segmentBytes: bytes(16 * MiB, "Size at which a segment of the decision spool is closed."),
      totalBytesMax: bytes(1024 * MiB, "Size of the whole spool on disk.", 1_099_511_627_776),
      onFull: z
        .enum(["refuse", "drop-oldest"])
        .default("refuse")
        .describe(
          "When the spool is full. refuse: requests get 503. drop-oldest: the oldest decisions are lost, and counted.",
        ),
    })
    .refine(({ segmentBytes, totalBytesMax }) => totalBytesMax >= 2 * segmentBytes, {
      path: ["totalBytesMax"],
      error: "expected room for at least two segments (segmentBytes)",
    })
    .prefault({})
    .describe("The record of decisions."),
  audit: z
    .strictObject({
      checkpoints: z
        .string()
        .min(1)
        .max(4096)
        .optional()
        .describe(
          "Where signed checkpoints of the audit chain go: a folder, or a file that ends in .jsonl, on another disk or machine. Absent: audit-checkpoints in the data folder, where they prove little.",
        ),
      checkpointRecords: z
        .int()
        .min(1)
        .max(10_000)
        .default(10)
        .describe("A checkpoint is written after so many records,"),
      checkpointSec: z
        .int()
        .min(1)
        .max(86_400)
        .default(60)
        .describe("and at the latest so long after a record that has none yet, in seconds."),
      segmentBytes: bytes(MiB, "Size at which a segment of the audit chain is closed.", 16 * MiB),
      totalBytesMax: bytes(
        1024 * MiB,
        "Size of the whole audit chain on disk. Nothing is ever deleted: at the bound changes are refused with 507.",
        1_099_511_627_776,
      ),
    })
    .prefault({})
    .describe("The record of who changed what."),
  record: z
    .strictObject({
      share: z.number().min(0).max(1).default(1).describe("Share of requests, from 0 to 1."),
      orgs: z
        .array(z.string().min(1).max(256))
        .max(1_000)
        .default([])
        .describe("Of these organisations alone; empty: of all."),
      keepForHours: z
        .number()
        .min(0.01)
        .max(8_760)
        .default(24)
        .describe("Hours after which content is deleted, a segment at a time and never later."),
      bytesMax: bytes(1024 * MiB, "All of it on disk; past it the oldest goes.", 1_099_511_627_776),
      requestBytesMax: bytes(
        262_144,
        "One request and its answer; a longer one is not recorded, and counted.",
        8 * MiB,
      ),
    })
    .optional()
    .describe(
      "Keeps what was asked and answered, so that a change of policy can be rehearsed on it (sallyport replay). It is sensitive: encrypted with SALLYPORT_CONTENT_KEY or the file content.key in the data folder. Absent: nothing is kept.",
    ),
  telemetry: z
    .strictObject({
      otlpUrl: z
        .string()
        .refine(isBaseUrl, { error: `expected ${BASE_URL}, such as "http://127.0.0.1:4318"` })
        .optional()
        .describe("Base URL of an OTLP/HTTP collector. Absent: no traces are made."),
      traceSample: z
        .number()
        .min(0)
        .max(1)
        .default(0)
        .describe("Share of requests that are traced, from 0 to 1, where the caller did not decide."),
      logLevel: z
        .enum(["trace", "debug", "info", "warn", "error", "silent"])
        .default("info")
        .describe("Least level that is logged."),
    })
    .prefault({})
    .describe("Traces and logs; metrics are always there."),
  policyPollMs: z
    .int()
    .min(50)
    .max(3_600_000)
    .default(2_000)
    .describe("How often policy.yaml is looked at, in milliseconds, beside being watched."),
});

type GatewayFile = z.infer<typeof gatewaySchema>;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Redis as a process connects to it; the password comes from the environment and never from a file. */
interface RedisTarget {
  readonly url: string | undefined;
  readonly nodes: readonly string[];
  readonly prefix: string;
  readonly timeoutMs: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
}

/** The file with the environment applied and its addresses read: what a process runs with. */
export interface GatewayConfig
  extends Omit<GatewayFile, "listen" | "admin" | "upstreams" | "stores">,
    Upstreams {
  readonly listen: Address;
  readonly admin: Omit<GatewayFile["admin"], "listen"> & { readonly listen: Address };
  readonly stores: { readonly redis?: RedisTarget };
}

export type Environment = Readonly<Record<string, string | undefined>>;

type GatewayResult =
  | { readonly ok: true; readonly config: GatewayConfig }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };

/** The folder's gateway.yaml with the environment applied; every default when there is no such file. */
export async function loadGateway(configDir: string, env: Environment): Promise<GatewayResult> {
  const file = join(configDir, GATEWAY_FILE);
  try {
    return readGateway(file, await readFile(file), env);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "ENOENT" || code === "ENOTDIR") return applyEnvironment(gatewaySchema.parse({}), env);
    return { ok: false, problems: [wholeFileProblem(file, `the file cannot be read (${code})`)] };
  }
}

export function readGateway(file: string, content: Uint8Array | string, env: Environment): GatewayResult {
  const source = readYaml(file, content, GATEWAY_BYTES_MAX);
  if (source.value === undefined) return { ok: false, problems: tidyProblems(source.problems) };
  const checked = checkShape(gatewaySchema, source.value, source);
  const problems = [...source.problems, ...("problems" in checked ? checked.problems : [])];
  if (problems.length > 0 || "problems" in checked) return { ok: false, problems: tidyProblems(problems) };
  return applyEnvironment(checked.value, env);
}

/** The same for settings that are already an object; throws an Error that lists every problem. */
export function parseGatewayConfig(value: unknown, env: Environment): GatewayConfig {
  const result = readGateway("settings", JSON.stringify(value), env);
  if (!result.ok)
    throw new Error(`the gateway's settings cannot be used\n${formatProblems(result.problems)}`);
  return result.config;
}

/** What the environment adds and overrides. */
function applyEnvironment(file: GatewayFile, env: Environment): GatewayResult {
  const problems: FileProblem[] = [];
  const otlpUrl = urlFrom("OTEL_EXPORTER_OTLP_ENDPOINT", env, problems) ?? file.telemetry.otlpUrl;
  const upstreams = upstreamsFrom(file.upstreams, env, problems);
  const redis = redisFrom(file.stores.redis, env, problems);
  if (problems.length > 0) return { ok: false, problems };
  const config: GatewayConfig = {
    ...file,
    stores: redis === undefined ? {} : { redis },
    // The schema has admitted both addresses.
    listen: parseListen(file.listen)!,
    admin: { ...file.admin, listen: parseListen(file.admin.listen)! },
    ...upstreams,
    telemetry: { ...file.telemetry, ...(otlpUrl !== undefined && { otlpUrl }) },
  };
  return { ok: true, config };
}

/** A URL in the environment may carry user and password; one in the file may not. */
function redisFrom(
  named: z.infer<typeof redisStore> | undefined,
  env: Environment,
  problems: FileProblem[],
): RedisTarget | undefined {
  const given = env["SALLYPORT_REDIS_URL"]?.trim() || undefined;
  if (given === undefined && named?.url === undefined && named?.nodes === undefined) {
    if (named !== undefined) {
      const message = "names neither url nor nodes, and SALLYPORT_REDIS_URL is not set";
      problems.push(wholeFileProblem("stores.redis in gateway.yaml", message));
    }
    return undefined;
  }
  const { prefix, timeoutMs } = redisStore.parse({ prefix: named?.prefix, timeoutMs: named?.timeoutMs });
  const url = given === undefined ? undefined : URL.parse(given);
  if (url === null || (url !== undefined && !REDIS_PROTOCOLS.has(url.protocol))) {
    const from = "environment variable SALLYPORT_REDIS_URL";
    problems.push(wholeFileProblem(from, 'expected "redis://HOST:PORT" or "rediss://HOST:PORT"'));
    return undefined;
  }
  const password = env["SALLYPORT_REDIS_PASSWORD"] || (url && decodeURIComponent(url.password)) || undefined;
  const username = env["SALLYPORT_REDIS_USERNAME"] || (url && decodeURIComponent(url.username)) || undefined;
  if (url !== undefined) {
    url.password = "";
    url.username = "";
  }
  return {
    url: url === undefined ? named?.url : url.href,
    nodes: url === undefined ? (named?.nodes ?? []) : [],
    prefix,
    timeoutMs,
    username,
    password,
  };
}

const REDIS_PROTOCOLS = new Set(["redis:", "rediss:"]);

function isConsoleUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && (text === url.origin || text === `${url.origin}/`);
}

function isRedisUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && REDIS_PROTOCOLS.has(url.protocol) && url.username === "" && url.password === "";
}

/** "HOST:PORT" or "[IPv6]:PORT"; undefined for anything else. */
export function parseListen(address: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}
