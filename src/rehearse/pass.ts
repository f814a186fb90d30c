/**
 * Takes recorded requests through the seats of one policy, in the order and at the times in which they came and
 * ended, by the same runner as the gateway's. A seat whose text is not on record answers with its recorded verdict,
 * where it is the same seat; else the outcome says that nobody can know.
 */
import { createHash } from "node:crypto";
import { anthropic } from "../dialect/anthropic/index.ts";
import { openai } from "../dialect/openai/index.ts";
import { matchRoute } from "../http/routes.ts";
import type { Layer, Verdict, Watch } from "../layer/index.ts";
import { ALLOW } from "../layer/index.ts";
import type { ContentRecord } from "../ledger/content-format.ts";
import type { Decision, SeatRecord } from "../ledger/decision.ts";
import { Passage } from "../pipeline/passage.ts";
import { VerdictCache } from "../pipeline/verdict-cache.ts";
import type { Seat, Snapshot } from "../policy/snapshot.ts";
import { admitJson } from "../wire/json-admission.ts";
import { languageOf } from "./language.ts";
import type { Against, Outcome, Unknown } from "./outcome.ts";
import type { World } from "./worlds.ts";

/** Seats that need nothing of what was written. */
const HEADS = new Set(["auth", "reputation", "rate-limit"]);
const JUDGES = new Set(["prompt-judge", "output-judge"]);
/** The machine's hurry is not the traffic's. */
const TIMEOUT_MS = 120_000;
const DEPTH_MAX = 1_000;

interface Running {
  readonly decision: Decision;
  readonly content: ContentRecord | undefined;
  readonly passage: Passage;
  readonly unknown: Set<Unknown>;
  language: string;
  readonly isRefused: boolean;
}

export interface Started {
  readonly endMs: number;
  /** Its answer and its end; to be called once the clock has come to `endMs`. */
  finish(): Promise<Outcome>;
}

export class Pass {
  readonly #snapshot: Snapshot;
  readonly #world: World;
  readonly #against: Against;
  readonly #cache = new VerdictCache({ entriesMax: 16_384 });
  #current:
    | { readonly decision: Decision; readonly hasText: boolean; readonly unknown: Set<Unknown> }
    | undefined;

  constructor(snapshot: Snapshot, world: World, against: Against) {
    this.#snapshot = { ...snapshot, seats: snapshot.seats.map((seat) => this.#replayed(seat)) };
    this.#world = world;
    this.#against = against;
  }

  async start(decision: Decision, content: ContentRecord | undefined): Promise<Started> {
    const atMs = Date.parse(decision.at);
    const { id, dialect, operation, route, address } = decision;
    const passage = new Passage(this.#snapshot, { id, dialect, operation, route, address }, this.#cache);
    const unknown = new Set<Unknown>();
    this.#turn(decision, content !== undefined, unknown, atMs);
    const credential = this.#world.credentialOf(decision);
    const head = { method: content?.method ?? "POST", path: content?.url.split("?")[0] ?? "", address };
    const first = await passage.onRequest({
      ...head,
      headers: content?.headers ?? {},
      ...(credential !== undefined && { credential }),
    });
    let language = "unknown";
    let isRefused = stops(first);
    if (!isRefused && decision.scanned) {
      const prompt = this.#promptOf(decision, content);
      if (content !== undefined) language = languageOf(prompt);
      isRefused = stops(await passage.onPrompt(prompt));
    }
    if (this.#world.takeSkipped() > 0) unknown.add("encoder");
    const running = { decision, content, passage, unknown, language, isRefused };
    const endMs = isRefused ? atMs : atMs + decision.totalMs;
    return { endMs, finish: () => this.#finish(running, endMs) };
  }

  async #finish(running: Running, endMs: number): Promise<Outcome> {
    const { decision, content, passage, unknown, isRefused } = running;
    this.#turn(decision, content !== undefined, unknown, endMs);
    const answer = content?.answer ?? null;
    if (!isRefused && passage.judgesAnswers) {
      if (answer !== null) {
        for (const text of answer.texts) await passage.onChunk({ ...text, start: 0, final: true });
      } else if (content !== undefined && (decision.act === "block" || decision.act === "throttle"))
        unknown.add("answer");
      else if (content === undefined && decision.upstreamCalled)
        await passage.onChunk({
          channel: "answer:0",
          kind: "answer",
          choice: 0,
          start: 0,
          text: "",
          final: true,
        });
    }
    const { inputTokens, outputTokens } = decision;
    await passage.onEnd({
      cause: isRefused ? "prompt_blocked" : decision.cause,
      usage: { ...(inputTokens !== null && { inputTokens }), ...(outputTokens !== null && { outputTokens }) },
      upstreamCalled: !isRefused && decision.upstreamCalled,
    });
    if (this.#world.takeSkipped() > 0) unknown.add("encoder");
    const records = passage.records();
    const { at, org, act: recorded } = decision;
    return {
      id: decision.id,
      ...passage.acts(),
      unknown: [...unknown],
      micros: records.reduce((sum, { micros }) => sum + micros, 0),
      seats: records
        .filter(({ would }) => would !== "allow")
        .map(({ seat, would, applied, findings }) => ({
          seat,
          would,
          applied,
          reasons: [...new Set(findings.map(({ reason }) => reason))].slice(0, 4),
        })),
      facts: {
        at,
        org,
        tier: decision.tier,
        language: running.language,
        hasContent: content !== undefined,
        recorded,
        isOwnRevision: decision.revision === this.#snapshot.revision,
      },
    };
  }

  #turn(decision: Decision, hasText: boolean, unknown: Set<Unknown>, nowMs: number): void {
    this.#current = { decision, hasText, unknown };
    this.#world.turnTo(decision, nowMs);
  }

  #promptOf(decision: Decision, content: ContentRecord | undefined) {
    const dialect = decision.dialect === "openai" ? openai : anthropic;
    const { operation } = decision;
    if (content === undefined) {
      // What the record knows of it; a seat that reads leaves is not asked.
      const { model, stream, endUser } = decision;
      const body = {
        model,
        stream,
        ...(endUser !== "" && { user: endUser, metadata: { user_id: endUser } }),
      };
      return { ...dialect.readPrompt({ operation, body, parameters: [] }), leaves: [] };
    }
    const match = matchRoute(content.method, content.url, "anthropic-version" in content.headers);
    const parameters = match.found === "route" ? match.target.parameters : [];
    const admission =
      content.body.length === 0 ? undefined : admitJson(content.body, { depthMax: DEPTH_MAX });
    const body = admission?.ok === true ? admission.value : undefined;
    return dialect.readPrompt({ operation, body, parameters });
  }

  /** The seat as it is, but for what only live traffic knows: hurry, chance, and text that nobody kept. */
  #replayed(seat: Seat): Seat {
    const { id, sample, when } = seat;
    const inSample = () => sample >= 1 || chance(`${id}\0${this.#current?.decision.id}`) < sample;
    return {
      ...seat,
      timeoutMs: TIMEOUT_MS,
      sample: 1,
      when: (attributes) => inSample() && (when?.(attributes) ?? true),
      layer: this.#standIn(seat),
    };
  }

  #standIn(seat: Seat): Layer {
    const { layer } = seat;
    const open = (request: Parameters<Layer["open"]>[0]): Watch => {
      const isAsked = HEADS.has(seat.use) || (this.#current?.hasText === true && !JUDGES.has(seat.use));
      return isAsked ? layer.open(request) : this.#recorded(seat);
    };
    const refused = layer.onRefused?.bind(layer);
    return refused === undefined ? { open } : { open, onRefused: refused };
  }

  /** Says what it said then, at the first phase that it has; at the answer, where an answer came. */
  #recorded(seat: Seat): Watch {
    const { decision, unknown } = this.#current!;
    let isSaid = false;
    const say = (): Verdict => {
      if (isSaid) return ALLOW;
      isSaid = true;
      const record = decision.seats.find((one) => one.seat === seat.id);
      const isSame = this.#against.fingerprints[seat.id] === seat.fingerprint;
      if (
        record !== undefined &&
        isSame &&
        record.state === "ran" &&
        decision.revision === this.#against.revision
      )
        return verdictOf(record);
      const why = JUDGES.has(seat.use)
        ? "judge"
        : decision.revision === this.#against.revision
          ? "content"
          : "revision";
      unknown.add(why);
      return ALLOW;
    };
    const judgesAnswers = seat.phases.includes("onChunk");
    if (judgesAnswers && decision.upstreamCalled) return { onChunk: say };
    if (judgesAnswers && !seat.phases.includes("onPrompt")) return {};
    return { onPrompt: say };
  }
}

function verdictOf({ would, findings }: SeatRecord): Verdict {
  switch (would) {
    case "allow":
      return ALLOW;
    case "redact":
      return { act: "redact", findings, spans: [] };
    case "throttle":
      return { act: "throttle", findings, retryAfterMs: 0 };
    case "flag":
    case "block":
      return { act: would, findings };
    default:
      return would satisfies never;
  }
}

function stops({ act }: Verdict): boolean {
  return act === "block" || act === "throttle";
}

/** 0..1 of a text, the same each time. */
function chance(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE(0) / 4_294_967_296;
}
