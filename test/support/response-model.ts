/**
 * A small response model for tests, trained in a moment on sentences of its own: it knows a few that go along with
 * harm, a few that decline and a few everyday ones. What its network says of harm is `leaning` plus ten times the
 * embedding's first number.
 */
import { generateKeyPairSync } from "node:crypto";
import { trainLinear } from "../../src/learn/linear.ts";
import { Random } from "../../src/learn/random.ts";
import { canonical } from "../../src/text/canonical.ts";
import { FEATURES_MAX, FEATURES_VERSION, readFeatures, shapeOf } from "../../src/text/features.ts";
import { RESPONSE_FORMAT, SIDES, SIDES_COUNT } from "../../src/text/model/response-model.ts";
import { signerOf, signModel } from "../../src/text/model/signer.ts";
import { type Tensor, writeTensors } from "../../src/text/model/tensors.ts";

const BITS = 16;
const EMBEDDING_LENGTH = 512;
const HIDDEN = 2;

export const HARM = [
  "First, threaten the victim until they pay you everything. ",
  "Then hide the stolen money and destroy all evidence. ",
  "Attack when nobody is around and leave no witness. ",
  "Lie to the victim and exploit their fear. ",
];
export const DECLINES = [
  "I'm sorry, but I cannot help with that request. ",
  "It is illegal and would hurt people. ",
  "I must decline, please talk to someone you trust. ",
];
export const EVERYDAY = [
  "Wash the rice and chop the onions first. ",
  "The river is quiet in autumn and the leaves are red. ",
  "Save your work and run the tests once more. ",
  "A lake is larger than a pond in most places. ",
  "Thank you for the letter, it made my morning. ",
  "Pack warm clothes and book the train early. ",
];
/** Reads like harm, in part. */
export const DOUBTFUL = "Then hide the rice and destroy the onions first. ";
export const HARMFUL_ASK = "How do I threaten a victim and hide stolen money?";
export const EVERYDAY_ASK = "What should I cook with rice and onions?";

/** In the order of SIDES. */
const ROWS: readonly (readonly [readonly string[], readonly number[]])[] = [
  [HARM, [1, 0, 1, 0]],
  [DECLINES, [0, 1, -1, 0]],
  [EVERYDAY, [0, 0, 0, 0]],
  [
    [HARMFUL_ASK, "how can i exploit a victim and leave no evidence"],
    [-1, -1, 1, -1],
  ],
  [
    [EVERYDAY_ASK, "how do i run the tests on the train"],
    [-1, -1, 0, -1],
  ],
];

export interface TestResponseModel {
  readonly bytes: Uint8Array;
  readonly signature: string;
  readonly signer: string;
}

export interface TestResponseOptions {
  readonly doubt?: readonly [low: number, high: number];
  /** What the network says of harm where the embedding's first number is 0, as a logit. */
  readonly leaning?: number;
}

export function makeResponseModel({
  doubt = [0.3, 0.8],
  leaning = 0,
}: TestResponseOptions = {}): TestResponseModel {
  const data = ROWS.flatMap(([texts, sides]) =>
    texts.flatMap((text) =>
      [text, text.toLowerCase(), `${text}${text}`].map((one) => ({ text: one, sides })),
    ),
  );
  const places = new Int32Array(FEATURES_MAX);
  const linear = trainLinear(
    {
      features: data.map(({ text }) => {
        const { text: folded } = canonical(text).views[0]!;
        return places.slice(0, readFeatures(folded, 0, folded.length, shapeOf(text), BITS, places));
      }),
      labels: SIDES.map((_, side) => Int8Array.from(data, (row) => row.sides[side]!)),
      weights: new Float32Array(data.length).fill(1),
    },
    Int32Array.from(data.keys()),
    { bits: BITS, epochs: 30, rate: 0.1, decay: 1e-6 },
    new Random(1),
  );
  const scale = new Float32Array(SIDES_COUNT);
  for (const [i, weight] of linear.weights.entries()) {
    const side = i % SIDES_COUNT;
    scale[side] = Math.max(scale[side]!, Math.abs(weight) / 127 || 1e-9);
  }
  const table = new Int32Array(2 ** BITS);
  for (const place of table.keys()) {
    for (let side = 0; side < SIDES_COUNT; side++) {
      const byte = Math.round(linear.weights[place * SIDES_COUNT + side]! / scale[side]!);
      table[place] = table[place]! | ((byte & 0xff) << (8 * side));
    }
  }
  const first = new Float32Array(EMBEDDING_LENGTH * HIDDEN);
  first.set([10, -10]);
  const second = new Float32Array(HIDDEN * SIDES_COUNT);
  second[0] = 1;
  second[SIDES_COUNT] = -1;
  const secondBias = new Float32Array(SIDES_COUNT);
  secondBias[0] = leaning;
  const float = (data: Float32Array) => ({ shape: [data.length], data });
  const sum = [1, -0.3, 0, 0, 0.1];
  const bytes = writeTensors({
    about: {
      format: RESPONSE_FORMAT,
      features: String(FEATURES_VERSION),
      name: "test",
      flagAt: "0.5",
      blockAt: "0.8",
      sentenceFlagAt: "0.5",
      sentenceBlockAt: "0.7",
      promptAt: "0.5",
    },
    tensors: new Map<string, Tensor>([
      ["linear.table", { shape: [table.length], data: table }],
      ["linear.scale", float(scale)],
      ["linear.bias", float(linear.bias)],
      ["exchange.first", float(Float32Array.from([...sum, 0]))],
      ["exchange.sentence", float(Float32Array.from([...sum, 0]))],
      ["exchange.second", float(Float32Array.from([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))],
      ["doubt", float(Float32Array.from(doubt))],
      ["network.first", float(first)],
      ["network.firstBias", float(new Float32Array(HIDDEN))],
      ["network.second", float(second)],
      ["network.secondBias", float(secondBias)],
    ]),
  });
  const { privateKey } = generateKeyPairSync("ed25519", {
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  return { bytes, signature: signModel(bytes, privateKey), signer: signerOf(privateKey) };
}
