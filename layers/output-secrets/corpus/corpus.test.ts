/** The bar of the labelled corpus: precision and recall of at least 0.95, whatever the seed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ports } from "../../../src/layer/index.ts";
import { isRandom } from "../checks.ts";
import { KINDS, spellingsOf } from "../kinds.ts";
import { outputSecrets } from "../layer.ts";
import { altered, corpusOf, FORMAT_IDS } from "./generator.ts";
import { figuresOf, judge, share } from "./measurement.ts";

const layer = outputSecrets.compile(outputSecrets.config.parse({}), {} as Ports);

test("the corpus holds every kind, 1,500 strings and more look-alikes than secrets", () => {
  assert.deepEqual([...FORMAT_IDS].sort(), KINDS.map((kind) => kind.id).sort());
  const corpus = corpusOf(1);
  const secrets = corpus.filter(({ secret }) => secret !== undefined);
  assert.ok(corpus.length >= 1_500 && secrets.length * 2 <= corpus.length);
  assert.deepEqual(corpusOf(1), corpus, "the same each time");
  for (const { text, secret } of secrets)
    assert.ok(secret!.start < secret!.end && secret!.end <= text.length);
});

for (const seed of [1, 2, 3]) {
  test(`seed ${seed}: precision and recall are at least 0.95`, () => {
    const { precision, recall } = figuresOf(corpusOf(seed).map((sample) => judge(layer, sample)));
    assert.ok(precision.value >= 0.95, `precision ${precision.value}`);
    assert.ok(recall.value >= 0.95, `recall ${recall.value}`);
  });
}

test("every kind is found as itself, in most of its strings", () => {
  const bySort = Map.groupBy(corpusOf(1), ({ of }) => of);
  for (const id of FORMAT_IDS) {
    const judged = bySort.get(id)!.map((sample) => judge(layer, sample));
    const named = judged.filter(({ outcome, kinds }) => outcome === "right" && kinds.includes(id));
    assert.ok(named.length / judged.length >= 0.5, `${id}: ${named.length} of ${judged.length}`);
  }
});

test("a token with one character changed is kept in", () => {
  for (const sample of altered(1, 20)) assert.equal(judge(layer, sample).outcome, "right", sample.text);
});

test("random values and words", () => {
  for (const value of [
    "iHE4hidcxxl5CUNFqR0kM9kh",
    "c24b980af8ee228914f0a64723999f0d",
    "85GuzllGDr0qv3UB",
    "pallwxbu6j3sjlx2mo1bnn7uljpe4c6yj045",
    "bCxYoDv8X!A-gakMY-",
  ])
    assert.ok(isRandom(value), value);
  for (const value of [
    "AuthenticationTokenProvider",
    "production/database/credentials",
    "X-Internal-Api-Key-Header",
    "aws_secretsmanager_secret_version.db.secret_string",
    "my-super-secret-key-for-development-v2",
    "us-international-with-dead-keys",
    "123456789012345678901234",
    "",
  ])
    assert.ok(!isRandom(value), value);
});

test("names in every spelling", () => {
  assert.deepEqual(spellingsOf("api key").toSorted(), [
    "API KEY",
    "API-KEY",
    "APIKEY",
    "API_KEY",
    "Api Key",
    "Api key",
    "Api-Key",
    "ApiKey",
    "Api_Key",
    "api key",
    "api-key",
    "apiKey",
    "api_key",
    "apikey",
  ]);
  assert.deepEqual(spellingsOf("token").toSorted(), ["TOKEN", "Token", "token"]);
});

test("shares: Wilson's interval", () => {
  const { value, low, high } = share(9, 10);
  assert.deepEqual(
    [value, low, high].map((one) => one.toFixed(3)),
    ["0.900", "0.596", "0.982"],
  );
});
