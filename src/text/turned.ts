/**
 * English that was turned by 13 letters, or written backwards. The scan finds where, to a block of units; the
 * region is widened here to whole words, and a reversed one to the whole line when most of it is reversed.
 */
import type { Patch } from "./lay.ts";
import type { Region } from "./scan.ts";
import { backwards, turned } from "./units.ts";

export function rot13Patches(text: string, regions: readonly Region[]): Patch[] {
  return merged(text, regions).map(({ start, end }) => ({
    start,
    end,
    text: turned(text.slice(start, end)),
  }));
}

/** Each word read backwards where it stands: "erongi lla". */
export function reversedWordPatches(text: string, regions: readonly Region[]): Patch[] {
  return merged(text, regions).flatMap(({ start, end }) =>
    [...text.slice(start, end).matchAll(/\S+/g)].map(({ 0: word, index }) => ({
      start: start + index,
      end: start + index + word.length,
      text: backwards(word),
      backwards: true,
    })),
  );
}

/** Read backwards as a whole. */
export function reversedPatches(text: string, regions: readonly Region[]): Patch[] {
  return merged(text, regions).map(({ start, end }) => ({
    start,
    end,
    text: backwards(text.slice(start, end)),
    backwards: true,
  }));
}

/** Distance at which two regions are one. */
const APART_UNITS_MAX = 48;
/** Longest word to whose edge a region is widened. */
const WORD_UNITS_MAX = 32;

function merged(text: string, regions: readonly Region[]): Region[] {
  const whole: Region[] = [];
  for (const region of regions) {
    const start = edge(text, region.start, -1);
    const end = edge(text, Math.min(region.end, text.length), 1);
    if (!hasWords(text, start, end)) continue;
    const last = whole.at(-1);
    if (last !== undefined && start - last.end <= APART_UNITS_MAX)
      whole[whole.length - 1] = { start: last.start, end: Math.max(last.end, end) };
    else whole.push({ start, end });
  }
  return whole;
}

/** Encoded blobs look like anything by chance; writing has spaces. */
function hasWords(text: string, start: number, end: number): boolean {
  let since = 0;
  for (let i = start; i < end; i++) {
    since = text.charCodeAt(i) <= 32 ? 0 : since + 1;
    if (since > WORD_UNITS_MAX) return false;
  }
  return true;
}

function edge(text: string, at: number, step: 1 | -1): number {
  let to = at;
  for (let i = 0; i < WORD_UNITS_MAX; i++) {
    const unit = text.charCodeAt(step === 1 ? to : to - 1);
    if (!(unit > 32)) break;
    to += step;
  }
  return to;
}
