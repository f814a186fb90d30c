/**
 * Judges prompts with a trained model, cheaply where it is sure and dearly where it is not. Stage one reads every
 * string of a request, decoded views too; what it is sure of follows from the string alone and is `onLeaf`'s. What it
 * is in doubt about waits for `onPrompt`, which knows which turn is new, who asks, what was refused before, and may
 * ask the sentence encoder and the exemplar bank.
 *
 *   leaf -> canonical views -> stage one -> sure: verdict (cached by the runner for earlier turns)
 *                                        -> doubtful -> newest turn: encoder -> exemplars, stage two -> verdict
 *                                                    -> earlier turn, or no answer: stage one's verdict (+ unsure)
 */
import { SignedModels } from "../../src/guard/signed-model.ts";
import {
  ALLOW,
  type Await,
  defineLayer,
  type Encoder,
  type ExemplarMatch,
  type Exemplars,
  type Finding,
  findingsOf,
  join,
  type Leaf,
  type Prompt,
  type RecentTexts,
  type RequestContext,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { canonicalOf } from "../../src/text/canonical.ts";
import { PromptModel } from "../../src/text/model/prompt-model.ts";
import type { TextReading } from "../../src/text/model/reading.ts";
import { encoderParts } from "../../src/text/model/scoring.ts";
import { simHash } from "../../src/text/simhash.ts";
import {
  type PromptClassifierConfig,
  promptClassifierConfig,
  type SetClassifier,
  withThresholds,
} from "./config.ts";
import { TURNS_MAX, trendOf } from "./conversation.ts";
import { isRead, judge, placeOf } from "./judgement.ts";
import { ReadingMemory } from "./reading-memory.ts";

/** Strings of one request whose wording is compared with the bank and with what was refused; the newest. */
const COMPARED_MAX = 32;
/** Likelihood of the newest turn, as a share of what is flagged, below which no trend is spoken of. */
const ESCALATED_SHARE_MIN = 0.6;

interface Seat {
  readonly config: SetClassifier;
  readonly model: PromptModel;
  readonly memory: ReadingMemory;
  readonly encoder: Encoder;
  readonly exemplars: Exemplars;
  readonly recent: RecentTexts;
  /** The most lenient of the tiers: what `onLeaf`, which must not know who asks, may say for all of them. */
  readonly lenient: number;
}

const models = new SignedModels({
  name: "a prompt model",
  trainedBy: "npm run train",
  parse: (bytes) => new PromptModel(bytes),
});

export const promptClassifier = defineLayer<PromptClassifierConfig>({
  kind: "prompt-classifier",
  summary: "Jailbreaks, injections and requests for harm, by a trained classifier in two stages.",
  config: promptClassifierConfig,
  phases: ["onLeaf", "onPrompt"],
  needs: models.refs,
  compile(config, { artifacts, encoder, exemplars, recent }) {
    const model = models.open(config, artifacts);
    const seat: Seat = {
      config: withThresholds(config, model),
      model,
      memory: new ReadingMemory(model, config.windowsMax),
      encoder,
      exemplars,
      recent,
      lenient: Math.max(1, ...Object.values(config.byTier)),
    };
    return {
      open: (request) => new ClassifierWatch(seat, request),
      onRefused(request, prompt, verdict) {
        if (config.conversation.retry === "off") return;
        for (const leaf of refusedLeaves(prompt, verdict)) {
          const print = simHash(plainOf(leaf));
          if (print !== undefined) recent.note(whoOf(request), print);
        }
      },
    };
  },
});

class ClassifierWatch implements Watch {
  readonly #seat: Seat;
  readonly #request: RequestContext;
  /** What was read in this request; leaves that the runner answered from its cache are not there. */
  readonly #readings = new Map<Leaf, TextReading | undefined>();

  constructor(seat: Seat, request: RequestContext) {
    this.#seat = seat;
    this.#request = request;
  }

  onLeaf(leaf: Leaf): Verdict {
    const reading = this.#read(leaf);
    if (reading === undefined || this.#isDoubtful(reading)) return ALLOW;
    const { config, lenient } = this.#seat;
    return judge(leaf, reading, config, lenient);
  }

  onPrompt(prompt: Prompt): Await<Verdict> {
    const scale = this.#scale();
    const since = lastAssistantTurn(prompt);
    let verdict: Verdict = ALLOW;
    let doubtful: Doubt[] | undefined;
    for (const leaf of prompt.leaves) {
      const reading = this.#read(leaf);
      if (reading === undefined) continue;
      const isInDoubt = this.#isDoubtful(reading);
      if (isInDoubt && leaf.turn > since) {
        doubtful ??= [];
        doubtful.push({ leaf, reading });
      } else if (isInDoubt || scale !== this.#seat.lenient) {
        verdict = join(verdict, judge(leaf, reading, this.#seat.config, scale));
      }
    }
    const compared = this.#compare(prompt);
    verdict = join(join(verdict, compared.verdict), this.#escalation(prompt, scale));
    const open = doubtful?.filter(({ leaf }) => !compared.cleared.has(leaf)) ?? [];
    return open.length === 0 ? verdict : this.#second(open, verdict, scale);
  }

  #read(leaf: Leaf): TextReading | undefined {
    if (this.#readings.has(leaf)) return this.#readings.get(leaf);
    const reading = isRead(leaf) ? this.#seat.memory.read(leaf) : undefined;
    this.#readings.set(leaf, reading);
    return reading;
  }

  #isDoubtful({ scores }: TextReading): boolean {
    const { config, model } = this.#seat;
    return config.stageTwo.enabled && model.isDoubtful(scores);
  }

  #scale(): number {
    const { byTier } = this.#seat.config;
    const { tier, stepUp } = this.#request.standing;
    return Math.min(byTier[tier] ?? 1, stepUp ? (byTier.risky ?? 1) : Number.POSITIVE_INFINITY);
  }

  /** By wording: copies of exemplars in any turn, and in the newest one what was refused before. */
  #compare(prompt: Prompt): { readonly verdict: Verdict; readonly cleared: ReadonlySet<Leaf> } {
    const { config, exemplars, recent } = this.#seat;
    const { act } = config.exemplars;
    const { retry, retryMinutes } = config.conversation;
    const who = whoOf(this.#request);
    const looksForCopies = act !== "off" && exemplars.size > 0;
    const looksForRetries = retry !== "off" && recent.knows(who);
    if (!looksForCopies && !looksForRetries) return NOTHING_COMPARED;
    const newest = new Set(newestUserLeaves(prompt));
    const cleared = new Set<Leaf>();
    let verdict: Verdict = ALLOW;
    const leaves = prompt.leaves
      .filter((leaf) => leaf.role !== "assistant" && isRead(leaf))
      .slice(-COMPARED_MAX);
    for (const leaf of leaves) {
      if (!looksForCopies && !newest.has(leaf)) continue;
      const print = simHash(plainOf(leaf));
      if (print === undefined) continue;
      const copy = looksForCopies ? exemplars.copyOf(print) : undefined;
      if (copy?.label === "good" && copy.mode === "enforce") cleared.add(leaf);
      if (copy?.label === "bad") {
        const isNear = copy.similarity >= config.any.blockAt;
        const done = act === "block" && isNear && copy.mode === "enforce" ? "block" : "flag";
        verdict = join(verdict, found(done, "prompt.exemplar.bad", copy.similarity, leaf));
      }
      if (!looksForRetries || !newest.has(leaf)) continue;
      const nearness = recent.nearest(who, print, retryMinutes * 60_000);
      if (nearness > 0) verdict = join(verdict, found(retry, "prompt.conversation.retry", nearness, leaf));
    }
    return { verdict, cleared };
  }

  #escalation(prompt: Prompt, scale: number): Verdict {
    const { config } = this.#seat;
    const { escalation, riseMin } = config.conversation;
    if (escalation === "off" || prompt.newestTurn < 2) return ALLOW;
    const likelihoods: number[] = [];
    let turn = -1;
    let boldest: Leaf | undefined;
    for (let i = prompt.leaves.length - 1; i >= 0; i--) {
      const leaf = prompt.leaves[i]!;
      if (leaf.role !== "user" || leaf.turn < 0) continue;
      const any = this.#read(leaf)?.scores.any;
      if (any === undefined) continue;
      if (leaf.turn === turn) {
        likelihoods[0] = Math.max(likelihoods[0]!, any);
        continue;
      }
      if (likelihoods.length === TURNS_MAX) break;
      turn = leaf.turn;
      boldest ??= leaf;
      likelihoods.unshift(any);
    }
    const trend = trendOf(likelihoods);
    if (trend === undefined || boldest === undefined || trend.rise < riseMin) return ALLOW;
    if (likelihoods.at(-1)! < config.any.flagAt * scale * ESCALATED_SHARE_MIN) return ALLOW;
    return found(escalation, "prompt.conversation.escalation", trend.together, boldest);
  }

  /** What only the encoder can tell; the likeliest first, and what is beyond the bound counts as not asked. */
  async #second(doubtful: Doubt[], before: Verdict, scale: number): Promise<Verdict> {
    const { config, encoder } = this.#seat;
    const { leavesMax } = config.stageTwo;
    const { signal } = this.#request;
    doubtful.sort((one, other) => other.reading.scores.any - one.reading.scores.any);
    const verdicts = doubtful.map(async (doubt, i) => {
      if (i >= leavesMax) return this.#unsure(doubt, scale);
      const parts = encoderParts(this.#partOf(doubt));
      const encoded = await Promise.all(parts.map((part) => encoder.encode(part, signal)));
      const embeddings = encoded.flatMap((one) => (one.kind === "embedding" ? [one.embedding] : []));
      // Half of an answer is none: what was left out may be what matters.
      return embeddings.length < parts.length
        ? this.#unsure(doubt, scale)
        : this.#judgeSecond(doubt, embeddings, scale);
    });
    return (await Promise.all(verdicts)).reduce(join, before);
  }

  #partOf({ leaf, reading }: Doubt): string {
    return reading.strongest.part || this.#seat.memory.readAnew(leaf)?.strongest.part || leaf.text;
  }

  #judgeSecond({ leaf, reading }: Doubt, embeddings: readonly Float32Array[], scale: number): Verdict {
    const { config, model, exemplars } = this.#seat;
    const { act, similarMin } = config.exemplars;
    const { logits, facts } = reading.strongest;
    const judged = embeddings.map((embedding) => model.judgeSecond(logits, embedding, facts));
    const scores = judged.reduce((most, next) => (next.any > most.any ? next : most));
    const verdict = judge(leaf, { scores, spans: reading.spans }, config, scale);
    if (act === "off" || exemplars.size === 0) return verdict;
    const near = embeddings.map((embedding) => exemplars.nearest(embedding));
    const bad = near.reduce<ExemplarMatch | undefined>(
      (best, { bad: next }) => nearer(best, next),
      undefined,
    );
    const badness = bad?.similarity ?? 0;
    // One bad part speaks against the whole; every part must be good to free it.
    const goodness = Math.min(...near.map(({ good }) => (good?.mode === "enforce" ? good.similarity : 0)));
    // People have judged its like: that is worth more than a network that was in doubt as well.
    if (goodness >= similarMin && goodness >= badness) return ALLOW;
    if (bad === undefined || badness < similarMin) return verdict;
    const done = act === "block" && bad.mode === "enforce" ? "block" : "flag";
    const where = placeOf(leaf, reading.spans, "any");
    return join(verdict, { act: done, findings: [{ reason: "prompt.exemplar.bad", score: badness, where }] });
  }

  /** Stage one's word holds, and the record says that nobody was sure. */
  #unsure({ leaf, reading }: Doubt, scale: number): Verdict {
    const { config } = this.#seat;
    const where = placeOf(leaf, reading.spans, "any");
    const findings: readonly Finding[] = [
      { reason: "prompt.classifier.unsure", score: reading.scores.any, where },
    ];
    return join(judge(leaf, reading, config, scale), { act: config.stageTwo.whenUnsure, findings });
  }
}

interface Doubt {
  readonly leaf: Leaf;
  readonly reading: TextReading;
}

function nearer(one: ExemplarMatch | undefined, other: ExemplarMatch | undefined): ExemplarMatch | undefined {
  return (other?.similarity ?? 0) > (one?.similarity ?? 0) ? other : one;
}

const NOTHING_COMPARED: { readonly verdict: Verdict; readonly cleared: ReadonlySet<Leaf> } = {
  verdict: ALLOW,
  cleared: new Set(),
};

function found(act: "flag" | "block", reason: string, score: number, leaf: Leaf): Verdict {
  const where = { channel: leaf.channel, start: 0, end: leaf.text.length };
  return { act, findings: [{ reason, score, where }] };
}

/** Index of the last turn that the model spoke in; below every turn where it has not. */
function lastAssistantTurn({ leaves }: Prompt): number {
  let last = Number.NEGATIVE_INFINITY;
  for (const { role, turn } of leaves) if (role === "assistant" && turn > last) last = turn;
  return last;
}

/** The user's words since the model last spoke, and input without turns. */
function newestUserLeaves(prompt: Prompt): readonly Leaf[] {
  const since = lastAssistantTurn(prompt);
  return prompt.leaves
    .filter((leaf) => leaf.role === "user" && leaf.kind === "text" && (leaf.turn > since || leaf.turn < 0))
    .slice(-COMPARED_MAX);
}

/** What the findings name of the user's words; where they name nothing, the newest. */
function refusedLeaves(prompt: Prompt, verdict: Verdict): readonly Leaf[] {
  const channels = new Set(
    findingsOf(verdict).flatMap(({ where }) => (where === undefined ? [] : [where.channel])),
  );
  if (channels.size === 0) return newestUserLeaves(prompt);
  return prompt.leaves.filter(({ channel, role }) => role === "user" && channels.has(channel));
}

function plainOf(leaf: Leaf): string {
  return canonicalOf(leaf).views[0]?.text ?? "";
}

/** The end user where one is known, else the key, else the address. */
function whoOf({ identity, address }: RequestContext): string {
  if (identity === undefined) return address;
  const { org, keyId, endUser } = identity;
  return endUser === undefined ? `${org}/key/${keyId}` : `${org}/user/${endUser}`;
}
