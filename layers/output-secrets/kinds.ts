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
  readonly shape: Shape;
  /** Whether the secret's text is one of this kind. */
  accepts(secret: string): boolean;
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
      body: z.string(),
      match: z.string().optional(),
      spare: z.string().optional(),
      check: z.enum(["jwt", "basic"]).optional(),
      joiner: z.string().length(1).optional(),
      until: z.array(z.string()).optional(),
    }),
  )
  .min(1);

function readKinds(): readonly Kind[] {
  const rows = Rows.parse(parse(readFileSync(new URL("./kinds.yaml", import.meta.url), "utf8")));
  return rows.map((row): Kind => {
    const shape = readShape(row.body);
    const match = row.match === undefined ? undefined : new RegExp(row.match);
    const spare = row.spare === undefined ? undefined : new RegExp(row.spare);
    const check = row.check === undefined ? undefined : CHECKS[row.check];
    const literalMax = shape.hideFrom < 0 ? Math.max(...row.starts.map((start) => start.length)) : 0;
    return {
      id: row.id,
      reason: `output.secret.${row.id}`,
      starts: row.starts,
      shape,
      accepts: (secret) => (match?.test(secret) ?? true) && !spare?.test(secret) && (check?.(secret) ?? true),
      joiner: row.joiner?.charCodeAt(0) ?? -1,
      until: row.until && compileLiterals(row.until),
      holdMax: literalMax + ESCAPE_CHARS + shape.decidedWithin,
    };
  });
}

/** "\n" and its like, as two units: in JSON text a key may follow one, and its letter is no part of a word. */
const ESCAPES = ["\\n", "\\r", "\\t"];
const ESCAPE_CHARS = 2;

export const KINDS: readonly Kind[] = readKinds();

export interface Automaton {
  readonly literals: Literals;
  readonly kinds: readonly Kind[];
  /** By literal id: index in `kinds`, and the literal's length without an escape. */
  readonly kindOf: readonly number[];
  readonly lengthOf: readonly number[];
}

const automata = new Map<string, Automaton>();

export function automatonFor(kinds: readonly Kind[]): Automaton {
  const key = kinds.map((kind) => kind.id).join();
  const known = automata.get(key);
  if (known !== undefined) return known;
  const entries = kinds.flatMap((kind, index) =>
    kind.starts.flatMap((start) => {
      const escaped = isWordUnit(start.charCodeAt(0)) ? ESCAPES.map((before) => before + start) : [];
      return [start, ...escaped].map((text) => ({ text, index, length: start.length }));
    }),
  );
  const automaton: Automaton = {
    literals: compileLiterals(
      entries.map((entry) => entry.text),
      { wordStart: true, held: (id) => kinds[entries[id]!.index]!.shape.hideFrom < 0 },
    ),
    kinds,
    kindOf: entries.map((entry) => entry.index),
    lengthOf: entries.map((entry) => entry.length),
  };
  if (automata.size >= AUTOMATA_CACHED_MAX) automata.delete(automata.keys().next().value ?? "");
  automata.set(key, automaton);
  return automaton;
}
