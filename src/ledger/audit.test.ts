import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Audit, type AuditOptions } from "./audit.ts";
import { AuditChain, type ChainDisk } from "./audit-chain.ts";
import { isInside } from "./audit-checkpoints.ts";
import { openAuditKey, publicKeyPath, readPublicKeys } from "./audit-key.ts";
import { readAudit } from "./audit-reader.ts";
import { verifyChain } from "./audit-verify.ts";
import { segmentName, sequencesOf } from "./segments.ts";

const FACT = { actor: "mia", action: "keys.revoke", target: "key_1", outcome: "done", status: 200 } as const;
const AT = { at: "2026-11-24T10:00:00.000Z", ...FACT };
const ROOMY = { segmentBytes: 2_000, totalBytesMax: 10_000_000 };

function folder(context: { after(cleanup: () => void): void }): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-audit-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function open(base: string, more: Partial<AuditOptions> = {}): Audit {
  const dir = join(base, "audit");
  const rest = { checkpoints: join(base, "elsewhere"), checkpointRecords: 10, checkpointMs: 3_600_000 };
  return new Audit({ ...ROOMY, dir, ...rest, key: openAuditKey(dir, {}), ...more });
}

function verify(base: string, place = join(base, "elsewhere")) {
  const dir = join(base, "audit");
  return verifyChain({ dir, checkpoints: { place, keys: readPublicKeys(publicKeyPath(dir)) } });
}

const tail = (dir: string) => join(dir, segmentName(sequencesOf(dir).at(-1)!));

describe("audit chain", () => {
  test("what is begun and ended is there in order, in bounded segments of private mode; the chain is whole", async (context) => {
    const base = folder(context);
    const audit = open(base);
    const all = Array.from({ length: 40 }, async (_, i) => {
      const begun = await audit.begin({ actor: "mia", action: "keys.revoke", target: `key_${i}` });
      await audit.end(begun, { ...FACT, target: `key_${i}`, before: { state: "Zoë\u202e" }, after: null });
      return begun;
    });
    const begun = await Promise.all(all);
    assert.equal(new Set(begun).size, 40);
    await audit.close();
    const dir = join(base, "audit");
    assert.ok(sequencesOf(dir).length > 5);
    for (const segment of sequencesOf(dir)) {
      const { size, mode } = fs.statSync(join(dir, segmentName(segment)));
      assert.ok(size <= ROOMY.segmentBytes && (mode & 0o777) === 0o600);
    }
    assert.equal(fs.statSync(join(dir, "signing-key.pem")).mode & 0o777, 0o600);
    const report = await verify(base);
    // The chain's beginning and the new key have a record each.
    assert.deepEqual([report.problem, report.head.seq, report.checkpointed], [undefined, 82, 82]);
    assert.match(fs.readFileSync(tail(dir), "latin1"), /^[ -~\n]+$/, "plain ASCII");
    const pages: number[] = [];
    let before: number | undefined;
    do {
      const page = await readAudit(dir, { limit: 7, before });
      pages.push(...page.records.map(({ seq }) => seq));
      before = page.next;
    } while (before !== undefined);
    assert.deepEqual(
      pages,
      Array.from({ length: 82 }, (_, i) => 82 - i),
    );
    const mine = await readAudit(dir, { limit: 5, action: "keys.revoke", target: "key_39" });
    assert.deepEqual(mine.records.map(({ outcome }) => outcome).sort(), ["begun", "done"]);
    assert.deepEqual(mine.records.find(({ of }) => of !== undefined)?.before, { state: "Zoë\u202e" });
  });

  test("a chain cut at every byte of its last two records goes on from the last whole one", async (context) => {
    const base = folder(context);
    const dir = join(base, "audit");
    const first = new AuditChain({ ...ROOMY, dir, segmentBytes: 600 });
    for (let i = 0; i < 4; i++) await first.append(AT);
    await first.close();
    const last = tail(dir);
    const whole = fs.readFileSync(last);
    for (let cut = 0; cut < whole.length; cut++) {
      fs.writeFileSync(last, whole.subarray(0, cut));
      const chain = new AuditChain({ ...ROOMY, dir, segmentBytes: 600 });
      const kept = whole.subarray(0, cut).toString().split("\n").length - 1;
      const start = sequencesOf(dir).at(-1)! + kept;
      assert.equal(await chain.append(AT), start, `cut at ${cut}`);
      await chain.close();
      assert.equal((await verifyChain({ dir })).problem, undefined, `cut at ${cut}`);
      for (const segment of sequencesOf(dir).filter((one) => join(dir, segmentName(one)) > last))
        fs.rmSync(join(dir, segmentName(segment)));
    }
  });

  test("two writers at once make one chain", async (context) => {
    const dir = join(folder(context), "audit");
    const writers = [1, 2, 3].map(() => new AuditChain({ ...ROOMY, dir }));
    const places = await Promise.all(
      Array.from({ length: 60 }, (_, i) => writers[i % 3]!.append({ ...AT, target: `key_${i}` })),
    );
    assert.equal(new Set(places).size, 60);
    const report = await verifyChain({ dir });
    assert.deepEqual([report.problem, report.head.seq], [undefined, 61]);
  });

  test("a disk that takes half, or does not sync: the caller is told, and the chain stays whole", async (context) => {
    const base = folder(context);
    const dir = join(base, "audit");
    let weather: "fine" | "full" | "unsynced" = "fine";
    const problems: (string | undefined)[] = [];
    const disk: Partial<ChainDisk> = {
      async write(file, bytes) {
        await file.writeFile(weather === "full" ? bytes.subarray(0, 20) : bytes);
        if (weather === "full") throw new Error("ENOSPC: no space left on device");
      },
      async sync() {
        if (weather === "unsynced") throw new Error("EIO: i/o error");
      },
    };
    const audit = open(base, { disk, onProblem: (_what, problem) => void problems.push(problem) });
    const act = { actor: "mia", action: "keys.revoke", target: "key_1" };
    const begun = await audit.begin(act);
    for (const kind of ["full", "unsynced"] as const) {
      weather = kind;
      await assert.rejects(audit.begin(act), kind === "full" ? /ENOSPC/ : /EIO/);
      await assert.rejects(audit.end(begun, FACT));
      audit.note({ ...FACT, target: kind });
      weather = "fine";
      await audit.begin(act);
      assert.equal((await verifyChain({ dir })).problem, undefined);
    }
    assert.ok(audit.stats().recordFailures >= 4);
    await audit.close();
    assert.deepEqual(
      problems.map((one) => one?.slice(0, 4)),
      ["ENOS", undefined, "EIO:", undefined],
    );
    const noted = await readAudit(dir, { limit: 10, target: "unsynced" });
    assert.equal(noted.records.length, 1, "a note waits for the disk");
    assert.equal((await verify(base)).problem, undefined);
  });

  test("at its bound nothing is deleted and nothing more is taken", async (context) => {
    const dir = join(folder(context), "audit");
    const chain = new AuditChain({ dir, segmentBytes: 600, totalBytesMax: 2_000 });
    let taken = 0;
    await assert.rejects(async () => {
      for (;;) taken = await chain.append(AT);
    }, /is full.*raise audit\.totalBytesMax/s);
    assert.ok(taken >= 4 && chain.stats().bytes <= 2_000);
    assert.equal((await verifyChain({ dir })).head.seq, taken);
  });

  test("refusals beyond 120 a minute are counted, not written", async (context) => {
    const base = folder(context);
    const audit = open(base);
    for (let i = 0; i < 300; i++) await audit.refused({ ...FACT, outcome: "refused", status: 403 });
    await audit.begin(FACT);
    await audit.close();
    const { records } = await readAudit(join(base, "audit"), { limit: 500, actor: "mia" });
    assert.equal(records.length, 121);
    assert.equal(records[0]?.unrecorded, 180);
  });

  test("a chain that was cut or edited under a running gateway takes no more until it was looked at", async (context) => {
    const dir = join(folder(context), "audit");
    const chain = new AuditChain({ ...ROOMY, dir, segmentBytes: 100_000 });
    for (let i = 0; i < 5; i++) await chain.append(AT);
    const lines = fs.readFileSync(tail(dir), "latin1").split("\n");
    fs.writeFileSync(tail(dir), `${lines.slice(0, 3).join("\n")}\n`);
    await assert.rejects(chain.append(AT), /ends at record 3, though record 6 was written/);
    fs.writeFileSync(tail(dir), `${lines.slice(0, 3).join("\n")}\n{"v":1}\n`);
    await assert.rejects(chain.append(AT), /cannot be gone on from/);
  });

  test("keys: from the environment or a file, never another kind; a change of key is on record and both verify", async (context) => {
    const base = folder(context);
    const dir = join(base, "audit");
    await open(base).close();
    const { privateKey } = generateKeyPairSync("ed25519");
    const pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString();
    fs.writeFileSync(join(base, "own.pem"), pem);
    const key = openAuditKey(dir, { SALLYPORT_AUDIT_KEY: join(base, "own.pem") });
    await open(base, { key }).close();
    assert.equal(openAuditKey(dir, { SALLYPORT_AUDIT_KEY: pem.replaceAll("\n", "\\n") }).isNew, false);
    const report = await verify(base);
    assert.deepEqual([report.problem, report.head.seq, report.checkpointed], [undefined, 3, 3]);
    const rsa = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    const wrong = rsa.export({ format: "pem", type: "pkcs8" }).toString();
    for (const given of [wrong, "-----BEGIN NONSENSE-----", join(base, "none.pem")])
      assert.throws(() => openAuditKey(dir, { SALLYPORT_AUDIT_KEY: given }), /Ed25519 private key|no file/);
    assert.equal(
      createPrivateKey(fs.readFileSync(join(dir, "signing-key.pem"))).asymmetricKeyType,
      "ed25519",
    );
  });

  test("checkpoints: half a line of a crash is passed over; a place that cannot be written holds up no record", async (context) => {
    const base = folder(context);
    const problems: string[] = [];
    const blocked = join(base, "file");
    fs.writeFileSync(blocked, "");
    const audit = open(base, {
      checkpoints: join(blocked, "below"),
      onProblem: (what) => void problems.push(what),
    });
    await audit.begin(FACT);
    await audit.checkpoint();
    assert.deepEqual([problems, audit.stats().checkpointFailures], [["audit checkpoints"], 1]);
    await audit.close();
    const place = join(base, "all.jsonl");
    fs.writeFileSync(place, '{"v":1,"chain":"ab');
    const again = open(base, { checkpoints: place });
    await again.begin(FACT);
    await again.close();
    const report = await verify(base, place);
    assert.deepEqual([report.problem, report.checkpointed], [undefined, report.head.seq]);
    assert.match(report.notes.join(), /1 lines there are no checkpoints/);
  });

  test("inside the data folder is inside, through links too", (context) => {
    const base = folder(context);
    fs.mkdirSync(join(base, "data"));
    fs.symlinkSync(join(base, "data"), join(base, "link"));
    assert.equal(isInside(join(base, "link/new/folder"), join(base, "data")), true);
    assert.equal(isInside(join(base, "data"), join(base, "link")), true);
    assert.equal(isInside(join(base, "data-elsewhere"), join(base, "data")), false);
  });
});
