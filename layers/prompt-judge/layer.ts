/**
 * Asks a remote guard for what the seats before could not decide. The judge is dear and slow and can fail in many
 * ways, so it is asked for the doubtful alone, within a budget, and a question that got no verdict is recorded as
 * that: it is never "safe".
 *
 *   onPrompt: soFar --doubtful?--> windows --budget?--> questions side by side --> the strictest verdict
 *             after: true: not waited for here, but in onEnd, while the model has been working
 */
import { flagged, type Guard, openGuard, reasonMatcher } from "../../src/guard/guard.ts";
import { windowsOf } from "../../src/guard/windows.ts";
import {
  ALLOW,
  defineLayer,
  join,
  type Leaf,
  type Prompt,
  type RequestContext,
  type Role,
  type SoFar,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { config, type JudgeConfig } from "./config.ts";
import { picturesOf } from "./pictures.ts";

/** The finding by which a `media` seat asks for its media to be judged. */
const MEDIA_REASON = "media.judge";
/** Places of unjudged media that are named. */
const UNJUDGED_MAX = 8;

/** A seat's settings, ready to judge by; shared by its watches. */
interface Bench {
  readonly config: JudgeConfig;
  readonly guard: Guard;
  readonly roles: ReadonlySet<Role>;
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
    const guard = openGuard({ config: given, subject: "prompt", policy, judges, counters });
    const bench: Bench = {
      config: given,
      guard,
      roles: new Set(given.roles),
      isDoubtful: reasonMatcher(given.doubtful),
    };
    return {
      open: (request) => (given.after ? new AfterWatch(bench, request) : new InlineWatch(bench, request)),
      dispose: () => guard.close(),
    };
  },
});

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
    ? picturesOf(prompt, bench.guard.imagesMax)
    : { urls: [], unjudged: [] };
  const { texts, leftOut } = windowsOf(prompt, roles, given.window);
  const known = join(leftOutVerdict(leftOut), unjudgedVerdict(bench, pictures.unjudged));
  if (texts.length === 0 && pictures.urls.length === 0) return known;
  const first = texts[0] ?? "";
  const questions = [first, ...texts.slice(1)].map((text, i) => ({
    text,
    images: i === 0 ? pictures.urls : [],
  }));
  return bench.guard.ask(questions, signal).then((verdict) => join(known, verdict));
}

function unjudgedVerdict(bench: Bench, leaves: readonly Leaf[]): Verdict {
  const named = leaves.slice(0, UNJUDGED_MAX);
  return named
    .map(({ channel, text }) => bench.guard.absent("unavailable", { channel, start: 0, end: text.length }))
    .reduce(join, ALLOW);
}

function leftOutVerdict(leftOut: number): Verdict {
  if (leftOut <= 0) return ALLOW;
  return { act: "flag", findings: [{ reason: "prompt.judge.partial", score: Math.min(1, leftOut) }] };
}
