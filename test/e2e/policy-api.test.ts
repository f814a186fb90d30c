/** The policy changed through the admin API of a running gateway: read, put, patched, rolled back, withdrawn. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { LayerKind } from "../../src/layer/index.ts";
import { FAKE_KINDS, type FakeLayer } from "../support/fake-layers.ts";
import { ADMIN_TOKEN, type House, openHouse, policyWith } from "../support/house.ts";

const policyOf = (word: string, more = "") =>
  policyWith(`  # the only one\n  - { id: one, use: probe, with: { words: [${word}]${more} } }\n`);

async function opened(context: TestContext, policy: string, files = {}): Promise<House> {
  const house = await openHouse({ policy, files, layers: FAKE_KINDS as LayerKind[] });
  context.after(() => house.close());
  return house;
}

interface Answer {
  readonly status: number;
  readonly etag: string;
  // biome-ignore lint/suspicious/noExplicitAny: the answers are what is tested
  readonly body: any;
}

async function call(
  house: House,
  method: string,
  path: string,
  body?: object,
  etag?: string,
): Promise<Answer> {
  const response = await fetch(`${house.adminUrl}/api/policy${path}`, {
    method,
    headers: {
      authorization: `Bearer ${ADMIN_TOKEN}`,
      "x-sallyport-actor": "sre",
      ...(etag && { "if-match": etag }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, etag: response.headers.get("etag") ?? "", body: await response.json() };
}

test("put: if-match is needed, a bad text names its spot, a good one is written and served", async (context) => {
  const house = await opened(context, policyOf("first"));
  const { etag, body } = await call(house, "GET", "/source");
  assert.deepEqual([body.text, body.from, body.isServed], [policyOf("first"), "file", true]);
  const text = policyOf("second");
  assert.equal((await call(house, "PUT", "", { text, reason: "r" })).status, 428);
  assert.equal((await call(house, "PUT", "", { text, reason: "r" }, '"other"')).status, 412);
  const bad = await call(house, "PUT", "", { text: policyOf("bad-word"), reason: "r" }, etag);
  assert.equal(bad.status, 422);
  const [problem] = bad.body.problems;
  assert.deepEqual([problem.line > 0, problem.path], [true, "seats[0].with.words[0]"]);
  const check = await call(house, "POST", "/validate", { text: policyOf("bad-word") });
  assert.deepEqual([check.body.ok, check.body.problems[0].path], [false, "seats[0].with.words[0]"]);
  assert.equal(readFileSync(join(house.configDir, "policy.yaml"), "utf8"), policyOf("first"));
  const put = await call(house, "PUT", "", { text, reason: "why not" }, etag);
  assert.deepEqual([put.status, put.body.result, put.body.servedFrom], [200, "applied", "file"]);
  assert.equal(readFileSync(join(house.configDir, "policy.yaml"), "utf8"), text);
  assert.equal(house.sallyport.policy.current().revision, put.body.revision);
  const { revisions } = (await call(house, "GET", "/revisions")).body;
  assert.deepEqual(
    revisions.map(({ by, reason, source }: Record<string, string>) => [by, reason, source]),
    [
      ["sre", "why not", "api"],
      ["", "", "file"],
    ],
  );
  const shown = await call(house, "GET", `/revisions/${put.body.previous}`);
  assert.equal(shown.body.text, policyOf("first"));
  const diff = (await call(house, "GET", `/revisions/${put.body.previous}/diff`)).body;
  assert.match(diff.text, /^-.*first.*\n\+.*second/m);
  assert.deepEqual(diff.changed, [
    { seat: "one", fields: [{ path: "with.words", before: ["first"], after: ["second"] }] },
  ]);
});

test("of 20 writers with the same if-match exactly one wins", async (context) => {
  const house = await opened(context, policyOf("first"));
  const { etag } = await call(house, "GET", "/source");
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      call(house, "PUT", "", { text: policyOf(`w${i}`), reason: "race" }, etag),
    ),
  );
  const statuses = answers.map(({ status }) => status);
  assert.deepEqual(
    [statuses.filter((s) => s === 200).length, statuses.filter((s) => s === 412).length],
    [1, 19],
  );
  const winner = policyOf(`w${statuses.indexOf(200)}`);
  assert.equal(readFileSync(join(house.configDir, "policy.yaml"), "utf8"), winner);
});

test("patch: one seat, comments stay, and what cannot be is told by its field", async (context) => {
  const house = await opened(context, policyOf("first"));
  const patched = await call(house, "PATCH", "/seats/one", { mode: "shadow", rollout: 10, reason: "watch" });
  assert.equal(patched.status, 200);
  const { seats } = house.sallyport.policy.current();
  assert.deepEqual([seats[0]?.mode, seats[0]?.rollout], ["shadow", 10]);
  assert.match(
    readFileSync(join(house.configDir, "policy.yaml"), "utf8"),
    /# the only one\n {2}- \{ id: one, use: probe, rollout: 10, mode: shadow,/,
  );
  const unknown = await call(house, "PATCH", "/seats/two", { mode: "off", reason: "r" });
  assert.deepEqual([unknown.status, unknown.body.errors[0].path], [400, "id"]);
  const wrong = await call(house, "PATCH", "/seats/one", { rollout: 101, reason: "r" });
  assert.deepEqual([wrong.status, wrong.body.errors[0].path], [400, "rollout"]);
});

test("rollback brings text and artifacts back within 2 s, as an override that ends when the file changes", async (context) => {
  const house = await opened(context, policyOf("x", ", packs: [pack.txt]"), { "pack.txt": "good" });
  const { policy } = house.sallyport;
  const packs = () => (policy.current().seats[0]!.layer as FakeLayer).packs;
  const good = policy.current().revision;
  writeFileSync(join(house.configDir, "pack.txt"), "worse");
  await policy.reload();
  assert.deepEqual(packs(), ["worse"]);
  const started = performance.now();
  const back = await call(house, "POST", "/rollback", { to: good, reason: "the pack is bad" });
  const tookMs = performance.now() - started;
  assert.deepEqual([back.status, back.body.servedFrom, back.body.revision], [200, "override", good]);
  assert.deepEqual(packs(), ["good"]);
  assert.ok(tookMs < 2_000, `${tookMs} ms`);
  console.log(`rollback in ${tookMs.toFixed(0)} ms`);
  assert.deepEqual(policy.status().override?.pinned, ["pack.txt"]);
  // A patch after it keeps the artifacts of the rollback.
  assert.equal(
    (await call(house, "PATCH", "/seats/one", { mode: "shadow", reason: "r" })).body.servedFrom,
    "override",
  );
  assert.deepEqual(packs(), ["good"]);
  house.writePolicy(policyOf("edited", ", packs: [pack.txt]"));
  await policy.reload();
  assert.deepEqual(
    [packs(), policy.status().servedFrom, policy.status().override],
    [["worse"], "file", undefined],
  );
  assert.equal((await call(house, "POST", "/rollback", { to: "0123456789ab", reason: "r" })).status, 404);
});

test("a ConfigMap is not written: the change is an override, visible, and can be withdrawn", async (context) => {
  const house = await opened(context, policyOf("first"));
  const file = join(house.configDir, "policy.yaml");
  mkdirSync(join(house.configDir, "..1"));
  writeFileSync(join(house.configDir, "..1/policy.yaml"), policyOf("first"));
  symlinkSync("..1", join(house.configDir, "..data"));
  rmSync(file);
  symlinkSync("..data/policy.yaml", file);
  const { etag } = await call(house, "GET", "/source");
  const put = await call(house, "PUT", "", { text: policyOf("second"), reason: "now" }, etag);
  assert.equal(put.body.servedFrom, "override");
  assert.equal(readFileSync(file, "utf8"), policyOf("first"));
  const { override, servedFrom } = (await call(house, "GET", "")).body;
  assert.deepEqual([servedFrom, override.by, override.reason], ["override", "sre", "now"]);
  assert.equal((await call(house, "GET", "/source")).body.text, policyOf("second"));
  const ended = await call(house, "DELETE", "/override");
  assert.deepEqual([ended.status, ended.body.servedFrom], [200, "file"]);
  assert.ok(!existsSync(join(house.dataDir, "policy/override.json")));
  assert.equal((await call(house, "DELETE", "/override")).status, 404);
});
