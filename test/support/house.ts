/**
 * A whole house on loopback for tests: the model simulator, and the gateway in front of it with a policy
 * and data folder of its own. Everything is real but the model.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { type SimulatorOptions, startSimulator } from "../../load-tests/model-simulator/simulator.ts";
import type { LayerKind } from "../../src/layer/index.ts";
import type { Decision } from "../../src/ledger/decision.ts";
import { readSpool } from "../../src/ledger/spool.ts";
import { openSallyport, type Sallyport } from "../../src/main.ts";
import { type GatewayConfig, parseGatewayConfig } from "../../src/policy/gateway-file.ts";

export { eventually, seeded } from "./eventually.ts";

export const ROOT = resolve(import.meta.dirname, "../..");
export const KEY = "sp-test-key-0123456789abcdefghijklmn";
export const ADMIN_TOKEN = "test-admin-token";

export interface HouseOptions {
  /** YAML of policy.yaml; the shipped one by default. */
  readonly policy?: string;
  /** Parts of gateway.yaml to set, such as `{ limits: { bodyBytesMax: 100 } }`. */
  readonly gateway?: Readonly<Record<string, unknown>>;
  readonly layers?: readonly LayerKind[];
  /** More files of the policy's folder by path, such as a model. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
  readonly simulator?: Partial<SimulatorOptions>;
  readonly resolveJudge?: (hostname: string) => Promise<readonly string[]>;
}

export interface House {
  readonly url: string;
  readonly adminUrl: string;
  readonly simulator: Awaited<ReturnType<typeof startSimulator>>;
  readonly sallyport: Sallyport;
  readonly configDir: string;
  readonly dataDir: string;
  writePolicy(text: string): void;
  /** Every decision on disk, oldest first. */
  decisions(): Promise<Decision[]>;
  close(): Promise<void>;
}

/** A policy that seats nothing: every route, no layer. */
export const NO_SEATS = `version: 1
routes: [openai.chat, openai.completions, openai.responses, openai.embeddings, openai.moderations, openai.models,
  openai.realtime, anthropic.messages, anthropic.count_tokens, anthropic.models]
seats: []
`;

/** Seats written as YAML flow items under every route. */
export function policyWith(seats: string, more = ""): string {
  return `${NO_SEATS.replace("seats: []\n", more)}seats:\n${seats}`;
}

export async function openHouse(options: HouseOptions = {}): Promise<House> {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-test-"));
  const configDir = join(folder, "config");
  const dataDir = join(folder, "data");
  mkdirSync(configDir);
  for (const part of ["rules", "models"]) {
    cpSync(join(ROOT, "config", part), join(configDir, part), { recursive: true });
  }
  cpSync(join(ROOT, "config/prices.yaml"), join(configDir, "prices.yaml"));
  cpSync(join(ROOT, "config/policy.yaml"), join(configDir, "policy.yaml"));
  writeFiles(configDir, options.files);
  const writePolicy = (text: string) => writeFileSync(join(configDir, "policy.yaml"), text);
  if (options.policy !== undefined) writePolicy(options.policy);
  const simulator = await startSimulator({ host: "127.0.0.1", port: 0, seed: 1, ...options.simulator });
  const opening = openSallyport({
    config: gatewayConfig(simulator.url, options.gateway ?? {}),
    configDir,
    dataDir,
    env: {},
    adminToken: ADMIN_TOKEN,
    bootstrapKey: KEY,
    moreLayers: options.layers ?? [],
    ...(options.resolveJudge !== undefined && { resolveJudge: options.resolveJudge }),
  });
  // A house that does not open leaves nothing behind that would keep its test's process alive.
  const sallyport = await opening.catch(async (error: unknown) => {
    await simulator.close();
    throw error;
  });
  return {
    url: sallyport.gateway.url,
    adminUrl: sallyport.admin.url,
    simulator,
    sallyport,
    configDir,
    dataDir,
    writePolicy,
    async decisions() {
      const found: Decision[] = [];
      for await (const { decision } of readSpool(join(dataDir, "spool"))) found.push(decision);
      return found;
    },
    async close() {
      await sallyport.close(200);
      await simulator.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Writes each file into the folder, making what lies between. */
export function writeFiles(dir: string, files: HouseOptions["files"] = {}): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  }
}

export function gatewayConfig(simulatorUrl: string, more: Readonly<Record<string, unknown>>): GatewayConfig {
  const file = {
    listen: "127.0.0.1:0",
    admin: { listen: "127.0.0.1:0" },
    upstreams: { openai: { url: simulatorUrl }, anthropic: { url: simulatorUrl } },
    telemetry: { logLevel: "silent" },
    ...more,
  };
  return parseGatewayConfig(file, {});
}
