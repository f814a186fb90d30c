/**
 * What stage one read in texts that were seen before, so that a long conversation costs only its new turn also where
 * the whole of it is looked at. Keyed by a hash, and without the part that the encoder would read: no text is kept.
 */
import { hash } from "node:crypto";
import { canonicalOf } from "../../src/text/canonical.ts";
import type { PromptModel } from "../../src/text/model/prompt-model.ts";
import { readText, type TextReading } from "../../src/text/model/reading.ts";

/** Below this many UTF-16 units reading costs little more than the hash that would save it. */
const KEPT_UNITS_MIN = 256;
/** Some 400 bytes each. */
const ENTRIES_MAX = 8_192;

export class ReadingMemory {
  readonly #model: PromptModel;
  readonly #windowsMax: number;
  /** Insertion order is age: a hit moves its entry to the young end. */
  readonly #known = new Map<string, TextReading>();

  constructor(model: PromptModel, windowsMax: number) {
    this.#model = model;
    this.#windowsMax = windowsMax;
  }

  /** `strongest.part` may be "": `readAnew` cuts it again. */
  read(leaf: { readonly text: string }): TextReading | undefined {
    if (leaf.text.length < KEPT_UNITS_MIN) return this.readAnew(leaf);
    const key = hash("sha256", leaf.text, "base64");
    const known = this.#known.get(key);
    if (known !== undefined) {
      this.#known.delete(key);
      this.#known.set(key, known);
      return known;
    }
    const reading = this.readAnew(leaf);
    if (reading === undefined) return undefined;
    this.#known.set(key, { ...reading, strongest: { ...reading.strongest, part: "" } });
    if (this.#known.size > ENTRIES_MAX) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    return reading;
  }

  readAnew(leaf: { readonly text: string }): TextReading | undefined {
    return readText(this.#model, leaf.text, canonicalOf(leaf), { windowsMax: this.#windowsMax });
  }
}
