/**
 * The shape of gateway.yaml: what is fixed for the life of a process. Every limit and every timeout of the
 * gateway has its name and its default here; a file that says nothing, or no file at all, is a valid one.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type FileProblem, formatProblems, tidyProblems, wholeFileProblem } from "./problems.ts";
import { checkShape } from "./schema-issues.ts";
import { readYaml } from "./yaml-source.ts";

const GATEWAY_FILE = "gateway.yaml";
const GATEWAY_BYTES_MAX = 262_144;

const MiB = 1_048_576;

/** Largest delay that a timer takes, about 24 days. */
const MS_MAX = 2_147_483_647;

const BASE_URL = "an http or https URL without a query or password";

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

const upstream = (keyEnv: string, example: string) =>
  z
    .strictObject({
      url: z
        .string()
        .refine(isBaseUrl, { error: `expected ${BASE_URL}, such as "${example}"` })
        .describe(`Base URL of the model API, such as ${example}; a trailing /v1 may stand or not.`),
      keyEnv: z
        .string()
        .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "the name of an environment variable" })
        .default(keyEnv)
        .describe("Environment variable that holds the API key for this upstream."),
    })
    .optional()
    .describe(
      "Where requests of this dialect go. With no upstream named at all, the bundled simulator answers.",
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
          "Whether /metrics is open to whoever reaches the admin listener, or needs the admin token.",
        ),
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
  upstreams: z
    .strictObject({
      openai: upstream("OPENAI_API_KEY", "https://api.openai.com"),
      anthropic: upstream("ANTHROPIC_API_KEY", "https://api.anthropic.com"),
    })
    .prefault({})
    .describe("The model APIs behind the gateway."),
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

/** An upstream with its key, which comes from the environment and never from a file. */
interface UpstreamTarget {
  readonly url: string;
  readonly key: string | undefined;
}

/** The file with the environment applied and its addresses read: what a process runs with. */
export interface GatewayConfig extends Omit<GatewayFile, "listen" | "admin" | "upstreams"> {
  readonly listen: Address;
  readonly admin: { readonly listen: Address; readonly metrics: "open" | "token" };
  /** A dialect that is absent has no upstream. */
  readonly upstreams: { readonly openai?: UpstreamTarget; readonly anthropic?: UpstreamTarget };
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

/**
 * What the environment adds and overrides. A vendor's own key variable is read only for an upstream that is
 * named, so that no real key ever goes to the simulator.
 */
function applyEnvironment(file: GatewayFile, env: Environment): GatewayResult {
  const problems: FileProblem[] = [];
  const urlFrom = (name: string): string | undefined => {
    const value = env[name];
    if (value === undefined || value === "") return undefined;
    if (!isBaseUrl(value))
      problems.push(wholeFileProblem(`environment variable ${name}`, `expected ${BASE_URL}`));
    return value;
  };
  // A key read from a mounted file often ends in a line break, which no header can carry.
  const keyFrom = (name: string): string | undefined => env[name]?.trim() || undefined;
  const target = (dialect: "openai" | "anthropic"): UpstreamTarget | undefined => {
    const vendor = dialect.toUpperCase();
    const named = file.upstreams[dialect];
    const url = urlFrom(`SALLYPORT_${vendor}_URL`) ?? named?.url;
    if (url === undefined) return undefined;
    const keyEnv = named?.keyEnv ?? `${vendor}_API_KEY`;
    return { url, key: keyFrom(`SALLYPORT_${vendor}_KEY`) ?? keyFrom(keyEnv) };
  };
  const openai = target("openai");
  const anthropic = target("anthropic");
  const otlpUrl = urlFrom("OTEL_EXPORTER_OTLP_ENDPOINT") ?? file.telemetry.otlpUrl;
  if (problems.length > 0) return { ok: false, problems };
  const config: GatewayConfig = {
    ...file,
    // The schema has admitted both addresses.
    listen: parseListen(file.listen)!,
    admin: { ...file.admin, listen: parseListen(file.admin.listen)! },
    upstreams: { ...(openai && { openai }), ...(anthropic && { anthropic }) },
    telemetry: { ...file.telemetry, ...(otlpUrl !== undefined && { otlpUrl }) },
  };
  return { ok: true, config };
}

/** "HOST:PORT" or "[IPv6]:PORT"; undefined for anything else. */
export function parseListen(address: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

function isBaseUrl(text: string): boolean {
  const url = URL.parse(text);
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  return isHttp && url.search === "" && url.hash === "" && url.username === "" && url.password === "";
}
