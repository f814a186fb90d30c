/**
 * Asks a remote guard about what the model answers, where the exchange is in doubt: windows of the answer, each with
 * the prompt that it answers. Inline, text is held until its verdict; after the fact, the verdict is for the record and
 * for the caller's reputation.
 *
 *   channel   |--- let go ---|--- asked about ---|--- collected ---|
 *                            ^ holdFrom          one window at most: then the stream waits for the verdict
 *
 * A window that got no verdict follows `whenUnavailable`: it is never "safe".
 */
import { flagged, type Guard, openGuard, reasonMatcher } from "../../src/guard/guard.ts";
import { windowsOf } from "../../src/guard/windows.ts";
import {
  ALLOW,
  type Await,
  type Channel,
  type ChannelKind,
  type Delta,
  defineLayer,
  type Held,
  join,
  type Prompt,
  type RequestContext,
  type Role,
  type SoFar,
  type Span,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { config, type OutputJudgeConfig } from "./config.ts";
import { type Lane, laneOf, pass, take, type Window } from "./lanes.ts";

/** Whose words of the prompt are shown beside the answer. */
const ROLES: ReadonlySet<Role> = new Set(["system", "developer", "user", "assistant", "tool", "none"]);

/** A seat's settings, ready to judge by; shared by its watches. */
interface Bench {
  readonly config: OutputJudgeConfig;
  readonly guard: Guard;
  readonly kinds: ReadonlySet<ChannelKind>;
  isDoubtful(reason: string): boolean;
}

export const outputJudge = defineLayer<OutputJudgeConfig>({
  kind: "output-judge",
  summary:
    "Asks a remote guard about answers: windows of the text with the prompt, inline or after the fact.",
  config,
  phases: ["onPrompt", "onChunk", "onEnd"],
  holdMax: ({ after, window }) => (after ? 0 : 2 * window.units),
  needs: ({ format, policy }) => (format === "openai-policy" ? [{ path: policy }] : []),
  compile(given, { judges, counters, artifacts }) {
    const policy = given.format === "openai-policy" ? artifacts.text({ path: given.policy }) : "";
    const guard = openGuard({ config: given, subject: "answer", policy, judges, counters });
    const bench: Bench = {
      config: given,
      guard,
      kinds: new Set(given.channels),
      isDoubtful: reasonMatcher(given.doubtful),
    };
    return {
      open: (request) => (given.after ? new AfterWatch(bench, request) : new InlineWatch(bench, request)),
      dispose: () => guard.close(),
    };
  },
});

/** One exchange: the prompt, how many questions it has led to, and whether it is in doubt. */
class Exchange {
  readonly bench: Bench;
  #prompt: Prompt | undefined;
  #shown: string | undefined;
  #asked = 0;

  constructor(bench: Bench) {
    this.bench = bench;
  }

  onPrompt(prompt: Prompt): Verdict {
    this.#prompt = prompt;
    return ALLOW;
  }

  isDoubted({ findings }: SoFar): boolean {
    const { config: given, isDoubtful } = this.bench;
    return given.askWhen === "always" || findings.some(({ reason }) => isDoubtful(reason));
  }

  /** Questions on these windows, as many as the answer has left; what finds no room is told. */
  ask(windows: readonly Window[], signal?: AbortSignal): Await<Verdict> {
    const { guard, config: given } = this.bench;
    const room = given.window.max - this.#asked;
    const asked = windows.slice(0, room);
    this.#asked += asked.length;
    const [first] = windows.slice(room);
    const known: Verdict = first === undefined ? ALLOW : guard.absent("partial", first.where);
    if (asked.length === 0) return known;
    const prompt = this.#promptText();
    return guard
      .ask(
        asked.map((window) => ({ ...window, prompt })),
        signal,
      )
      .then(
        (verdict) => join(known, verdict),
        () => join(known, guard.absent("unavailable", asked[0]?.where)),
      );
  }

  /** Questions that nobody waits for any more. */
  unanswered(where: Span): Verdict {
    return flagged(this.bench.guard.absent("unavailable", where));
  }

  #promptText(): string {
    const units = this.bench.config.promptUnits;
    if (this.#prompt === undefined || units === 0) return "";
    this.#shown ??= windowsOf(this.#prompt, ROLES, { units, overlap: 0, max: 1 }).texts[0] ?? "";
    return this.#shown;
  }
}

/** Questions under way about the front of a lane's held text. */
interface Flight {
  readonly from: number;
  /** The text that they are about. */
  readonly where: Span;
  readonly landed: Promise<void>;
  verdict: Verdict | undefined;
}

interface HeldLane extends Lane {
  flight: Flight | undefined;
}

class InlineWatch implements Watch {
  readonly #exchange: Exchange;
  readonly #request: RequestContext;
  /** Channels that get more text: as many as the runner lets an answer have. */
  readonly #lanes = new Map<Channel, HeldLane>();
  #inDoubt = false;

  constructor(bench: Bench, request: RequestContext) {
    this.#exchange = new Exchange(bench);
    this.#request = request;
  }

  onPrompt(prompt: Prompt): Verdict {
    return this.#exchange.onPrompt(prompt);
  }

  onChunk(delta: Delta): Await<Held> {
    if (!this.#exchange.bench.kinds.has(delta.kind)) return ALLOW;
    if (this.#inDoubt) return this.#read(delta);
    const soFar = this.#request.soFar();
    if (soFar instanceof Promise) return soFar.then((late) => this.#readFirst(delta, late));
    return this.#readFirst(delta, soFar);
  }

  #readFirst(delta: Delta, soFar: SoFar): Await<Held> {
    this.#inDoubt ||= this.#exchange.isDoubted(soFar);
    if (this.#inDoubt) return this.#read(delta);
    const lane = this.#laneOf(delta);
    pass(lane, delta.text, this.#exchange.bench.config.window);
    if (delta.final) this.#lanes.delete(delta.channel);
    return ALLOW;
  }

  #laneOf({ channel, kind, start }: Delta): HeldLane {
    let lane = this.#lanes.get(channel);
    if (lane === undefined) {
      lane = { ...laneOf(channel, kind, start), flight: undefined };
      this.#lanes.set(channel, lane);
    }
    return lane;
  }

  #read(delta: Delta): Await<Held> {
    const lane = this.#laneOf(delta);
    lane.pending += delta.text;
    return this.#advance(lane, delta);
  }

  /** Of an answer that ended before its verdict, as when the client left: what came is told, and so is what did not. */
  onEnd(): Verdict {
    let said: Verdict = ALLOW;
    for (const { flight } of this.#lanes.values()) {
      if (flight === undefined) continue;
      const late = flight.verdict ?? this.#exchange.unanswered(flight.where);
      said = join(said, flagged(late));
    }
    return said;
  }

  /** Takes the verdict that has come, asks about the window that is full, and waits where no more may be held. */
  #advance(lane: HeldLane, delta: Delta): Await<Held> {
    const { units } = this.#exchange.bench.config.window;
    let said: Verdict = ALLOW;
    if (lane.flight?.verdict !== undefined) {
      said = lane.flight.verdict;
      lane.flight = undefined;
      if (said.act === "block") return said;
    }
    const isFull = lane.pending !== "" && (delta.final || lane.pending.length >= units);
    if (isFull && lane.flight === undefined) {
      said = join(said, this.#launch(lane));
      if (said.act === "block") return said;
    }
    const held = lane.flight?.from ?? lane.from;
    const end = lane.from + lane.pending.length;
    const mustWait = delta.final || lane.pending.length >= units || end - held > 2 * units;
    if (lane.flight !== undefined && mustWait) {
      return lane.flight.landed.then(() => this.#advanceOn(lane, delta, said));
    }
    if (delta.final) this.#lanes.delete(lane.channel);
    return held < end ? { ...said, holdFrom: held } : said;
  }

  async #advanceOn(lane: HeldLane, delta: Delta, said: Verdict): Promise<Held> {
    const next = await this.#advance(lane, delta);
    return next.holdFrom === undefined ? join(said, next) : { ...join(said, next), holdFrom: next.holdFrom };
  }

  #launch(lane: HeldLane): Verdict {
    const { from } = lane;
    const windows = take(lane, this.#exchange.bench.config.window);
    const outcome = this.#exchange.ask(windows, this.#request.signal);
    if (!(outcome instanceof Promise)) return outcome;
    const flight: Flight = {
      from,
      where: { channel: lane.channel, start: from, end: lane.from },
      verdict: undefined,
      landed: outcome.then((verdict) => {
        flight.verdict = verdict;
      }),
    };
    lane.flight = flight;
    return ALLOW;
  }
}

class AfterWatch implements Watch {
  readonly #exchange: Exchange;
  readonly #request: RequestContext;
  readonly #lanes = new Map<Channel, Lane>();
  /** Characters kept, of as many as there can be questions about. */
  #kept = 0;
  #leftOut: Window | undefined;

  constructor(bench: Bench, request: RequestContext) {
    this.#exchange = new Exchange(bench);
    this.#request = request;
  }

  onPrompt(prompt: Prompt): Verdict {
    return this.#exchange.onPrompt(prompt);
  }

  onChunk({ channel, kind, start, text }: Delta): Held {
    const { kinds, config: given } = this.#exchange.bench;
    if (!kinds.has(kind) || text === "") return ALLOW;
    if (this.#kept + text.length > given.window.units * given.window.max) {
      this.#leftOut ??= { text, where: { channel, start, end: start + text.length } };
      return ALLOW;
    }
    this.#kept += text.length;
    const lane = this.#lanes.get(channel) ?? laneOf(channel, kind, start);
    this.#lanes.set(channel, lane);
    lane.pending += text;
    return ALLOW;
  }

  onEnd(): Await<Verdict> {
    if (this.#lanes.size === 0) return ALLOW;
    const soFar = this.#request.soFar();
    return soFar instanceof Promise ? soFar.then((late) => this.#judged(late)) : this.#judged(soFar);
  }

  #judged(soFar: SoFar): Await<Verdict> {
    if (!this.#exchange.isDoubted(soFar)) return ALLOW;
    const { guard, config: given } = this.#exchange.bench;
    const windows = [...this.#lanes.values()].flatMap((lane) => take(lane, given.window));
    const known = this.#leftOut === undefined ? ALLOW : guard.absent("partial", this.#leftOut.where);
    const outcome = this.#exchange.ask(windows);
    if (!(outcome instanceof Promise)) return flagged(join(known, outcome));
    return outcome.then((verdict) => flagged(join(known, verdict)));
  }
}
