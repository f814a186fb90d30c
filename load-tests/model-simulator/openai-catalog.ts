/**
 * The OpenAI endpoints that only answer whole: embeddings, moderations and the list of models. Vectors and
 * scores follow from each input's own text, so that equal inputs get equal answers in any batch.
 */
import type { CreateEmbeddingResponse } from "openai/resources/embeddings";
import type { Model } from "openai/resources/models";
import type { Moderation, ModerationCreateResponse } from "openai/resources/moderations";
import { asCount, asObject, asText, BadCall, needText, tokensOf } from "./json.ts";
import { createdAt } from "./openai-shape.ts";
import { Random } from "./random.ts";
import type { Call } from "./reply.ts";

const DIMENSIONS_DEFAULT = 64;
const DIMENSIONS_MAX = 4_096;
const FLAGGED_SCORE_MIN = 0.5;
const MODELS = [
  "gpt-4o-mini",
  "gpt-4o",
  "gpt-3.5-turbo-instruct",
  "text-embedding-3-small",
  "omni-moderation-latest",
];

function inputsOf(input: unknown): readonly unknown[] {
  if (typeof input === "string") return [input];
  if (Array.isArray(input) && input.length > 0) {
    return input.every((one) => typeof one === "number") ? [input] : input;
  }
  throw new BadCall("Invalid 'input': expected a string or a non-empty array.", "input");
}

type EmbeddingAnswer = Omit<CreateEmbeddingResponse, "data"> & {
  data: { object: "embedding"; index: number; embedding: number[] | string }[];
};

export function embeddingsWhole(call: Call): EmbeddingAnswer {
  const { body } = call;
  const model = needText(body, "model");
  const inputs = inputsOf(body["input"]);
  const dimensions = Math.min(asCount(body["dimensions"]) || DIMENSIONS_DEFAULT, DIMENSIONS_MAX);
  const base64 = body["encoding_format"] === "base64";
  const tokens = call.script.usage?.inputTokens ?? tokensOf(...inputs);
  return {
    object: "list",
    data: inputs.map((input, index) => {
      const vector = vectorOf(JSON.stringify(input), dimensions);
      return { object: "embedding", index, embedding: base64 ? encoded(vector) : [...vector] };
    }),
    model,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  };
}

/** A unit vector in 32-bit floats, as both encodings carry it. */
function vectorOf(text: string, dimensions: number): Float32Array {
  const random = new Random(`embedding ${text}`);
  const raw = Float64Array.from({ length: dimensions }, () => random.next() / 2 ** 31 - 1);
  const norm = Math.hypot(...raw) || 1;
  return Float32Array.from(raw, (value) => value / norm);
}

function encoded(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, i * 4);
  return bytes.toString("base64");
}

/** A category is flagged when the input names it. */
const CATEGORIES: Readonly<Record<keyof Moderation.Categories, readonly ("text" | "image")[]>> = {
  harassment: ["text"],
  "harassment/threatening": ["text"],
  hate: ["text"],
  "hate/threatening": ["text"],
  illicit: ["text"],
  "illicit/violent": ["text"],
  "self-harm": ["text", "image"],
  "self-harm/instructions": ["text", "image"],
  "self-harm/intent": ["text", "image"],
  sexual: ["text", "image"],
  "sexual/minors": ["text"],
  violence: ["text", "image"],
  "violence/graphic": ["text", "image"],
};

export function moderationsWhole(call: Call): ModerationCreateResponse {
  const { body, random } = call;
  const inputs = inputsOf(body["input"]);
  // A list of parts is one input; a list of texts is one input each.
  const grouped = inputs.some((one) => asObject(one) !== undefined) ? [inputs] : inputs;
  return {
    id: random.fork("id").id("modr-", 29),
    model: asText(body["model"]) ?? "omni-moderation-latest",
    results: grouped.map((input) => moderate(JSON.stringify(input))),
  };
}

function moderate(text: string): Moderation {
  const random = new Random(`moderation ${text}`);
  const scores = Object.entries(CATEGORIES).map(([name, types]) => {
    const low = random.below(1_000) / 100_000;
    return { name, types, score: text.includes(name) ? FLAGGED_SCORE_MIN + 0.4 + low : low };
  });
  const table = (value: (one: (typeof scores)[number]) => unknown): never =>
    Object.fromEntries(scores.map((one) => [one.name, value(one)])) as never;
  return {
    flagged: scores.some((one) => one.score >= FLAGGED_SCORE_MIN),
    categories: table((one) => one.score >= FLAGGED_SCORE_MIN),
    category_scores: table((one) => one.score),
    category_applied_input_types: table((one) => one.types),
  };
}

function modelOf(id: string): Model {
  return { id, object: "model", created: createdAt(new Random(`model ${id}`)), owned_by: "simulator" };
}

export function modelsWhole(call: Call): { object: "list"; data: Model[] } {
  return { object: "list", data: [...new Set([...MODELS, ...call.scripted])].map(modelOf) };
}

/** Any name is a model here, as any name is answered; a scripted `status` fault makes one unknown. */
export function modelWhole(call: Call): Model {
  return modelOf(call.name);
}
