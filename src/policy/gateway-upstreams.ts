/**
 * The part of gateway.yaml on the model APIs behind the gateway: where each dialect's requests go, on whose
 * account, and when the gateway sheds, ejects and tries again. Keys are named here and never written here.
 */
import { z } from "zod";
import { type FileProblem, wholeFileProblem } from "./problems.ts";

const TARGETS_MAX = 16;
const ORGS_MAX = 1_000;

export const BASE_URL = "an http or https URL without a query or password";

const baseUrl = (example: string) =>
  z
    .string()
    .refine(isBaseUrl, { error: `expected ${BASE_URL}, such as "${example}"` })
    .describe(`Base URL of the model API, such as ${example}; a trailing /v1 may stand or not.`);

const variable = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "the name of an environment variable" });

const organisation = z
  .string()
  .regex(/^[\w.@:-]{1,64}$/, { error: "an organisation's name: 1 to 64 of letters, digits and . _ @ : -" });

const upstream = (keyEnv: string, example: string) => {
  const target = z.strictObject({
    name: z
      .string()
      .regex(/^[\w.-]{1,40}$/, { error: "1 to 40 of letters, digits and . _ -" })
      .describe("Name of the target in metrics and logs."),
    url: baseUrl(example),
    keyEnv: variable
      .optional()
      .describe("Environment variable that holds the API key for this target; absent: that of the upstream."),
    weight: z
      .number()
      .min(0.01)
      .max(100)
      .default(1)
      .describe("Share of the requests, in proportion to the other targets' weights."),
  });
  return z
    .strictObject({
      url: baseUrl(example)
        .optional()
        .describe(
          `Base URL of the model API, such as ${example}; a trailing /v1 may stand or not. Absent: targets are named.`,
        ),
      targets: z
        .array(target)
        .min(1)
        .max(TARGETS_MAX)
        .refine((targets) => new Set(targets.map(({ name }) => name)).size === targets.length, {
          error: "two targets have the same name",
        })
        .optional()
        .describe("Several places that answer alike; absent: the one that url names."),
      keyEnv: variable
        .default(keyEnv)
        .describe("Environment variable that holds the API key for this upstream."),
      orgKeys: z
        .record(organisation, variable)
        .refine((keys) => Object.keys(keys).length <= ORGS_MAX, {
          error: `at most ${ORGS_MAX} organisations; name a file with orgKeysFile for more`,
        })
        .default({})
        .describe(
          "Organisation to environment variable: its requests carry that key in place of the upstream's own.",
        ),
      orgKeysFile: z
        .string()
        .min(1)
        .max(4096)
        .optional()
        .describe(
          "YAML or JSON file, organisation: key, read again when it changes; goes before orgKeys. Other users of the machine must not be able to open it. Absent: orgKeys alone.",
        ),
    })
    .refine(({ url, targets }) => url !== undefined || targets !== undefined, {
      path: ["url"],
      error: 'missing field "url" (the base URL of the model API, or a list of them as "targets")',
    })
    .refine(({ url, targets }) => url === undefined || targets === undefined, {
      path: ["targets"],
      error: "name either url (one place) or targets (several)",
    })
    .optional()
    .describe(
      "Where requests of this dialect go. With no upstream named at all, the bundled simulator answers.",
    );
};

const inFlight = (value: number, text: string) => z.int().min(1).max(100_000).default(value).describe(text);
const spanMs = (value: number, text: string) => z.int().min(10).max(3_600_000).default(value).describe(text);
const times = (value: number, text: string) => z.int().min(1).max(10_000).default(value).describe(text);
const share = (value: number, text: string) => z.number().min(0).max(1).default(value).describe(text);

const overload = z
  .strictObject({
    concurrencyMin: inFlight(4, "The limit never falls below this, however the target answers."),
    concurrencyStart: inFlight(256, "The limit at start, before anything is known of the target."),
    concurrencyMax: inFlight(
      512,
      "The limit never grows beyond this, nor beyond limits.upstreamConnectionsMax.",
    ),
    slowdownMax: z
      .number()
      .min(1.2)
      .max(10)
      .default(2)
      .describe("How many times its usual time an answer's head may take before the limit falls."),
  })
  .refine(({ concurrencyMin, concurrencyMax }) => concurrencyMin <= concurrencyMax, {
    path: ["concurrencyMin"],
    error: "expected at most concurrencyMax",
  })
  .refine(
    ({ concurrencyMin, concurrencyStart, concurrencyMax }) =>
      concurrencyMin <= concurrencyStart && concurrencyStart <= concurrencyMax,
    { path: ["concurrencyStart"], error: "expected a number from concurrencyMin to concurrencyMax" },
  )
  .prefault({})
  .describe(
    "How many requests may be under way at each target: a limit that is learnt from its answers. More are refused at once, callers of worse standing first.",
  );

const ejection = z
  .strictObject({
    failuresInRow: times(5, "So many failures in a row eject a target."),
    failureShare: share(0.5, "So does this share of the window's requests that failed ..."),
    requestsMin: times(20, "... once the window holds so many."),
    windowMs: spanMs(10_000, "Length of the window."),
    ejectMs: spanMs(5_000, "Time without requests, times the number of ejections so far ..."),
    ejectMsMax: spanMs(60_000, "... and at most this. Then a few requests probe the target."),
  })
  .prefault({})
  .describe(
    "When one of several targets is left out; at most half of them are at once, and a lone one never.",
  );

const retry = z
  .strictObject({
    attemptsMax: z.int().min(1).max(3).default(2).describe("Attempts of one request; 1 tries nothing again."),
    budget: share(0.1, "Retries are at most this share of the requests of the window."),
    retriesMin: z
      .int()
      .min(0)
      .max(1_000)
      .default(3)
      .describe("Retries in a window that are allowed whatever the share says."),
    windowMs: spanMs(10_000, "Length of the window."),
    rateLimited: z.boolean().default(false).describe("Whether a 429 is tried at another target."),
  })
  .prefault({})
  .describe(
    "What is tried again, before the first byte of an answer only: failed connections, resets, and at another target 502, 503, 504 and 529.",
  );

export const upstreamsSchema = z
  .strictObject({
    openai: upstream("OPENAI_API_KEY", "https://api.openai.com"),
    anthropic: upstream("ANTHROPIC_API_KEY", "https://api.anthropic.com"),
    overload,
    ejection,
    retry,
  })
  .prefault({})
  .describe("The model APIs behind the gateway.");

type UpstreamsFile = z.infer<typeof upstreamsSchema>;
type Environment = Readonly<Record<string, string | undefined>>;

/** One place with its key, which comes from the environment and never from a file. */
export interface UpstreamTarget {
  readonly name: string;
  readonly url: string;
  readonly key: string | undefined;
  readonly weight: number;
}

/** Where one dialect's requests go. */
export interface UpstreamConfig {
  /** At least one. */
  readonly targets: readonly UpstreamTarget[];
  /** Keys of single organisations; one whose variable is not set keeps the gateway from starting. */
  readonly orgKeys: readonly OrgKey[];
  readonly orgKeysFile: string | undefined;
}

export interface OrgKey {
  readonly org: string;
  /** The environment variable. */
  readonly keyEnv: string;
  readonly key: string | undefined;
}

/** When requests are shed, targets are left out, and what is tried again: alike for both dialects. */
export type UpstreamRules = Readonly<Pick<UpstreamsFile, "overload" | "ejection" | "retry">>;

export interface Upstreams {
  /** A dialect that is absent has no upstream. */
  readonly upstreams: { readonly openai?: UpstreamConfig; readonly anthropic?: UpstreamConfig };
  readonly upstreamRules: UpstreamRules;
}

/**
 * Applies the environment. A URL in it replaces whatever the file names by this one place. A vendor's own key
 * variable is read only for an upstream that is named, so that no real key ever goes to the simulator.
 */
export function upstreamsFrom(file: UpstreamsFile, env: Environment, problems: FileProblem[]): Upstreams {
  // A key read from a mounted file often ends in a line break, which no header can carry.
  const keyFrom = (name: string): string | undefined => env[name]?.trim() || undefined;
  const upstreamOf = (dialect: "openai" | "anthropic"): UpstreamConfig | undefined => {
    const vendor = dialect.toUpperCase();
    const named = file[dialect];
    const only = urlFrom(`SALLYPORT_${vendor}_URL`, env, problems) ?? named?.url;
    const key = keyFrom(`SALLYPORT_${vendor}_KEY`) ?? keyFrom(named?.keyEnv ?? `${vendor}_API_KEY`);
    const targets =
      only !== undefined
        ? [{ name: dialect, url: only, key, weight: 1 }]
        : named?.targets?.map(({ name, url, keyEnv, weight }) => {
            return { name, url, key: keyEnv === undefined ? key : keyFrom(keyEnv), weight };
          });
    if (targets === undefined) return undefined;
    const orgKeys = Object.entries(named?.orgKeys ?? {}).map(([org, name]) => {
      return { org, keyEnv: name, key: keyFrom(name) };
    });
    return { targets, orgKeys, orgKeysFile: named?.orgKeysFile };
  };
  const openai = upstreamOf("openai");
  const anthropic = upstreamOf("anthropic");
  const { overload, ejection, retry } = file;
  return {
    upstreams: { ...(openai && { openai }), ...(anthropic && { anthropic }) },
    upstreamRules: { overload, ejection, retry },
  };
}

/** A base URL from the environment; undefined where none is set. */
export function urlFrom(name: string, env: Environment, problems: FileProblem[]): string | undefined {
  const value = env[name];
  if (value === undefined || value === "") return undefined;
  if (!isBaseUrl(value))
    problems.push(wholeFileProblem(`environment variable ${name}`, `expected ${BASE_URL}`));
  return value;
}

export function isBaseUrl(text: string): boolean {
  const url = URL.parse(text);
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  return isHttp && url.search === "" && url.hash === "" && url.username === "" && url.password === "";
}
