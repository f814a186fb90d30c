/** Embeds many texts on all cores: chunks of similar length go to the encoder's workers, and come back in order. */
import { availableParallelism } from "node:os";
import { EMBEDDING_SIZE } from "../text/encoder/encoder.ts";
import { openEncoderPool } from "../text/encoder/encoder-pool.ts";

/** `[texts, EMBEDDING_SIZE]`. Throws when the encoder fails. */
export type Embed = (texts: readonly string[]) => Promise<Float32Array>;

const CHUNK_TEXTS = 32;
/** A chunk takes a second on a slow machine; one that takes this long never comes. */
const CHUNK_MS_MAX = 120_000;

export async function openEmbedding(onProgress?: (done: number, of: number) => void) {
  const workers = Math.max(1, availableParallelism());
  const pool = await openEncoderPool({
    workers,
    queueMax: workers,
    textsMax: CHUNK_TEXTS,
    stuckMs: CHUNK_MS_MAX,
  });
  const embed: Embed = async (texts) => {
    const embeddings = new Float32Array(texts.length * EMBEDDING_SIZE);
    // The longest first, so that no worker ends alone on the dearest chunk.
    const order = texts.map((_, i) => i).sort((a, b) => texts[b]!.length - texts[a]!.length || a - b);
    let next = 0;
    let done = 0;
    const work = async () => {
      while (next < order.length) {
        const chunk = order.slice(next, next + CHUNK_TEXTS);
        next += chunk.length;
        const result = await pool.encode(
          chunk.map((i) => texts[i]!),
          { deadlineMs: CHUNK_MS_MAX },
        );
        if (result.kind !== "embeddings") throw new Error(`the encoder did not answer: ${result.kind}`);
        chunk.forEach((i, k) => {
          embeddings.set(result.embeddings[k]!, i * EMBEDDING_SIZE);
        });
        done += chunk.length;
        onProgress?.(done, texts.length);
      }
    };
    await Promise.all(Array.from({ length: workers }, work));
    return embeddings;
  };
  /** A few texts at once, for scoring one after another. */
  const encode = async (texts: readonly string[]): Promise<readonly Float32Array[]> => {
    const result = await pool.encode(texts, { deadlineMs: CHUNK_MS_MAX });
    if (result.kind !== "embeddings") throw new Error(`the encoder did not answer: ${result.kind}`);
    return result.embeddings;
  };
  return { embed, encode, close: () => pool.close() };
}
