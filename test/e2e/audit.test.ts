/** Who changed what, as the admin API, the command line and a policy's file leave it in the chain of a real gateway. */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runAudit } from "../../src/cli/audit.ts";
import { segmentName } from "../../src/ledger/segments.ts";
import { ADMIN_TOKEN, eventually, NO_SEATS, openHouse } from "../support/house.ts";

interface Page {
  readonly records: readonly {
    readonly seq: number;
    readonly action: string;
    readonly actor: string;
    readonly target: string;
    readonly outcome: string;
    readonly of?: number;
    readonly before?: unknown;
    readonly after?: unknown;
  }[];
  readonly next: number | null;
}

function terminal() {
  const out: string[] = [];
  const err: string[] = [];
  const io = {
    log: (text: string) => void out.push(text),
    error: (text: string) => void err.push(text),
    env: {},
  };
  return { out, err, run: (...args: string[]) => runAudit(args, io) };
}

async function openAudited(more: Readonly<Record<string, unknown>> = {}) {
  const elsewhere = mkdtempSync(join(tmpdir(), "sallyport-elsewhere-"));
  const house = await openHouse({
    policy: NO_SEATS,
    gateway: { audit: { checkpoints: elsewhere, ...more } },
  });
  const ask = async <Body>(call: string, body?: unknown) => {
    const [method = "", path = ""] = call.split(" ");
    const response = await fetch(house.adminUrl + path, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}`, "x-sallyport-actor": "mia" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as Body };
  };
  const { dataDir, configDir } = house;
  const close = async () => {
    await house.close();
    rmSync(elsewhere, { recursive: true, force: true });
  };
  return { house, elsewhere, ask, dataDir, configDir, close };
}

test("each change is in the chain when it is answered: begun, then done, with what it was and became", async (context) => {
  const { house, ask, elsewhere, dataDir, close } = await openAudited();
  context.after(close);
  const made = await ask<{ id: string; key: string }>("POST /api/keys", { org: "acme" });
  const { id } = made.body;
  await ask(`DELETE /api/keys/${id}`);
  const ban = { entity: { kind: "org", id: "acme" }, act: "ban", reason: "resold" };
  const sanction = await ask<{ id: string }>("POST /api/sanctions", ban);
  await ask(`DELETE /api/sanctions/${sanction.body.id}`);
  await ask("POST /api/reputation/org/acme", { points: 2, reason: "seen" });
  await ask("DELETE /api/keys/key_nobody");
  const { records } = (await ask<Page>("GET /api/audit?actor=mia")).body;
  const shown = records.toReversed().map(({ action, target, outcome }) => `${action} ${outcome} ${target}`);
  assert.deepEqual(shown, [
    "keys.create begun ",
    `keys.create done ${id}`,
    `keys.revoke begun ${id}`,
    `keys.revoke done ${id}`,
    "sanctions.impose begun ",
    `sanctions.impose done ${sanction.body.id} ban org acme`,
    `sanctions.lift begun ${sanction.body.id}`,
    `sanctions.lift done ${sanction.body.id}`,
    "reputation.rule begun org acme",
    "reputation.rule done org acme 2",
    "keys.revoke begun key_nobody",
    "keys.revoke refused key_nobody",
  ]);
  const revoked = records.find(({ action, outcome }) => action === "keys.revoke" && outcome === "done");
  assert.deepEqual(revoked?.before, { expiresAt: null, revokedAt: null });
  assert.match(JSON.stringify(revoked?.after), /"revokedAt":"20/);
  assert.ok(records.some(({ seq }) => seq === revoked?.of));
  const text = readFileSync(join(dataDir, "audit", segmentName(1)), "latin1");
  assert.ok(!text.includes(made.body.key) && !text.includes(ADMIN_TOKEN));
  const pages = (await ask<Page>("GET /api/audit?limit=3")).body;
  const more = (await ask<Page>(`GET /api/audit?limit=3&cursor=${pages.next}`)).body;
  assert.equal(more.records[0]!.seq, pages.records[2]!.seq - 1);
  const metrics = await (await fetch(`${house.adminUrl}/metrics`)).text();
  assert.match(metrics, /sallyport_audit_records_total 1[4-9]/);
  assert.match(metrics, /sallyport_audit_failures_total\{what="record"\} 0/);

  const { out, err, run } = terminal();
  await house.sallyport.audit.checkpoint();
  assert.equal(await run("verify", "--data", dataDir, "--checkpoints", elsewhere), 0, err.join("\n"));
  assert.match(out[0] ?? "", /^ok: chain [0-9a-f]{16}, 1\d records/);
  assert.equal(await run("list", "--data", dataDir, "--action", "sanctions.lift", "--limit", "1"), 0);
  assert.match(out.at(-1) ?? "", /mia {2}sanctions\.lift {2}sanc_\w+ {2}done 200 \(begun as \d+\)$/);
});

test("a policy that comes by file is in the chain, served or refused", async (context) => {
  const { house, ask, close } = await openAudited();
  context.after(close);
  const before = house.sallyport.policy.status().revision;
  house.writePolicy(`# another\n${NO_SEATS}`);
  await eventually(() => assert.notEqual(house.sallyport.policy.status().revision, before));
  house.writePolicy("seats: nonsense\n");
  const loads = () => ask<Page>("GET /api/audit?action=policy.load");
  const found = await eventually(async () => {
    const { records } = (await loads()).body;
    assert.equal(records.length, 3);
    return records;
  });
  assert.deepEqual(
    found.map(({ actor, outcome }) => `${actor} ${outcome}`),
    ["file refused", "file done", "file done"],
  );
  assert.equal(found[1]?.before, before);
  assert.match(JSON.stringify(found[0]?.after), /"message":/);
});

test("a change that cannot be put on record is refused with 507, and not made", async (context) => {
  const { house, ask, close } = await openAudited({ totalBytesMax: 1_500 });
  context.after(close);
  const statuses: number[] = [];
  for (let i = 0; i < 6; i++) statuses.push((await ask("POST /api/keys", { org: "acme" })).status);
  const keys = house.sallyport.identities.list().length;
  const refused = await ask<{ code: string; detail: string }>("POST /api/keys", { org: "acme" });
  assert.equal(refused.status, 507, String(statuses));
  assert.equal(refused.body.code, "unrecorded");
  assert.match(refused.body.detail, /raise audit\.totalBytesMax.*Nothing was changed/);
  assert.equal(house.sallyport.identities.list().length, keys);
  assert.equal((await ask("GET /api/keys")).status, 200);
  assert.match((await ask<{ problem: string }>("GET /api/audit")).body.problem, /is full/);
});

test("verify names the record that was edited, a tail that was cut, and what it was wrongly asked", async (context) => {
  const { ask, elsewhere, dataDir, house, close } = await openAudited();
  context.after(close);
  for (let i = 0; i < 8; i++) await ask("POST /api/reputation/org/acme", { points: 1, reason: `seen ${i}` });
  await house.sallyport.audit.checkpoint();
  const copy = join(elsewhere, "copy");
  cpSync(join(dataDir, "audit"), join(copy, "audit"), { recursive: true });
  const path = join(copy, "audit", segmentName(1));
  const lines = readFileSync(path, "latin1").trimEnd().split("\n");
  const { err, run } = terminal();
  const verify = (...more: string[]) => run("verify", "--data", copy, "--checkpoints", elsewhere, ...more);
  assert.equal(await verify(), 0, err.join("\n"));
  writeFileSync(path, `${lines.with(6, lines[6]!.replace('"mia"', '"eve"')).join("\n")}\n`);
  assert.equal(await verify(), 1);
  assert.match(
    err.at(-1) ?? "",
    /^BAD at record 7: .*:7: its content does not match its hash: it was edited$/,
  );
  writeFileSync(path, `${lines.slice(0, -2).join("\n")}\n`);
  assert.equal(await verify(), 1);
  assert.match(err.at(-1) ?? "", /missing at the end/);
  assert.equal(await verify("--public-key", join(copy, "none.pem")), 1);
  assert.match(err.at(-1) ?? "", /there is no such file/);
  assert.equal(await run("verify", "--data", copy, "--checkpoint", elsewhere), 2);
  assert.equal(await run("list", "--data", copy, "--limit", "none"), 2);
  assert.match(err.at(-1) ?? "", /^sallyport audit list: --limit: must be/);
  assert.equal(await run("list", "--data", elsewhere), 1);
  assert.match(err.at(-1) ?? "", /there is no audit chain/);
});

test("a policy that was put by the admin API is loaded in its author's name, one that was saved in the file's", async (context) => {
  const { house, ask, close } = await openAudited();
  context.after(close);
  const source = await fetch(`${house.adminUrl}/api/policy/source`, {
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
  });
  const put = await fetch(`${house.adminUrl}/api/policy`, {
    method: "PUT",
    headers: {
      authorization: `Bearer ${ADMIN_TOKEN}`,
      "x-sallyport-actor": "mia",
      "if-match": source.headers.get("etag") ?? "",
    },
    body: JSON.stringify({ text: `${NO_SEATS}# mia was here\n`, reason: "a note" }),
  });
  const { revision } = (await put.json()) as { readonly revision: string };
  assert.equal(put.status, 200);
  house.writePolicy(`${NO_SEATS}# saved\n`);
  await eventually(async () => {
    const { records } = (await ask<Page>("GET /api/audit?action=policy.load")).body;
    const loaded = records.toReversed().map(({ actor }) => actor);
    assert.deepEqual(loaded, ["file", "mia", "file"]);
    assert.equal(records[1]?.target, revision);
  });
});
