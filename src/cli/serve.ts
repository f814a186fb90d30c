/**
 * `sallyport serve`: reads the configuration, starts the bundled simulator where no upstream is named, opens
 * the stack and says what a newcomer needs: addresses, a key, and a line to try. Ends on SIGTERM or SIGINT
 * once the running requests have ended.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { openSallyport } from "../main.ts";
import { type Address, type GatewayConfig, loadGateway, parseListen } from "../policy/gateway-file.ts";
import { formatProblems } from "../policy/problems.ts";

const USAGE = `sallyport serve [--config DIR] [--data DIR] [--listen HOST:PORT] [--admin HOST:PORT]

  --config DIR   folder with gateway.yaml, policy.yaml and rules/ (default: ./config, else the shipped one)
  --data DIR     folder for keys, decisions and the last good policy (default: data in gateway.yaml)
  --listen ...   address of the gateway        --admin ...   address of the admin port

Environment: SALLYPORT_OPENAI_URL, SALLYPORT_ANTHROPIC_URL, SALLYPORT_OPENAI_KEY, SALLYPORT_ANTHROPIC_KEY,
SALLYPORT_BOOTSTRAP_KEY, SALLYPORT_ADMIN_TOKEN, SALLYPORT_ADMIN_READ_TOKEN, SALLYPORT_KEY_PEPPER, SALLYPORT_AUDIT_KEY,
SALLYPORT_REDIS_URL, SALLYPORT_REDIS_USERNAME, SALLYPORT_REDIS_PASSWORD, OTEL_EXPORTER_OTLP_ENDPOINT.`;

const SHIPPED_CONFIG = resolve(import.meta.dirname, "../../config");

export async function runServe(args: readonly string[]): Promise<number> {
  const options = readArgs(args);
  if (typeof options === "number") return options;
  const configDir = resolve(options.config ?? (existsSync("config") ? "config" : SHIPPED_CONFIG));
  const loaded = await loadGateway(configDir, process.env);
  if (!loaded.ok) {
    console.error(formatProblems(loaded.problems));
    return 1;
  }
  const named: GatewayConfig = {
    ...loaded.config,
    listen: options.listen ?? loaded.config.listen,
    admin: { ...loaded.config.admin, listen: options.admin ?? loaded.config.admin.listen },
  };
  const { config, simulator } = await withUpstreams(named);
  const adminToken = process.env["SALLYPORT_ADMIN_TOKEN"] || undefined;
  try {
    const sallyport = await openSallyport({
      config,
      configDir,
      dataDir: resolve(options.data ?? config.data),
      env: process.env,
      adminToken,
      // Nothing of value stands behind the simulator: each start may have a key that works, and says it.
      bootstrapKey:
        process.env["SALLYPORT_BOOTSTRAP_KEY"] || (simulator === undefined ? undefined : demoKey()),
    });
    greet(sallyport, config, simulator?.url, configDir);
    await untilSignal();
    console.log("sallyport: draining");
    await sallyport.close();
    await simulator?.close();
    return 0;
  } catch (error) {
    console.error(`sallyport: ${error instanceof Error ? error.message : String(error)}`);
    await simulator?.close();
    return 1;
  }
}

function demoKey(): string {
  return `sp-demo-${randomBytes(18).toString("base64url")}`;
}

interface ServeOptions {
  readonly config: string | undefined;
  readonly data: string | undefined;
  readonly listen: Address | undefined;
  readonly admin: Address | undefined;
}

function readArgs(args: readonly string[]): ServeOptions | number {
  try {
    const text = { type: "string" } as const;
    const { values } = parseArgs({
      args: [...args],
      options: { config: text, data: text, listen: text, admin: text, help: { type: "boolean", short: "h" } },
    });
    if (values.help === true) {
      console.log(USAGE);
      return 0;
    }
    return {
      config: values.config,
      data: values.data,
      listen: address("--listen", values.listen),
      admin: address("--admin", values.admin),
    };
  } catch (error) {
    console.error(`sallyport serve: ${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
}

function address(flag: string, value: string | undefined): Address | undefined {
  if (value === undefined) return undefined;
  const read = parseListen(value);
  if (read === undefined)
    throw new Error(`${flag} takes HOST:PORT, such as 127.0.0.1:8080, not ${JSON.stringify(value)}`);
  return read;
}

/** The simulator stands in only when no upstream is named at all: a half-configured gateway must not answer from it. */
async function withUpstreams(config: GatewayConfig) {
  if (Object.keys(config.upstreams).length > 0) return { config, simulator: undefined };
  const { startSimulator } = await import("../../load-tests/model-simulator/simulator.ts");
  const simulator = await startSimulator({ host: "127.0.0.1", port: 0, seed: 1 });
  const place = { url: simulator.url, key: undefined };
  const target = {
    ...place,
    targets: [{ ...place, name: "simulator", weight: 1 }],
    orgKeys: [],
    orgKeysFile: undefined,
  };
  return { config: { ...config, upstreams: { openai: target, anthropic: target } }, simulator };
}

function greet(
  sallyport: Awaited<ReturnType<typeof openSallyport>>,
  config: GatewayConfig,
  simulatorUrl: string | undefined,
  configDir: string,
): void {
  const { gateway, admin, policy, identities } = sallyport;
  const { revision, servedFrom } = policy.status();
  // A key of real worth that was handed in is not repeated: what is printed here ends in somebody's logs.
  const isHandedIn = simulatorUrl === undefined && Boolean(process.env["SALLYPORT_BOOTSTRAP_KEY"]);
  const key = isHandedIn ? "$SALLYPORT_BOOTSTRAP_KEY" : identities.bootstrap?.key;
  const lines = [
    `sallyport listens on ${gateway.url}, admin on ${admin.url}`,
    `  policy    ${revision} from ${servedFrom === "file" ? configDir : servedFrom}`,
  ];
  if (simulatorUrl !== undefined)
    lines.push(
      `  upstream  the bundled model simulator (no upstream is named in gateway.yaml or SALLYPORT_OPENAI_URL)`,
    );
  else
    for (const [dialect, { targets }] of Object.entries(config.upstreams))
      for (const { url, key: secret } of targets)
        lines.push(`  upstream  ${dialect} at ${url}${secret === undefined ? ", without a key" : ""}`);
  if (key !== undefined) lines.push(`  key       ${key}`);
  else lines.push("  key       as made before; `sallyport keys create --org ORG` makes another");
  lines.push(...adminLines(sallyport));
  lines.push(
    "",
    "Try:",
    `  curl ${gateway.url}/v1/chat/completions -H "authorization: Bearer ${key ?? "YOUR_KEY"}" -H 'content-type: application/json' \\`,
    `    -d '{"model":"demo","messages":[{"role":"user","content":"Hello"}]}'`,
  );
  console.log(lines.join("\n"));
}

/** How to get in. The one-time token is said here and nowhere else; it is in no log and on no disk. */
function adminLines({ admin, operators }: Awaited<ReturnType<typeof openSallyport>>): readonly string[] {
  if (process.env["SALLYPORT_ADMIN_TOKEN"]) return [];
  const setup = operators.issueSetup();
  if (setup === undefined)
    return ["  admin     log in with an account, or `sallyport tokens create` makes a token"];
  return [
    `  admin     one-time token ${setup.token} makes the first account until ${new Date(setup.expiresMs).toISOString()}:`,
    `              curl ${admin.url}/api/setup -d '{"token":"...","name":"YOU","password":"..."}'`,
    "              or `sallyport accounts create YOU --role admin`, or a token: `sallyport tokens create YOU --role admin`",
  ];
}

function untilSignal(): Promise<void> {
  return new Promise((settle) => {
    process.once("SIGTERM", () => settle());
    process.once("SIGINT", () => settle());
  });
}
