/**
 * Precision and recall on the labelled corpus. A secret counts as found where all of it is inside of spans, of
 * whatever kind; a string counts as a false alarm where it is none and something was found, or where a span
 * reaches out of the secret.
 */
import { findingsOf, type Held, type Layer, type RequestContext } from "../../../src/layer/index.ts";
import type { Sample } from "./generator.ts";

export type Outcome = "right" | "missed" | "alarm" | "spared";

export interface Judged {
  readonly sample: Sample;
  readonly outcome: Outcome;
  readonly kinds: readonly string[];
}

export interface Share {
  readonly value: number;
  /** Wilson's interval of 95%. */
  readonly low: number;
  readonly high: number;
}

export interface Figures {
  readonly strings: number;
  readonly secrets: number;
  readonly precision: Share;
  readonly recall: Share;
}

const PREFIX = "output.secret.";
/** Units around a secret that may go with it, as a full stop or the word behind a block do: no alarm. */
const SLACK = 8;
/** Quantile of the normal distribution for 95%. */
const Z = 1.96;

export function judge(layer: Layer, sample: Sample): Judged {
  const watch = layer.open({} as RequestContext);
  const { text, secret } = sample;
  const held = watch.onChunk?.({ channel: "a", kind: "answer", choice: 0, start: 0, text, final: true });
  const findings = findingsOf(held as Held);
  const kinds = [...new Set(findings.map(({ reason }) => reason.slice(PREFIX.length)))];
  const spans = findings.map(({ where }) => where!);
  const outcome = (): Outcome => {
    if (secret === undefined) return findings.length > 0 ? "alarm" : "spared";
    for (let i = secret.start; i < secret.end; i++) {
      if (!spans.some(({ start, end }) => i >= start && i < end)) return "missed";
    }
    const isOut = spans.some(({ start, end }) => start < secret.start - SLACK || end > secret.end + SLACK);
    return isOut ? "alarm" : "right";
  };
  return { sample, outcome: outcome(), kinds };
}

export function figuresOf(all: readonly Judged[]): Figures {
  const count = (outcome: Outcome) => all.filter((one) => one.outcome === outcome).length;
  const [right, missed, alarm] = [count("right"), count("missed"), count("alarm")];
  return {
    strings: all.length,
    secrets: all.filter(({ sample }) => sample.secret !== undefined).length,
    precision: share(right, right + alarm),
    recall: share(right, right + missed),
  };
}

export function share(right: number, of: number): Share {
  if (of === 0) return { value: 1, low: 0, high: 1 };
  const value = right / of;
  const middle = (value + Z ** 2 / (2 * of)) / (1 + Z ** 2 / of);
  const half = (Z * Math.sqrt((value * (1 - value)) / of + Z ** 2 / (4 * of ** 2))) / (1 + Z ** 2 / of);
  return { value, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}
