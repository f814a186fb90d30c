/**
 * The gateway is killed with SIGKILL at random moments under load. Every answer that a client has seen
 * whole must have its decision on disk.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import { startSimulator } from "../../load-tests/model-simulator/simulator.ts";
import { readSpool } from "../../src/ledger/spool.ts";
import { KEY, policyWith, ROOT, seeded } from "../support/house.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
const KILLS = Number(process.env["SALLYPORT_KILLS"] ?? 100);
const CLIENTS = 16;

let simulator: Awaited<ReturnType<typeof startSimulator>>;
let folder: string;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-kill-"));
  // A gateway is started for each kill: seats whose rules and models take seconds to load tell nothing here.
  mkdirSync(join(folder, "config"));
  const seats = "  - { id: auth, use: auth }\n  - { id: secrets, use: output-secrets }\n";
  writeFileSync(join(folder, "config/policy.yaml"), policyWith(seats));
  simulator = await startSimulator({ host: "127.0.0.1", port: 0, seed: 1, record: false });
});
after(async () => {
  await simulator.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a gateway over the same data folder and answers with its address. */
async function start(): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(
    process.execPath,
    [
      "bin/sallyport.js",
      "serve",
      "--config",
      join(folder, "config"),
      "--data",
      folder,
      "--listen",
      "127.0.0.1:0",
      "--admin",
      "127.0.0.1:0",
    ],
    {
      cwd: ROOT,
      env: {
        ...process.env,
        SALLYPORT_OPENAI_URL: simulator.url,
        SALLYPORT_BOOTSTRAP_KEY: KEY,
        SALLYPORT_ADMIN_TOKEN: "t",
      },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let out = "";
  child.stdout!.setEncoding("utf8");
  for await (const chunk of child.stdout!) {
    out += chunk;
    const url = /listens on (http:\S+?),/.exec(out)?.[1];
    if (url !== undefined) {
      child.stdout!.resume();
      return { child, url };
    }
  }
  throw new Error(`the gateway did not start: ${out}`);
}

/** One call; its decision id once the whole answer was read, undefined when it broke off. */
function call(url: string, agent: Agent, stream: boolean): Promise<string | undefined> {
  return new Promise((resolve) => {
    const body = JSON.stringify({ model: "m", stream, messages: [{ role: "user", content: "hello" }] });
    const client = request(
      `${url}/v1/chat/completions`,
      {
        method: "POST",
        agent,
        headers: {
          authorization: `Bearer ${KEY}`,
          "content-type": "application/json",
          "content-length": body.length,
        },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("error", () => {});
        response.on("close", () => {
          // A streamed answer is answered once its last event is here, even if the connection then breaks.
          const whole = stream ? text.includes("data: [DONE]") : response.complete;
          resolve(
            whole && response.statusCode === 200
              ? String(response.headers["x-sallyport-request-id"])
              : undefined,
          );
        });
      },
    );
    client.on("error", () => resolve(undefined));
    client.end(body);
  });
}

it(`${KILLS} kills under load lose no answered request (seed ${SEED})`, async () => {
  const random = seeded(SEED);
  const answered = new Set<string>();
  for (let kill = 0; kill < KILLS; kill++) {
    const { child, url } = await start();
    const agent = new Agent({ keepAlive: true });
    let alive = true;
    const clients = Array.from({ length: CLIENTS }, async (_, index) => {
      while (alive) {
        const id = await call(url, agent, index % 2 === 0);
        if (id !== undefined) answered.add(id);
        else if (alive) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 20 + random() * 300));
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await exited;
    alive = false;
    await Promise.all(clients);
    agent.destroy();
  }
  const recorded = new Set<string>();
  for await (const { decision } of readSpool(join(folder, "spool"))) recorded.add(decision.id);
  const lost = [...answered].filter((id) => !recorded.has(id));
  console.log(`${KILLS} kills, ${answered.size} answered, ${recorded.size} recorded, ${lost.length} lost`);
  assert.ok(answered.size > KILLS, "there was load");
  assert.deepEqual(lost, []);
});
