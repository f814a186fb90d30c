/**
 * How many requests may be under way at one upstream target, learnt from how it answers. An overloaded model
 * API first queues, which shows as answers whose head takes longer than usual, and then refuses. The limit
 * falls on both and grows while it is reached and answers come as quickly as ever.
 *
 * Model answers differ a hundredfold in time, so times are never compared as they are: each is divided by what
 * is usual for its model, streamed or whole, and a round of answers is judged by the median of these ratios. One
 * slow answer moves nothing. What is usual is learnt while the limit is not reached; two cases need more:
 *
 *   limit  ──┐  cut because of slow heads, but heads are as slow at    reached for long: for one round a
 *            └──┐ the lower limit: it is no queue, these answers    ──┐ ┌── half, to see whether heads come
 *               └─> take longer now. Learn that, restore.             └─┘   quicker: then there was a queue
 *
 * The ideas are public (gradient limits of Netflix's concurrency-limits and Envoy's adaptive concurrency,
 * BBR's probing for the unloaded time, TCP's slow start); the numbers are chosen by this file's simulations.
 */
import type { Tier } from "../layer/index.ts";
import { type Usual, UsualTimes } from "./upstream-usual.ts";

export interface LimitSettings {
  readonly concurrencyMin: number;
  readonly concurrencyStart: number;
  readonly concurrencyMax: number;
  /** How many times its usual time the median head may take before the limit falls. */
  readonly slowdownMax: number;
}

/**
 * Share of the limit that each tier may fill: under overload the worse standings are shed first. A suspended
 * caller is refused long before; should one come here, it is treated as risky.
 */
export const TIER_SHARE: Readonly<Record<Tier, number>> = {
  trusted: 1,
  normal: 0.95,
  new: 0.8,
  risky: 0.6,
  suspended: 0.6,
};

/** Answers of a round, at least; and the most that are kept for its median. */
const ANSWERS_MIN = 32;
const ANSWERS_MAX = 128;
/** Fewer answers do once a round has lasted for long. */
const ANSWERS_MIN_LATE = 8;
const ROUND_MS_MIN = 100;
const ROUND_MS_LATE = 5_000;
/** After a change of the limit, a round begins when so many times the usual time have passed. */
const SETTLE_USUALS = 3;

/** Growth of a round before the first cut, and up to where a cut for refusals began. */
const GROWTH_FAST = 1.5;
/** One round for slow heads leaves this much of the limit, at least and at most. */
const CUT_MIN = 0.25;
const CUT_MAX = 0.9;
/** Refusals of a round that cut the limit: so many, and this share of its answers. */
const REFUSED_MIN = 3;
const REFUSED_SHARE = 0.1;
/** Each further round with refusals cuts by so much more, up to half. */
const REFUSED_CUT = 0.1;
/** After refusals the limit grows fast up to this part of where it was. */
const RESUME_SHARE = 0.7;

/** Sent with so much of the limit under way, a request has met the whole queue that the limit allows. */
const FULL_SHARE = 0.8;
/** Cut to this part of what it was, a limit must show in the heads' times, or there is no queue. */
const COMPARED_SHARE = 0.5;
/** Rounds between probes: few at first and while they find something. */
const PROBE_ROUNDS_MIN = 4;
const PROBE_ROUNDS_MAX = 128;
const PROBE_SHARE = 0.5;
/** Heads that take less than this part of what they took before have become quicker. */
const QUICKER = 0.75;
/** A probe that changes what is usual by this factor is followed by another soon. */
const NEWS = 1.2;
/** A median below this is learnt even while the limit is reached. */
const MUCH_QUICKER = 0.5;

/** One request that was sent. */
export interface Sent {
  readonly model: string;
  readonly stream: boolean;
  readonly sentMs: number;
  /** What `began` said. */
  readonly alongside: number;
}

/** How slow heads were, in multiples of what is usual: the median, and how far it may lie off by chance. */
interface Slowness {
  readonly low: number;
  readonly median: number;
  readonly high: number;
}

interface Mark {
  readonly limit: number;
  readonly median: number;
}

export class AdaptiveLimit {
  inFlight = 0;
  /** Of those in flight, without a head yet: these may be waiting in a queue. */
  #awaiting = 0;
  readonly #settings: LimitSettings;
  readonly #times = new UsualTimes();
  #limit: number;
  #allowed: Readonly<Record<Tier, number>>;

  /** Requests that were sent before this were sent under another limit, and tell nothing of this one. */
  #changedMs = Number.NEGATIVE_INFINITY;
  #settledMs = Number.NEGATIVE_INFINITY;
  #isOpen = false;
  #openedMs = 0;
  #peak = 0;
  #answers = 0;
  #refused = 0;
  /** Of the last round: a model that is new meets the queue that the others wait in. */
  #slowness = 1;
  readonly #ratios = new Float64Array(ANSWERS_MAX);
  #ratioCount = 0;
  /** Of these, sent when the limit was all but reached. */
  #sentFull = 0;

  /** While heads are slow: how slow they were at which limit, to see whether cutting helps; if not, `from` returns. */
  #mark: (Mark & { readonly from: number }) | undefined;
  /** What the limit was before it was lowered for a look. */
  #probe: Mark | undefined;
  #reachedSinceMs: number | undefined;
  #probeRounds = PROBE_ROUNDS_MIN;
  #refusalStreak = 0;
  #fastUpTo: number;

  constructor(settings: LimitSettings) {
    this.#settings = settings;
    this.#limit = settings.concurrencyStart;
    this.#fastUpTo = settings.concurrencyMax;
    this.#allowed = allowances(this.#limit);
  }

  get limit(): number {
    return Math.floor(this.#limit);
  }

  /** Whether one more request of this tier may go. */
  hasRoom(tier: Tier): boolean {
    return this.inFlight < this.#allowed[tier];
  }

  /** How many are in flight now, this one among them; to be given back with its answer. */
  began(): number {
    this.inFlight += 1;
    this.#awaiting += 1;
    if (this.inFlight > this.#peak) this.#peak = this.inFlight;
    return this.inFlight;
  }

  /** The wait for a head is over, whichever way; once for each that began. */
  headOver(): void {
    this.#awaiting -= 1;
  }

  ended(): void {
    this.inFlight -= 1;
  }

  /** A good answer's head has come. */
  answered({ model, stream, sentMs, alongside }: Sent, nowMs: number): void {
    const usual = this.#times.of(model, stream);
    if (usual.isLearning) return usual.learn((nowMs - sentMs) / this.#slowness, alongside);
    if (!this.#isTelling(sentMs, nowMs)) return;
    this.#answers += 1;
    this.#note(usual, (nowMs - sentMs) / usual.ms, alongside);
    this.#closeRound(nowMs);
  }

  /**
   * The caller left before the head: the head would have taken at least that long. Left out, a gateway whose
   * callers all give up would see no slow answer at all. Too early to tell anything, it counts for nothing.
   */
  left({ model, stream, sentMs, alongside }: Sent, nowMs: number): void {
    const usual = this.#times.known(model, stream);
    if (usual === undefined || usual.isLearning || !this.#isTelling(sentMs, nowMs)) return;
    const ratio = (nowMs - sentMs) / usual.ms;
    if (ratio <= 1) return;
    this.#answers += 1;
    this.#note(usual, ratio, alongside);
    this.#closeRound(nowMs);
  }

  /** Refused for want of room (429, 503, 529), not reached, or no head in time. */
  refused({ sentMs }: Sent, nowMs: number): void {
    // A refusal comes at once: there is no need to let things settle.
    if (sentMs < this.#changedMs) return;
    const isStale = nowMs - this.#openedMs > ROUND_MS_LATE + 2 * SETTLE_USUALS * this.#times.typicalMs;
    if (!this.#isOpen || isStale) this.#open(nowMs);
    this.#answers += 1;
    this.#refused += 1;
    if (!this.#isRefusing) return;
    // Few under way and none of them answered: that is an outage, and no limit is too high for it.
    if (this.#refused === this.#answers && this.#peak < this.#limit / 2) return;
    this.#refusalStreak = Math.min(this.#refusalStreak + 1, 5);
    if (this.#refusalStreak === 1) this.#fastUpTo = RESUME_SHARE * this.#limit;
    this.#mark = undefined;
    this.#probe = undefined;
    this.#set(this.#limit * (1 - REFUSED_CUT * this.#refusalStreak), nowMs);
    this.#isOpen = false;
  }

  /**
   * Whether an answer tells of the limit as it is. One that was sent under another limit does not; nor do the
   * first ones after a change, which are the quick ones among those that were sent with them.
   */
  #isTelling(sentMs: number, nowMs: number): boolean {
    if (sentMs < this.#changedMs || nowMs < this.#settledMs) return false;
    if (!this.#isOpen) this.#open(nowMs);
    return true;
  }

  get #isRefusing(): boolean {
    return this.#refused >= REFUSED_MIN && this.#refused >= this.#answers * REFUSED_SHARE;
  }

  #note(usual: Usual, ratio: number, alongside: number): void {
    usual.note(ratio);
    this.#times.touched(usual);
    if (this.#ratioCount === ANSWERS_MAX) return;
    if (alongside >= FULL_SHARE * this.#limit) this.#sentFull += 1;
    this.#ratios[this.#ratioCount] = ratio;
    this.#ratioCount += 1;
  }

  #closeRound(nowMs: number): void {
    const lastedMs = nowMs - this.#openedMs;
    if (lastedMs < ROUND_MS_MIN) return;
    if (this.#ratioCount < (lastedMs < ROUND_MS_LATE ? ANSWERS_MIN : ANSWERS_MIN_LATE)) return;
    if (!this.#isRefusing) this.#refusalStreak = 0;
    const slowness = slownessOf(this.#ratios.subarray(0, this.#ratioCount));
    this.#slowness = Math.max(1, slowness.median);
    if (this.#probe === undefined) this.#judge(slowness, nowMs);
    else this.#endProbe(this.#probe, slowness, nowMs);
    this.#isOpen = false;
  }

  #open(nowMs: number): void {
    this.#isOpen = true;
    this.#openedMs = nowMs;
    this.#peak = this.inFlight;
    this.#answers = 0;
    this.#refused = 0;
    this.#ratioCount = 0;
    this.#sentFull = 0;
    this.#times.beginRound(nowMs);
  }

  #judge(slowness: Slowness, nowMs: number): void {
    const { slowdownMax, concurrencyMin } = this.#settings;
    const isReached = this.#peak >= this.#allowed.normal;
    const isSlow = slowness.low > slowdownMax;
    if (slowness.high < MUCH_QUICKER) this.#times.scale(Math.sqrt(slowness.median));
    else if (!isReached || (isSlow && this.#limit <= concurrencyMin)) this.#times.drift(nowMs);
    if (!isReached) this.#reachedSinceMs = undefined;
    else this.#reachedSinceMs ??= nowMs;
    if (isSlow) {
      // Slow with few under way: not for their number.
      if (this.#peak >= this.#limit / 2) this.#cut(slowness, nowMs);
      return;
    }
    this.#mark = undefined;
    if (!isReached) return;
    if (this.#isTimeToProbe(nowMs)) {
      this.#probe = { limit: this.#limit, median: slowness.median };
      this.#set(this.#limit * PROBE_SHARE, nowMs);
      return;
    }
    // Between the two bounds the limit rests.
    if (slowness.median < (1 + slowdownMax) / 2) this.#set(this.#grown(), nowMs);
  }

  #grown(): number {
    const slowly = this.#limit + Math.max(1, Math.sqrt(this.#limit) / 2);
    if (this.#limit >= this.#fastUpTo) return slowly;
    return Math.max(slowly, Math.min(this.#limit * GROWTH_FAST, this.#fastUpTo));
  }

  /**
   * Heads are slow. By Little's law as many may await theirs as come in the time that they may take; what is
   * beyond that waits in a queue, and is cut. Where cutting has not helped, there is no queue.
   */
  #cut(slowness: Slowness, nowMs: number): void {
    const { slowdownMax } = this.#settings;
    // While a queue is still building up, heads do not show yet how long it is going to be.
    const isFull = this.#sentFull * 2 > this.#ratioCount;
    const now = {
      limit: this.#limit,
      median: isFull ? slowness.median : Number.POSITIVE_INFINITY,
      from: this.#limit,
    };
    let mark = this.#mark ?? now;
    const left = this.#limit / mark.limit;
    if (left <= COMPARED_SHARE) {
      // Of a queue's wait that part would be left; half way between it and nothing gained is the line.
      if (slowness.median > (mark.median * (1 + left)) / 2) {
        this.#times.scale(slowness.median);
        this.#mark = undefined;
        this.#fastUpTo = this.#settings.concurrencyMax;
        return this.#set(mark.from, nowMs);
      }
      mark = now;
    }
    this.#mark = mark;
    this.#fastUpTo = mark.from / 2;
    const perMs = this.#answers / (nowMs - this.#openedMs);
    const maySettle = slowdownMax * perMs * this.#times.typicalMs;
    const limitNow = Math.min(this.#limit, this.#peak);
    const wanted = limitNow - Math.max(0, this.#awaiting - maySettle);
    this.#set(limitNow * Math.min(CUT_MAX, Math.max(CUT_MIN, wanted / limitNow)), nowMs);
  }

  #isTimeToProbe(nowMs: number): boolean {
    const roundMs = ROUND_MS_MIN + SETTLE_USUALS * this.#times.typicalMs;
    return nowMs - (this.#reachedSinceMs ?? nowMs) >= this.#probeRounds * roundMs;
  }

  /** Quicker at half the limit: there is a queue at the whole. Otherwise heads take what they take by themselves. */
  #endProbe({ limit, median }: Mark, slowness: Slowness, nowMs: number): void {
    this.#probe = undefined;
    this.#reachedSinceMs = nowMs;
    const isQueue = slowness.median < QUICKER * median;
    const usual = isQueue ? Math.min(1, slowness.high) : Math.sqrt(slowness.median * median);
    if (!isQueue) this.#fastUpTo = this.#settings.concurrencyMax;
    this.#times.scale(usual);
    const isNews = usual < 1 / NEWS || usual > NEWS;
    this.#probeRounds = isNews ? PROBE_ROUNDS_MIN : Math.min(2 * this.#probeRounds, PROBE_ROUNDS_MAX);
    this.#set(limit, nowMs);
  }

  #set(limit: number, nowMs: number): void {
    const { concurrencyMin, concurrencyMax } = this.#settings;
    const next = Math.min(concurrencyMax, Math.max(concurrencyMin, limit));
    if (next === this.#limit) return;
    this.#limit = next;
    this.#allowed = allowances(next);
    this.#changedMs = nowMs;
    this.#settledMs = nowMs + SETTLE_USUALS * this.#times.typicalMs * this.#slowness;
  }
}

function allowances(limit: number): Readonly<Record<Tier, number>> {
  const share = (tier: Tier) => Math.max(1, Math.round(Math.floor(limit) * TIER_SHARE[tier]));
  return {
    trusted: share("trusted"),
    normal: share("normal"),
    new: share("new"),
    risky: share("risky"),
    suspended: share("suspended"),
  };
}

/** Sorts in place. The bounds are order statistics 1.5 standard errors from the median's rank. */
function slownessOf(ratios: Float64Array): Slowness {
  ratios.sort();
  const middle = ratios.length >> 1;
  const off = Math.round(0.75 * Math.sqrt(ratios.length));
  return { low: ratios[middle - off]!, median: ratios[middle]!, high: ratios[middle + off]! };
}
