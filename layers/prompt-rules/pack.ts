/**
 * Reads rule packs. A pack is data that carries its own proof: each rule lists texts that it must catch and
 * texts that it must spare, and a pack whose proofs fail is a configuration problem like a missing comma.
 * Problems name the file, line and column, because packs are edited by people while the gateway runs.
 */
import { isCollection, isPair, isScalar, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { ConfigProblem } from "../../src/layer/index.ts";
import { DECODINGS } from "../../src/text/canonical.ts";
import { fold } from "../../src/text/fold.ts";
import { compileRuleCondition, type RuleCondition } from "./condition.ts";
import { boundRegex } from "./regex-bound.ts";

const ROLES = ["system", "developer", "user", "assistant", "tool", "none"] as const;
const KINDS = [
  "text",
  "tool-result",
  "tool-arguments",
  "tool-schema",
  "parameter",
  "key",
  "unknown",
  "query",
] as const;

/** Kinds of views that a rule may name. */
const VIEWS = ["plain", "joined", ...DECODINGS] as const;

/** `prompt.rule.<id>` of these says something of the rules themselves. */
const RESERVED: ReadonlySet<string> = new Set(["budget", "rested"]);

const Examples = z.array(z.string().min(1)).min(1).max(50);

const RuleSchema = z.strictObject({
  id: z
    .string()
    .regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/, "must be words of a-z and 0-9 joined by '-'")
    .describe("Stable name; the reason code is prompt.rule.<id>."),
  title: z.string().min(1).describe("What the rule finds, for people."),
  method: z.string().min(1).describe("Method family, such as persona or prompt-leak."),
  hazard: z.string().optional().describe("AILuminate hazard code, where the rule speaks of one."),
  literals: z
    .array(z.string().min(3).max(200))
    .min(1)
    .max(500)
    .describe(
      "Any of them makes a candidate. Case, accents, look-alikes and runs of white space do not matter.",
    ),
  also: z
    .array(z.string().min(2).max(200))
    .min(1)
    .max(500)
    .optional()
    .describe("Any of them must stand somewhere in the leaf too, else the regex does not run. Spares time."),
  regex: z
    .string()
    .optional()
    .describe(
      "Must match around the candidate. White space is one space, \\n the text's edge; every repetition is bounded.",
    ),
  roles: z
    .array(z.enum(ROLES))
    .min(1)
    .optional()
    .describe("Roles of leaves that are read; default: the pack's."),
  kinds: z.array(z.enum(KINDS)).min(1).optional().describe("Kinds of leaves that are read; default: all."),
  views: z
    .array(z.enum(VIEWS))
    .min(1)
    .optional()
    .describe("Views that are read: plain, joined, or decoded ones by their last step; default: all."),
  when: z
    .string()
    .optional()
    .describe("CEL over view, steps, depth, role, kind and tier: a match counts only where it is true."),
  score: z.number().min(0).max(1).describe("How sure a match makes us."),
  act: z.enum(["flag", "block"]).optional().describe("Default: the seat's."),
  catch: Examples.describe("Texts that the rule must match."),
  spare: Examples.describe("Texts that the rule must not match."),
});

const PackSchema = z.strictObject({
  pack: z.string().min(1).describe("Name of the pack."),
  version: z.number().int().min(1).describe("Raised with every change."),
  roles: z
    .array(z.enum(ROLES))
    .min(1)
    .default([...ROLES])
    .describe("Roles that its rules read."),
  rules: z.array(RuleSchema).min(1).max(2000),
});

export interface Rule {
  readonly id: string;
  readonly reason: string;
  readonly method: string;
  readonly hazard: string | undefined;
  readonly score: number;
  readonly act: "flag" | "block" | undefined;
  /** Folded, as views are. */
  readonly literals: readonly string[];
  readonly also: readonly string[];
  readonly regex: RegExp | undefined;
  /** Longest match of `regex`: how far from a candidate it must look. */
  readonly reach: number;
  readonly roles: ReadonlySet<string>;
  /** Undefined: every kind. */
  readonly kinds: ReadonlySet<string> | undefined;
  /** Undefined: every view. */
  readonly views: ReadonlySet<string> | undefined;
  readonly when: RuleCondition | undefined;
  readonly catches: readonly string[];
  readonly spares: readonly string[];
}

export interface Pack {
  readonly rules: readonly Rule[];
  /** A problem at a rule's field, with the place in the file. */
  problem(rule: number, field: readonly (string | number)[], message: string): ConfigProblem;
}

/** `index` is the pack's place in the seat's `packs`; `path` names the file in problems. */
export function readPack(text: string, index: number, path: string): Pack {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const problemAt = (offset: number, message: string) => {
    const { line, col } = lines.linePos(offset);
    return new ConfigProblem(`${path}:${line}:${col}: ${message}`, ["packs", index], path);
  };
  const problem = (at: readonly PropertyKey[], message: string) =>
    problemAt(offsetOf(document.contents, at), `${dotted(at)}: ${message}`);

  const broken = document.errors[0];
  if (broken !== undefined) throw problemAt(broken.pos[0], broken.message.split("\n")[0] ?? "is not YAML");
  const parsed = PackSchema.safeParse(document.toJS({ maxAliasCount: 0 }));
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw problem(issue.path, issue.message);
  }
  const pack = parsed.data;
  const seen = new Set<string>();
  const rules = pack.rules.map((rule, i): Rule => {
    if (seen.has(rule.id)) throw problem(["rules", i, "id"], `"${rule.id}" is used twice; ids are unique`);
    if (RESERVED.has(rule.id))
      throw problem(["rules", i, "id"], `"${rule.id}" is kept for the rules' own findings`);
    seen.add(rule.id);
    let regex: RegExp | undefined;
    let reach = 0;
    if (rule.regex !== undefined) {
      try {
        reach = boundRegex(rule.regex).length;
        regex = new RegExp(foldRegex(rule.regex), "gi");
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        throw problem(["rules", i, "regex"], `rule "${rule.id}", pattern /${rule.regex}/: ${why}`);
      }
    }
    for (const [at, literal] of rule.literals.entries()) {
      if (foldLiteral(literal).length < 3)
        throw problem(["rules", i, "literals", at], "needs 3 units beside white space");
    }
    let when: RuleCondition | undefined;
    if (rule.when !== undefined) {
      const compiled = compileRuleCondition(rule.when);
      if (!compiled.ok) throw problem(["rules", i, "when"], `rule "${rule.id}", ${compiled.message}`);
      when = compiled.condition;
    }
    return {
      id: rule.id,
      reason: `prompt.rule.${rule.id}`,
      method: rule.method,
      hazard: rule.hazard,
      score: rule.score,
      act: rule.act,
      literals: rule.literals.map(foldLiteral),
      also: rule.also?.map(foldLiteral) ?? [],
      regex,
      reach,
      roles: new Set(rule.roles ?? pack.roles),
      kinds: rule.kinds && new Set<string>(rule.kinds),
      views: rule.views && new Set<string>(rule.views),
      when,
      catches: rule.catch,
      spares: rule.spare,
    };
  });
  return { rules, problem: (rule, field, message) => problem(["rules", rule, ...field], message) };
}

/** A literal as views show it. */
function foldLiteral(literal: string): string {
  return fold(literal).text.toLowerCase().replace(/\s+/g, " ").trim();
}

const SYNTAX = /[\\^$.*+?()[\]{}|/-]/;

/** The pattern for folded text: each letter as views show it ("é" as "e"), the rest to the letter. */
function foldRegex(source: string): string {
  return source.replace(/[^\x00-\x7f]/gu, (letter) => {
    const { text } = fold(letter);
    if ([...text].length !== 1) return letter;
    return SYNTAX.test(text) ? `\\${text}` : text;
  });
}

function dotted(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : `${text}${text === "" ? "" : "."}${String(part)}`,
    "",
  );
}

/** Where the node at `path` begins, or the nearest one above it that exists. */
function offsetOf(root: unknown, path: readonly PropertyKey[]): number {
  let node = root;
  let offset = 0;
  for (const part of path) {
    if (!isCollection(node)) break;
    const items: readonly unknown[] = node.items;
    const found =
      typeof part === "number"
        ? items[part]
        : items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === part);
    if (found === undefined) break;
    const begins = isPair(found) ? found.key : found;
    offset = startOf(begins) ?? offset;
    node = isPair(found) ? found.value : found;
  }
  return offset;
}

function startOf(node: unknown): number | undefined {
  return isScalar(node) || isCollection(node) ? node.range?.[0] : undefined;
}
