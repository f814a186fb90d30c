/** Names and the words around them, read once from names.yaml and streets.yaml. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { anyWord } from "./kinds.ts";
import { fold } from "./units.ts";

const Words = z.array(z.union([z.string(), z.boolean()]).transform(String));
const Lists = z.record(z.string(), z.string());

const Names = z.strictObject({
  first: Lists,
  last: Lists,
  lastEnds: Words,
  ambiguous: z.string(),
  titles: Words,
  strong: Words,
  by: Words,
  verbs: Words,
  never: z.string(),
  organisations: Words,
  particles: Words,
});

const Streets = z.strictObject({
  before: Words,
  after: Words,
  ends: Words,
  units: Words,
  boxes: Words,
  joins: Words,
  states: Words,
  countries: Words,
  codes: z.string(),
  months: Words,
});

function load(name: string): unknown {
  return parse(readFileSync(new URL(name, import.meta.url), "utf8"));
}

const names = Names.parse(load("./names.yaml"));
const streets = Streets.parse(load("./streets.yaml"));

const split = (text: string): ReadonlySet<string> => new Set(text.split(/\s+/).map(fold));
const set = (words: readonly string[]): ReadonlySet<string> => new Set(words.map(fold));
const endsWith = (endings: readonly string[]): RegExp => new RegExp(`(?:${endings.join("|")})$`);

/** One of the phrases right before, and then `between` and perhaps a quotation mark; in a text in lower case. */
function rightBefore(phrases: readonly string[], between: string): RegExp {
  return new RegExp(`${anyWord(phrases).source.replace(/\(\?!\[a-z\]\)$/, "")}${between}["'(“]?$`);
}

export const NAMES = {
  first: split(Object.values(names.first).join(" ")),
  last: split(Object.values(names.last).join(" ")),
  lastEnds: endsWith(names.lastEnds),
  ambiguous: split(names.ambiguous),
  titles: set(names.titles),
  afterTitle: rightBefore(names.titles, "\\.? "),
  afterStrong: rightBefore(names.strong, ":?\\s{1,3}"),
  afterBy: rightBefore(names.by, "\\.? "),
  verbs: set(names.verbs),
  never: split(names.never),
  organisations: set(names.organisations),
  particles: set(names.particles),
} as const;

export const STREETS = {
  before: set(streets.before),
  after: set(streets.after),
  ends: endsWith(streets.ends),
  units: set(streets.units),
  boxes: set(streets.boxes),
  joins: set(streets.joins),
  states: set(streets.states),
  countries: set(streets.countries),
  months: set(streets.months),
  afterCode: new RegExp(`(?:${streets.codes})\\s{0,2}$`),
} as const;
