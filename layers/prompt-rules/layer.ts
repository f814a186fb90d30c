/**
 * Judges every string of a request by packs of rules: known jailbreak and injection wordings, each rule with
 * its proof. The verdict follows from one leaf alone, so the runner answers earlier turns from its cache.
 */
import { z } from "zod";
import {
  ALLOW,
  ConfigProblem,
  defineLayer,
  type Finding,
  type Leaf,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { openRulebook, type Rulebook } from "./rulebook.ts";

const PACKS = ["rules/injection.yaml", "rules/jailbreak.yaml", "rules/prompt-leak.yaml"];

const Config = z.strictObject({
  packs: z
    .array(z.string().min(1))
    .min(1)
    .max(64)
    .default(PACKS)
    .describe("Rule packs, relative to the policy's folder."),
  act: z
    .enum(["flag", "block"])
    .default("block")
    .describe("What a match does where neither `rules` nor the rule says."),
  disable: z.array(z.string()).default([]).describe("Ids of rules that are not used."),
  rules: z
    .record(z.string(), z.enum(["flag", "block"]))
    .default({})
    .describe("What a match of one rule does, by rule id; before the rule's own `act`."),
  skipMedia: z
    .boolean()
    .default(true)
    .describe("Leave out base64 of images, audio and files: it holds no words that a literal could match."),
});
type PromptRulesConfig = z.infer<typeof Config>;

type RuleAct = "flag" | "block" | "off";

export const promptRules = defineLayer<PromptRulesConfig>({
  kind: "prompt-rules",
  summary: "Known jailbreak, injection and prompt-leak wordings, by packs of literals and bounded regexes.",
  config: Config,
  phases: ["onLeaf"],
  needs: (config) => config.packs.map((path) => ({ path })),
  compile(config, ports) {
    const rulebook = openRulebook(
      config.packs.map((path) => ({ path, text: ports.artifacts.text({ path }) })),
    );
    const acts = actsOf(config, rulebook);
    const watch: Watch = {
      onLeaf: (leaf) => (leaf.kind === "media" && config.skipMedia ? ALLOW : judge(rulebook, acts, leaf)),
    };
    return { open: () => watch };
  },
});

function actsOf(config: PromptRulesConfig, rulebook: Rulebook): readonly RuleAct[] {
  const known = new Set(rulebook.rules.map((rule) => rule.id));
  const disabled = new Set(config.disable);
  config.disable.forEach((id, i) => {
    if (!known.has(id)) throw new ConfigProblem(`no pack has a rule "${id}"`, ["disable", i]);
  });
  for (const id of Object.keys(config.rules)) {
    if (!known.has(id)) throw new ConfigProblem(`no pack has a rule "${id}"`, ["rules", id]);
  }
  return rulebook.rules.map((rule) =>
    disabled.has(rule.id) ? "off" : (config.rules[rule.id] ?? rule.act ?? config.act),
  );
}

/** One finding a rule: the first place where it matches. */
function judge(rulebook: Rulebook, acts: readonly RuleAct[], leaf: Leaf): Verdict {
  const matches = rulebook.match(leaf);
  if (matches === undefined) return ALLOW;
  const findings: Finding[] = [];
  let act: "flag" | "block" = "flag";
  for (const match of matches) {
    if (acts[match.rule] === "off") continue;
    if (acts[match.rule] === "block") act = "block";
    const { reason, score } = rulebook.rules[match.rule]!;
    findings.push({ reason, score, where: { channel: leaf.channel, start: match.start, end: match.end } });
  }
  return findings.length === 0 ? ALLOW : { act, findings };
}
