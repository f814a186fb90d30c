import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Decision } from "./decision.ts";
import { segmentName, sequencesOf } from "./segments.ts";
import { openSpool, readSpool, type SpoolDisk, type SpoolPosition, type SpoolState } from "./spool.ts";

function decision(id: string, more: Partial<Decision> = {}): Decision {
  return {
    v: 1,
    id,
    at: "2026-11-20T10:00:00.000Z",
    revision: "abcdef012345",
    route: "openai.chat",
    dialect: "openai",
    operation: "chat",
    model: "gpt-4o-mini",
    stream: true,
    scanned: true,
    org: "default",
    project: "default",
    keyId: "key_1",
    endUser: "",
    address: "127.0.0.1",
    proof: "key",
    tier: "normal",
    risk: 0,
    country: "",
    asn: "",
    act: "allow",
    would: "allow",
    status: 200,
    cause: "complete",
    seats: ["auth", "limits", "rules", "secrets"].map((seat) => ({
      seat,
      mode: "enforce" as const,
      state: "ran" as const,
      would: "allow" as const,
      applied: "allow" as const,
      findings: [],
      micros: 12,
    })),
    inputTokens: 10,
    outputTokens: 20,
    bytesIn: 1024,
    bytesOut: 4096,
    totalMs: 812.25,
    firstByteMs: 200.125,
    upstreamMs: 199,
    upstreamCalled: true,
    ...more,
  };
}

function folder(context: { after(cleanup: () => void): void }): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-spool-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return join(dir, "spool");
}

const ROOMY = { segmentBytes: 1_000_000, totalBytesMax: 10_000_000, onFull: "drop-oldest" } as const;

async function idsIn(dir: string, from?: SpoolPosition): Promise<string[]> {
  const ids: string[] = [];
  for await (const record of readSpool(dir, from && { from })) ids.push(record.decision.id);
  return ids;
}

describe("spool", () => {
  test("what is appended is read back, with private modes, and each position resumes after its record", async (context) => {
    const dir = folder(context);
    const spool = openSpool({ ...ROOMY, dir, segmentBytes: 3000 });
    const written = Array.from({ length: 10 }, (_, i) => decision(`req_${i}`, { endUser: "Zoë\n\u2028👋" }));
    for (const one of written) assert.equal(spool.append(one), true);
    assert.equal(fs.statSync(dir).mode & 0o777, 0o700);
    assert.equal(fs.statSync(join(dir, segmentName(1))).mode & 0o777, 0o600);
    const read: { decision: Decision; position: SpoolPosition }[] = [];
    for await (const record of readSpool(dir)) read.push(record);
    assert.deepEqual(
      read.map((record) => record.decision),
      written,
    );
    assert.ok(sequencesOf(dir).length >= 3, "rotated by size");
    for (const name of sequencesOf(dir)) assert.ok(fs.statSync(join(dir, segmentName(name))).size <= 3000);
    for (const [i, { position }] of read.entries()) {
      assert.deepEqual(
        await idsIn(dir, position),
        written.slice(i + 1).map(({ id }) => id),
      );
    }
    spool.close();
    assert.equal(spool.append(decision("late")), false);
    assert.equal(spool.stats().dropped, 1);
  });

  test("a torn end is cut off and a fresh segment begun; damaged lines are skipped and counted", async (context) => {
    const dir = folder(context);
    const first = openSpool({ ...ROOMY, dir });
    first.append(decision("req_1"));
    first.append(decision("req_2"));
    first.close();
    const whole = fs.readFileSync(join(dir, segmentName(1)));
    const lengthOfFirst = whole.indexOf(10) + 1;
    for (const cut of [whole.length - 1, whole.length - 20, lengthOfFirst + 1, lengthOfFirst, 5, 0]) {
      fs.rmSync(dir, { recursive: true });
      fs.mkdirSync(dir);
      fs.writeFileSync(join(dir, segmentName(1)), whole.subarray(0, cut));
      const spool = openSpool({ ...ROOMY, dir });
      assert.equal(spool.stats().torn, cut === lengthOfFirst || cut === 0 ? 0 : 1, `cut at ${cut}`);
      spool.append(decision("req_3"));
      spool.close();
      assert.deepEqual(await idsIn(dir), cut >= lengthOfFirst ? ["req_1", "req_3"] : ["req_3"]);
      assert.deepEqual(sequencesOf(dir), [1, 2]);
    }
    fs.writeFileSync(join(dir, segmentName(1)), `not json\n{"v":2,"id":"x"}\n${"y".repeat(1_500_000)}\ntorn`);
    const reading = readSpool(dir);
    const ids: string[] = [];
    for await (const record of reading) ids.push(record.decision.id);
    assert.deepEqual(ids, ["req_3"]);
    assert.equal(reading.skipped, 4);
  });

  test("two processes cannot write one folder; a dead holder's lock is taken over", async (context) => {
    const dir = folder(context);
    const spool = openSpool({ ...ROOMY, dir });
    assert.throws(() => openSpool({ ...ROOMY, dir }), new RegExp(`in use by process ${process.pid}`));
    spool.close();
    const child = spawn(process.execPath, ["-e", ""]);
    await once(child, "exit");
    fs.writeFileSync(join(dir, "lock"), `${child.pid} - dead\n`);
    openSpool({ ...ROOMY, dir }).close();
    fs.writeFileSync(join(dir, "lock"), `${process.pid} another-boot:1 reused process id\n`);
    openSpool({ ...ROOMY, dir }).close();
    assert.deepEqual(fs.readdirSync(dir), [], "no lock and no temporary file is left");
  });

  test("at the bound, drop-oldest drops consumed segments first, then unread ones, with one alarm", async (context) => {
    const dir = folder(context);
    const alarms: SpoolState[] = [];
    const size = JSON.stringify(decision("req_000")).length + 1;
    const bound = { segmentBytes: 2 * size, totalBytesMax: 8 * size, onFull: "drop-oldest" } as const;
    const spool = openSpool({ ...bound, dir, onAlarm: ({ state }) => alarms.push(state) });
    let next = 0;
    const add = (count: number) => {
      for (let i = 0; i < count; i++)
        assert.ok(spool.append(decision(`req_${String(next++).padStart(3, "0")}`)));
    };
    add(8);
    assert.deepEqual(alarms, []);
    fs.writeFileSync(join(dir, "consumed"), `${segmentName(2).slice(0, 20)}\n`);
    add(4);
    assert.deepEqual(sequencesOf(dir), [3, 4, 5, 6]);
    assert.equal(spool.stats().segmentsDropped, 0);
    assert.deepEqual(alarms, []);
    add(6);
    assert.equal(spool.stats().segmentsDropped, 3);
    assert.ok(spool.stats().bytes <= bound.totalBytesMax);
    assert.deepEqual(alarms, ["overflow"]);
    fs.writeFileSync(join(dir, "consumed"), "7");
    add(1);
    assert.deepEqual(alarms, ["overflow", "ok"]);
    assert.equal((await idsIn(dir)).at(-1), "req_018");
    spool.close();
    // Everything consumed and gone: numbers go on past the mark.
    for (const sequence of sequencesOf(dir)) fs.rmSync(join(dir, segmentName(sequence)));
    fs.writeFileSync(join(dir, "consumed"), "41");
    const reopened = openSpool({ ...bound, dir });
    reopened.append(decision("req_new"));
    assert.deepEqual(sequencesOf(dir), [42]);
    reopened.close();
  });

  test("at the bound, refuse answers false until the ledger has consumed", (context) => {
    const dir = folder(context);
    const alarms: SpoolState[] = [];
    const size = JSON.stringify(decision("req_0")).length + 1;
    const spool = openSpool({
      dir,
      segmentBytes: size,
      totalBytesMax: 3 * size,
      onFull: "refuse",
      onAlarm: ({ state }) => alarms.push(state),
    });
    for (let i = 0; i < 3; i++) assert.equal(spool.append(decision(`req_${i}`)), true);
    assert.equal(spool.accepting, true);
    for (let i = 3; i < 6; i++) assert.equal(spool.append(decision(`req_${i}`)), false);
    assert.equal(spool.accepting, false);
    const { full, dropped, segments } = spool.stats();
    assert.deepEqual({ full, dropped, segments }, { full: true, dropped: 3, segments: 3 });
    fs.writeFileSync(join(dir, "consumed"), "2");
    assert.equal(spool.append(decision("req_6")), true);
    assert.equal(spool.accepting, true);
    assert.deepEqual(alarms, ["full", "ok"]);
    spool.close();
  });

  test("a full disk never throws, leaves whole lines and is recovered from", async (context) => {
    const dir = folder(context);
    const alarms: [SpoolState, string][] = [];
    let room = Number.POSITIVE_INFINITY;
    const write: SpoolDisk["write"] = (fd, bytes, offset, length) => {
      const taken = Math.min(room, length);
      room -= taken;
      if (taken === 0) throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
      return fs.writeSync(fd, bytes, offset, taken);
    };
    const spool = openSpool({
      ...ROOMY,
      dir,
      onFull: "refuse",
      disk: { write },
      onAlarm: ({ state, problem }) => alarms.push([state, problem]),
    });
    assert.ok(spool.append(decision("req_1")));
    room = 300; // the next record is torn in the middle
    assert.equal(spool.append(decision("req_2")), false);
    assert.equal(spool.append(decision("req_3")), false);
    assert.equal(spool.accepting, false);
    assert.deepEqual(alarms, [["failing", "ENOSPC: no space left on device"]]);
    assert.match(spool.stats().lastError, /ENOSPC/);
    room = 5000;
    assert.ok(spool.append(decision("req_4")));
    assert.deepEqual(
      alarms.map(([state]) => state),
      ["failing", "ok"],
    );
    assert.equal(spool.accepting, true);
    spool.close();
    const reading = readSpool(dir);
    const ids: string[] = [];
    for await (const record of reading) ids.push(record.decision.id);
    assert.deepEqual(ids, ["req_1", "req_4"]);
    assert.equal(reading.skipped, 0);
  });

  test("a short write is completed; where the torn end cannot be cut, a fresh segment is begun", async (context) => {
    const dir = folder(context);
    let isBroken = false;
    const spool = openSpool({
      ...ROOMY,
      dir,
      disk: {
        write(fd, bytes, offset, length) {
          if (!isBroken) return fs.writeSync(fd, bytes, offset, Math.min(length, 100));
          fs.writeSync(fd, bytes, offset, 50);
          throw new Error("EIO: i/o error");
        },
        truncate() {
          throw new Error("EIO: i/o error");
        },
      },
    });
    assert.ok(spool.append(decision("req_1")));
    isBroken = true;
    assert.equal(spool.append(decision("req_2")), false);
    isBroken = false;
    assert.ok(spool.append(decision("req_3")));
    spool.close();
    const reading = readSpool(dir);
    const ids: string[] = [];
    for await (const record of reading) ids.push(record.decision.id);
    assert.deepEqual(ids, ["req_1", "req_3"]);
    assert.equal(reading.skipped, 1);
  });

  test("the folder may vanish under the writer", async (context) => {
    const dir = folder(context);
    const size = JSON.stringify(decision("req_1")).length + 1;
    const spool = openSpool({ ...ROOMY, dir, segmentBytes: size });
    spool.append(decision("req_1"));
    fs.rmSync(dir, { recursive: true });
    assert.equal(spool.append(decision("req_2")), true);
    assert.deepEqual(await idsIn(dir), ["req_2"]);
    spool.close();
  });

  test("a record that is far too long is kept with its strings cut", async (context) => {
    const dir = folder(context);
    const spool = openSpool({ ...ROOMY, dir });
    assert.ok(spool.append(decision("req_1", { endUser: "x".repeat(3_000_000) })));
    assert.ok(spool.stats().bytes < 2000);
    assert.deepEqual(await idsIn(dir), ["req_1"]);
    spool.close();
  });

  test("kill -9 at 30 random moments loses no acknowledged record", async (context) => {
    const dir = folder(context);
    const seed = Number(process.env["SALLYPORT_SEED"] ?? Date.now() % 1_000_000);
    context.diagnostic(`seed ${seed}`);
    const random = seededRandom(seed);
    const program = `
      import { writeSync } from "node:fs";
      import { openSpool } from ${JSON.stringify(new URL("./spool.ts", import.meta.url).href)};
      const [dir, round, template] = process.argv.slice(1);
      const spool = openSpool({ dir, segmentBytes: 20000, totalBytesMax: 100000000, onFull: "refuse" });
      const decision = JSON.parse(template);
      for (let i = 0; ; i++) {
        decision.id = round + "-" + i;
        if (spool.append(decision)) writeSync(1, decision.id + "\\n");
      }`;
    const acknowledged: string[] = [];
    for (let round = 0; round < 30; round++) {
      const template = JSON.stringify(decision("", { endUser: "u".repeat(Math.floor(random() * 200)) }));
      const child = spawn(
        process.execPath,
        ["--input-type=module", "-e", program, dir, String(round), template],
        { stdio: ["ignore", "pipe", "inherit"] },
      );
      let heard = "";
      child.stdout.on("data", (chunk: Buffer) => {
        heard += chunk.toString("latin1");
      });
      const closed = once(child, "close");
      await once(child.stdout, "data");
      const killAt = performance.now() + random() * 15;
      while (performance.now() < killAt) await new Promise(setImmediate);
      child.kill("SIGKILL");
      await closed;
      acknowledged.push(...heard.slice(0, heard.lastIndexOf("\n")).split("\n"));
    }
    const kept = await idsIn(dir);
    const keptSet = new Set(kept);
    assert.equal(keptSet.size, kept.length, "no record twice");
    assert.deepEqual(
      acknowledged.filter((id) => !keptSet.has(id)),
      [],
    );
    context.diagnostic(`${acknowledged.length} acknowledged, ${kept.length} on disk`);
    assert.ok(acknowledged.length >= 30);
  });
});

/** mulberry32 */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
