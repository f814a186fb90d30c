/**
 * A seat's remote guard, ready to be asked: questions side by side within a budget, and the verdicts that come of the
 * answers. A question that got no verdict is recorded as that, under the seat's own posture: it is never "safe".
 */
import {
  ALLOW,
  type Claim,
  type Counters,
  type Finding,
  type JudgeAnswer,
  type Judges,
  join,
  type Span,
  type Verdict,
} from "../layer/index.ts";
import type { Judgement } from "./answers.ts";
import { type Question, questionsOf, type Subject } from "./questions.ts";
import { endpointOf, type GuardConfig } from "./settings.ts";

/** What an image counts against the budget, whatever its size: judges count them by the tile. */
const IMAGE_UNITS = 4_000;

/** Why there is no verdict: the last part of a reason. */
type Absence = "malformed" | "unavailable" | "budget" | "partial";

interface Placed extends Question {
  /** Where the text is, for what is found in it. */
  readonly where?: Span;
}

export interface Guard {
  readonly imagesMax: number;
  /** The strictest verdict on all of them; never rejects. */
  ask(questions: readonly Placed[], signal?: AbortSignal): Promise<Verdict>;
  /** No verdict came: the seat's own posture, under a reason that says so. */
  absent(why: Absence, where?: Span): Verdict;
  close(): Promise<void>;
}

interface GuardOptions {
  readonly config: GuardConfig;
  readonly subject: Subject;
  /** The written policy; "" for formats that have their own. */
  readonly policy: string;
  readonly judges: Judges;
  readonly counters: Counters;
}

/** @throws {RangeError} for an endpoint that can never be asked. */
export function openGuard({ config, subject, policy, judges, counters }: GuardOptions): Guard {
  const prefix = subject === "prompt" ? "prompt.judge" : "output.judge";
  const { act, blockAt, ignore, whenUnavailable, budget } = config;
  const judge = judges.open(endpointOf(config.endpoint));
  const format = questionsOf(config, subject, policy);
  const ignored = new Set(ignore);

  return {
    imagesMax: format.imagesMax,
    absent,
    close: () => judge.close(),
    async ask(questions, signal) {
      const bodies = questions.map((question) => format.body(question));
      if (!(await mayAsk(questions, bodies))) return absent("budget", questions[0]?.where);
      const answers = await Promise.all(
        bodies.map((body) => judge.ask({ body, read: format.read, ...(signal !== undefined && { signal }) })),
      );
      return answers.map((answer, i) => verdictOn(answer, questions[i]?.where)).reduce(join, ALLOW);
    },
  };

  /** Counted under the seat's id, for all gateways together where Redis is shared; used up whatever comes of it. */
  async function mayAsk(questions: readonly Question[], bodies: readonly string[]): Promise<boolean> {
    const units = questions.reduce((sum, { images = [] }, i) => {
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

  function verdictOn(answer: JudgeAnswer<Judgement>, where: Span | undefined): Verdict {
    if (answer.kind === "failed")
      return absent(answer.cause === "malformed" ? "malformed" : "unavailable", where);
    const { isViolation, score, categories } = answer.value;
    const counted = categories.filter((category) => !ignored.has(category));
    if (!isViolation || counted.length === 0) return ALLOW;
    const findings = counted.map(
      (category): Finding => ({ reason: `${prefix}.${category}`, score, ...(where && { where }) }),
    );
    return act === "block" && score >= blockAt ? { act: "block", findings } : { act: "flag", findings };
  }

  function absent(why: Absence, where?: Span): Verdict {
    const findings: readonly Finding[] = [{ reason: `${prefix}.${why}`, score: 1, ...(where && { where }) }];
    return whenUnavailable === "block" ? { act: "block", findings } : { act: "flag", findings };
  }
}

/** Exact reasons, and families written with ".*". */
export function reasonMatcher(patterns: readonly string[]): (reason: string) => boolean {
  const exact = new Set(patterns);
  const families = patterns.filter((one) => one.endsWith(".*")).map((one) => one.slice(0, -1));
  return (reason) => exact.has(reason) || families.some((family) => reason.startsWith(family));
}

/** After the fact nothing can be held back any more. */
export function flagged(verdict: Verdict): Verdict {
  return verdict.act === "allow" ? ALLOW : { act: "flag", findings: verdict.findings };
}
