/**
 * Judges every string of a request by packs of rules: known jailbreak and injection wordings, each rule with its
 * proof. What follows from one leaf is said in `onLeaf`, so that the runner answers earlier turns from its cache;
 * what is split over leaves, too long for one go, or asks for the caller's tier is said in `onPrompt`.
 */
import { z } from "zod";
import {
  ALLOW,
  type Await,
  ConfigProblem,
  defineLayer,
  join,
  type Leaf,
  type Prompt,
  type Tier,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { isLong, type Judging, judgeJoined, judgeLeaf, judgeLong, type RuleAct } from "./judge.ts";
import { RestingRules } from "./resting.ts";
import { openRulebook, Rulebook } from "./rulebook.ts";

const PACKS = [
  "rules/injection.yaml",
  "rules/jailbreak.yaml",
  "rules/prompt-leak.yaml",
  "rules/agent.yaml",
  "rules/multilingual.yaml",
  "rules/hazard.yaml",
];

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
  joined: z
    .boolean()
    .default(true)
    .describe("Read what a caller and their tools wrote in several messages and fields as one text too."),
  unseen: z
    .enum(["flag", "block"])
    .default("block")
    .describe(
      "What is done with a text whose rules or encodings asked for more work than their budget: some of it was not read.",
    ),
  restAfter: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(256)
    .describe(
      "A rule that overran its budget in so many texts of late runs no more until the seat changes, and each text that it would have read is flagged. 0: never.",
    ),
  skipMedia: z
    .boolean()
    .default(true)
    .describe("Leave out base64 of images, audio and files: it holds no words that a literal could match."),
});
type PromptRulesConfig = z.infer<typeof Config>;

export const promptRules = defineLayer<PromptRulesConfig>({
  kind: "prompt-rules",
  summary: "Known jailbreak, injection and prompt-leak wordings, by packs of literals and bounded regexes.",
  config: Config,
  phases: ["onLeaf", "onPrompt"],
  needs: (config) => config.packs.map((path) => ({ path })),
  compile(config, ports) {
    const all = openRulebook(config.packs.map((path) => ({ path, text: ports.artifacts.text({ path }) })));
    checkNames(config, all);
    const used = all.rules.filter((rule) => !config.disable.includes(rule.id));
    const judgingOf = (rules: typeof used): Judging => {
      const book = rules.length === all.rules.length ? all : new Rulebook(rules);
      const acts = rules.map((rule): RuleAct => config.rules[rule.id] ?? rule.act ?? config.act);
      return { book, acts, unseen: config.unseen, resting: new RestingRules(config.restAfter) };
    };
    const ofLeaf = judgingOf(used.filter((rule) => rule.when?.isOfCaller !== true));
    const callers = used.filter((rule) => rule.when?.isOfCaller === true);
    const ofCaller = callers.length === 0 ? undefined : judgingOf(callers);
    const whole = openReader({ ofLeaf, ofCaller }, config);
    // By the set itself, which stays the same while the same rules are off.
    const without = new WeakMap<ReadonlySet<string>, Watched>();
    const readerFor = (off: ReadonlySet<string> | undefined): Watched => {
      if (off === undefined || off.size === 0) return whole;
      let reader = without.get(off);
      if (reader === undefined) {
        const lacking = (judging: Judging): Judging => ({ ...judging, off: indexesOf(judging, off) });
        const parts = { ofLeaf: lacking(ofLeaf), ofCaller: ofCaller && lacking(ofCaller) };
        reader = openReader(parts, config);
        without.set(off, reader);
      }
      return reader;
    };

    return {
      rules: new Set(used.map(({ id }) => id)),
      open(request): Watch {
        const { onLeaf, onPrompt } = readerFor(request.rulesOff);
        return { onLeaf, onPrompt: (prompt) => onPrompt(prompt, request.standing.tier) };
      },
    };
  },
});

interface Watched {
  readonly onLeaf: (leaf: Leaf) => Verdict;
  readonly onPrompt: (prompt: Prompt, tier: Tier) => Await<Verdict>;
}

interface Judgings {
  readonly ofLeaf: Judging;
  readonly ofCaller: Judging | undefined;
}

function openReader({ ofLeaf, ofCaller }: Judgings, config: PromptRulesConfig): Watched {
  const skips = (leaf: Leaf) => leaf.kind === "media" && config.skipMedia;

  const onLeaf = (leaf: Leaf) => (skips(leaf) || isLong(leaf) ? ALLOW : judgeLeaf(ofLeaf, leaf));

  const joinedOf = (prompt: Prompt, tier: Tier): Verdict => {
    const verdict = config.joined ? judgeJoined(ofLeaf, prompt) : ALLOW;
    if (ofCaller === undefined) return verdict;
    let all = config.joined ? join(verdict, judgeJoined(ofCaller, prompt, tier)) : verdict;
    for (const leaf of prompt.leaves)
      if (!skips(leaf) && !isLong(leaf)) all = join(all, judgeLeaf(ofCaller, leaf, tier));
    return all;
  };
  const longOf = async (leaves: readonly Leaf[], tier: Tier, before: Verdict): Promise<Verdict> => {
    let verdict = before;
    for (const leaf of leaves) {
      if (verdict.act === "block") break;
      verdict = join(verdict, await judgeLong(ofLeaf, leaf));
      if (ofCaller !== undefined) verdict = join(verdict, await judgeLong(ofCaller, leaf, tier));
    }
    return verdict;
  };

  return {
    onLeaf,
    onPrompt(prompt, tier) {
      const verdict = joinedOf(prompt, tier);
      const long = prompt.leaves.filter((leaf) => isLong(leaf) && !skips(leaf));
      // The newest first: what was asked for now is the likeliest to be hostile.
      return long.length === 0 ? verdict : longOf(long.reverse(), tier, verdict);
    },
  };
}

function indexesOf({ book }: Judging, ids: ReadonlySet<string>): ReadonlySet<number> {
  return new Set(book.rules.flatMap(({ id }, index) => (ids.has(id) ? [index] : [])));
}

function checkNames(config: PromptRulesConfig, rulebook: Rulebook): void {
  const known = new Set(rulebook.rules.map((rule) => rule.id));
  config.disable.forEach((id, i) => {
    if (!known.has(id)) throw new ConfigProblem(`no pack has a rule "${id}"`, ["disable", i]);
  });
  for (const id of Object.keys(config.rules)) {
    if (!known.has(id)) throw new ConfigProblem(`no pack has a rule "${id}"`, ["rules", id]);
  }
}
