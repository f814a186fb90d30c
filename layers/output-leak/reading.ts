/** Reads a text through the layer as the runner does, cut as a test wants it; a leak shows as a released unit. */
import assert from "node:assert/strict";
import type { Act, ChannelKind, Held, Prompt } from "../../src/layer/index.ts";
import { compareActs, findingsOf, spansOf } from "../../src/layer/index.ts";
import { deltaOf, type Layer, openOn } from "./generated.ts";
import { outputLeak } from "./layer.ts";

export const HOLD_MAX = outputLeak.holdMax?.(outputLeak.config.parse({})) ?? 0;

export interface Reading {
  /** "reason via start end", abutting ones joined, sorted. */
  readonly found: readonly string[];
  /** What the client got, with "█" for each unit that was redacted. */
  readonly seen: string;
  readonly act: string;
}

export interface ReadOptions {
  readonly layer: Layer;
  readonly prompt: Prompt;
  readonly text: string;
  /** Offsets at which a piece ends, rising. */
  readonly cuts?: readonly number[];
  readonly kind?: ChannelKind;
}

export function read({ layer, prompt, text, cuts = [], kind = "answer" }: ReadOptions): Reading {
  const watch = openOn(layer, prompt);
  const units = text.split("");
  const spans: { reason: string; start: number; end: number }[] = [];
  let released = 0;
  let start = 0;
  let act: Act = "allow";
  for (const end of [...cuts.filter((cut) => cut < text.length), text.length]) {
    const final = end === text.length;
    const held = watch.onChunk?.(deltaOf(text.slice(start, end), start, final, kind)) as Held;
    if (compareActs(held.act, act) > 0) act = held.act;
    for (const { reason, via, where } of findingsOf(held)) {
      assert.ok(where);
      assert.ok(where.start <= where.end && where.end <= end, "a span lies in what was read");
      spans.push({ reason: `${reason} ${via ?? ""}`, start: where.start, end: where.end });
    }
    for (const span of spansOf(held)) {
      assert.ok(span.start >= released, `a span reaches back to ${span.start}, released ${released}`);
      units.fill("█", span.start, span.end);
    }
    const until = final ? end : Math.min(end, held.holdFrom ?? end);
    assert.ok(until >= released, `holdFrom falls back from ${released} to ${until}`);
    assert.ok(final || end - until <= HOLD_MAX, `holds ${end - until} units`);
    released = until;
    start = end;
  }
  return { found: merged(spans), seen: units.join(""), act };
}

function merged(spans: readonly { reason: string; start: number; end: number }[]): string[] {
  const sorted = spans.toSorted((a, b) =>
    a.reason < b.reason ? -1 : a.reason > b.reason ? 1 : a.start - b.start,
  );
  const joined: { reason: string; start: number; end: number }[] = [];
  for (const span of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && last.reason === span.reason && span.start <= last.end)
      last.end = Math.max(last.end, span.end);
    else joined.push({ ...span });
  }
  return joined.map((span) => `${span.reason} ${span.start} ${span.end}`);
}

export function everyUnit(text: string): number[] {
  return Array.from({ length: text.length - 1 }, (_, i) => i + 1);
}

/** The same whole, unit by unit, and cut in two at every `step`th place. */
export function assertSameAtCuts(options: ReadOptions, step = 1): Reading {
  const whole = read(options);
  const { text } = options;
  assert.deepEqual(read({ ...options, cuts: everyUnit(text) }), whole, "unit by unit");
  for (let cut = 1; cut < text.length; cut += step)
    assert.deepEqual(
      read({ ...options, cuts: [cut] }),
      whole,
      `cut at ${cut}: ${JSON.stringify(text.slice(Math.max(0, cut - 20), cut))}`,
    );
  return whole;
}
