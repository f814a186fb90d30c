/**
 * Replaces spans of a channel's text. A channel is a line of code units that is released region by region;
 * the replacement of a span stands in the region where the span begins, the rest of it vanishes, however
 * many regions (events) it crosses. Abutting spans of one reason count as one, so that a long secret that
 * is cut as it arrives leaves a single mark. A span that brings a text of its own stays by itself, and gives way to a
 * mark where the two overlap: what hides is stronger than what shows.
 *
 *   text      ....[secret part 1][part 2]....
 *   regions   |--- event 1 ---|-- event 2 --|
 *   released  ....[redacted:x]  (nothing)   ....
 */
import type { Finding, Span } from "../layer/index.ts";

export interface Replaced {
  readonly start: number;
  end: number;
  by: string;
  /** The layer's own text stands for it: it abuts others without being one with them. */
  isText: boolean;
}

/** Spans of one channel in order, merged where they touch. */
export class Redactions {
  readonly #template: string;
  #spans: Replaced[] = [];

  constructor(template: string) {
    this.#template = template;
  }

  get any(): boolean {
    return this.#spans.length > 0;
  }

  add(span: Span, findings: readonly Finding[]): void {
    if (span.end <= span.start) return;
    const isText = span.by !== undefined;
    const by = span.by ?? this.#template.replaceAll("{kind}", kindOf(span, findings));
    const spans = this.#spans;
    let at = spans.length;
    while (at > 0 && spans[at - 1]!.start > span.start) at -= 1;
    const before = spans[at - 1];
    if (before !== undefined && isOne(before, span.start, isText)) {
      before.end = Math.max(before.end, span.end);
      if (before.isText) Object.assign(before, { by: isText ? before.by : by, isText });
      at -= 1;
    } else {
      spans.splice(at, 0, { start: span.start, end: span.end, by, isText });
    }
    // Swallow what the grown span now reaches.
    const grown = spans[at]!;
    while (at + 1 < spans.length && isOne(grown, spans[at + 1]!.start, spans[at + 1]!.isText)) {
      const next = spans[at + 1]!;
      grown.end = Math.max(grown.end, next.end);
      if (grown.isText && !next.isText) Object.assign(grown, { by: next.by, isText: false });
      spans.splice(at + 1, 1);
    }
  }

  /** `text` is the region [from, from + text.length) of the channel; answers what of it may be seen. */
  apply(text: string, from: number): string {
    const end = from + text.length;
    let out = "";
    let at = from;
    for (const span of this.#spans) {
      if (span.end <= at || span.start >= end) continue;
      if (span.start >= from) {
        out += text.slice(at - from, span.start - from) + span.by;
      }
      at = Math.min(end, span.end);
    }
    return at === from && out === "" ? text : out + text.slice(at - from);
  }

  /** Spans that end before `released` can no longer matter; the last stays, as another may abut it. */
  forget(released: number): void {
    while (this.#spans.length > 1 && this.#spans[0]!.end < released) this.#spans.shift();
  }
}

/** A span from `start` on and the one before it are one: they overlap, or they abut and neither has its own text. */
function isOne(before: Replaced, start: number, isText: boolean): boolean {
  return start < before.end || (start === before.end && !before.isText && !isText);
}

/** The last part of the reason that put the span there: "output.secret.github-token" gives "github-token". */
function kindOf(span: Span, findings: readonly Finding[]): string {
  for (const { reason, where } of findings) {
    if (
      where !== undefined &&
      where.channel === span.channel &&
      where.start < span.end &&
      span.start < where.end
    ) {
      return reason.slice(reason.lastIndexOf(".") + 1);
    }
  }
  const first = findings[0];
  return first === undefined ? "text" : first.reason.slice(first.reason.lastIndexOf(".") + 1);
}
