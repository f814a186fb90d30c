/**
 * Placeholders that can be undone: what a prompt holds of some kinds is replaced by marks such as `[EMAIL_1]` before
 * the upstream sees it, and the marks in the answer are replaced by what they stand for. One request's table; the
 * same text has the same mark in it, and numbers go by first appearance, so that a conversation which is sent again
 * with a new turn gets the marks that it had.
 */
import { setImmediate as others } from "node:timers/promises";
import type { Finding, Leaf, Prompt, Span, Verdict } from "../../src/layer/index.ts";
import { ALLOW } from "../../src/layer/index.ts";
import type { Kind, Sight } from "./kinds.ts";
import { type Reader, Reading } from "./reader.ts";

/** Units of the longest mark, and of what is read of a prompt in one turn of the event loop. */
export const MARK_UNITS_MAX = 24;
const TURN_UNITS = 16_384;
/** Marks of one request; what comes after them is left as it is and flagged. */
const MARKS_MAX = 1_000;

/** Words of the conversation. Settings, schemas, names of fields and media stay as they are. */
const REPLACED: readonly Leaf["kind"][] = ["text", "tool-result", "tool-arguments"];

export class Placeholders {
  readonly #marks = new Map<string, string>();
  readonly #texts = new Map<string, string>();
  readonly #counts = new Map<Kind, number>();

  get any(): boolean {
    return this.#texts.size > 0;
  }

  textOf(mark: string): string | undefined {
    return this.#texts.get(mark);
  }

  /** Replaces what the readers find; findings say what, spans by which mark. */
  async replace(prompt: Prompt, readers: readonly Reader[], allowed: ReadonlySet<string>): Promise<Verdict> {
    const findings: Finding[] = [];
    const spans: Span[] = [];
    let units = 0;
    for (const leaf of prompt.leaves) {
      if (!REPLACED.includes(leaf.kind)) continue;
      for (const reader of readers) {
        const reading = new Reading(reader, allowed);
        for (let start = 0; start < leaf.text.length; start += TURN_UNITS) {
          const text = leaf.text.slice(start, start + TURN_UNITS);
          const final = start + TURN_UNITS >= leaf.text.length;
          const delta = { channel: leaf.channel, kind: "other", choice: 0, start, text, final } as const;
          for (const sight of reading.read(delta)) this.#take(prompt, leaf, sight, findings, spans);
          units += text.length;
          if (units < TURN_UNITS) continue;
          units = 0;
          await others();
        }
      }
    }
    if (spans.length === 0) return findings.length === 0 ? ALLOW : { act: "flag", findings };
    return { act: "redact", findings, spans };
  }

  #take(prompt: Prompt, leaf: Leaf, sight: Sight, findings: Finding[], spans: Span[]): void {
    const { id, kind, score, start, end } = sight;
    const where = { channel: leaf.channel, start, end };
    findings.push({ reason: `prompt.pii.${id}`, score, where });
    const text = leaf.text.slice(start, end);
    const mark = this.#marks.get(text) ?? this.#newMark(prompt, kind, text);
    if (mark !== undefined) spans.push({ ...where, by: mark });
  }

  #newMark(prompt: Prompt, kind: Kind, text: string): string | undefined {
    if (this.#marks.size === MARKS_MAX) return undefined;
    const name = kind.toUpperCase().replaceAll("-", "_");
    for (let count = (this.#counts.get(kind) ?? 0) + 1; ; count++) {
      const mark = `[${name}_${count}]`;
      // A mark that the prompt holds already would be mistaken for ours.
      if (count <= MARKS_MAX && prompt.leaves.some((leaf) => leaf.text.includes(mark))) continue;
      this.#counts.set(kind, count);
      this.#marks.set(text, mark);
      this.#texts.set(mark, text);
      return mark;
    }
  }
}

/** Finds the marks of one request in its answer. */
export class MarkReader implements Reader {
  readonly #placeholders: Placeholders;

  constructor(placeholders: Placeholders) {
    this.#placeholders = placeholders;
  }

  seek(text: string, from: number): number {
    const at = text.indexOf("[", from);
    return at < 0 ? text.length : at;
  }

  judge(text: string, at: number, open: boolean): Sight | "waits" | undefined {
    let end = at + 1;
    while (end < text.length && end - at < MARK_UNITS_MAX && /[A-Z_0-9]/.test(text[end]!)) end++;
    if (end === text.length && open && end - at < MARK_UNITS_MAX) return "waits";
    if (text[end] !== "]") return undefined;
    const by = this.#placeholders.textOf(text.slice(at, end + 1));
    if (by === undefined) return undefined;
    return { kind: "person", id: "restored", score: 1, start: at, end: end + 1, by };
  }
}
