/**
 * The sentence encoder in the thread that calls it, for training and for the workers of encoder-pool.ts. It gives
 * the same numbers for a text on every machine, and whatever else is encoded beside it. Trained on English; what
 * its vocabulary does not know (most of CJK and Cyrillic) it sees as "unknown".
 */
import { readModel } from "./model-files.ts";
import { BATCH_ROWS_MAX, openNetwork, rowsOf } from "./network.ts";
import { PIECES_MAX } from "./network-weights.ts";
import { openPieceCutter } from "./sentence-pieces.ts";

export { EMBEDDING, EMBEDDING_SIZE } from "./network.ts";

export interface SentenceEncoder {
  /** One embedding for each text, in order; its parts are named in EMBEDDING. Holds the thread meanwhile. */
  encode(texts: readonly string[]): Promise<Float32Array[]>;
}

export interface SentenceEncoderOptions {
  /** Pieces of a text that are read, at most and by default 128: some 520 characters of English. */
  readonly piecesMax?: number;
  /** UTF-16 units of a text that are looked at to find them. */
  readonly charactersMax?: number;
}

/** Reads the weights, which takes some tenths of a second; throws when they are not installed or damaged. */
export function openEncoder({
  piecesMax = PIECES_MAX,
  charactersMax = 2_048,
}: SentenceEncoderOptions = {}): SentenceEncoder {
  const model = readModel();
  const cutter = openPieceCutter(model.vocabulary, {
    piecesMax: Math.min(piecesMax, PIECES_MAX),
    charactersMax,
  });
  const network = openNetwork(model);
  return {
    async encode(texts) {
      const embeddings: Float32Array[] = [];
      let batch: Int32Array[] = [];
      let rows = 0;
      for (const text of texts) {
        const pieces = cutter.cut(text);
        if (rows + rowsOf(pieces) > BATCH_ROWS_MAX) {
          embeddings.push(...network.run(batch));
          batch = [];
          rows = 0;
        }
        batch.push(pieces);
        rows += rowsOf(pieces);
      }
      embeddings.push(...network.run(batch));
      return embeddings;
    },
  };
}
