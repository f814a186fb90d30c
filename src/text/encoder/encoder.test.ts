/** Embeddings against those that the model's own package gave (reference.json), and against each other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EMBEDDING, EMBEDDING_SIZE, openEncoder } from "./encoder.ts";
import reference from "./reference.json" with { type: "json" };

const encoder = openEncoder();
const texts = reference.rows.map(({ text }) => text);

function cosine(a: Float32Array, b: Float32Array): number {
  let product = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (let i = 0; i < a.length; i += 1) {
    product += a[i]! * b[i]!;
    squaresA += a[i]! * a[i]!;
    squaresB += b[i]! * b[i]!;
  }
  return product / Math.sqrt(squaresA * squaresB);
}
const part = (embedding: Float32Array, name: keyof typeof EMBEDDING) =>
  embedding.subarray(EMBEDDING[name].from, EMBEDDING[name].to);
const embeddingOf = async (text: string): Promise<Float32Array> => (await encoder.encode([text]))[0]!;

for (const { text, sentence } of reference.rows) {
  test(`gives the model's own sentence vector: ${JSON.stringify(text.slice(0, 40))}`, async () => {
    const bytes = Buffer.from(sentence, "base64");
    const wanted = Float32Array.from({ length: 512 }, (_, i) => bytes.readFloatLE(i * 4));
    const embedding = await embeddingOf(text);
    assert.equal(embedding.length, EMBEDDING_SIZE);
    const likeness = cosine(part(embedding, "sentence"), wanted);
    assert.ok(likeness > 0.9999, `cosine ${likeness}`);
  });
}

test("a text's numbers are the same alone, among others, in any order, and by another encoder", async () => {
  const alone = await Promise.all(texts.map(embeddingOf));
  assert.deepEqual(await encoder.encode(texts), alone);
  assert.deepEqual(await encoder.encode(texts.toReversed()), alone.toReversed());
  assert.deepEqual(await openEncoder().encode(texts), alone);
});

test("lengths around every edge of a block come out alike alone and among others", async () => {
  const many = Array.from({ length: 40 }, (_, count) => "word ".repeat(count));
  const together = await encoder.encode(many);
  for (const [i, text] of many.entries()) assert.deepEqual(await embeddingOf(text), together[i], text);
});

test("no texts give nothing, an empty text something finite, also among others", async () => {
  assert.deepEqual(await encoder.encode([]), []);
  const [empty, word, last] = await encoder.encode(["", "word", ""]);
  assert.deepEqual(word, await embeddingOf("word"));
  assert.deepEqual(empty, last);
  assert.ok(empty!.every(Number.isFinite));
  assert.equal((await encoder.encode(Array<string>(1_500).fill(""))).length, 1_500);
});

test("more texts than fit at once are cut into batches", async () => {
  const many = Array.from({ length: 60 }, (_, i) => texts[i % texts.length]!);
  const embeddings = await encoder.encode(many);
  assert.equal(embeddings.length, 60);
  assert.deepEqual(embeddings[57], embeddings[7]);
});

test("what stands behind the last piece that is read changes nothing", async () => {
  const long = "the ship sails ".repeat(100);
  assert.deepEqual(await embeddingOf(long), await embeddingOf(`${long} and sinks`));
  const short = openEncoder({ piecesMax: 3 });
  assert.deepEqual(await short.encode(["the ship sails"]), await short.encode(["the ship sails home"]));
});

test("the parts of an embedding are what their names say", async () => {
  const embedding = await embeddingOf("How do I renew my passport?");
  const length = Math.hypot(...part(embedding, "sentence"));
  assert.ok(Math.abs(length - 1) < 1e-5, `${length}`);
  const max = part(embedding, "max");
  assert.ok(part(embedding, "mean").every((mean, i) => mean <= max[i]! + 1e-6));
  const one = await embeddingOf("the ship sails");
  const other = await embeddingOf("sails the ship");
  // Words know no order: the same pieces, the same mean.
  assert.ok(cosine(part(one, "words"), part(other, "words")) > 0.999_999);
  assert.ok(cosine(part(one, "mean"), part(other, "mean")) < 0.999_9);
});

test("texts of like meaning are nearer to each other than to others", async () => {
  const [a, b, c] = await encoder.encode([
    "How can I reset my password?",
    "I forgot my login and need a new password.",
    "The soup needs more salt and a bay leaf.",
  ]);
  const sentence = (embedding: Float32Array | undefined) => part(embedding!, "sentence");
  assert.ok(cosine(sentence(a), sentence(b)) > cosine(sentence(a), sentence(c)) + 0.2);
});
