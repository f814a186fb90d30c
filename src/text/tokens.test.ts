/** The estimate against the real tokenizer, on texts of each kind that limits meet, and on texts made to hurt. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, countTokens as realCount } from "gpt-tokenizer/encoding/o200k_base";
import {
  COUNTED_UNITS_MAX,
  countTokens,
  estimateTokens,
  loadTokenizer,
  sampleTokens,
  weighTokens,
} from "./tokens.ts";

const PROSE =
  "The old lighthouse keeper climbed the stairs each evening, counted the ships on the horizon, and wrote " +
  "their names in a book that nobody had asked him to keep. In winter, when the storms came, he would write " +
  "instead about the weather; about how the windows shook, and what he thought the sea was trying to say. ";
const CODE = `export async function fetchAll(urls: readonly string[], limit = 4): Promise<Response[]> {
  const results: Response[] = [];
  for (let i = 0; i < urls.length; i += limit) {
    const batch = urls.slice(i, i + limit).map((url) => fetch(url, { redirect: "error" }));
    results.push(...(await Promise.all(batch)));
  }
  return results.filter(({ status }) => status === 200);
}
`;
const JSON_TEXT = JSON.stringify(
  Array.from({ length: 12 }, (_, i) => ({
    id: 1_000 + i,
    name: `item-${i}`,
    price: 12.5 * i,
    inStock: i % 2 === 0,
    tags: ["new", "sale"],
  })),
  null,
  2,
);
const CHINESE =
  "灯塔看守人每天晚上都会爬上楼梯,数一数地平线上的船只,然后把它们的名字写在一本没有人要求他保存的书里。";
const RUSSIAN = "Старый смотритель маяка каждый вечер поднимался по лестнице и считал корабли на горизонте. ";
const BASE64 = Buffer.from(
  Array.from({ length: 900 }, (_, i) => (i * 7_919 + 13 * ((i * i) % 251)) % 256),
).toString("base64");

const KINDS: readonly [kind: string, text: string, errorMax: number][] = [
  ["English", PROSE, 0.15],
  ["code", CODE, 0.15],
  ["JSON", JSON_TEXT, 0.2],
  ["Chinese", CHINESE, 0.25],
  ["Russian", RUSSIAN, 0.25],
  ["base64", BASE64, 0.15],
  ["numbers", "3.14159265358979 2718281828 1,000,000 2026-11-24T05:12:33Z 127.0.0.1 ", 0.25],
];

for (const [kind, text, errorMax] of KINDS) {
  test(`${kind}: the estimate is near the real count, whole, in parts and by samples`, () => {
    const real = realCount(text);
    const error = (count: number) => Math.abs(count - real) / real;
    assert.ok(error(estimateTokens(text)) <= errorMax, `${estimateTokens(text)} for ${real}`);
    let streamed = 0;
    for (const id of encode(text)) streamed += weighTokens(decode([id]));
    // A letter of several tokens decodes to replacement characters: only texts without such add up.
    if (kind !== "Chinese" && kind !== "Russian")
      assert.ok(error(streamed) <= errorMax + 0.15, `${streamed} token by token, for ${real}`);
    const long = text.repeat(Math.ceil(20_000 / text.length));
    const weight = weighTokens(long);
    const turns = long.match(/.{1,131}/gsu)!.map((turn) => ({ text: turn }));
    for (const texts of [[{ text: long }], turns]) {
      const sampled = sampleTokens(texts);
      assert.ok(Math.abs(sampled - weight) / weight < 0.15, `${sampled} for ${weight}`);
    }
  });
}

test("nothing is nothing, something is at least one", () => {
  assert.equal(estimateTokens(""), 0);
  assert.equal(weighTokens(""), 0);
  for (const text of ["a", " ", "\n", ".", "字", "\ud83d"])
    assert.equal(estimateTokens(text), 1, JSON.stringify(text));
});

test("no text makes the estimate slow", () => {
  const units = 2_000_000;
  const hostile = ["a", "aA", "0", " ", "\u{1f600}", "\u0301", "{[(", "字", "\ud800"];
  for (const text of hostile) {
    const long = text.repeat(units / text.length);
    const startedMs = performance.now();
    weighTokens(long);
    const spentMs = performance.now() - startedMs;
    // 100 MB/s would be 20 ms; the machine may be busy.
    assert.ok(spentMs < 400, `${JSON.stringify(text)}: ${spentMs} ms`);
    const sampledMs = performance.now();
    sampleTokens([{ text: long }]);
    assert.ok(performance.now() - sampledMs < 20, `sampling ${JSON.stringify(text)}`);
  }
});

test("the real tokenizer counts short texts once it is loaded, and never a long one", async () => {
  const hostile = "a".repeat(20_000);
  const short = "Hello, how are you?";
  assert.equal(countTokens(hostile, Number.POSITIVE_INFINITY), estimateTokens(hostile));
  await Promise.all([loadTokenizer(), loadTokenizer()]);
  assert.equal(countTokens(short, 100), realCount(short));
  assert.equal(countTokens(short, 10), estimateTokens(short), "longer than the caller allows");
  const startedMs = performance.now();
  assert.equal(countTokens(hostile, Number.POSITIVE_INFINITY), estimateTokens(hostile));
  assert.equal(countTokens("a".repeat(COUNTED_UNITS_MAX), COUNTED_UNITS_MAX), COUNTED_UNITS_MAX / 8);
  assert.ok(performance.now() - startedMs < 200);
  // Words that a model would take for its own marks are words here.
  assert.ok(countTokens("<|endoftext|>", 100) > 1);
});
