/**
 * Who takes part in the bench: one function per variant that starts it on loopback in front of the
 * upstream, with the settings that suit it best. A variant whose program is not there throws NotInstalled
 * and is left out with that note; one that is there and does not start is a failure.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseDocument } from "yaml";
import type { Target } from "./load.ts";
import { accepts, freePort, run, type Started, start } from "./processes.ts";
import type { Figures } from "./report.ts";
import { openProbe } from "./store-probe.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PEERS = join(ROOT, "load-tests/peers");

export interface Running extends Target {
  /** Undefined for `direct`, which has no proxy to measure. */
  readonly process: Started | undefined;
  /** Where the variant keeps its state, if not in itself. Its CPU time is told beside, and not the variant's. */
  readonly store?: Store;
}

interface Store {
  readonly process: Started;
  /** How long the store takes by itself, without a gateway in between; once in each round. */
  probe(): Promise<Figures>;
}

export interface Place {
  readonly upstreamPort: number;
  /** Folder of this variant's own, removed after the bench. */
  readonly dir: string;
}

export class NotInstalled extends Error {}

export type Variant = (place: Place) => Promise<Running>;

export const VARIANTS: Readonly<Record<string, Variant>> = {
  direct: async ({ upstreamPort }) => ({ port: upstreamPort, headers: {}, process: undefined }),
  nginx: startNginx,
  haproxy: startHaproxy,
  "http-proxy": async (place) => {
    await installPeer("http-proxy");
    return startHttpProxy("http-proxy", place);
  },
  "http-proxy-3": (place) => startHttpProxy("http-proxy-3", place),
  portkey: (place) => startPortkey(place),
  "sallyport-bare": (place) => startSallyport(place, (policy) => benchPolicy(policy, [])),
  "sallyport-four": (place) =>
    startSallyport(place, (policy) =>
      benchPolicy(policy, ["auth", "rate-limit", "prompt-rules", "output-secrets"]),
    ),
  "sallyport-output": (place) => startSallyport(place, outputPolicy),
  "sallyport-prompt": (place) => startSallyport(place, promptPolicy),
  "sallyport-limits": (place) => startSallyport(place, limitsPolicy),
  "sallyport-limits-redis": startSallyportOnRedis,
};

async function startNginx({ upstreamPort, dir }: Place): Promise<Running> {
  const program = findProgram("nginx", ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]);
  const port = await freePort();
  const config = fill("nginx.conf", dir, {
    LISTEN: port,
    UPSTREAM: upstreamPort,
    DIR: dir,
    USER: process.getuid?.() === 0 ? "user root;" : "",
  });
  const args = ["-c", config, "-p", dir, "-e", "stderr"];
  return serving(port, await start({ command: program, args, ready: () => accepts(port) }));
}

async function startHaproxy({ upstreamPort, dir }: Place): Promise<Running> {
  const program = findProgram("haproxy", ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]);
  const port = await freePort();
  const config = fill("haproxy.cfg", dir, { LISTEN: port, UPSTREAM: upstreamPort });
  return serving(
    port,
    await start({ command: program, args: ["-db", "-f", config], ready: () => accepts(port) }),
  );
}

async function startHttpProxy(name: string, { upstreamPort }: Place): Promise<Running> {
  const port = await freePort();
  const args = [join(PEERS, "http-proxy.ts"), name, String(port), String(upstreamPort)];
  return serving(port, await start({ command: process.execPath, args, ready: () => accepts(port) }));
}

const PORTKEY_GUARD = {
  output_guardrails: [{ "default.regexMatch": { rule: "secret-?word", not: true }, deny: true }],
};

/** `guard` is what Portkey takes as its `x-portkey-config`. */
export async function startPortkey(
  { upstreamPort }: Pick<Place, "upstreamPort">,
  guard: object = PORTKEY_GUARD,
): Promise<Running> {
  await installPeer("portkey");
  const port = await freePort();
  const started = await start({
    command: process.execPath,
    args: [
      "--import",
      join(PEERS, "portkey/loopback.ts"),
      join(PEERS, "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"),
      `--port=${port}`,
      "--headless",
    ],
    ready: () => accepts(port),
  });
  return serving(port, started, {
    authorization: "Bearer bench",
    "x-portkey-provider": "openai",
    "x-portkey-custom-host": `http://127.0.0.1:${upstreamPort}/v1`,
    "x-portkey-config": JSON.stringify(guard),
  });
}

/** One gateway process with the shipped configuration and a policy made from the shipped one. */
export async function startSallyport(
  { upstreamPort, dir }: Place,
  policyFrom: (shipped: string) => string,
  env: Readonly<Record<string, string>> = {},
): Promise<Running> {
  const [port, adminPort] = [await freePort(), await freePort()];
  const key = "sk-sallyport-bench-0123456789abcdef0123456789abcdef";
  const config = join(dir, "config");
  cpSync(join(ROOT, "config"), config, { recursive: true });
  const policyFile = join(config, "policy.yaml");
  writeFileSync(policyFile, policyFrom(readFileSync(policyFile, "utf8")));
  const started = await start({
    command: process.execPath,
    args: [
      join(ROOT, "bin/sallyport.js"),
      "serve",
      ...["--config", config, "--data", join(dir, "data")],
      ...["--listen", `127.0.0.1:${port}`, "--admin", `127.0.0.1:${adminPort}`],
    ],
    env: {
      SALLYPORT_OPENAI_URL: `http://127.0.0.1:${upstreamPort}`,
      SALLYPORT_BOOTSTRAP_KEY: key,
      ...env,
    },
    ready: async () => (await accepts(adminPort)) && (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).ok,
  });
  return serving(port, started, { authorization: `Bearer ${key}` });
}

/** The same gateway as `sallyport-limits`, with a Redis of its own on loopback that keeps nothing on disk. */
async function startSallyportOnRedis(place: Place): Promise<Running> {
  const program = findProgram("redis-server", ["/usr/bin", "/usr/sbin", "/usr/local/bin"]);
  const port = await freePort();
  mkdirSync(place.dir, { recursive: true });
  const redis = await start({
    command: program,
    args: [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", place.dir],
      ...["--save", "", "--appendonly", "no"],
    ],
    ready: () => accepts(port),
  });
  const url = `redis://127.0.0.1:${port}`;
  try {
    const gateway = await startSallyport(place, limitsPolicy, { SALLYPORT_REDIS_URL: url });
    return { ...gateway, store: { process: redis, probe: openProbe(url) } };
  } catch (error) {
    await redis.stop();
    throw error;
  }
}

/** More than any bench uses up in a window: each limit is counted, and none refuses. */
const OUT_OF_REACH = 1_000_000_000;
/** Of dollars, the most that a limit may be. */
const DOLLARS_OUT_OF_REACH = 1_000_000;

interface BenchSeat {
  readonly use: string;
  readonly with?: { readonly limits?: readonly { readonly of?: string }[] };
}

/** The policy with only the seats of these kinds, all enforced, and every limit out of reach. */
export function benchPolicy(policy: string, kinds: readonly string[]): string {
  const document = parseDocument(policy);
  const { seats }: { seats: readonly BenchSeat[] } = document.toJS();
  const kept = seats
    .filter((seat) => kinds.includes(seat.use))
    .map((seat) => ({
      ...seat,
      mode: "enforce",
      rollout: 100,
      sample: 1,
      ...(seat.use === "rate-limit" ? { with: unreachable(seat.with) } : {}),
    }));
  const missing = kinds.filter((kind) => !kept.some((seat) => seat.use === kind));
  if (missing.length > 0) throw new Error(`config/policy.yaml has no seat that uses ${missing.join(", ")}`);
  document.set("seats", kept);
  return document.toString();
}

function unreachable(config: BenchSeat["with"]) {
  return {
    ...config,
    limits: (config?.limits ?? []).map((limit) => {
      return { ...limit, limit: limit.of === "spend" ? DOLLARS_OUT_OF_REACH : OUT_OF_REACH };
    }),
  };
}

/**
 * Rules, canonical text and stage one: what every prompt pays. The encoder, which is off the event loop, is asked about
 * one benign text in seven; the bench's text is one of them or not as the model falls out, so it is left out.
 */
function promptPolicy(policy: string): string {
  const document = parseDocument(benchPolicy(policy, ["prompt-rules", "prompt-classifier"]));
  const { seats }: { seats: readonly BenchSeat[] } = document.toJS();
  const at = seats.findIndex(({ use }) => use === "prompt-classifier");
  document.setIn(["seats", at, "with", "stageTwo"], { enabled: false });
  return document.toString();
}

/** The shipped policy's routes with every layer that searches answers, and nothing else. */
function outputPolicy(policy: string): string {
  const document = parseDocument(policy);
  const kinds = ["output-secrets", "output-pii", "output-leak"];
  document.set(
    "seats",
    kinds.map((kind) => ({ id: kind, use: kind })),
  );
  return document.toString();
}

/** The shipped policy's routes with the first gate alone: who calls, how they stand, and four limits. */
function limitsPolicy(policy: string): string {
  const document = parseDocument(policy);
  const limits = [
    { name: "key-requests", of: "requests", per: ["key"], window: "1m" },
    { name: "key-tokens", of: "tokens", per: ["key"], window: "1m" },
    { name: "org-spend", of: "spend", per: ["org"], window: "1d" },
    { name: "org-concurrency", of: "concurrency", per: ["org"] },
  ];
  document.set("seats", [
    { id: "auth", use: "auth" },
    { id: "reputation", use: "reputation" },
    { id: "rate-limit", use: "rate-limit", with: unreachable({ limits }) },
  ]);
  return document.toString();
}

function serving(port: number, started: Started, headers: Readonly<Record<string, string>> = {}): Running {
  return { port, headers, process: started };
}

/** Looked for in the usual places as well, since Debian keeps servers off the PATH of ordinary users. */
function findProgram(name: string, folders: readonly string[]): string {
  const path = [...(process.env["PATH"] ?? "").split(":"), ...folders].map((folder) => join(folder, name));
  const program = path.find((file) => existsSync(file));
  if (program === undefined) throw new NotInstalled(`${name} is not installed (apt-get install ${name})`);
  return program;
}

/** Fills the @NAMES@ of a configuration in the peers' folder; answers the file that it wrote. */
function fill(name: string, dir: string, values: Readonly<Record<string, string | number>>): string {
  const text = readFileSync(join(PEERS, name), "utf8");
  const file = join(dir, name);
  mkdirSync(dir, { recursive: true });
  writeFileSync(
    file,
    text.replace(/^(?!\s*#).*$/gm, (line) => line.replace(/@([A-Z]+)@/g, (_, key) => String(values[key]))),
  );
  return file;
}

/** Installs a peer's locked packages, without install scripts, when they are not there yet. */
async function installPeer(name: string): Promise<void> {
  const dir = join(PEERS, name);
  if (existsSync(join(dir, "node_modules/.package-lock.json"))) return;
  try {
    await run("npm", ["ci", "--ignore-scripts", "--prefix", dir], dir);
  } catch (error) {
    throw new NotInstalled(
      `${name} could not be installed: ${error instanceof Error ? error.message : error}`,
    );
  }
}
