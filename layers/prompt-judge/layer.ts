/**
 * Asks a remote guard for what the seats before could not decide. The judge is dear and slow and can fail in many
 * ways, so it is asked for the doubtful alone, within a budget, and a question that got no verdict is recorded as
 * that: it is never "safe".
 *
 *   onPrompt: soFar --doubtful?--> windows --budget?--> questions side by side --> the strictest verdict
 *             after: true: not waited for here, but in onEnd, while the model has been working
 */
import {
  ALLOW,
  type Claim,
  type Counters,
  defineLayer,
  type Finding,
  type Judge,
  type JudgeAnswer,
  join,
  type Leaf,
  type Prompt,
  type RequestContext,
  type Role,
  type SoFar,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import type { Judgement } from "./answers.ts";
import { config, endpointOf, type JudgeConfig } from "./config.ts";
import { picturesOf } from "./pictures.ts";
import { type Questions, questionsOf } from "./questions.ts";
import { windowsOf } from "./windows.ts";

/** The finding by which a `media` seat asks for its media to be judged. */
const MEDIA_REASON = "media.judge";
/** What an image counts against the budget, whatever its size: judges count them by the tile. */
const IMAGE_UNITS = 4_000;
/** Places of unjudged media that are named. */
const UNJUDGED_MAX = 8;

/** A seat's settings, ready to judge by; shared by its watches. */
interface Bench {
  readonly config: JudgeConfig;
  readonly questions: Questions;
  readonly judge: Judge;
  readonly counters: Counters;
  readonly roles: ReadonlySet<Role>;
  readonly ignored: ReadonlySet<string>;
  isDoubtful(reason: string): boolean;
}

export const promptJudge = defineLayer<JudgeConfig>({
  kind: "prompt-judge",
  summary: "Asks a remote guard (a chat model with a policy, Llama Guard, Qwen3Guard, any HTTP classifier).",
  config,
  phases: ["onPrompt", "onEnd"],
  phasesOf: ({ after }) => (after ? ["onPrompt", "onEnd"] : ["onPrompt"]),
  needs: ({ format, policy }) => (format === "openai-policy" ? [{ path: policy }] : []),
  compile(given, { judges, counters, artifacts }) {
    const policy = given.format === "openai-policy" ? artifacts.text({ path: given.policy }) : "";
    const judge = judges.open(endpointOf(given.endpoint));
    const bench: Bench = {
      config: given,
      questions: questionsOf(given, policy),
      judge,
      counters,
      roles: new Set(given.roles),
      ignored: new Set(given.ignore),
      isDoubtful: reasonMatcher(given.doubtful),
    };
    return {
      open: (request) => (given.after ? new AfterWatch(bench, request) : new InlineWatch(bench, request)),
      dispose: () => judge.close(),
    };
  },
});

/** Exact reasons, and families written with ".*". */
export function reasonMatcher(patterns: readonly string[]): (reason: string) => boolean {
  const exact = new Set(patterns);
  const families = patterns.filter((one) => one.endsWith(".*")).map((one) => one.slice(0, -1));
  return (reason) => exact.has(reason) || families.some((family) => reason.startsWith(family));
}

class InlineWatch implements Watch {
  readonly #bench: Bench;
  readonly #request: RequestContext;

  constructor(bench: Bench, request: RequestContext) {
    this.#bench = bench;
    this.#request = request;
  }

  onPrompt(prompt: Prompt): Verdict | Promise<Verdict> {
    const soFar = this.#request.soFar();
    const { signal } = this.#request;
    if (soFar instanceof Promise) return soFar.then((late) => judged(this.#bench, prompt, late, signal));
    return judged(this.#bench, prompt, soFar, signal);
  }
}

class AfterWatch implements Watch {
  readonly #inline: InlineWatch;
  #running: Promise<Verdict> | undefined;

  constructor(bench: Bench, request: RequestContext) {
    this.#inline = new InlineWatch(bench, request);
  }

  onPrompt(prompt: Prompt): Verdict {
    const outcome = this.#inline.onPrompt(prompt);
    if (!(outcome instanceof Promise)) return flagged(outcome);
    this.#running = outcome.then(flagged);
    // Until `onEnd` asks for it nobody listens; a failure waits there too.
    this.#running.catch(() => {});
    return ALLOW;
  }

  onEnd(): Verdict | Promise<Verdict> {
    return this.#running ?? ALLOW;
  }
}

/** After the fact nothing can be held back any more. */
function flagged(verdict: Verdict): Verdict {
  return verdict.act === "allow" ? ALLOW : { act: "flag", findings: verdict.findings };
}

function judged(
  bench: Bench,
  prompt: Prompt,
  { act, findings }: SoFar,
  signal: AbortSignal,
): Verdict | Promise<Verdict> {
  // Who is refused already costs no question.
  if (act === "block" || act === "throttle") return ALLOW;
  const { config: given, roles, isDoubtful } = bench;
  if (given.askWhen === "doubtful" && !findings.some(({ reason }) => isDoubtful(reason))) return ALLOW;
  const pictures = findings.some(({ reason }) => reason === MEDIA_REASON)
    ? picturesOf(prompt, bench.questions.imagesMax)
    : { urls: [], unjudged: [] };
  const { texts, leftOut } = windowsOf(prompt, roles, given.window);
  const known = join(leftOutVerdict(leftOut), unjudgedVerdict(bench, pictures.unjudged));
  if (texts.length === 0 && pictures.urls.length === 0) return known;
  const first = texts[0] ?? "";
  const questions = [first, ...texts.slice(1)].map((text, i) => ({
    text,
    images: i === 0 ? pictures.urls : [],
  }));
  return ask(bench, questions, signal).then((verdict) => join(known, verdict));
}

interface Question {
  readonly text: string;
  readonly images: readonly string[];
}

async function ask(bench: Bench, questions: readonly Question[], signal: AbortSignal): Promise<Verdict> {
  const { judge, questions: format } = bench;
  const bodies = questions.map(({ text, images }) => format.body(text, images));
  if (!(await mayAsk(bench, questions, bodies))) return unavailable(bench, "prompt.judge.budget");
  const answers = await Promise.all(bodies.map((body) => judge.ask({ body, read: format.read, signal })));
  return answers.map((answer) => verdictOn(bench, answer)).reduce(join, ALLOW);
}

/** Counted under the seat's id, for all gateways together where Redis is shared; used up whatever comes of it. */
async function mayAsk(
  { counters, config: { budget } }: Bench,
  questions: readonly Question[],
  bodies: readonly string[],
): Promise<boolean> {
  const units = questions.reduce((sum, { images }, i) => {
    const ofImages = images.reduce((all, url) => all + url.length, 0);
    return sum + Math.max(0, bodies[i]!.length - ofImages) + images.length * IMAGE_UNITS;
  }, 0);
  const claim = { group: "", windowSec: 60, reserve: 0 };
  const claims: readonly Claim[] = [
    { ...claim, key: "questions", limit: budget.questionsPerMinute, cost: questions.length },
    { ...claim, key: "units", limit: budget.unitsPerMinute, cost: units },
  ];
  const taken = await counters.take(claims, "share");
  taken.lease?.settle(claims.map(({ cost }) => cost));
  return taken.admitted;
}

function verdictOn(bench: Bench, answer: JudgeAnswer<Judgement>): Verdict {
  if (answer.kind === "failed") {
    return unavailable(
      bench,
      answer.cause === "malformed" ? "prompt.judge.malformed" : "prompt.judge.unavailable",
    );
  }
  const { isViolation, score, categories } = answer.value;
  const { ignored, config: given } = bench;
  const counted = categories.filter((category) => !ignored.has(category));
  if (!isViolation || counted.length === 0) return ALLOW;
  const findings = counted.map((category): Finding => ({ reason: `prompt.judge.${category}`, score }));
  return given.act === "block" && score >= given.blockAt
    ? { act: "block", findings }
    : { act: "flag", findings };
}

/** No verdict came: the seat's own posture, under a reason that says so. */
function unavailable({ config: { whenUnavailable } }: Bench, reason: string, leaf?: Leaf): Verdict {
  const where = leaf && { channel: leaf.channel, start: 0, end: leaf.text.length };
  const findings: readonly Finding[] = [{ reason, score: 1, ...(where && { where }) }];
  return whenUnavailable === "block" ? { act: "block", findings } : { act: "flag", findings };
}

function unjudgedVerdict(bench: Bench, leaves: readonly Leaf[]): Verdict {
  const named = leaves.slice(0, UNJUDGED_MAX);
  return named.map((leaf) => unavailable(bench, "prompt.judge.unavailable", leaf)).reduce(join, ALLOW);
}

function leftOutVerdict(leftOut: number): Verdict {
  if (leftOut <= 0) return ALLOW;
  return { act: "flag", findings: [{ reason: "prompt.judge.partial", score: Math.min(1, leftOut) }] };
}
