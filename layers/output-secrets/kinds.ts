/**
 * The kinds of secrets, read once from kinds.yaml and compiled into one automaton over all their literals.
 * The list is data that ships with the layer; what an operator chooses is what each kind leads to.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { compileLiterals, isWordUnit, type Literals } from "../../src/text/literals.ts";
import { CHECKS } from "./checks.ts";
import { readShape, type Shape } from "./shape.ts";

/** Automata kept, one for each set of kinds in use. */
const AUTOMATA_CACHED_MAX = 8;

export interface Kind {
  readonly id: string;
  readonly reason: string;
  readonly starts: readonly string[];
  /** Literals that lead to no secret, though a start of this kind ends them. */
  readonly except: readonly string[];
  readonly shape: Shape;
  /** Whether the secret's text is one of this kind. */
  accepts(secret: string): boolean;
  /** It leaves alone what a longer literal at the same place leads to. */
  readonly yields: boolean;
  readonly joiner: number;
  readonly until: Literals | undefined;
  /** The most units that wait for a verdict on this kind. */
  readonly holdMax: number;
}

const Rows = z
  .array(
    z.strictObject({
      id: z.string().regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/),
      starts: z.array(z.string().min(2)).min(1),
      names: z.array(z.string().regex(/^[a-z]+(?: [a-z]+)*$/)).default([]),
      except: z.array(z.string()).default([]),
      body: z.string(),
      match: z.string().optional(),
      spare: z.string().optional(),
      check: z.enum(["jwt", "basic", "random"]).optional(),
      yields: z.boolean().default(false),
      joiner: z.string().length(1).optional(),
      until: z.array(z.string()).optional(),
    }),
  )
  .min(1);

type Row = z.infer<typeof Rows>[number];

/** What documentation writes in a token's place: rows of one unit, the digits and letters in order, orders to the reader. */
const PLACEHOLDER =
  /x{5}|X{5}|\*{5}|#{5}|0{12}|123456789|(?:^|[^a-z])abcdefgh|[Yy]our[-_]|YOUR[-_]|[-_](?:here|HERE)(?![A-Za-z0-9])|PLACEHOLDER|REPLACE/;

function readKinds(): readonly Kind[] {
  const rows = Rows.parse(parse(readFileSync(new URL("./kinds.yaml", import.meta.url), "utf8")));
  const marked: Marked[] = [];
  const kinds = rows.map((row): Kind => {
    const shape = readShape(row.body);
    const literalMax = shape.hideFrom < 0 ? Math.max(...row.starts.map((start) => start.length)) : 0;
    const accepts = acceptorOf(row, marked);
    // Kinds that yield come last in the list, so that they know every mark.
    if (!row.yields && shape.hideFrom < 0) marked.push({ form: formOf(row), accepts });
    return {
      id: row.id,
      reason: `output.secret.${row.id}`,
      starts: [...row.starts, ...row.names.flatMap(spellingsOf)],
      except: row.except.flatMap((text) => (/^[a-z ]+$/.test(text) ? spellingsOf(text) : [text])),
      shape,
      accepts,
      yields: row.yields,
      joiner: row.joiner?.charCodeAt(0) ?? -1,
      until: row.until && compileLiterals(row.until),
      holdMax: literalMax + ESCAPE_CHARS + shape.decidedWithin,
    };
  });
  return kinds;
}

/** A kind whose secrets begin with a mark of their own, for texts that are all there. */
interface Marked {
  readonly form: RegExp;
  accepts(secret: string): boolean;
}

/** Bodies are regexes too; the last set of a closed one must not go on. */
function formOf({ starts, body }: Row): RegExp {
  const last = /(\[[^\]]+\]|\\.|[^{}()])\{\d+(?:,\d+)?\}$/.exec(body)?.[1];
  const marks = starts.map((start) => RegExp.escape(start)).join("|");
  return new RegExp(`^(?:${marks})${body}${last === undefined ? "" : `(?!${last})`}`);
}

function acceptorOf(row: Row, marked: readonly Marked[]): (secret: string) => boolean {
  const match = row.match === undefined ? undefined : new RegExp(row.match);
  const spare = row.spare === undefined ? undefined : new RegExp(row.spare);
  const check = row.check === undefined ? undefined : CHECKS[row.check];
  // Encoded JSON and the body of a PEM block have long rows of one letter.
  const isPlain = row.until === undefined && (row.check === undefined || row.check === "random");
  return (secret) =>
    (match?.test(secret) ?? true) &&
    !spare?.test(secret) &&
    (check?.(secret) ?? true) &&
    !(isPlain && PLACEHOLDER.test(secret)) &&
    !(row.yields && isMarked(secret, marked));
}

function isMarked(value: string, marked: readonly Marked[]): boolean {
  return marked.some(({ form, accepts }) => {
    const match = form.exec(value);
    return match !== null && accepts(match[0]);
  });
}

/** "api key" as code, configuration, headers and people write it. */
export function spellingsOf(name: string): readonly string[] {
  const words = name.split(" ");
  const capital = (word: string) => word[0]!.toUpperCase() + word.slice(1);
  const capitals = words.map(capital);
  const spellings = [" ", "_", "-", ""].flatMap((between) => [
    words.join(between),
    words.join(between).toUpperCase(),
    capitals.join(between),
  ]);
  return [...new Set([...spellings, [words[0], ...capitals.slice(1)].join(""), capital(name)])];
}

/** "\n" and its like, as two units: in JSON text a key may follow one, and its letter is no part of a word. */
const ESCAPES = ["\\n", "\\r", "\\t"];
const ESCAPE_CHARS = 2;

export const KINDS: readonly Kind[] = readKinds();

export interface Automaton {
  readonly literals: Literals;
  readonly kinds: readonly Kind[];
  /** By literal id: index in `kinds` (-1: leads to nothing), and the literal's length without an escape. */
  readonly kindOf: readonly number[];
  readonly lengthOf: readonly number[];
}

const automata = new Map<string, Automaton>();

export function automatonFor(kinds: readonly Kind[]): Automaton {
  const key = kinds.map((kind) => kind.id).join();
  const known = automata.get(key);
  if (known !== undefined) return known;
  const entries = kinds.flatMap((kind, index) => [
    ...kind.starts.flatMap((start) => entriesOf(start, index)),
    ...kind.except.flatMap((start) => entriesOf(start, -1)),
  ]);
  const automaton: Automaton = {
    literals: compileLiterals(
      entries.map((entry) => entry.text),
      { wordStart: true, held: (id) => isHeld(kinds[entries[id]!.index]) },
    ),
    kinds,
    kindOf: entries.map((entry) => entry.index),
    lengthOf: entries.map((entry) => entry.length),
  };
  if (automata.size >= AUTOMATA_CACHED_MAX) automata.delete(automata.keys().next().value ?? "");
  automata.set(key, automaton);
  return automaton;
}

function entriesOf(start: string, index: number) {
  const escaped = isWordUnit(start.charCodeAt(0)) ? ESCAPES.map((before) => before + start) : [];
  return [start, ...escaped].map((text) => ({ text, index, length: start.length }));
}

function isHeld(kind: Kind | undefined): boolean {
  return kind !== undefined && kind.shape.hideFrom < 0;
}
