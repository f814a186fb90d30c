/**
 * Finds recorded content by the id of its request, for whoever replays decisions: one pass builds an index, then each
 * look-up opens one batch, and those of neighbours are at hand already. Synchronous: it is for threads of their own.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  batchesIn,
  type ContentKey,
  type ContentRecord,
  framesIn,
  readHeader,
  recordOf,
} from "./content-format.ts";
import { segmentName, sequencesOf } from "./segments.ts";

/** Segments that are kept open in memory, in clear. */
const SEGMENTS_OPEN_MAX = 3;

export class ContentReader {
  readonly #dir: string;
  readonly #key: ContentKey;
  readonly #segmentOf = new Map<string, number>();
  readonly #open = new Map<number, ReadonlyMap<string, Buffer>>();
  /** Segments that another key, or nobody, can read. */
  unreadable = 0;

  constructor(dir: string, key: ContentKey, options: { readonly recordsMax: number }) {
    this.#dir = dir;
    this.#key = key;
    for (const sequence of sequencesOf(dir, "content")) {
      for (const id of this.#framesOf(sequence).keys()) {
        if (this.#segmentOf.size >= options.recordsMax) return;
        this.#segmentOf.set(id, sequence);
      }
    }
  }

  get(id: string): ContentRecord | undefined {
    const sequence = this.#segmentOf.get(id);
    if (sequence === undefined) return undefined;
    let frames = this.#open.get(sequence);
    if (frames === undefined) {
      frames = this.#framesOf(sequence);
      this.#open.set(sequence, frames);
      for (const oldest of this.#open.keys()) {
        if (this.#open.size <= SEGMENTS_OPEN_MAX) break;
        this.#open.delete(oldest);
      }
    }
    const frame = frames.get(id);
    return frame === undefined ? undefined : recordOf(frame);
  }

  #framesOf(sequence: number): ReadonlyMap<string, Buffer> {
    const frames = new Map<string, Buffer>();
    let bytes: Buffer;
    try {
      bytes = readFileSync(join(this.#dir, segmentName(sequence, "content")));
    } catch {
      return frames; // deleted since it was listed
    }
    const header = readHeader(bytes);
    if (header === undefined || !header.keyId.equals(this.#key.id)) {
      this.unreadable += 1;
      return frames;
    }
    for (const { plain } of batchesIn(bytes, this.#key))
      for (const frame of framesIn(plain)) frames.set(idOf(frame), frame);
    return frames;
  }
}

/** Every meta begins with the id: it is read without parsing the rest. */
function idOf(frame: Buffer): string {
  const start = 8 + '{"id":"'.length;
  return frame.toString("latin1", start, frame.indexOf(34, start));
}
