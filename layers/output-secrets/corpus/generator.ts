/**
 * The labelled corpus by which the layer is measured: secrets of every kind as their vendors document them, and what
 * looks like one, each in surroundings where answers of a model have them. Everything is drawn from a seed, so that no
 * string of the repository is a key, and that another seed gives another corpus of the same make.
 */
import { readFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { parse } from "yaml";
import { z } from "zod";

export interface Sample {
  /** A kind of secret, or the class of the look-alike. */
  readonly of: string;
  readonly text: string;
  /** Where the secret is; absent: there is none. */
  readonly secret?: { readonly start: number; readonly end: number };
  /** Which template and surroundings it is made of; even ones were looked at while the layer was mended. */
  readonly make: { readonly template: number; readonly around: number };
}

const Form = z.enum(["word", "line", "block"]).default("word");
const Formats = z.record(z.string(), z.strictObject({ form: Form, text: z.array(z.string()).min(1) }));
const Doubles = z.record(
  z.string(),
  z.strictObject({ form: Form, text: z.array(z.string()).min(1), times: z.int().default(4) }),
);
const Surroundings = z.strictObject({ word: z.array(z.string()), line: z.array(z.string()) });

/** Strings of each kind at least; a kind with more templates has two of each. */
const EACH_MIN = 6;

const LOWER = "abcdefghijklmnopqrstuvwxyz";
const UPPER = LOWER.toUpperCase();
const DIGITS = "0123456789";
const SETS: Readonly<Record<string, string>> = {
  alnum: LOWER + UPPER + DIGITS,
  alpha: LOWER + UPPER,
  lower: LOWER + DIGITS,
  upper: UPPER + DIGITS,
  digit: DIGITS,
  nonzero: "123456789",
  hex: "0123456789abcdef",
  HEX: "0123456789ABCDEF",
  b64: `${LOWER}${UPPER}${DIGITS}+/`,
  url: `${LOWER}${UPPER}${DIGITS}_-`,
  b64url: `${LOWER}${UPPER}${DIGITS}_-`,
  base32: `${UPPER}234567`,
  base32low: `${LOWER}234567`,
  bech: "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
  crock: "0123456789ABCDEFGHJKMNPQRSTVWXYZ",
  djangoish: `${LOWER}${DIGITS}!@#^&*(-_=+)`,
  pass: `${LOWER}${UPPER}${DIGITS}!#%^*_-`,
};
const WORDS =
  "the quick report of our customers says that sales in the north went up while costs stayed where they were".split(
    " ",
  );
const BASE62 = `${DIGITS}${UPPER}${LOWER}`;

type Random = () => number;

function read<T>(name: string, schema: z.ZodType<T>): T {
  return schema.parse(parse(readFileSync(new URL(name, import.meta.url), "utf8")));
}

const FORMATS = read("./formats.yaml", Formats);
const DOUBLES = read("./lookalikes.yaml", Doubles);
const AROUND = read("./surroundings.yaml", Surroundings);

export const FORMAT_IDS: readonly string[] = Object.keys(FORMATS);

export function corpusOf(seed: number): readonly Sample[] {
  const random = mulberry32(seed);
  const samples: Sample[] = [];
  for (const [of, { form, text }] of Object.entries(FORMATS)) {
    const count = Math.max(EACH_MIN, 2 * text.length);
    for (let i = 0; i < count; i++) samples.push(sample(of, form, text, i, random, true));
  }
  for (const [of, { form, text, times }] of Object.entries(DOUBLES)) {
    for (let i = 0; i < times * text.length; i++) samples.push(sample(of, form, text, i, random, false));
  }
  return samples;
}

/** Tokens of the right form with a checksum that does not fit: a character was changed. */
export function altered(seed: number, count: number): readonly Sample[] {
  const random = mulberry32(seed);
  return Array.from({ length: count }, (_, i) =>
    sample("altered", "word", ["ghp_{alnum:36}", "npm_{alnum:36}"], i, random, true),
  );
}

function sample(
  of: string,
  form: z.infer<typeof Form>,
  templates: readonly string[],
  i: number,
  random: Random,
  isSecret: boolean,
): Sample {
  const template = i % templates.length;
  const places = form === "word" ? AROUND.word : AROUND.line;
  const around = Math.floor(random() * places.length);
  const place = places[around]!;
  const at = place.indexOf("{}");
  const make = { template, around };
  const filled = fill(templates[template]!, random);
  const inner = filled.replace("«", "").replace("»", "");
  const text = place.slice(0, at) + inner + place.slice(at + 2);
  if (!isSecret) return { of, text, make };
  const open = filled.indexOf("«");
  const start = at + Math.max(0, open);
  return {
    of,
    text,
    make,
    secret: { start, end: open < 0 ? at + inner.length : at + filled.indexOf("»") - 1 },
  };
}

function fill(template: string, random: Random): string {
  return template.replaceAll(
    /\{(\w+)(?::(\w+))?\}/g,
    (whole, name: string, size = "") => piece(name, size, random) ?? whole,
  );
}

function piece(name: string, size: string, random: Random): string | undefined {
  const set = SETS[name];
  if (set !== undefined) return draw(set, Number(size), random);
  switch (name) {
    case "rule":
      return "-".repeat(5);
    case "uuid":
    case "UUID": {
      const hex = draw(SETS[name === "uuid" ? "hex" : "HEX"]!, 32, random);
      return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, "$1-$2-4$3-a$4-$5");
    }
    case "pem":
      return Array.from({ length: Number(size) }, () => draw(SETS["b64"]!, 64, random)).join("\n");
    case "github": {
      const body = draw(SETS["alnum"]!, Number(size), random);
      return body + base62(crc32(body), 6);
    }
    case "basic": {
      const half = Math.floor(Number(size) / 2);
      const text = `${draw(LOWER, half, random)}:${draw(SETS["pass"]!, half, random)}`;
      return Buffer.from(text).toString("base64");
    }
    case "b64text": {
      const words = Array.from(
        { length: Number(size) / 5 },
        () => WORDS[Math.floor(random() * WORDS.length)],
      );
      return Buffer.from(words.join(" ")).toString("base64");
    }
    case "jwt":
      return jwt(size, random);
    default:
      return undefined;
  }
}

function jwt(alg: string, random: Random): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: draw(DIGITS, 10, random), iat: 1_700_000_000, role: draw(LOWER, 7, random) };
  const units = alg === "RS256" ? 342 : alg === "ES256" ? 86 : 43;
  return `${part({ alg, typ: "JWT" })}.${part(claims)}.${draw(SETS["url"]!, units, random)}`;
}

function draw(set: string, count: number, random: Random): string {
  let text = "";
  for (let i = 0; i < count; i++) text += set[Math.floor(random() * set.length)];
  return text;
}

function base62(value: number, width: number): string {
  let text = "";
  for (let rest = value; text.length < width; rest = Math.floor(rest / 62)) text = BASE62[rest % 62] + text;
  return text;
}

/** A small generator whose numbers follow from its seed. */
function mulberry32(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
