/** A gateway as a process of its own, for figures that must be its alone: memory, and time while a test does other things. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { accepts, freePort, start } from "../../load-tests/bench/processes.ts";
import { KEY, NO_SEATS, policyWith, ROOT } from "./house.ts";

/** Seats of these kinds with their defaults, in front of `upstreamUrl`. */
export async function startGateway(upstreamUrl: string, kinds: readonly string[]) {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-own-"));
  const seats = kinds.map((use) => `  - { id: ${use}, use: ${use} }\n`).join("");
  writeFileSync(join(dir, "policy.yaml"), kinds.length === 0 ? NO_SEATS : policyWith(seats));
  // Many calls at once make the upstream's heads late; the gateway must not take that for an overload.
  writeFileSync(join(dir, "gateway.yaml"), "upstreams: { overload: { concurrencyMin: 256 } }\n");
  const port = await freePort();
  const admin = `127.0.0.1:${await freePort()}`;
  const started = await start({
    command: process.execPath,
    args: [
      ...["--max-semi-space-size=4", join(ROOT, "bin/sallyport.js"), "serve", "--config", dir],
      ...["--data", join(dir, "data"), "--listen", `127.0.0.1:${port}`, "--admin", admin],
    ],
    env: { SALLYPORT_OPENAI_URL: upstreamUrl, SALLYPORT_BOOTSTRAP_KEY: KEY },
    ready: async () => (await accepts(port)) && (await fetch(`http://${admin}/readyz`)).ok,
  });
  return {
    port,
    pid: started.pid,
    url: `http://127.0.0.1:${port}`,
    adminUrl: `http://${admin}`,
    async close(): Promise<void> {
      await started.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
