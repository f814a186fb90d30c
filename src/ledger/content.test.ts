import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { type ContentOptions, openContent } from "./content.ts";
import { type ContentRecord, openContentKey } from "./content-format.ts";
import { ContentReader } from "./content-reader.ts";
import { segmentName, sequencesOf } from "./segments.ts";

const HOUR_MS = 3_600_000;

function folder(context: TestContext): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-content-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function record(id: string, more: Partial<ContentRecord> = {}): ContentRecord {
  return {
    id,
    at: "2026-11-20T10:00:00.000Z",
    org: "acme",
    endUser: "",
    method: "POST",
    url: "/v1/chat/completions",
    headers: { accept: "*/*" },
    body: Buffer.from(`{"secret words of ${id}":"\u{1f44b}"}`),
    answer: {
      status: 200,
      isWhole: true,
      texts: [{ channel: "answer:0", kind: "answer", choice: 0, text: "hi" }],
    },
    ...more,
  };
}

function optionsFor(dir: string, more: Partial<ContentOptions> = {}): ContentOptions {
  return {
    dir: join(dir, "content"),
    key: openContentKey(dir, {}, { make: true }),
    share: 1,
    orgs: [],
    keepForMs: 24 * HOUR_MS,
    bytesMax: 100_000_000,
    requestBytesMax: 100_000,
    ...more,
  };
}

function readerOf({ dir, key }: ContentOptions): ContentReader {
  return new ContentReader(dir, key, { recordsMax: 1_000_000 });
}

describe("content", () => {
  test("what is put is read back to the byte, private and encrypted; another key reads nothing", async (context) => {
    const dir = folder(context);
    const options = optionsFor(dir);
    const log = await openContent(options);
    for (const id of ["req_1", "req_2"]) assert.equal(log.put(record(id)), true);
    await log.close();
    assert.equal(log.put(record("late")), false);
    const path = join(options.dir, segmentName(1, "content"));
    assert.equal(fs.statSync(path).mode & 0o777, 0o600);
    assert.equal(fs.statSync(join(dir, "content.key")).mode & 0o777, 0o600);
    assert.equal(fs.readFileSync(path).includes("secret words"), false);
    assert.deepEqual(readerOf(options).get("req_2"), record("req_2"));
    assert.equal(readerOf(options).get("req_3"), undefined);
    const other = openContentKey(
      dir,
      { SALLYPORT_CONTENT_KEY: Buffer.alloc(32, 7).toString("base64") },
      { make: false },
    );
    const blind = readerOf({ ...options, key: other });
    assert.equal(blind.get("req_1"), undefined);
    assert.equal(blind.unreadable, 1);
    assert.throws(
      () => openContentKey(dir, { SALLYPORT_CONTENT_KEY: "short" }, { make: false }),
      /SALLYPORT_CONTENT_KEY must be 32 bytes in base64/,
    );
  });

  test("a torn end, a changed byte and a batch out of its place end the reading there, and nothing throws", async (context) => {
    const dir = folder(context);
    const options = optionsFor(dir);
    const log = await openContent(options);
    for (const id of ["req_1", "req_2"]) {
      log.put(record(id));
      await log.flush();
    }
    await log.close();
    const path = join(options.dir, segmentName(1, "content"));
    const whole = fs.readFileSync(path);
    const second = 32 + 4 + whole.readUInt32BE(32);
    for (let cut = 0; cut < whole.length; cut += 7) {
      fs.writeFileSync(path, whole.subarray(0, cut));
      assert.equal(readerOf(options).get("req_1") !== undefined, cut >= second, `cut at ${cut}`);
      assert.equal(readerOf(options).get("req_2"), undefined);
    }
    const swapped = Buffer.concat([
      whole.subarray(0, 32),
      whole.subarray(second),
      whole.subarray(32, second),
    ]);
    fs.writeFileSync(path, swapped);
    assert.equal(readerOf(options).get("req_1"), undefined);
    whole[second + 30]! ^= 1;
    fs.writeFileSync(path, whole);
    assert.notEqual(readerOf(options).get("req_1"), undefined);
    assert.equal(readerOf(options).get("req_2"), undefined);
    // The next writer leaves the damage alone and goes on in a segment of its own.
    const next = await openContent(options);
    next.put(record("req_3"));
    await next.close();
    assert.notEqual(readerOf(options).get("req_3"), undefined);
  });

  test("segments go when their time is over, also while nobody writes, and at the bound on bytes", async (context) => {
    const dir = folder(context);
    let nowMs = Date.parse("2026-11-20T10:00:00Z");
    const options = optionsFor(dir, { now: () => nowMs, bytesMax: 40_000 });
    const log = await openContent(options);
    log.put(record("old"));
    await log.flush();
    nowMs += 2 * HOUR_MS;
    log.put(record("young"));
    await log.close();
    assert.equal(sequencesOf(options.dir, "content").length, 2, "a segment covers a small part of the time");
    nowMs += 23 * HOUR_MS;
    const next = await openContent(options);
    assert.equal(readerOf(options).get("old"), undefined);
    assert.notEqual(readerOf(options).get("young"), undefined);
    for (let i = 0; i < 40; i++) {
      next.put(record(`req_${i}`, { body: Buffer.alloc(3_000, 97) }));
      await next.flush();
    }
    assert.ok(next.stats().bytes <= 40_000, `${next.stats().bytes} bytes`);
    await next.close();
    assert.notEqual(readerOf(options).get("req_39"), undefined);
    assert.equal(readerOf(options).get("req_0"), undefined);
  });

  test("what does not fit is counted and nobody waits", async (context) => {
    const log = await openContent(optionsFor(folder(context), { orgs: ["acme"] }));
    assert.equal(log.wants("other"), false);
    assert.equal(log.wants("acme"), true);
    const taken = Array.from({ length: 40 }, (_, i) =>
      log.put(record(`req_${i}`, { body: Buffer.alloc(1_000_000) })),
    );
    assert.equal(taken.filter(Boolean).length, 16);
    assert.equal(log.stats().notRecorded, 24);
    await log.close();
    assert.equal(log.stats().recorded, 16);
  });

  test("an organisation's or an end user's records are erased, what waits included, and others stay", async (context) => {
    const options = optionsFor(folder(context));
    const log = await openContent(options);
    log.put(record("req_1", { endUser: "u1" }));
    log.put(record("req_2", { endUser: "u2" }));
    await log.flush();
    log.put(record("req_3", { org: "other", endUser: "u1" }));
    log.put(record("req_4", { endUser: "u1" }));
    assert.equal(await log.erase({ org: "acme", endUser: "u1" }), 2);
    const left = ["req_1", "req_2", "req_3", "req_4"].filter((id) => readerOf(options).get(id) !== undefined);
    assert.deepEqual(left, ["req_2", "req_3"]);
    assert.equal(await log.erase({ org: "acme" }), 1);
    log.put(record("req_5"));
    await log.close();
    assert.equal(readerOf(options).get("req_2"), undefined);
    assert.notEqual(readerOf(options).get("req_5"), undefined);
    assert.deepEqual(
      fs.readdirSync(options.dir).filter((name) => !name.endsWith(".content")),
      [],
    );
  });

  test("a disk that fails is told once, and records are counted as not recorded", async (context) => {
    const dir = folder(context);
    const problems: (string | undefined)[] = [];
    const options = optionsFor(dir, { onProblem: (problem) => problems.push(problem) });
    const log = await openContent(options);
    fs.rmSync(options.dir, { recursive: true });
    fs.writeFileSync(options.dir, "in the way");
    for (const id of ["req_1", "req_2"]) {
      log.put(record(id));
      await log.flush();
    }
    assert.equal(log.stats().notRecorded, 2);
    assert.equal(problems.length, 1);
    fs.rmSync(options.dir);
    log.put(record("req_3"));
    await log.close();
    assert.equal(problems.at(-1), undefined);
    assert.notEqual(readerOf(options).get("req_3"), undefined);
  });
});
