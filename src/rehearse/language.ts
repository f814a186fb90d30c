/** A guess at the language of a prompt, good enough to compare groups of requests: by script, then by small words. */
import type { Prompt } from "../layer/index.ts";

const READ_UNITS = 600;
const SCRIPTS: readonly (readonly [string, RegExp])[] = [
  ["ja", /[\p{Script=Hiragana}\p{Script=Katakana}]/u],
  ["ko", /\p{Script=Hangul}/u],
  ["zh", /\p{Script=Han}/u],
  ["ru", /\p{Script=Cyrillic}/u],
  ["ar", /\p{Script=Arabic}/u],
  ["hi", /\p{Script=Devanagari}/u],
  ["th", /\p{Script=Thai}/u],
  ["he", /\p{Script=Hebrew}/u],
  ["el", /\p{Script=Greek}/u],
];
const WORDS: readonly (readonly [string, RegExp])[] = [
  ["en", /\b(the|and|is|you|of|to|what|how)\b/gi],
  ["de", /\b(der|die|das|und|ist|nicht|ein|wie)\b/gi],
  ["es", /\b(el|los|que|una|por|como|está|para)\b/gi],
  ["fr", /\b(le|les|des|est|une|pour|que|vous)\b/gi],
  ["it", /\b(il|che|una|per|sono|come|della|non)\b/gi],
  ["pt", /\b(os|que|uma|não|para|como|você|em)\b/gi],
];

export function languageOf({ leaves }: Prompt): string {
  const newest = leaves.findLast(({ role, kind }) => role === "user" && kind === "text");
  const text = newest?.text.slice(0, READ_UNITS) ?? "";
  if (text === "") return "unknown";
  for (const [language, script] of SCRIPTS) if (script.test(text)) return language;
  let best = "other";
  let most = 0;
  for (const [language, words] of WORDS) {
    const count = text.match(words)?.length ?? 0;
    if (count > most) [best, most] = [language, count];
  }
  return best;
}
