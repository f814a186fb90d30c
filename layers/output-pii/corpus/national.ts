/**
 * Documents with national numbers, made from a seed: numbers that their issuer could have given out, the same with a
 * check digit that does not fit, and numbers that are something else. The check digits are computed here anew, by the
 * issuers' descriptions and not by the layer's code, so that one error is not in both.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";

export interface Document {
  /** An id of numbers.yaml, or "other". */
  readonly of: string;
  readonly text: string;
  /** Absent: there is no national number in it. */
  readonly number?: { readonly start: number; readonly end: number };
}

const Sentences = z.strictObject({
  contexts: z.record(z.string(), z.array(z.string()).min(1)),
  others: z.array(z.string()),
});
const { contexts, others } = Sentences.parse(
  parse(readFileSync(new URL("./national.yaml", import.meta.url), "utf8")),
);

export const NUMBERS: readonly string[] = Object.keys(contexts);

type Random = (below: number) => number;
interface Made {
  /** As it is usually written. */
  readonly forms: readonly string[];
}

/** `each` numbers of every kind, half as many with a wrong check digit, and as many others as there are numbers. */
export function nationalDocuments(seed: number, each: number): readonly Document[] {
  const random = randomOf(seed);
  const documents: Document[] = [];
  for (const of of NUMBERS) {
    for (let i = 0; i < each; i++) documents.push(documentOf(of, i, random, true));
    for (let i = 0; i < each / 2 && of in WRONG; i++) documents.push(documentOf(of, i, random, false));
  }
  for (let i = 0; i < NUMBERS.length * each; i++) {
    const text = others[i % others.length]!.replaceAll(
      /\{([dUh]):(\d+)\}/g,
      (_, set: string, count: string) => draw(SETS[set]!, Number(count), random),
    );
    documents.push({ of: "other", text });
  }
  return documents;
}

function documentOf(of: string, i: number, random: Random, isValid: boolean): Document {
  const sentences = contexts[of]!;
  const sentence = sentences[i % sentences.length]!;
  const make = MAKERS[of]!;
  const { forms } = isValid ? make(random) : WRONG[of]!(make(random), random);
  const number = forms[random(forms.length)]!;
  const start = sentence.indexOf("{}");
  const text = sentence.slice(0, start) + number + sentence.slice(start + 2);
  return isValid ? { of, text, number: { start, end: start + number.length } } : { of, text };
}

const SETS: Readonly<Record<string, string>> = {
  d: "0123456789",
  U: "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
  h: "0123456789abcdef",
};
const LETTERS = SETS["U"]!;

function draw(set: string, count: number, random: Random): string {
  return Array.from({ length: count }, () => set[random(set.length)]).join("");
}
const digits = (count: number, random: Random) => draw("0123456789", count, random);
const pad = (value: number, width = 2) => String(value).padStart(width, "0");
const sumBy = (text: string, weights: readonly number[]) =>
  weights.reduce((sum, weight, i) => sum + weight * Number(text[i]), 0);

/** A day of birth: 1940 to 2009. */
function birth(random: Random) {
  const year = 1940 + random(70);
  return { year, yy: pad(year % 100), mm: pad(1 + random(12)), dd: pad(1 + random(28)) };
}

function luhnDigit(body: string): string {
  let sum = 0;
  [...body].reverse().forEach((digit, i) => {
    const doubled = Number(digit) * (i % 2 === 0 ? 2 : 1);
    sum += doubled > 9 ? doubled - 9 : doubled;
  });
  return String((10 - (sum % 10)) % 10);
}

/** Verhoeff 1969: the dihedral group of order ten by its rule, not by a table. */
function verhoeffDigit(body: string): string {
  const product = (a: number, b: number) =>
    a < 5 ? (b < 5 ? (a + b) % 5 : 5 + ((a + b) % 5)) : b < 5 ? 5 + ((a - b + 5) % 5) : (a - b + 5) % 5;
  const move = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
  const moved = (digit: number, times: number) => {
    let at = digit;
    for (let i = 0; i < times % 8; i++) at = move[at]!;
    return at;
  };
  const check = (text: string) =>
    [...text].reverse().reduce((sum, digit, i) => product(sum, moved(Number(digit), i)), 0);
  return [..."0123456789"].find((digit) => check(body + digit) === 0)!;
}

const MAKERS: Readonly<Record<string, (random: Random) => Made>> = {
  "es-dni"(random) {
    const letters = "TRWAGMYFPDXBNJZSQVHLCKE";
    if (random(4) === 0) {
      const [first, rest] = [random(3), digits(7, random)];
      const letter = letters[Number(`${first}${rest}`) % 23];
      return { forms: [`${"XYZ"[first]}${rest}${letter}`, `${"XYZ"[first]}-${rest}-${letter}`] };
    }
    const body = pad(10_000_000 + random(89_999_999), 8);
    return { forms: [body + letters[Number(body) % 23], `${body}-${letters[Number(body) % 23]}`] };
  },
  "it-codice-fiscale"(random) {
    const { yy, dd } = birth(random);
    const day = pad(Number(dd) + (random(2) === 0 ? 40 : 0));
    const consonants = "BCDFGLMNPRSTVZ";
    const body = `${draw(consonants, 6, random)}${yy}${"ABCDEHLMPRST"[random(12)]}${day}${"ABCDEFGHILMZ"[random(12)]}${digits(3, random)}`;
    const odd = [
      1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
    ];
    const sum = [...body].reduce((total, unit, i) => {
      const value = unit < "A" ? Number(unit) : unit.charCodeAt(0) - 65;
      return total + (i % 2 === 0 ? odd[value]! : value);
    }, 0);
    return { forms: [body + LETTERS[sum % 26]] };
  },
  "fr-nir"(random) {
    const { yy, mm } = birth(random);
    const place = pad(1 + random(19));
    const body = `${1 + random(2)}${yy}${mm}${place}${pad(1 + random(900), 3)}${pad(1 + random(900), 3)}`;
    const key = pad(97 - Number(BigInt(body) % 97n));
    const spaced = body.replace(/^(.)(..)(..)(..)(...)(...)$/, "$1 $2 $3 $4 $5 $6");
    return { forms: [body + key, `${spaced} ${key}`] };
  },
  "be-rijksregister"(random) {
    const { year, yy, mm, dd } = birth(random);
    const serial = pad(1 + random(997), 3);
    const key = pad(97 - (Number(`${year >= 2000 ? "2" : ""}${yy}${mm}${dd}${serial}`) % 97));
    return { forms: [`${yy}.${mm}.${dd}-${serial}.${key}`, `${yy}${mm}${dd}${serial}${key}`] };
  },
  "no-fodselsnummer"(random) {
    for (;;) {
      const { yy, mm, dd } = birth(random);
      const body = dd + mm + yy + digits(3, random);
      const first = (11 - (sumBy(body, [3, 7, 6, 1, 8, 9, 4, 5, 2]) % 11)) % 11;
      const second = (11 - (sumBy(body + first, [5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11)) % 11;
      if (first === 10 || second === 10) continue;
      return { forms: [`${body}${first}${second}`, `${body.slice(0, 6)} ${body.slice(6)}${first}${second}`] };
    }
  },
  "br-cpf"(random) {
    const digit = (text: string) => {
      const sum = [...text].reduce((total, one, i) => total + Number(one) * (text.length + 1 - i), 0);
      return sum % 11 < 2 ? 0 : 11 - (sum % 11);
    };
    let cpf = digits(9, random);
    cpf += digit(cpf);
    cpf += digit(cpf);
    return { forms: [cpf.replace(/^(...)(...)(...)(..)$/, "$1.$2.$3-$4"), cpf] };
  },
  "tr-kimlik"(random) {
    const body = `${1 + random(9)}${digits(8, random)}`;
    const [odd, even] = [sumBy(body, [1, 0, 1, 0, 1, 0, 1, 0, 1]), sumBy(body, [0, 1, 0, 1, 0, 1, 0, 1])];
    const tenth = (((odd * 7 - even) % 10) + 10) % 10;
    return { forms: [`${body}${tenth}${(odd + even + tenth) % 10}`] };
  },
  "pl-pesel"(random) {
    const { year, yy, mm, dd } = birth(random);
    const body = `${yy}${pad(Number(mm) + (year >= 2000 ? 20 : 0))}${dd}${digits(4, random)}`;
    return { forms: [`${body}${(10 - (sumBy(body, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3]) % 10)) % 10}`] };
  },
  "de-steuer-id"(random) {
    for (;;) {
      const order = [..."0123456789"]
        .map((digit) => [random(1_000_000), digit] as const)
        .sort(([a], [b]) => a - b);
      const nine = order.slice(0, 9).map(([, digit]) => digit);
      nine.splice(1 + random(9), 0, nine[random(9)]!);
      const body = nine.join("");
      if (body[0] === "0") continue;
      let product = 10;
      for (const digit of body) {
        const sum = (Number(digit) + product) % 10;
        product = ((sum === 0 ? 10 : sum) * 2) % 11;
      }
      const id = `${body}${product === 1 ? 0 : 11 - product}`;
      return { forms: [id, id.replace(/^(..)(...)(...)(...)$/, "$1 $2 $3 $4")] };
    }
  },
  "nl-bsn"(random) {
    for (;;) {
      const body = `${1 + random(8)}${digits(7, random)}`;
      const check = sumBy(body, [9, 8, 7, 6, 5, 4, 3, 2]) % 11;
      if (check === 10) continue;
      const bsn = `${body}${check}`;
      return { forms: [bsn, bsn.replace(/^(....)(..)(...)$/, "$1.$2.$3")] };
    }
  },
  "se-personnummer"(random) {
    const { year, yy, mm, dd } = birth(random);
    const body = yy + mm + dd + digits(3, random);
    const tail = body.slice(6) + luhnDigit(body);
    return { forms: [`${yy}${mm}${dd}-${tail}`, `${year}${mm}${dd}-${tail}`, `${year}${mm}${dd}${tail}`] };
  },
  "fi-hetu"(random) {
    const { year, yy, mm, dd } = birth(random);
    const serial = pad(2 + random(897), 3);
    const check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[Number(dd + mm + yy + serial) % 31];
    return { forms: [`${dd}${mm}${yy}${year >= 2000 ? "A" : "-"}${serial}${check}`] };
  },
  "kr-rrn"(random) {
    const { year, yy, mm, dd } = birth(random);
    const body = `${yy}${mm}${dd}${(year >= 2000 ? 3 : 1) + random(2)}${digits(5, random)}`;
    const check = (11 - (sumBy(body, [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11)) % 10;
    return { forms: [`${body.slice(0, 6)}-${body.slice(6)}${check}`] };
  },
  "cl-rut"(random) {
    const body = String(5_000_000 + random(20_000_000));
    const sum = [...body].reverse().reduce((total, digit, i) => total + Number(digit) * (2 + (i % 6)), 0);
    const rest = 11 - (sum % 11);
    const check = rest === 11 ? "0" : rest === 10 ? "K" : String(rest);
    return {
      forms: [`${body}-${check}`, `${body.replace(/(?=(?:...)+$)/g, ".").replace(/^\./, "")}-${check}`],
    };
  },
  "cn-resident-id"(random) {
    const { year, mm, dd } = birth(random);
    const region = ["110101", "310104", "440305", "510107", "330106"][random(5)];
    const body = `${region}${year}${mm}${dd}${pad(1 + random(998), 3)}`;
    const weights = Array.from({ length: 17 }, (_, i) => 2 ** (17 - i) % 11);
    const check = (12 - (sumBy(body, weights) % 11)) % 11;
    return { forms: [`${body}${check === 10 ? "X" : check}`] };
  },
  "in-aadhaar"(random) {
    const body = `${2 + random(8)}${digits(10, random)}`;
    const all = body + verhoeffDigit(body);
    return {
      forms: [
        all.replace(/^(....)(....)(....)$/, "$1 $2 $3"),
        all,
        all.replace(/^(....)(....)(....)$/, "$1-$2-$3"),
      ],
    };
  },
  "za-id"(random) {
    const { yy, mm, dd } = birth(random);
    const body = `${yy}${mm}${dd}${digits(4, random)}08`;
    const id = body + luhnDigit(body);
    return { forms: [id, id.replace(/^(.{6})(.{4})(.{3})$/, "$1 $2 $3")] };
  },
  "ca-sin"(random) {
    const body = `${1 + random(7)}${digits(7, random)}`;
    const sin = body + luhnDigit(body);
    return {
      forms: [
        sin,
        sin.replace(/^(...)(...)(...)$/, "$1 $2 $3"),
        sin.replace(/^(...)(...)(...)$/, "$1-$2-$3"),
      ],
    };
  },
  "gb-nhs"(random) {
    for (;;) {
      const body = `${4 + random(4)}${digits(8, random)}`;
      const check = (11 - (sumBy(body, [10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11)) % 11;
      if (check === 10) continue;
      const nhs = `${body}${check}`;
      return { forms: [nhs.replace(/^(...)(...)(....)$/, "$1 $2 $3"), nhs] };
    }
  },
  "gb-nino"(random) {
    const prefix = ["AB", "CE", "JK", "LA", "PY", "SR", "WM", "YZ"][random(8)];
    const [body, suffix] = [digits(6, random), "ABCD"[random(4)]];
    return {
      forms: [`${prefix}${body}${suffix}`, `${prefix} ${body.replace(/(..)(?=.)/g, "$1 ")} ${suffix}`],
    };
  },
  "us-ssn"(random) {
    const [area, group, serial] = [pad(100 + random(560), 3), pad(1 + random(99)), pad(1 + random(9_998), 4)];
    return {
      forms: [`${area}-${group}-${serial}`, `${area}${group}${serial}`, `${area} ${group} ${serial}`],
    };
  },
};

/** The same with its last character one further; kinds without a check digit are not here. */
function lastMoved({ forms }: Made): Made {
  return {
    forms: forms.map((form) => {
      const last = form.at(-1)!;
      const set = /\d/.test(last) ? "0123456789" : LETTERS;
      return form.slice(0, -1) + set[(set.indexOf(last) + 1) % set.length];
    }),
  };
}

const WRONG: Readonly<Record<string, (made: Made, random: Random) => Made>> = {
  ...Object.fromEntries(
    Object.keys(MAKERS)
      .filter((id) => id !== "gb-nino" && id !== "us-ssn")
      .map((id) => [id, lastMoved]),
  ),
  // No check digit: areas, groups and prefixes that are never handed out.
  "us-ssn": (_, random) => ({
    forms: [
      `9${digits(2, random)}-${pad(1 + random(49))}-${digits(4, random)}`,
      `666-12-${digits(4, random)}`,
    ],
  }),
  "gb-nino": (_, random) => ({
    forms: [`${["QQ", "DA", "AO", "VX"][random(4)]}${digits(6, random)}A`, `AB${digits(6, random)}Z`],
  }),
};

/** Mulberry32: numbers that follow from the seed. */
function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}
