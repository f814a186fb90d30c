/**
 * Draws labelled training texts from grammars: YAML files of templates and slots. They stand in for the families
 * and languages that free data lacks. Drawing is deterministic from a seed, and a set gives each text once.
 *
 * `{slot}` is replaced by one of the slot's values (which may hold slots), `[[a|b|c]]` picks one; `{goal}`,
 * `{document}` and `{noise}` are filled by the caller's material.
 */
import { parse } from "yaml";
import { z } from "zod";
import type { Random } from "./random.ts";

const Values = z.array(z.coerce.string()).min(1);

const SetSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]+$/),
  label: z.enum(["benign", "harmful", "jailbreak", "injection"]),
  hazard: z.string().optional(),
  method: z.string().optional(),
  lang: z.string().default("en"),
  hard: z.boolean().default(false),
  count: z.number().int().positive(),
  goal: z.enum(["harmful", "benign"]).optional(),
  slots: z.record(z.string(), Values).default({}),
  templates: z.array(z.coerce.string().min(1)).min(1),
});

const GrammarSchema = z.strictObject({
  slots: z.record(z.string(), Values).default({}),
  sets: z.array(SetSchema).min(1),
});

export type GrammarSet = z.infer<typeof SetSchema>;

/** What templates with open places are filled from. */
export interface Material {
  readonly harmful: readonly string[];
  readonly benign: readonly string[];
  readonly documents: readonly string[];
}

export interface Drawn {
  readonly text: string;
  readonly set: GrammarSet;
  /** The template's place in its set: texts of one template are near duplicates and stay on one side of a split. */
  readonly template: number;
}

/** Slots inside slots inside slots. */
const DEPTH_MAX = 8;
/** Draws for each text that is wanted, before a set counts as used up. */
const DRAWS_PER_TEXT = 4;

/** Throws an Error that names file, set and fault. */
export function readGrammar(text: string, file: string): readonly GrammarSet[] {
  const parsed = GrammarSchema.safeParse(parse(text));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new Error(`${file}: ${issue.path.join(".")}: ${issue.message}`);
  }
  const sets = parsed.data.sets.map((set) => ({ ...set, slots: { ...parsed.data.slots, ...set.slots } }));
  for (const set of sets) {
    const known = new Set([...Object.keys(set.slots), ...OPEN]);
    for (const source of [...set.templates, ...Object.values(set.slots).flat()]) {
      for (const [, name] of source.matchAll(SLOT)) {
        if (!known.has(name!)) throw new Error(`${file}: set "${set.name}": {${name}} is no slot`);
      }
    }
    if (set.goal === undefined && set.templates.some((template) => template.includes("{goal}"))) {
      throw new Error(`${file}: set "${set.name}": {goal} needs the field goal: harmful or benign`);
    }
  }
  return sets;
}

const OPEN = ["goal", "harmful", "benign", "document", "noise"];
const SLOT = /\{([a-z][a-z0-9_]*)\}/gi;
const CHOICE = /\[\[((?:(?!\[\[|\]\]).)*)\]\]/s;

/** At most `count` distinct texts, templates in turn, so that a short template is drawn as often as a long one. */
export function drawSet(set: GrammarSet, material: Material, random: Random, count = set.count): Drawn[] {
  const drawn = new Map<string, Drawn>();
  for (let draws = 0; drawn.size < count && draws < count * DRAWS_PER_TEXT; draws++) {
    const template = draws % set.templates.length;
    const text = fill(set.templates[template]!, set, material, random, 0);
    if (!drawn.has(text)) drawn.set(text, { text, set, template });
  }
  return [...drawn.values()];
}

function fill(source: string, set: GrammarSet, material: Material, random: Random, depth: number): string {
  let text = source;
  for (let found = CHOICE.exec(text); found !== null; found = CHOICE.exec(text)) {
    const choice = random.pick(found[1]!.split("|"));
    text = text.slice(0, found.index) + choice + text.slice(found.index + found[0].length);
  }
  return text.replace(SLOT, (whole, name: string) => {
    const open = material[materialOf(name, set)];
    if (open !== undefined) return random.pick(open);
    if (name === "noise") return noise(random);
    const values = set.slots[name];
    return values === undefined || depth >= DEPTH_MAX
      ? whole
      : fill(random.pick(values), set, material, random, depth + 1);
  });
}

function materialOf(name: string, set: GrammarSet): keyof Material {
  if (name === "goal") return set.goal ?? "benign";
  return (name === "document" ? "documents" : name) as keyof Material;
}

const NOISE_PARTS =
  '! ! ! ( ) { } [ ] < > :: -- == ;) }; \\ / * & % $ # @ ~ | describing similarlyNow oppositeley Me giving \
one please revert with sure plot tutorial interface Manuel WITH steps instead sentences title seq \
namespace %% == {" ]( ** !-- Two ### \\n write formatting repeat ^^ => """ cast urch ILogger xspace ance \
iferay ombie Sure here table list mathrm begin rightarrow ASAP polynomial QUESTION Yahoo zhou NSString'.split(
    /\s+/,
  );

/** A run of tokens without sense, as an optimised adversarial suffix has. */
function noise(random: Random): string {
  const parts: string[] = [];
  for (let left = 8 + random.below(22); left > 0; left--) {
    parts.push(
      random.next() < 0.7
        ? random.pick(NOISE_PARTS)
        : Array.from({ length: 2 + random.below(7) }, () => String.fromCharCode(97 + random.below(26))).join(
            "",
          ),
    );
  }
  return parts.join(random.next() < 0.8 ? " " : "");
}
