import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { FAKE_KINDS, type FakeLayer } from "../../test/support/fake-layers.ts";
import { IDLE_PORTS, type LayerKind } from "../layer/index.ts";
import { lastGoodPath } from "./last-good.ts";
import { openPolicy, type PolicyStore, PolicyUnusable, type ReloadResult } from "./store.ts";

/** A poll that never comes: what is seen, is seen by the watch. */
const NEVER_MS = 3_600_000;

interface Place {
  readonly configDir: string;
  readonly dataDir: string;
  readonly results: ReloadResult[];
  write(text: string, name?: string): void;
  open(more?: { pollMs?: number; kinds?: readonly LayerKind[] }): Promise<PolicyStore>;
}

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function place(): Place {
  const root = mkdtempSync(join(tmpdir(), "sallyport-policy-"));
  cleanups.push(() => rmSync(root, { recursive: true, force: true }));
  const configDir = join(root, "config");
  const dataDir = join(root, "data");
  mkdirSync(configDir);
  const results: ReloadResult[] = [];
  return {
    configDir,
    dataDir,
    results,
    write: (text, name = "policy.yaml") => writeFileSync(join(configDir, name), text),
    async open({ pollMs = NEVER_MS, kinds = FAKE_KINDS } = {}) {
      const store = await openPolicy({
        configDir,
        dataDir,
        kinds,
        portsFor: () => IDLE_PORTS,
        pollMs,
        onReload: (result) => results.push(result),
      });
      cleanups.push(() => store.close());
      return store;
    },
  };
}

function policy(words: string, more = ""): string {
  return `version: 1\nroutes: [openai.chat]\nseats:\n  - { id: one, use: probe, with: { words: [${words}]${more} } }\n`;
}

function wordsOf(store: PolicyStore): readonly string[] {
  return (store.current().seats[0]!.layer as FakeLayer).words;
}

async function until(check: () => boolean, what: string, withinMs = 5_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!check()) {
    if (performance.now() > end) assert.fail(`${what} did not happen within ${withinMs} ms`);
    await sleep(2);
  }
}

test("an in-place edit, a rename over the file and a folder of its own are seen by the watch", async () => {
  const { configDir, write, open, results } = place();
  write(policy("first"));
  const store = await open();
  assert.deepEqual(wordsOf(store), ["first"]);
  write(policy("edited"));
  await until(() => wordsOf(store)[0] === "edited", "the edit");
  write(policy("renamed"), "policy.yaml.new");
  renameSync(join(configDir, "policy.yaml.new"), join(configDir, "policy.yaml"));
  await until(() => wordsOf(store)[0] === "renamed", "the rename");
  // Again, since a watch on the file itself would be blind after the first one.
  write(policy("renamed-again"), "policy.yaml.new");
  renameSync(join(configDir, "policy.yaml.new"), join(configDir, "policy.yaml"));
  await until(() => wordsOf(store)[0] === "renamed-again" && results.length === 4, "the second rename");
  assert.deepEqual(
    results.map(({ result }) => result),
    ["applied", "applied", "applied", "applied"],
  );
  assert.equal(store.status().servedFrom, "file");
});

test("an artifact in a folder below is seen, and a change of it alone is a new revision", async () => {
  const { configDir, write, open } = place();
  mkdirSync(join(configDir, "packs"));
  write("one", "packs/a.txt");
  write(policy("x", ", packs: [packs/a.txt]"));
  const store = await open();
  const before = store.current();
  write("two", "packs/a.txt");
  await until(() => store.current() !== before, "the change");
  assert.notEqual(store.current().revision, before.revision);
  assert.deepEqual((store.current().seats[0]!.layer as FakeLayer).packs, ["two"]);
});

test("a ConfigMap's swap of ..data changes policy and artifacts together", async () => {
  const { configDir, open, results } = place();
  const generation = (name: string, word: string) => {
    mkdirSync(join(configDir, name, "packs"), { recursive: true });
    writeFileSync(join(configDir, name, "policy.yaml"), policy(word, ", packs: [packs/a.txt]"));
    writeFileSync(join(configDir, name, "packs/a.txt"), word);
  };
  const swap = (name: string) => {
    symlinkSync(name, join(configDir, "..data_tmp"));
    renameSync(join(configDir, "..data_tmp"), join(configDir, "..data"));
  };
  generation("..2026_1", "g1");
  swap("..2026_1");
  symlinkSync("..data/policy.yaml", join(configDir, "policy.yaml"));
  symlinkSync("..data/packs", join(configDir, "packs"));
  const store = await open();
  for (let i = 2; i <= 20; i++) {
    generation(`..2026_${i}`, `g${i}`);
    swap(`..2026_${i}`);
    rmSync(join(configDir, `..2026_${i - 1}`), { recursive: true });
    if (i % 3 === 0) await until(() => wordsOf(store)[0] === `g${i}`, `swap ${i}`);
  }
  await until(() => wordsOf(store)[0] === "g20", "the last swap");
  const layer = store.current().seats[0]!.layer as FakeLayer;
  assert.deepEqual([layer.words, layer.packs], [["g20"], ["g20"]], "both of one generation");
  assert.deepEqual(
    results.filter(({ result }) => result === "refused"),
    [],
  );
});

test("a file that is written in pieces is served when it is whole, and never emptied", async () => {
  const { configDir, write, open } = place();
  write(policy("first"));
  const store = await open();
  const path = join(configDir, "policy.yaml");
  const text = policy("second");
  truncateSync(path, 0);
  for (let i = 0; i < text.length; i += 10) {
    appendFileSync(path, text.slice(i, i + 10));
    await sleep(i % 30 === 0 ? 70 : 5); // longer than the quiet time, too: half a file is really read
    assert.ok(["first", "second"].includes(wordsOf(store)[0]!));
  }
  await until(() => wordsOf(store)[0] === "second", "the whole file");
  assert.deepEqual(store.status().problems, []);
});

test("a bad policy is refused with its problems and the last good one stays; mending it is seen", async () => {
  const { configDir, write, open, results } = place();
  write(policy("good"));
  const store = await open();
  const served = store.current();
  write(policy("good").replace("probe", "prob"));
  await until(() => results.length === 2, "the refusal");
  assert.equal(store.current(), served);
  const status = store.status();
  assert.equal(status.lastResult, "refused");
  assert.equal(status.problems[0]?.file, join(configDir, "policy.yaml"));
  assert.match(status.problems[0].message, /no layer "prob"/);
  assert.deepEqual(
    await store.reload(),
    { result: "unchanged", revision: served.revision },
    "once is enough",
  );
  rmSync(join(configDir, "policy.yaml"));
  await until(() => results.length === 3, "the loss");
  assert.match(store.status().problems[0]!.message, /no such file/);
  assert.equal(store.current(), served, "a policy that is gone is not the embedded one");
  write(policy("good"));
  await until(() => results.length === 4, "the mending");
  assert.deepEqual(store.status().problems, []);
  assert.equal(store.current().revision, served.revision);
});

test("100 writes in a burst end at the last, with few compilations", async () => {
  const { write, open, results } = place();
  write(policy("start"));
  const store = await open();
  for (let i = 1; i <= 100; i++) {
    write(policy(`w${i}`));
    if (i % 10 === 0) await sleep(1);
  }
  await until(() => wordsOf(store)[0] === "w100", "the last write");
  assert.ok(results.length <= 10, `${results.length} reloads`);
});

test("50 calls of reload at once share two readings, and each sees what was written before it", async () => {
  const { write, open, results } = place();
  write(policy("start"));
  const store = await open();
  write(policy("asked"));
  const answers = await Promise.all(Array.from({ length: 50 }, () => store.reload()));
  assert.equal(wordsOf(store)[0], "asked");
  assert.equal(answers.filter(({ result }) => result === "applied").length, 1);
  assert.equal(results.length, 2);
});

test("without a watch the poll finds the change", async () => {
  const { configDir, write, open } = place();
  write(policy("first"));
  const hidden = mkdtempSync(join(tmpdir(), "sallyport-elsewhere-"));
  cleanups.push(() => rmSync(hidden, { recursive: true, force: true }));
  const store = await open({ pollMs: 60 });
  // The folder itself is exchanged: every watch now looks at one that has another name.
  renameSync(configDir, join(hidden, "old"));
  mkdirSync(configDir);
  write(policy("polled"));
  await until(() => wordsOf(store)[0] === "polled", "the poll");
  write(policy("watched-anew"));
  await until(() => wordsOf(store)[0] === "watched-anew", "the watch on the new folder");
});

test("a start on a bad policy serves the last good one and says so", async () => {
  const { dataDir, configDir, write, open, results } = place();
  mkdirSync(join(configDir, "packs"));
  write("pack", "packs/a.txt");
  write(policy("good", ", packs: [packs/a.txt]"));
  const first = await open();
  const { revision } = first.current();
  await first.close();
  assert.ok(readFileSync(lastGoodPath(dataDir), "utf8").includes(revision));

  write("seats: {");
  rmSync(join(configDir, "packs"), { recursive: true });
  const second = await open();
  assert.equal(second.current().revision, revision);
  assert.deepEqual((second.current().seats[0]!.layer as FakeLayer).packs, ["pack"]);
  const { servedFrom, lastResult, problems } = second.status();
  assert.deepEqual([servedFrom, lastResult], ["last-good", "refused"]);
  assert.ok(problems.length > 0);
  const told = results.at(-1)!;
  assert.ok(told.result === "applied" && told.servedFrom === "last-good" && told.problems.length > 0);

  write(policy("mended"));
  await until(() => second.status().servedFrom === "file", "the mending");
  assert.deepEqual(second.status().problems, []);
});

test("a start on a bad policy without a usable last good one fails with every problem", async () => {
  const { dataDir, write, open } = place();
  write(policy("bad-word"));
  await assert.rejects(open(), (error) => {
    assert.ok(error instanceof PolicyUnusable);
    assert.match(error.message, /policy\.yaml:4:\d+: seats\[0\]\.with\.words\[0\]: the word "bad-word"/);
    return true;
  });
  write(policy("good"));
  await (await open()).close();
  write(policy("bad-word"));
  const path = lastGoodPath(dataDir);
  const kept = readFileSync(path, "utf8");
  for (const [reason, text] of [
    ["cut", kept.slice(0, kept.length / 2)],
    ["altered", kept.replace(/"policy":"....../, '"policy":"AAAAAA')],
    ["not JSON", "last good"],
    ["empty", ""],
  ] as const) {
    writeFileSync(path, text);
    await assert.rejects(open(), /the last good policy cannot be used/, reason);
  }
  writeFileSync(path, kept);
  assert.equal((await open()).status().servedFrom, "last-good");
});

test("a folder that lost its policy serves the last good one", async () => {
  const { configDir, write, open } = place();
  write(policy("good"));
  await (await open()).close();
  rmSync(join(configDir, "policy.yaml"));
  const lost = await open();
  assert.equal(lost.status().servedFrom, "last-good");
  assert.match(lost.status().problems[0]!.message, /no such file/);
});

test("a folder that never had a policy serves the shipped one, until one comes", async () => {
  const { configDir, dataDir, write, open, results } = place();
  const shipped = [
    ...["auth", "reputation", "rate-limit", "prompt-rules", "prompt-classifier", "media"],
    ...["output-secrets", "output-leak", "output-pii", "output-classifier"],
  ];
  const kinds: LayerKind[] = shipped.map((kind) => ({
    kind,
    summary: "",
    config: z.looseObject({}),
    phases: ["onPrompt"],
    compile: () => ({ open: () => ({}) }),
  }));
  const store = await open({ kinds: [...kinds, ...FAKE_KINDS] });
  assert.equal(store.status().servedFrom, "embedded");
  assert.deepEqual(
    store.current().seats.map(({ id }) => id),
    shipped,
  );
  assert.equal(store.current().routes.size, 10);
  assert.equal(existsSync(lastGoodPath(dataDir)), false, "the shipped policy is nobody's last good one");
  assert.equal((await store.reload()).result, "unchanged");
  write(policy("own"));
  await until(() => store.status().servedFrom === "file", "the policy of one's own");
  await store.close();

  // The folder itself may be missing, too, and come later.
  rmSync(configDir, { recursive: true });
  rmSync(dataDir, { recursive: true });
  const without = await open({ kinds: [...kinds, ...FAKE_KINDS], pollMs: 50 });
  assert.equal(without.status().servedFrom, "embedded");
  mkdirSync(configDir);
  write(policy("late"));
  await until(() => without.status().servedFrom === "file", "the folder");
  assert.ok(results.every(({ result }) => result === "applied"));
});

test("the swap: a request keeps what it pinned, and a layer is disposed after its last request", async () => {
  const { write, open } = place();
  write(policy("first"));
  const store = await open();
  const old = store.pin();
  assert.equal(store.pin(), old);
  const layer = old.seats[0]!.layer as FakeLayer;

  // A change elsewhere in the policy carries the layer over.
  write(`${policy("first")}  - { id: two, use: early }\n`);
  await store.reload();
  const middle = store.pin();
  assert.equal(middle.seats[0]!.layer, layer);
  write(policy("second"));
  await store.reload();
  assert.notEqual(store.current().seats[0]!.layer, layer);
  assert.equal(store.status().draining, 2);
  store.unpin(middle);
  assert.equal(store.status().draining, 1);
  assert.equal(layer.disposed, 0);
  store.unpin(old);
  assert.equal(layer.disposed, 0, "one request of the first snapshot is left");
  store.unpin(old);
  assert.equal(layer.disposed, 1);
  assert.equal(store.status().draining, 0);
  assert.throws(() => store.unpin(old), /unpinned more often/);

  const last = store.current().seats[0]!.layer as FakeLayer;
  await store.close();
  assert.equal(last.disposed, 1);
});

test("500 swaps under pins: every layer is disposed exactly once, none while it is used", async () => {
  const { write, open } = place();
  write(policy("w0"));
  const store = await open();
  const seed = Date.now() % 1_000_000;
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const layers = new Set<FakeLayer>();
  const pinned: ReturnType<PolicyStore["pin"]>[] = [];
  const started = performance.now();
  for (let i = 1; i <= 500; i++) {
    write(policy(`w${i}`));
    await store.reload();
    for (let n = random(4); n > 0; n--) pinned.push(store.pin());
    layers.add(store.current().seats[0]!.layer as FakeLayer);
    while (pinned.length > random(12)) store.unpin(pinned.splice(random(pinned.length), 1)[0]!);
    for (const snapshot of pinned)
      assert.equal((snapshot.seats[0]!.layer as FakeLayer).disposed, 0, `seed ${seed}`);
  }
  const perSwapMs = (performance.now() - started) / 500;
  for (const snapshot of pinned) store.unpin(snapshot);
  assert.equal(store.status().draining, 0, `seed ${seed}`);
  await store.close();
  assert.deepEqual([...new Set([...layers].map(({ disposed }) => disposed))], [1], `seed ${seed}`);
  console.log(
    `500 swaps: ${perSwapMs.toFixed(2)} ms each, write and last-good fsync included (seed ${seed})`,
  );
});

test("current, pin and unpin cost next to nothing", async () => {
  const { write, open } = place();
  write(policy("a"));
  const store = await open();
  const rounds = 1_000_000;
  let seen = 0;
  const time = (run: () => void): number => {
    for (let i = 0; i < 10_000; i++) run();
    const started = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) run();
    return Number(process.hrtime.bigint() - started) / rounds;
  };
  const currentNs = time(() => {
    seen += store.current().seats.length;
  });
  const pinNs = time(() => store.unpin(store.pin()));
  console.log(`current(): ${currentNs.toFixed(1)} ns; pin() and unpin(): ${pinNs.toFixed(1)} ns`);
  assert.ok(seen > 0);
  assert.ok(currentNs < 1_000 && pinNs < 2_000, "far from a lookup, a copy or an allocation");
});
