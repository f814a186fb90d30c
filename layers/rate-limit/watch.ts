/**
 * One request under the limits of one seat: takes before the model is asked, follows the answer, settles at the
 * end. Whatever happens in between, a lease that was given is settled once.
 */
import {
  ALLOW,
  type Await,
  type AwayPosture,
  type Claim,
  type Counters,
  type Delta,
  type Ending,
  type Finding,
  type Held,
  type Operation,
  type Prompt,
  type Quota,
  type RequestContext,
  type Taken,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { weighTokens } from "../../src/text/tokens.ts";
import {
  type Asker,
  type CallerNames,
  claimOf,
  concerns,
  leastClaimOf,
  outputThatFits,
  perOutput,
  type Size,
  usedOf,
  writes,
} from "./claims.ts";
import { countsTokens, type Limit } from "./config.ts";
import type { Prices, Rate } from "./prices.ts";
import { firstReserve, inputTokens, isWritten, type Reserves, type SizedPrompt } from "./prompt-size.ts";
import { RunningAnswer } from "./running-answer.ts";

/** What a seat's policy came to; shared by its watches. */
export interface Plan extends Reserves {
  readonly counters: Counters;
  readonly away: AwayPosture;
  readonly cutAtLimit: boolean;
  readonly tokenizerUnitsMax: number;
  /** Undefined without a limit of spend. */
  readonly prices: Prices | undefined;
  /** Some limit cannot be taken from before the body is read: then all wait for it. */
  readonly needsBody: boolean;
  /** Limits by what is asked for; made once, as most requests meet the same. */
  readonly concerning: Readonly<Record<Operation, Concerning>>;
  readonly names: CallerNames;
}

/** Limits that have anything to count of an operation. */
export interface Concerning {
  readonly all: readonly Limit[];
  /** Those whose claim can be named before the body is read. */
  readonly early: readonly Limit[];
  /** Some of `all` are for some models alone. */
  readonly byModel: boolean;
  readonly countsTokens: boolean;
}

export function concerning(limits: readonly Limit[]): Readonly<Record<Operation, Concerning>> {
  const table = {} as Record<Operation, Concerning>;
  for (const operation of OPERATIONS) {
    const all = limits.filter(({ unit }) => concerns(unit, operation));
    table[operation] = {
      all,
      early: all.filter(({ per, models }) => !per.model && !per.end_user && models === undefined),
      byModel: all.some(({ models }) => models !== undefined),
      countsTokens: all.some(({ unit }) => countsTokens(unit)),
    };
  }
  return table;
}

/** Causes by which the upstream did no work: what was reserved for input was not used. */
const UNSERVED: ReadonlySet<string> = new Set([
  "upstream_error",
  "upstream_connect",
  "upstream_connect_timeout",
  "upstream_not_configured",
  "overloaded",
]);
/** Tokens of one request that an upstream may claim. */
const USAGE_MAX = 1_000_000_000;
const OPERATIONS: readonly Operation[] = [
  "chat",
  "completions",
  "responses",
  "embeddings",
  "moderations",
  "models",
  "messages",
  "count_tokens",
  "realtime",
  "pass_through",
];
const NOTHING: Size = { input: 0, output: 0, rate: undefined };
const NO_QUOTAS: readonly Quota[] = Object.freeze([]);

export class LimitWatch implements Watch {
  readonly #plan: Plan;
  readonly #request: RequestContext;
  /** Limits that concern this request; its claims stand in the same order. */
  #limits: readonly Limit[] = [];
  #claims: readonly Claim[] = [];
  #taken: Taken | undefined;
  #isSettled = false;
  #prompt: Prompt | undefined;
  #size: Size = NOTHING;
  /** Output tokens, as far as they could be counted. */
  #written = 0;
  /** Texts of a whole answer, to be counted where the upstream did not. */
  #unweighed: string[] = [];
  #answer: RunningAnswer | undefined;
  #ending: Ending | undefined;

  constructor(plan: Plan, request: RequestContext) {
    this.#plan = plan;
    this.#request = request;
  }

  onRequest(): Await<Verdict> {
    const { operation } = this.#request;
    // What is carried byte for byte has no prompt: nothing but its start can be counted.
    const isCarried = operation === "realtime" || operation === "pass_through";
    if (this.#plan.needsBody && !isCarried) return this.#known();
    const { all, byModel } = this.#plan.concerning[operation];
    this.#limits = byModel ? all.filter(({ models }) => models === undefined) : all;
    return this.#take(this.#asker("", ""));
  }

  onPrompt(prompt: Prompt): Await<Verdict> {
    const { concerning, prices, tokenizerUnitsMax } = this.#plan;
    const { operation, standing } = this.#request;
    const { all, byModel, countsTokens } = concerning[operation];
    this.#prompt = prompt;
    this.#limits = byModel ? all.filter(({ models }) => models === undefined || models(prompt.model)) : all;
    if (countsTokens) {
      const sized: SizedPrompt = prompt;
      const input = inputTokens(sized, tokenizerUnitsMax);
      const rate = prices?.rate(prompt.model, input);
      const wanted = writes(operation) ? firstReserve(sized, this.#plan) : 0;
      const output = outputThatFits(wanted, this.#limits, { input, rate, standing });
      this.#size = { input, output, rate };
    }
    return this.#take(this.#asker(prompt.endUser ?? "", prompt.model));
  }

  onChunk(delta: Delta): Await<Held> {
    const { stream = false } = this.#prompt ?? {};
    if (!isWritten(delta, this.#request.operation, stream)) return ALLOW;
    if (!stream) {
      // Of a whole answer the upstream nearly always tells the count; it is held whole anyway.
      this.#unweighed.push(delta.text);
      return ALLOW;
    }
    const tokens = weighTokens(delta.text);
    this.#written += tokens;
    return this.#answer === undefined ? ALLOW : this.#answer.write(tokens);
  }

  onEnd(ending: Ending): Verdict {
    this.#ending = ending;
    this.#settle(ending);
    return ALLOW;
  }

  quotas(): readonly Quota[] {
    const levels = this.#taken?.levels;
    if (levels === undefined || levels.length === 0) return NO_QUOTAS;
    const quotas: Quota[] = [];
    for (let i = 0; i < levels.length; i++) {
      const { name, unit, windowSec } = this.#limits[i]!;
      if (unit === "spend") continue;
      const { remaining, resetMs } = levels[i]!;
      const { limit } = this.#claims[i]!;
      quotas.push({ name, unit, limit, remaining: Math.max(0, remaining), resetMs, windowSec });
    }
    return quotas;
  }

  /** Refuses before the body is read what is sure to be refused after. */
  #known(): Verdict {
    const { counters, concerning } = this.#plan;
    const { operation } = this.#request;
    this.#limits = concerning[operation].early;
    if (this.#limits.length === 0) return ALLOW;
    const asker = this.#asker("", "");
    this.#claims = this.#limits.map((limit) => leastClaimOf(limit, asker, operation));
    const taken = counters.known(this.#claims);
    if (taken === undefined || taken.admitted) return ALLOW;
    this.#taken = taken;
    return this.#verdict(taken);
  }

  #take(asker: Asker): Await<Verdict> {
    if (this.#limits.length === 0) return ALLOW;
    const claims: Claim[] = [];
    for (const limit of this.#limits) claims.push(claimOf(limit, asker, this.#size));
    this.#claims = claims;
    const taken = this.#plan.counters.take(this.#claims, this.#plan.away);
    return taken instanceof Promise ? taken.then((late) => this.#took(late)) : this.#took(taken);
  }

  #took(taken: Taken): Verdict {
    this.#taken = taken;
    // The request ended while the counters were asked.
    if (this.#ending !== undefined) this.#settle(this.#ending);
    else if (taken.lease !== undefined && this.#size !== NOTHING) this.#begin();
    return this.#verdict(taken);
  }

  /** Input is used from here on, also if this process dies; output as it comes. */
  #begin(): void {
    const lease = this.#taken!.lease!;
    const { input, output, rate } = this.#size;
    const each: number[] = [];
    let counts = false;
    for (let i = 0; i < this.#limits.length; i++) {
      const limit = this.#limits[i]!;
      const used = countsTokens(limit.unit) ? usedOf(limit, input, 0, rate) : 0;
      if (used > 0) lease.debit(i, used);
      each.push(perOutput(limit, rate));
      if (each[i]! > 0) counts = true;
    }
    if (!counts || this.#prompt?.stream !== true) return;
    const sized: SizedPrompt = this.#prompt;
    this.#answer = new RunningAnswer({
      lease,
      perOutput: each,
      reserved: output,
      outputMax: sized.outputTokensMax ?? Number.POSITIVE_INFINITY,
      step: this.#plan.outputReserve,
      cutAtLimit: this.#plan.cutAtLimit,
    });
  }

  #settle(ending: Ending): void {
    const lease = this.#taken?.lease;
    if (lease === undefined || this.#isSettled) return;
    this.#isSettled = true;
    this.#answer = undefined;
    const { input, output } = this.#used(ending);
    const rate = this.#rate(input);
    const used: number[] = [];
    for (const limit of this.#limits) used.push(usedOf(limit, input, output, rate));
    lease.settle(used);
  }

  /** By the upstream's count; where it named none, or an answer broke off before it could, by ours. */
  #used({ usage, cause, upstreamCalled }: Ending): { readonly input: number; readonly output: number } {
    if (!upstreamCalled || this.#size === NOTHING) return { input: 0, output: 0 };
    const isStream = this.#prompt?.stream === true;
    const told = usage.outputTokens === undefined ? undefined : countOf(usage.outputTokens);
    if (told === undefined) for (const text of this.#unweighed) this.#written += weighTokens(text);
    this.#unweighed = [];
    let output = Math.ceil(this.#written);
    if (cause === "complete" || !isStream) {
      // A whole answer that its reader would not wait for was written all the same, nobody knows how far.
      output = told ?? (cause === "client_gone" ? this.#size.output : output);
    } else output = Math.max(told ?? 0, output);
    const isServed = output > 0 || !UNSERVED.has(cause);
    const input = usage.inputTokens === undefined ? undefined : countOf(usage.inputTokens);
    return { input: input ?? (isServed ? this.#size.input : 0), output };
  }

  #rate(input: number): Rate | undefined {
    const model = this.#prompt?.model ?? "";
    return this.#size.rate === undefined ? undefined : this.#plan.prices?.rate(model, input);
  }

  #asker(endUser: string, model: string): Asker {
    const { identity, address, standing } = this.#request;
    const named = this.#plan.names.of(identity);
    return { identity, address, standing, endUser: endUser || (identity?.endUser ?? ""), model, named };
  }

  #verdict({ admitted, by, refusedBy, retryAfterMs }: Taken): Verdict {
    if (admitted) return by === "share" ? INSURED : by === "posture" ? UNCOUNTED : ALLOW;
    const unit = this.#limits[refusedBy]?.unit;
    const reason = by === "posture" || unit === undefined ? "rate.away" : `rate.${unit}`;
    return { act: "throttle", findings: [{ reason, score: 1 }], retryAfterMs };
  }
}

/** A number that the upstream sent, as a count: counters take whole numbers, and "1e400" is valid JSON. */
function countOf(tokens: number): number {
  return Math.min(USAGE_MAX, Math.max(0, Math.ceil(tokens)));
}

const INSURED = flag("rate.insured");
const UNCOUNTED = flag("rate.uncounted");

/** Says how the request was counted, and holds nothing against the caller. */
function flag(reason: string): Verdict {
  const finding: Finding = { reason, score: 0.1 };
  return Object.freeze({ act: "flag", findings: Object.freeze([Object.freeze(finding)]) });
}
