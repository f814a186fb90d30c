/**
 * One request's passage through the seats of one snapshot: opens watches, calls their phases in seat
 * order, applies mode, rollout, sample, `when`, timeout and `onError`, and joins the verdicts. Layers know
 * nothing of this; the HTTP side sees only joined, applied verdicts.
 *
 * Everything stays synchronous while the layers are: a promise costs only the seat that returns one.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import type {
  Act,
  Await,
  Decided,
  Delta,
  DialectName,
  Ending,
  Held,
  Identity,
  Leaf,
  Operation,
  Phase,
  Prompt,
  Quota,
  RequestContext,
  RequestHead,
  ResponseHead,
  SoFar,
  Standing,
  Verdict,
  Watch,
} from "../layer/index.ts";
import { ALLOW, compareActs, type Finding, join, NO_STANDING } from "../layer/index.ts";
import type { SeatRecord } from "../ledger/decision.ts";
import { inRollout } from "../policy/in-rollout.ts";
import type { RequestAttributes, Snapshot } from "../policy/snapshot.ts";
import type { SwitchedOff } from "../policy/switched-off.ts";
import { Backlog } from "./backlog.ts";
import { bare, type PortionReader, stops } from "./portions.ts";
import { SeatRun } from "./seat-run.ts";
import type { VerdictCache } from "./verdict-cache.ts";

export interface PassageFacts {
  readonly id: string;
  readonly dialect: DialectName;
  readonly operation: Operation;
  readonly route: string;
  readonly address: string;
}

/** What `onChunk` of all seats together means for the text. */
export interface ChunkOutcome {
  readonly verdict: Verdict;
  /** Smallest offset that an enforcing seat still wants held; Infinity when none does. */
  readonly holdFrom: number;
}

const RELEASED: ChunkOutcome = Object.freeze({ verdict: ALLOW, holdFrom: Number.POSITIVE_INFINITY });

type JudgeLeaf = (leaf: Leaf) => Verdict;

/** Text that is judged leaf by leaf in one turn of the event loop, UTF-16 units: some milliseconds at worst. */
const AT_ONCE_UNITS = 16_384;

const NO_QUOTAS: readonly Quota[] = Object.freeze([]);
const NONE_PENDING: readonly Promise<Verdict>[] = Object.freeze([]);

/** One object for all: an abort without a reason makes an exception, with its stack, for every request. */
const REQUEST_OVER = new Error("the request is over");

export class Passage implements RequestContext {
  readonly id: string;
  readonly dialect: DialectName;
  readonly operation: Operation;
  readonly route: string;
  readonly address: string;
  readonly snapshot: Snapshot;
  identity: Identity | undefined = undefined;
  standing: Standing = NO_STANDING;
  prompt: Prompt | undefined = undefined;
  readonly #cache: VerdictCache;
  readonly #runs: SeatRun[];
  #chunkRunsMade: SeatRun[] | undefined;
  #gathers: boolean | undefined;
  /** The seat whose code runs now, up to its first await. */
  #speaking: SeatRun | undefined;
  /** Of enforcing seats before, in the phase under way. */
  #pending: readonly Promise<Verdict>[] = NONE_PENDING;
  /** Of shadow seats that still judge the prompt: nobody waits for them but the record. */
  #unseen: readonly Promise<Verdict>[] = NONE_PENDING;
  #abort: AbortController | undefined;
  #ended = false;
  /** When the seat before stopped, in the turn under way: the next starts then, and a clock is read half as often. */
  #nowMs: number | undefined;

  /** `off`: what kill switches say at the request's begin, which holds for all of it. */
  constructor(snapshot: Snapshot, facts: PassageFacts, cache: VerdictCache, off?: SwitchedOff) {
    this.id = facts.id;
    this.dialect = facts.dialect;
    this.operation = facts.operation;
    this.route = facts.route;
    this.address = facts.address;
    this.snapshot = snapshot;
    this.#cache = cache;
    this.#runs = snapshot.seats.map((seat) => new SeatRun(seat, off?.get(seat.id)));
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#ended) this.#abort.abort(REQUEST_OVER);
    return this.#abort.signal;
  }

  /** Asked by a layer while its watch is opened. */
  get rulesOff(): ReadonlySet<string> | undefined {
    return this.#speaking?.off?.rules;
  }

  identify(identity: Identity): void {
    this.identity = identity;
  }

  stand(standing: Standing): void {
    const run = this.#speaking;
    if (run === undefined || this.#appliesTo(run)) this.standing = standing;
  }

  soFar(): Await<SoFar> {
    const run = this.#speaking;
    if (run === undefined) throw new Error("soFar() is for the time before a watch's first await");
    // Shadows are told what shadows made too, and nobody else waits for those.
    const unseen = this.#appliesTo(run) ? NONE_PENDING : this.#unseen;
    const pending = unseen.length === 0 ? this.#pending : [...this.#pending, ...unseen];
    if (pending.length === 0) return this.#madeBefore(run);
    return Promise.all(pending).then(() => this.#madeBefore(run));
  }

  #madeBefore(own: SeatRun): SoFar {
    const isShadow = !this.#appliesTo(own);
    const findings: Finding[] = [];
    let act: Act = "allow";
    for (const run of this.#runs) {
      if (run === own) break;
      const found = isShadow ? run.would : run.applied;
      if (found === "allow") continue;
      if (compareActs(found, act) > 0) act = found;
      findings.push(...run.findings);
    }
    return { act, findings };
  }

  get #chunkRuns(): SeatRun[] {
    this.#chunkRunsMade ??= this.#runs.filter(
      (run) => run.state !== "switched_off" && run.seat.phases.includes("onChunk"),
    );
    return this.#chunkRunsMade;
  }

  /** True when some seat may look at the answer's text. */
  get judgesAnswers(): boolean {
    return this.#chunkRuns.length > 0;
  }

  onRequest(head: RequestHead): Await<Verdict> {
    return this.#inOrder("onRequest", (watch) => watch.onRequest?.(head) ?? ALLOW);
  }

  /**
   * Leaves first, then whole prompts; promises run side by side, each under its own seat's deadline. Those of shadow
   * seats hold nothing up: the request goes on, and its record waits for them.
   */
  onPrompt(prompt: Prompt): Await<Verdict> {
    this.prompt = prompt;
    // A token names its own end user: what the body says beside it is the caller's word alone.
    const isTold = this.identity?.proof === "token" && this.identity.endUser !== undefined;
    if (prompt.endUser !== undefined && this.identity !== undefined && !isTold) {
      this.identity = { ...this.identity, endUser: prompt.endUser };
    }
    return this.#judgePrompt(prompt, 0, ALLOW, []);
  }

  /** From seat `from` on; `leavesDone` where that seat has judged its leaves already. */
  #judgePrompt(
    prompt: Prompt,
    from: number,
    before: Verdict,
    pending: Promise<Verdict>[],
    leavesDone = false,
  ): Await<Verdict> {
    let joined = before;
    this.#nowMs = undefined;
    for (let i = from; i < this.#runs.length; i++) {
      const run = this.#runs[i]!;
      const { phases } = run.seat;
      // A copy, as it grows by those who come after.
      if (pending.length > this.#pending.length) this.#pending = [...pending];
      if (!phases.includes("onLeaf") && !phases.includes("onPrompt")) continue;
      if (phases.includes("onLeaf") && !(leavesDone && i === from)) {
        const outcome = this.#call(run, (watch) => this.#judgeLeaves(run, watch, prompt));
        if (outcome instanceof Promise)
          return outcome.then((verdict) =>
            this.#judgePrompt(prompt, i, join(joined, verdict), pending, true),
          );
        joined = join(joined, outcome);
      }
      if (phases.includes("onPrompt")) {
        const outcome = this.#call(run, (watch) => watch.onPrompt?.(prompt) ?? ALLOW);
        if (!(outcome instanceof Promise)) joined = join(joined, outcome);
        else if (this.#appliesTo(run)) pending.push(outcome);
        else this.#unseen = [...this.#unseen, outcome];
      }
      if (joined.act === "block") break;
    }
    this.#pending = NONE_PENDING;
    if (pending.length === 0) return this.#judged(prompt, joined);
    return Promise.all(pending).then((verdicts) => this.#judged(prompt, verdicts.reduce(join, joined)));
  }

  /** Tells the layers that ask for it that the prompt is refused. */
  #judged(prompt: Prompt, verdict: Verdict): Verdict {
    if (verdict.act !== "block") return verdict;
    for (const run of this.#runs) {
      if (run.seat.layer.onRefused === undefined || run.state === "switched_off") continue;
      try {
        run.seat.layer.onRefused(this, prompt, verdict);
      } catch (error) {
        run.error ??= error;
      }
    }
    return verdict;
  }

  onResponseHead(head: ResponseHead): Await<Verdict> {
    return this.#inOrder("onResponseHead", (watch) => watch.onResponseHead?.(head) ?? ALLOW);
  }

  /** The hot path of a stream: no allocation while every seat allows and holds nothing. */
  onChunk(delta: Delta): Await<ChunkOutcome> {
    let joined: Verdict = ALLOW;
    let holdFrom = Number.POSITIVE_INFINITY;
    const runs = this.#chunkRuns;
    this.#nowMs = undefined;
    for (let i = 0; i < runs.length; i++) {
      const run = runs[i]!;
      const held = this.#judgeChunk(run, delta);
      if (held instanceof Promise) return this.#chunkLater(delta, i, held, joined, holdFrom);
      if (held === ALLOW) continue;
      const applied = this.#note(run, held);
      if (applied !== ALLOW) joined = join(joined, applied);
      holdFrom = Math.min(holdFrom, this.#holdOf(run, held, delta));
    }
    if (joined === ALLOW && holdFrom === Number.POSITIVE_INFINITY) return RELEASED;
    return { verdict: joined, holdFrom };
  }

  async #chunkLater(
    delta: Delta,
    index: number,
    first: Promise<Held>,
    verdict: Verdict,
    hold: number,
  ): Promise<ChunkOutcome> {
    let joined = verdict;
    let holdFrom = hold;
    let held = await first;
    for (let i = index; ; ) {
      this.#nowMs = undefined;
      const run = this.#chunkRuns[i]!;
      joined = join(joined, this.#note(run, held));
      holdFrom = Math.min(holdFrom, this.#holdOf(run, held, delta));
      i += 1;
      if (i >= this.#chunkRuns.length) return { verdict: joined, holdFrom };
      held = await this.#judgeChunk(this.#chunkRuns[i]!, delta);
    }
  }

  /** What a seat says of a part of the answer; a shadow that has to think says it later, and holds nobody up. */
  #judgeChunk(run: SeatRun, delta: Delta): Await<Held> {
    if (run.backlog !== undefined) return this.#putOff(run, run.backlog, delta);
    const held = this.#hear(run, delta);
    if (!(held instanceof Promise) || this.#appliesTo(run)) return held;
    const backlog = new Backlog();
    run.backlog = backlog;
    backlog.caughtUp = this.#catchUp(run, backlog, held);
    return ALLOW;
  }

  #hear(run: SeatRun, delta: Delta): Await<Held> {
    return run.portions === undefined ? this.#tell(run, delta) : this.#portions(run, delta, run.portions);
  }

  #putOff(run: SeatRun, backlog: Backlog, delta: Delta): Held {
    if (run.state !== "ran" || backlog.put(delta)) return ALLOW;
    backlog.drop();
    return run.fail("timed_out");
  }

  /** What waits for shadows, all together. */
  get backlogUnits(): number {
    return this.#chunkRuns.reduce((units, { backlog }) => units + (backlog?.units ?? 0), 0);
  }

  /** There is no room for what waits for shadows: they have timed out, and the answer goes on. */
  dropBacklogs(): void {
    for (const run of this.#chunkRuns) {
      if (run.backlog === undefined || run.state !== "ran") continue;
      run.backlog.drop();
      this.#note(run, run.fail("timed_out"));
    }
  }

  async #catchUp(run: SeatRun, backlog: Backlog, first: Promise<Held>): Promise<void> {
    let held = await first;
    for (;;) {
      // Given up at the end of the request, whose record is written.
      if (run.backlog !== backlog) return;
      this.#note(run, held);
      const delta = backlog.take();
      if (delta === undefined) break;
      this.#nowMs = undefined;
      held = await this.#hear(run, delta);
    }
    run.backlog = undefined;
  }

  /** The ending waits for a shadow that is behind, but no longer than for one question. */
  async #lastWait(run: SeatRun, backlog: Backlog): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<"late">((resolve) => {
      timer = setTimeout(() => setImmediate(resolve, "late" as const), run.seat.timeoutMs);
    });
    const first = await Promise.race([backlog.caughtUp, deadline]);
    clearTimeout(timer);
    if (first !== "late") return;
    backlog.drop();
    run.backlog = undefined;
    // One that failed on its way has said so.
    if (run.state === "ran") this.#note(run, run.fail("timed_out"));
  }

  #tell(run: SeatRun, delta: Delta): Await<Held> {
    return this.#callRaw(run, (watch) => watch.onChunk?.(delta) ?? ALLOW);
  }

  /** Tells a seat the sentences that this delta ends; what it begins is held until then. */
  #portions(run: SeatRun, delta: Delta, reader: PortionReader): Await<Held> {
    // Opened first: a seat that is left out, or has nothing to say to this answer, holds nothing.
    if (run.state === "not_reached" && !this.#ended) {
      const failure = this.#open(run);
      if (failure !== undefined) return failure;
    }
    if (run.watch?.onChunk === undefined) return ALLOW;
    const held = reader.tell(delta, (portion) => this.#tell(run, portion));
    // One that failed has said its last word, and that is not "hold".
    const counted = (said: Held) => (run.state === "ran" ? said : bare(said));
    return held instanceof Promise ? held.then(counted) : counted(held);
  }

  /** True when some seat gathers sentences: it must hear of a channel that comes to rest. */
  get gathers(): boolean {
    this.#gathers ??= this.#chunkRuns.some(({ portions }) => portions !== undefined);
    return this.#gathers;
  }

  /** What the seats that enforce say of their limits, for the answer's headers; empty once the request has ended. */
  quotas(): readonly Quota[] {
    let all: readonly Quota[] = NO_QUOTAS;
    for (const run of this.#runs) {
      if (run.watch?.quotas === undefined || !this.#appliesTo(run)) continue;
      const quotas = run.watch.quotas();
      all = all.length === 0 ? quotas : [...all, ...quotas];
    }
    return all;
  }

  /** Called once, whatever happened before; every watch that was opened hears of the end. */
  onEnd(ending: Ending): Await<void> {
    if (this.#ended) return undefined;
    this.#ended = true;
    this.#nowMs = undefined;
    const pending: Promise<Verdict>[] = [...this.#unseen];
    let listeners: { readonly run: SeatRun; readonly watch: Watch }[] | undefined;
    for (const run of this.#runs) {
      const watch = run.watch;
      if (watch === undefined) continue;
      if (watch.onDecided !== undefined) {
        listeners ??= [];
        listeners.push({ run, watch });
      }
      const end = () => {
        run.watch = undefined;
        return watch.onEnd === undefined ? ALLOW : this.#timed(run, watch, (open) => open.onEnd!(ending));
      };
      const outcome = run.backlog === undefined ? end() : this.#lastWait(run, run.backlog).then(end);
      if (outcome instanceof Promise) pending.push(outcome.then((verdict) => this.#note(run, verdict)));
      else this.#note(run, outcome);
    }
    const close = () => {
      if (listeners !== undefined) this.#tellDecided(listeners, ending.cause);
      this.#abort?.abort(REQUEST_OVER);
    };
    if (pending.length === 0) return close();
    return Promise.all(pending).then(close);
  }

  #tellDecided(listeners: readonly { run: SeatRun; watch: Watch }[], cause: string): void {
    this.#nowMs = undefined;
    const findings: Finding[] = [];
    for (const run of this.#runs) {
      if (run.findings.length > 0 && this.#appliesTo(run)) findings.push(...run.findings);
    }
    const decided: Decided = { id: this.id, cause, act: this.acts().act, findings };
    for (const { run, watch } of listeners) {
      this.#timed(run, watch, (open) => {
        open.onDecided?.(decided);
        return ALLOW;
      });
    }
  }

  /** Watches that were opened and have not heard of the end; 0 after `onEnd`. */
  get openWatches(): number {
    return this.#runs.reduce((count, run) => count + (run.watch === undefined ? 0 : 1), 0);
  }

  /** Attributes for `when`; also what the decision says of the request. */
  attributes(): RequestAttributes {
    const { identity, prompt, standing } = this;
    return {
      route: this.route,
      dialect: this.dialect,
      operation: this.operation,
      address: this.address,
      org: identity?.org ?? "",
      project: identity?.project ?? "",
      key: identity?.keyId ?? "",
      model: prompt?.model ?? "",
      stream: prompt?.stream ?? false,
      endUser: identity?.endUser ?? prompt?.endUser ?? "",
      proof: identity === undefined ? "" : (identity.proof ?? "key"),
      tier: standing.tier,
      risk: standing.risk,
      stepUp: standing.stepUp,
      country: standing.country,
      asn: standing.asn,
    };
  }

  records(): SeatRecord[] {
    return this.#runs.map((run) => run.record((channel) => this.#pathOf(channel)));
  }

  /** The strictest act that was applied, and the strictest that any seat wanted. */
  acts(): { act: Act; would: Act } {
    let act: Act = "allow";
    let would: Act = "allow";
    for (const run of this.#runs) {
      if (compareActs(run.applied, act) > 0) act = run.applied;
      if (compareActs(run.would, would) > 0) would = run.would;
    }
    return { act, would };
  }

  /** Start and length of each seat's work, in ms of performance.now(), for spans. */
  timings(): { seat: string; startedMs: number; spentMs: number }[] {
    return this.#runs
      .filter((run) => run.startedMs > 0)
      .map((run) => ({ seat: run.seat.id, startedMs: run.startedMs, spentMs: run.spentMs }));
  }

  #pathOf(channel: string): string {
    if (!channel.startsWith("prompt:")) return channel;
    return this.prompt?.leaves[Number(channel.slice(7))]?.path ?? channel;
  }

  #judgeLeaves(run: SeatRun, watch: Watch, prompt: Prompt): Await<Verdict> {
    const judge = watch.onLeaf?.bind(watch);
    if (judge === undefined) return ALLOW;
    let units = 0;
    for (const leaf of prompt.leaves) units += leaf.text.length;
    if (units > AT_ONCE_UNITS) return this.#judgeLeavesByTurns(run, judge, prompt);
    let joined: Verdict = ALLOW;
    for (const leaf of prompt.leaves) joined = join(joined, this.#judgeLeaf(run, judge, leaf, prompt));
    return joined;
  }

  /** Of a long prompt, some leaves in each turn of the event loop: other requests go on meanwhile. */
  async #judgeLeavesByTurns(run: SeatRun, judge: JudgeLeaf, prompt: Prompt): Promise<Verdict> {
    let joined: Verdict = ALLOW;
    let units = 0;
    for (const leaf of prompt.leaves) {
      if (units + leaf.text.length > AT_ONCE_UNITS) {
        await nextTurn();
        units = 0;
        if (this.#ended) return joined;
      }
      units += leaf.text.length;
      joined = join(joined, this.#judgeLeaf(run, judge, leaf, prompt));
    }
    return joined;
  }

  #judgeLeaf(run: SeatRun, judge: JudgeLeaf, leaf: Leaf, prompt: Prompt): Verdict {
    const earlier = leaf.turn >= 0 && leaf.turn < prompt.newestTurn;
    if (!earlier) return judge(leaf);
    const { seat, off } = run;
    const judgedBy = off === undefined ? seat.fingerprint : `${seat.fingerprint} ${off.cacheKey}`;
    return this.#cache.verdict(judgedBy, leaf, judge);
  }

  #inOrder(
    phase: Phase,
    call: (watch: Watch) => Await<Verdict>,
    from = 0,
    joined: Verdict = ALLOW,
  ): Await<Verdict> {
    let sum = joined;
    this.#nowMs = undefined;
    for (let i = from; i < this.#runs.length; i++) {
      const run = this.#runs[i]!;
      if (!run.seat.phases.includes(phase)) continue;
      const outcome = this.#call(run, call);
      if (outcome instanceof Promise) {
        return outcome.then((verdict) => {
          const next = join(sum, verdict);
          return stops(next) ? next : this.#inOrder(phase, call, i + 1, next);
        });
      }
      sum = join(sum, outcome);
      if (stops(sum)) return sum;
    }
    return sum;
  }

  /** Calls one phase of one seat and notes the verdict. */
  #call(run: SeatRun, call: (watch: Watch) => Await<Verdict>): Await<Verdict> {
    const outcome = this.#callRaw(run, call);
    return outcome instanceof Promise
      ? outcome.then((verdict) => this.#note(run, verdict))
      : outcome === ALLOW
        ? ALLOW
        : this.#note(run, outcome);
  }

  #callRaw(run: SeatRun, call: (watch: Watch) => Await<Held>): Await<Held> {
    // A seat that is reached when all is over is not opened: nobody would tell it of the end.
    if (this.#ended && run.backlog === undefined) return ALLOW;
    if (run.state === "not_reached") {
      const failure = this.#open(run);
      if (failure !== undefined) return failure;
    }
    // A seat that failed has given its `onError` verdict already; one that was skipped gives none.
    if (run.state !== "ran" || run.watch === undefined) return ALLOW;
    return this.#timed(run, run.watch, call);
  }

  #timed(run: SeatRun, watch: Watch, call: (watch: Watch) => Await<Held>): Await<Held> {
    const startedMs = this.#nowMs ?? performance.now();
    this.#nowMs = undefined;
    if (run.startedMs === 0) run.startedMs = startedMs;
    try {
      this.#speaking = run;
      const outcome = call(watch);
      this.#speaking = undefined;
      if (outcome instanceof Promise) return this.#underDeadline(run, outcome, startedMs);
      this.#nowMs = performance.now();
      run.spentMs += this.#nowMs - startedMs;
      return outcome;
    } catch (error) {
      this.#speaking = undefined;
      run.spentMs += performance.now() - startedMs;
      return run.fail("failed", error);
    }
  }

  async #underDeadline(run: SeatRun, outcome: Promise<Held>, startedMs: number): Promise<Held> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<"late">((resolve) => {
      // Timers fire before sockets are read: an answer that has come already is still taken.
      timer = setTimeout(() => setImmediate(resolve, "late" as const), run.seat.timeoutMs);
    });
    try {
      const first = await Promise.race([outcome, deadline]);
      return first === "late" ? run.fail("timed_out") : first;
    } catch (error) {
      return run.fail("failed", error);
    } finally {
      clearTimeout(timer);
      run.spentMs += performance.now() - startedMs;
    }
  }

  /** Opens the seat's watch, or notes why not; a failure to do either is the seat's verdict. */
  #open(run: SeatRun): Held | undefined {
    const { seat } = run;
    try {
      if (seat.sample < 1 && Math.random() >= seat.sample) {
        run.state = "skipped_sample";
        return undefined;
      }
      if (seat.when !== undefined && !seat.when(this.attributes())) {
        run.state = "skipped_when";
        return undefined;
      }
      this.#speaking = run;
      run.watch = seat.layer.open(this);
      this.#speaking = undefined;
      run.state = "ran";
      return undefined;
    } catch (error) {
      this.#speaking = undefined;
      return run.fail("failed", error);
    }
  }

  #note(run: SeatRun, verdict: Verdict): Verdict {
    if (verdict.act === "allow") return ALLOW;
    return run.note(verdict, this.#appliesTo(run));
  }

  #appliesTo(run: SeatRun): boolean {
    run.applies ??= run.seat.mode === "enforce" && inRollout(run.seat, this.identity?.org ?? this.address);
    return run.applies;
  }

  /** Only text that an enforcing seat holds is held: a shadow changes nothing that anyone can see. */
  #holdOf(run: SeatRun, held: Held, delta: Delta): number {
    if (held.holdFrom === undefined || delta.final) return Number.POSITIVE_INFINITY;
    return this.#appliesTo(run) ? held.holdFrom : Number.POSITIVE_INFINITY;
  }
}
