/**
 * The writer of the audit chain is killed with SIGKILL at random moments, while it writes as fast as it can. Every
 * record that was acknowledged must be in the chain, and the chain must be whole each time. The seed is printed.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, it } from "node:test";
import { Audit } from "../../src/ledger/audit.ts";
import { openAuditKey, publicKeyPath, readPublicKeys } from "../../src/ledger/audit-key.ts";
import { readAudit } from "../../src/ledger/audit-reader.ts";
import { verifyChain } from "../../src/ledger/audit-verify.ts";
import { ROOT, seeded } from "../support/house.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
const KILLS = Number(process.env["SALLYPORT_KILLS"] ?? 30);

const base = mkdtempSync(join(tmpdir(), "sallyport-audit-kill-"));
after(() => rmSync(base, { recursive: true, force: true }));

const WRITER = `
  import { Audit } from "./src/ledger/audit.ts";
  import { openAuditKey } from "./src/ledger/audit-key.ts";
  import { writeSync } from "node:fs";
  const [, base, run] = process.argv;
  const dir = base + "/audit";
  const audit = new Audit({
    dir, segmentBytes: 20_000, totalBytesMax: 1e9, checkpoints: base + "/elsewhere",
    checkpointRecords: 10, checkpointMs: 1_000, key: openAuditKey(dir, {}),
  });
  const call = async (client) => {
    for (let i = 0; ; i++) {
      const target = run + "-" + client + "-" + i;
      const act = { actor: "mia", action: "keys.revoke", target };
      const begun = await audit.begin(act);
      await audit.end(begun, { ...act, outcome: "done", status: 200 });
      writeSync(1, target + "\\n");
    }
  };
  for (let client = 0; client < 8; client++) void call(client);
`;

/** Targets that the writer acknowledged before it was killed, some time after the first of them. */
async function runAndKill(run: number, afterMs: number): Promise<readonly string[]> {
  const args = ["--input-type=module", "-e", WRITER, base, String(run)];
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (text: string) => {
    if (out === "") setTimeout(() => child.kill("SIGKILL"), afterMs);
    out += text;
  });
  await new Promise((resolve) => child.once("close", resolve));
  return out.split("\n").slice(0, -1);
}

it(`${KILLS} kills of the writer lose no acknowledged record (seed ${SEED})`, async () => {
  const random = seeded(SEED);
  const acknowledged: string[] = [];
  const dir = join(base, "audit");
  // One that ends in peace, so that there is a checkpoint before the first kill.
  const rest = { segmentBytes: 20_000, totalBytesMax: 1e9, checkpointRecords: 10, checkpointMs: 1_000 };
  const first = new Audit({ ...rest, dir, checkpoints: join(base, "elsewhere"), key: openAuditKey(dir, {}) });
  await first.close();
  for (let run = 0; run < KILLS; run++) {
    acknowledged.push(...(await runAndKill(run, random() * 60)));
    // Before anybody mends the end of the chain, and so after each kill but the last also after it was mended.
    const keys = readPublicKeys(publicKeyPath(dir));
    const report = await verifyChain({ dir, checkpoints: { place: join(base, "elsewhere"), keys } });
    assert.equal(report.problem, undefined, `after kill ${run}, seed ${SEED}`);
  }
  const recorded = new Set<string>();
  let before: number | undefined;
  do {
    const page = await readAudit(dir, { limit: 500, before });
    for (const { target, outcome } of page.records) if (outcome === "done") recorded.add(target);
    before = page.next;
  } while (before !== undefined);
  const lost = acknowledged.filter((target) => !recorded.has(target));
  console.log(`${KILLS} kills, ${acknowledged.length} acknowledged, ${lost.length} lost, seed ${SEED}`);
  assert.ok(acknowledged.length > KILLS);
  assert.deepEqual(lost, []);
});
