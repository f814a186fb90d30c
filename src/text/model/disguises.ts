/**
 * How a text was dressed, as the classifier reads it: one bit for each kind of disguise that undressing it found,
 * and the text that the sentence encoder should read in place of a disguised one.
 */
import type { Canonical, Marks } from "../canonical.ts";

const BITS: readonly ((marks: Marks) => boolean)[] = [
  ({ invisible }) => invisible > 0,
  ({ confusable }) => confusable > 0,
  ({ styled }) => styled > 0,
  ({ tag, bidi, selector }) => tag + bidi + selector > 0,
  ({ combining }) => combining > 0,
  ({ encodings }) => encodings.includes("leet"),
  ({ encodings }) => encodings.includes("spaced"),
  ({ encodings }) => encodings.some((step) => step === "reversed" || step === "rot13"),
  ({ encodings }) => encodings.some((step) => /^(?:base|hex|binary|morse)/.test(step)),
  ({ encodings }) => encodings.some((step) => /^(?:url|escape|entity)/.test(step)),
];

/** A bit for each kind of disguise; 0 for a text as it is. */
export function disguisesOf(marks: Marks): number {
  let bits = 0;
  for (let i = 0; i < BITS.length; i++) {
    if (BITS[i]!(marks)) bits |= 1 << i;
  }
  return bits;
}

/** Look-alikes, styled letters, leetspeak and letter spacing: what makes words unreadable to the encoder. */
const UNREADABLE = 0b110_0110;

/** The text as it was sent, or, where its letters are disguised, the view that shows them. */
export function readableText(text: string, { views, marks }: Canonical): string {
  if ((disguisesOf(marks) & UNREADABLE) === 0) return text;
  const shown = views.find(
    (view) => view.steps.length === 1 && (view.kind === "leet" || view.kind === "spaced"),
  );
  return (shown ?? views[0])?.text ?? text;
}
