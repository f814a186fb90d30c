/**
 * Several gateways as an operator runs them: one process each, with a data folder and a clock of its own, one
 * policy, one Redis between them, and the model simulator behind. Tests that kill, freeze and turn clocks see
 * what a caller and an operator see, and nothing else. Each process is ended by its id, whatever happens.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Simulator,
  type SimulatorOptions,
  startSimulator,
} from "../../load-tests/model-simulator/simulator.ts";
import type { Decision } from "../../src/ledger/decision.ts";
import { readSpool } from "../../src/ledger/spool.ts";
import { ADMIN_TOKEN, eventually, KEY, ROOT, writeFiles } from "./house.ts";

const READY_MS_MAX = 30_000;
const STOP_MS_MAX = 10_000;
const OUTPUT_CHARS_MAX = 20_000;
/** The same in every replica, or their keys' hashes would differ. */
const PEPPER = "fleet-pepper-0123456789abcdefghijklmnopqrstuv";

export interface FleetOptions {
  readonly replicas: number;
  /** YAML of policy.yaml. */
  readonly policy: string;
  /** URL of a Redis, or "host:port" of the nodes of a cluster; absent: each replica counts in memory. */
  readonly redis?: string | readonly string[];
  /** Parts of gateway.yaml beside the listeners and the stores. */
  readonly gateway?: Readonly<Record<string, unknown>>;
  /** What each replica's clock is off by, such as "+300s"; by libfaketime. */
  readonly clocks?: readonly (string | undefined)[];
  readonly simulator?: Partial<SimulatorOptions>;
  /** A model API of the test's own, which the gateways ask in place of the simulator. */
  readonly modelUrl?: string;
  /** More files of the policy's folder by path, such as a model. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
}

export interface ApiAnswer {
  readonly status: number;
  // The admin API's answers are read by tests that know their shape.
  readonly body: Record<string, unknown>;
}

export interface Replica {
  readonly url: string;
  readonly port: number;
  readonly adminUrl: string;
  readonly pid: number;
  readonly isAlive: boolean;
  /** The last of what it printed. */
  output(): string;
  /** The admin API, with the token. */
  api(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<ApiAnswer>;
  /** Sum of a metric's samples whose labels include all of these. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  /** Every decision on its disk, oldest first. */
  decisions(): Promise<Decision[]>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM, and SIGKILL for one that does not end. */
  stop(): Promise<void>;
}

export interface Fleet {
  readonly replicas: readonly Replica[];
  readonly simulator: Simulator;
  /** Makes a key through the first replica and waits until all that live know it. */
  makeKey(org: string, name?: string): Promise<{ readonly id: string; readonly key: string }>;
  close(): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Opens a fleet for the time of `work`; when that fails, what the replicas printed goes to the test's output. */
export async function withFleet<T>(options: FleetOptions, work: (fleet: Fleet) => Promise<T>): Promise<T> {
  const fleet = await openFleet(options);
  try {
    return await work(fleet);
  } catch (error) {
    for (const [index, replica] of fleet.replicas.entries()) {
      console.error(`replica ${index} (pid ${replica.pid}) said:\n${replica.output()}`);
    }
    throw error;
  } finally {
    await fleet.close();
  }
}

export async function openFleet(options: FleetOptions): Promise<Fleet> {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-fleet-"));
  const configDir = join(folder, "config");
  mkdirSync(configDir);
  for (const part of readdirSync(join(ROOT, "config"), { withFileTypes: true })) {
    if (part.name === "policy.yaml" || part.name === "gateway.yaml") continue;
    cpSync(join(ROOT, "config", part.name), join(configDir, part.name), { recursive: true });
  }
  writeFiles(configDir, options.files);
  writeFileSync(join(configDir, "policy.yaml"), options.policy);
  writeFileSync(join(configDir, "gateway.yaml"), JSON.stringify(gatewayFile(options)));
  const simulator = await startSimulator({
    host: "127.0.0.1",
    port: 0,
    seed: 1,
    record: false,
    ...options.simulator,
  });
  const replicas: Replica[] = [];
  const close = async () => {
    await Promise.all(replicas.map((replica) => replica.stop()));
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    for (let index = 0; index < options.replicas; index++) {
      // One after the other: the first makes what they share, such as the bootstrap key's row.
      replicas.push(
        await startReplica({
          configDir,
          dataDir: join(folder, `data-${index}`),
          simulatorUrl: options.modelUrl ?? simulator.url,
          redisUrl: typeof options.redis === "string" ? options.redis : undefined,
          clock: options.clocks?.[index],
        }),
      );
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    replicas,
    simulator,
    close,
    async makeKey(org, name = "") {
      const made = await replicas[0]!.api("POST", "/api/keys", { org, name });
      const { id, key } = made.body;
      if (made.status !== 201 || typeof id !== "string" || typeof key !== "string") {
        throw new Error(`no key was made: ${made.status} ${JSON.stringify(made.body)}`);
      }
      for (const replica of replicas.filter(({ isAlive }) => isAlive)) {
        await eventually(async () => {
          const { body } = await replica.api("GET", "/api/keys");
          if (!JSON.stringify(body).includes(id)) throw new Error(`${replica.url} does not know ${id}`);
        });
      }
      return { id, key };
    },
  };
}

function gatewayFile({ redis, gateway }: FleetOptions): Record<string, unknown> {
  const { stores, ...more } = gateway ?? {};
  const nodes = redis === undefined || typeof redis === "string" ? undefined : redis;
  const store = {
    ...(stores as { redis?: object } | undefined)?.redis,
    ...(nodes !== undefined && { nodes }),
  };
  return {
    telemetry: { logLevel: "warn" },
    ...more,
    ...(Object.keys(store).length > 0 && { stores: { redis: store } }),
  };
}

interface Start {
  readonly configDir: string;
  readonly dataDir: string;
  readonly simulatorUrl: string;
  readonly redisUrl: string | undefined;
  readonly clock: string | undefined;
}

async function startReplica(start: Start): Promise<Replica> {
  const child = spawn(
    process.execPath,
    [
      ...["bin/sallyport.js", "serve", "--config", start.configDir, "--data", start.dataDir],
      ...["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ],
    {
      cwd: ROOT,
      env: {
        PATH: process.env["PATH"],
        HOME: process.env["HOME"],
        SALLYPORT_OPENAI_URL: start.simulatorUrl,
        SALLYPORT_ANTHROPIC_URL: start.simulatorUrl,
        SALLYPORT_BOOTSTRAP_KEY: KEY,
        SALLYPORT_ADMIN_TOKEN: ADMIN_TOKEN,
        SALLYPORT_KEY_PEPPER: PEPPER,
        ...(start.redisUrl !== undefined && { SALLYPORT_REDIS_URL: start.redisUrl }),
        ...(start.clock !== undefined && wrongClock(start.clock)),
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  running.add(child);
  let output = "";
  let greeting = "";
  const exited = once(child, "exit").then(() => void running.delete(child));
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARS_MAX);
      if (greeting.length < 4_000) greeting += text;
    });
  }
  const end = async (signal: "SIGTERM" | "SIGKILL") => {
    if (!running.has(child)) return;
    child.kill(signal);
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    await exited;
    clearTimeout(killer);
  };
  try {
    const [url, adminUrl] = await eventually(async () => {
      const found = /listens on (http:\S+?), admin on (http:\S+)/.exec(greeting);
      if (found === null) throw new Error("it has not said where it listens");
      const ready = await fetch(`${found[2]}/readyz`);
      if (!ready.ok) throw new Error(`/readyz answers ${ready.status}: ${await ready.text()}`);
      return [found[1]!, found[2]!];
    }, READY_MS_MAX);
    return {
      url: url!,
      port: Number(new URL(url!).port),
      adminUrl: adminUrl!,
      pid: child.pid!,
      get isAlive() {
        return running.has(child);
      },
      output: () => output,
      api: (method, path, body) => callApi(adminUrl!, method, path, body),
      metric: (name, labels) => readMetric(adminUrl!, name, labels ?? {}),
      async decisions() {
        const found: Decision[] = [];
        for await (const { decision } of readSpool(join(start.dataDir, "spool"))) found.push(decision);
        return found;
      },
      kill: () => end("SIGKILL"),
      stop: () => end("SIGTERM"),
    };
  } catch (error) {
    await end("SIGKILL");
    throw new Error(
      `a gateway did not get ready: ${error instanceof Error ? error.message : error}\n${output}`,
    );
  }
}

async function callApi(adminUrl: string, method: string, path: string, body: unknown): Promise<ApiAnswer> {
  const response = await fetch(`${adminUrl}${path}`, {
    method,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? {} : JSON.parse(text) };
}

async function readMetric(
  adminUrl: string,
  name: string,
  labels: Readonly<Record<string, string>>,
): Promise<number> {
  const text = await (
    await fetch(`${adminUrl}/metrics`, { headers: { authorization: `Bearer ${ADMIN_TOKEN}` } })
  ).text();
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  let sum = 0;
  for (const line of text.split("\n")) {
    if (!line.startsWith(`${name}{`) && !line.startsWith(`${name} `)) continue;
    if (wanted.every((part) => line.includes(part))) sum += Number(line.slice(line.lastIndexOf(" ") + 1));
  }
  return sum;
}

/** Environment that moves a process's wall clock and leaves its timers alone. */
function wrongClock(offset: string): Readonly<Record<string, string>> {
  return { LD_PRELOAD: faketimeLibrary(), FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
}

/** Debian's libfaketime, installed from the distribution's own packages where it is missing. */
function faketimeLibrary(): string {
  const found = () =>
    ["/usr/lib", "/usr/lib64"]
      .filter((folder) => existsSync(folder))
      .flatMap((folder) => [
        folder,
        ...readdirSync(folder)
          .filter((name) => name.includes("-linux-"))
          .map((name) => join(folder, name)),
      ])
      .map((folder) => join(folder, "faketime/libfaketimeMT.so.1"))
      .find((file) => existsSync(file));
  const already = found();
  if (already !== undefined) return already;
  for (const args of [["update"], ["install", "-y", "--no-install-recommends", "faketime"]]) {
    spawnSync("apt-get", args, {
      stdio: "ignore",
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    });
  }
  const installed = found();
  if (installed === undefined) {
    throw new Error("libfaketime is not installed and could not be; install it (apt-get install faketime)");
  }
  return installed;
}
