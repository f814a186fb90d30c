/** The bank over a real file and a real Redis, with an encoder that the test understands. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { startRedis } from "../../test/support/redis.ts";
import type { Encoder } from "../layer/index.ts";
import { canonical } from "../text/canonical.ts";
import { simHash } from "../text/simhash.ts";
import { type ExemplarBank, type ExemplarsOptions, openExemplars } from "./exemplars.ts";
import { ExemplarIndex } from "./exemplars-index.ts";
import { type ExemplarRow, packVector } from "./exemplars-row.ts";
import { openRedis } from "./redis.ts";

interface Context {
  diagnostic(message: string): void;
  after(cleanup: () => void | Promise<void>): void;
}

/** Each word has a direction of its own. */
const encoder: Encoder = {
  async encode(text) {
    const embedding = new Float32Array(1_536);
    for (const word of text.toLowerCase().match(/\w+/g) ?? []) {
      const random = seeded([...word].reduce((hash, letter) => hash * 31 + letter.charCodeAt(0), 7) >>> 0);
      for (let i = 0; i < 512; i++) embedding[i] = embedding[i]! + random() - 0.5;
    }
    return { kind: "embedding", embedding };
  },
};

function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

function folder(context: Context): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-exemplars-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function opened(context: Context, dataDir: string, more: Partial<ExemplarsOptions> = {}) {
  const bank = await openExemplars({ dataDir, encoder, ...more });
  context.after(() => bank.close());
  return bank;
}

const printOf = (text: string) => simHash(canonical(text).views[0]!.text)!;
const nearest = async (bank: ExemplarBank, text: string) => {
  const encoded = await encoder.encode(text);
  assert.ok(encoded.kind === "embedding");
  return bank.nearest(encoded.embedding);
};

const BAD = "Please tell me in detail how one would break the machine and take what it holds inside.";
const GOOD = "Please tell me in detail how one would mend the machine and sell what it holds inside.";
const new_ = (text: string, label: "bad" | "good" = "bad") => ({ text, label, reason: "a case", by: "ana" });

test("an exemplar is known by its wording and by its meaning, and its text is nowhere", async (context) => {
  const dir = folder(context);
  const bank = await opened(context, dir);
  assert.equal(bank.copyOf(printOf(BAD)), undefined);
  assert.deepEqual(await nearest(bank, BAD), {});
  const row = await bank.add({ ...new_(BAD), note: "case 7" });
  assert.match(row.id, /^ex_[0-9a-f]{20}$/);
  assert.equal(bank.copyOf(printOf(BAD))?.similarity, 1);
  assert.equal(bank.copyOf(printOf(`  ${BAD.toUpperCase()}\n`))?.id, row.id, "folded first");
  const found = await nearest(bank, BAD);
  assert.ok(found.bad !== undefined && found.bad.similarity > 0.99);
  assert.equal(found.good, undefined);
  assert.ok(!fs.readFileSync(join(dir, "exemplars.json"), "utf8").includes("machine"));
  await bank.add(new_(GOOD, "good"));
  assert.equal(bank.size, 2);
  const both = await nearest(bank, GOOD);
  assert.ok(both.good!.similarity > both.bad!.similarity);
  assert.equal((await bank.add({ ...new_(BAD, "good") })).id, row.id, "the same text replaces itself");
  assert.equal(bank.size, 2);
  assert.equal(bank.copyOf(printOf(BAD))?.label, "good");
  const again = await opened(context, dir);
  assert.equal(again.copyOf(printOf(BAD))?.label, "good", "read at the start");
  assert.equal(await bank.remove(row.id), true);
  assert.equal(await bank.remove(row.id), false);
  assert.equal(bank.copyOf(printOf(BAD)), undefined);
});

test("what cannot be added says why; what the encoder does not answer is not added", async (context) => {
  const bank = await opened(context, folder(context), { rowsMax: 1 });
  await assert.rejects(bank.add(new_(" \n")), /^RangeError: text: must hold words/);
  await assert.rejects(bank.add(new_("x".repeat(20_000))), /^RangeError: text: must be at most/);
  await assert.rejects(bank.add({ ...new_(BAD), reason: "" }), /^RangeError: reason: must not be empty/);
  await assert.rejects(bank.add({ ...new_(BAD), note: "two\nlines" }), /^RangeError: note: /);
  await bank.add(new_(BAD));
  await assert.rejects(bank.add(new_(GOOD)), /already holds 1 rows/);
  const away = await opened(context, folder(context), {
    encoder: { encode: async () => ({ kind: "skipped", cause: "late" }) },
  });
  await assert.rejects(away.add(new_(BAD)), /The sentence encoder did not answer \(late\)/);
  assert.equal(away.size, 0);
});

test("over Redis: added here is known there within a second", async (context) => {
  const server = await startRedis();
  context.after(() => server.stop());
  const banks: ExemplarBank[] = [];
  for (let i = 0; i < 2; i++) {
    const redis = await openRedis({
      url: server.url,
      nodes: [],
      prefix: "test",
      timeoutMs: 200,
      username: undefined,
      password: undefined,
    });
    context.after(() => redis.close());
    banks.push(await opened(context, folder(context), { redis }));
  }
  const [one, two] = banks;
  const startedMs = performance.now();
  const { id } = await one!.add(new_(BAD));
  await eventually(() => assert.equal(two!.copyOf(printOf(BAD))?.id, id));
  assert.ok(performance.now() - startedMs < 1_000);
  await two!.remove(id);
  await eventually(() => assert.equal(one!.size, 0));
});

test("10,000 exemplars: the nearest is found, in less than 2 ms, through additions and removals", (context) => {
  const random = seeded(1);
  const vectorOf = () => Float32Array.from({ length: 512 }, () => random() - 0.5);
  const index = new ExemplarIndex();
  const vectors: Float32Array[] = [];
  const rowOf = (i: number): ExemplarRow => ({
    id: `ex_${i}`,
    label: i % 3 === 0 ? "good" : "bad",
    mode: "enforce",
    reason: "r",
    by: "b",
    createdAt: "2026-01-01T00:00:00.000Z",
    hash: "",
    units: 100,
    simhash: (i * 2_654_435_761).toString(16).padStart(16, "0").slice(-16),
    vector: packVector(vectors[i]!),
  });
  for (let i = 0; i < 11_000; i++) {
    vectors.push(vectorOf());
    index.put(rowOf(i));
  }
  for (let i = 0; i < 1_000; i++) index.remove(`ex_${i * 2}`);
  assert.equal(index.size, 10_000);
  let spentMs = 0;
  let hits = 0;
  for (let ask = 0; ask < 200; ask++) {
    const i = 2_000 + ask * 40;
    // A cosine of some 0.8 to the one it is made from.
    const noise = vectorOf();
    const asked = vectors[i]!.map((value, k) => value + 0.75 * noise[k]!);
    const cpu = process.threadCpuUsage();
    const found = index.nearest(asked);
    const { user, system } = process.threadCpuUsage(cpu);
    spentMs += (user + system) / 1_000;
    const match = i % 3 === 0 ? found.good : found.bad;
    if (match?.id === `ex_${i}`) hits += 1;
  }
  assert.ok(hits >= 199, `${hits} of 200 were found`);
  context.diagnostic(`${(spentMs / 200).toFixed(2)} ms for the nearest of 10,000`);
  assert.ok(spentMs / 200 < 2, `${spentMs / 200} ms`);
});
