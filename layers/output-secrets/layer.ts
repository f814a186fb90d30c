/**
 * Keeps credentials out of answers, also while they stream: text that may become a secret waits until it is
 * one or is not, and nothing else does. Redacts, blocks or flags, by kind.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import {
  ALLOW,
  ConfigProblem,
  compareActs,
  defineLayer,
  type Finding,
  type Held,
  type Span,
} from "../../src/layer/index.ts";
import { automatonFor, KINDS, type Kind } from "./kinds.ts";
import { type Hit, Scanner } from "./scanner.ts";

/** Examples that vendors print in their documentation, as they may stand in a policy; the rest is in examples.yaml. */
const DOCUMENTED = [
  "AKIAIOSFODNN7EXAMPLE",
  "AKIAI44QH8DHBEXAMPLE",
  "ASIAIOSFODNN7EXAMPLE",
  "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
];

const EXAMPLES: readonly string[] = z
  .array(z.array(z.string()))
  .parse(parse(readFileSync(new URL("./examples.yaml", import.meta.url), "utf8")))
  .map((parts) => parts.join(""));

const ALLOW_CHARS_MAX = 512;
const SCORE = 0.95;

const Act = z.enum(["flag", "redact", "block"]);
const Config = z.strictObject({
  act: Act.default("redact").describe("What a secret leads to."),
  kinds: z
    .record(z.string(), z.enum(["off", "flag", "redact", "block"]))
    .default({})
    .describe("By id of a kind (kinds.yaml): what it leads to instead; off: it is not looked for."),
  allow: z
    .array(z.string().min(8).max(ALLOW_CHARS_MAX))
    .max(200)
    .default(DOCUMENTED)
    .describe("Secrets that may pass: examples from documentation. Compared whole."),
  examples: z
    .boolean()
    .default(true)
    .describe("More examples that vendors print may pass, such as jwt.io's (examples.yaml of the layer)."),
});
type OutputSecretsConfig = z.infer<typeof Config>;
type SecretAct = z.infer<typeof Act>;

function kindsOf(config: OutputSecretsConfig): readonly Kind[] {
  return KINDS.filter((kind) => config.kinds[kind.id] !== "off");
}

function allowedBy({ allow, examples }: OutputSecretsConfig): readonly string[] {
  return examples ? [...allow, ...EXAMPLES] : allow;
}

export const outputSecrets = defineLayer<OutputSecretsConfig>({
  kind: "output-secrets",
  summary:
    "Credentials in answers: provider keys, private keys, JWTs, connection strings; also while they stream.",
  config: Config,
  phases: ["onChunk"],
  holdMax: (config) =>
    Math.max(
      0,
      ...kindsOf(config).map((kind) => kind.holdMax),
      ...allowedBy(config).map((example) => example.length + 3),
    ),
  compile(config) {
    for (const id of Object.keys(config.kinds)) {
      if (!KINDS.some((kind) => kind.id === id)) {
        throw new ConfigProblem(`there is no kind "${id}"; kinds.yaml of output-secrets lists them`, [
          "kinds",
          id,
        ]);
      }
    }
    const kinds = kindsOf(config);
    if (kinds.length === 0)
      throw new ConfigProblem("every kind is off; turn the seat off instead", ["kinds"]);
    const automaton = automatonFor(kinds);
    const allowed = allowedBy(config);
    const acts = new Map<Kind, SecretAct>();
    for (const kind of kinds) {
      const own = config.kinds[kind.id];
      acts.set(kind, own === undefined || own === "off" ? config.act : own);
    }
    return {
      open() {
        const scanner = new Scanner(automaton, allowed);
        return {
          onChunk(delta): Held {
            const hits = scanner.read(delta);
            if (hits.length > 0) return verdict(hits, acts, scanner.holdFrom);
            return scanner.holdFrom < 0 ? ALLOW : { act: "allow", holdFrom: scanner.holdFrom };
          },
        };
      },
    };
  },
});

function verdict(hits: readonly Hit[], acts: ReadonlyMap<Kind, SecretAct>, holdFrom: number): Held {
  let act: SecretAct = "flag";
  const findings: Finding[] = [];
  const spans: Span[] = [];
  for (const { kind, where } of hits) {
    const own = acts.get(kind) ?? "flag";
    if (compareActs(own, act) > 0) act = own;
    findings.push({ reason: kind.reason, score: SCORE, where });
    if (own !== "flag") spans.push(where);
  }
  const held = holdFrom < 0 ? {} : { holdFrom };
  return act === "redact" ? { act, findings, spans, ...held } : { act, findings, ...held };
}
