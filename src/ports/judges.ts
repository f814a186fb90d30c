/**
 * Asks remote guards over HTTP, so that a layer can be the judge's reader and does no I/O itself. Each opened judge
 * has a pool of its own, closed with its layer; its circuit and its figures belong to seat and URL and stay through
 * every reload. Redirects are not followed, answers are bounded, and every way to fail has a name.
 */
import { Pool } from "undici";
import {
  JUDGE_FAILURES,
  type Judge,
  type JudgeAnswer,
  type JudgeEndpoint,
  type JudgeFailure,
  type JudgeQuestion,
  type Judges,
} from "../layer/index.ts";
import {
  AddressRefused,
  AddressRules,
  guardedConnector,
  type Resolve,
  resolveByDns,
} from "./judges-address.ts";
import { Circuit, type Leave } from "./judges-circuit.ts";
import { Turns } from "./judges-turns.ts";

/** Circuits kept; beyond it the oldest is forgotten. */
const CIRCUITS_MAX = 1_000;
/** Idle connections are kept so long. */
const KEEP_ALIVE_MS = 30_000;
/** An environment variable of another name is somebody else's secret, and the policy may not send it away. */
const KEY_ENV = /^SALLYPORT_JUDGE_[A-Z0-9_]{1,64}$/;

export interface JudgesOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly resolve?: Resolve;
  /** Milliseconds of any clock that only goes forward. */
  readonly nowMs?: () => number;
  /** A circuit opened (with the cause that opened it) or closed. */
  readonly onCircuit?: (change: { seat: string; origin: string; cause: JudgeFailure | undefined }) => void;
}

/** How one seat's judge fared since the start. */
export interface JudgeFigures {
  readonly seat: string;
  readonly answered: number;
  readonly failed: Readonly<Record<JudgeFailure, number>>;
  /** Of answered questions, waiting included. */
  readonly answeredMs: number;
  readonly isOpen: boolean;
}

interface Figures {
  readonly seat: string;
  readonly circuit: Circuit;
  answered: number;
  answeredMs: number;
  readonly failed: Record<JudgeFailure, number>;
  lastCause: JudgeFailure | undefined;
}

export interface JudgesPort {
  forSeat(seat: string): Judges;
  stats(): readonly JudgeFigures[];
  close(): Promise<void>;
}

export function openJudges(options: JudgesOptions): JudgesPort {
  const { env, resolve = resolveByDns, nowMs = () => performance.now(), onCircuit } = options;
  const figures = new Map<string, Figures>();
  const open = new Set<RemoteJudge>();
  return {
    forSeat: (seat) => ({
      open(endpoint) {
        const judge = new RemoteJudge(endpoint, {
          env,
          resolve,
          nowMs,
          figures: figuresOf(seat, endpoint.url),
        });
        open.add(judge);
        judge.onClose = () => open.delete(judge);
        return judge;
      },
    }),
    stats() {
      // A seat that was pointed elsewhere has the figures of both.
      const bySeat = Map.groupBy(figures.values(), ({ seat }) => seat);
      return [...bySeat].map(([seat, all]) => ({
        seat,
        answered: sum(all, ({ answered }) => answered),
        failed: countsBy((cause) => sum(all, ({ failed }) => failed[cause])),
        answeredMs: sum(all, ({ answeredMs }) => answeredMs),
        isOpen: all.some(({ circuit }) => circuit.kind !== "closed"),
      }));
    },
    async close() {
      await Promise.all([...open].map((judge) => judge.close()));
    },
  };

  function figuresOf(seat: string, url: string): Figures {
    const key = `${seat} ${url}`;
    const known = figures.get(key);
    if (known !== undefined) return known;
    const { origin } = new URL(url);
    const made: Figures = {
      seat,
      circuit: new Circuit({
        nowMs,
        onChange: (isOpen) => onCircuit?.({ seat, origin, cause: isOpen ? made.lastCause : undefined }),
      }),
      answered: 0,
      answeredMs: 0,
      failed: countsBy(() => 0),
      lastCause: undefined,
    };
    figures.set(key, made);
    if (figures.size > CIRCUITS_MAX) figures.delete(figures.keys().next().value!);
    return made;
  }
}

function countsBy(count: (cause: JudgeFailure) => number): Record<JudgeFailure, number> {
  return Object.fromEntries(JUDGE_FAILURES.map((cause) => [cause, count(cause)])) as Record<
    JudgeFailure,
    number
  >;
}

function sum(all: readonly Figures[], of: (one: Figures) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}

interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly resolve: Resolve;
  readonly nowMs: () => number;
  readonly figures: Figures;
}

/** Failures that say nothing of the judge's health. */
const OWN_CAUSES: ReadonlySet<JudgeFailure> = new Set(["open", "full", "key", "gone"]);

class Failed extends Error {
  readonly failure: JudgeFailure;
  constructor(failure: JudgeFailure) {
    super(failure);
    this.failure = failure;
  }
}

class RemoteJudge implements Judge {
  readonly #endpoint: JudgeEndpoint;
  readonly #around: Surroundings;
  readonly #pool: Pool;
  readonly #path: string;
  readonly #turns: Turns;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #hasKey: boolean;
  #isClosed = false;
  onClose: () => void = () => {};

  /** @throws {RangeError} */
  constructor(endpoint: JudgeEndpoint, around: Surroundings) {
    const { url, keyEnv, timeoutMs, concurrencyMax } = endpoint;
    if (keyEnv !== undefined && !KEY_ENV.test(keyEnv)) {
      throw new RangeError("keyEnv: must begin with SALLYPORT_JUDGE_");
    }
    const rules = new AddressRules(endpoint);
    const { origin, pathname, search } = new URL(url);
    const key = keyEnv === undefined ? undefined : around.env[keyEnv];
    this.#endpoint = endpoint;
    this.#around = around;
    this.#path = pathname + search;
    this.#turns = new Turns(endpoint);
    this.#hasKey = keyEnv === undefined || (key !== undefined && key !== "");
    this.#headers = {
      "content-type": "application/json",
      accept: "application/json",
      "accept-encoding": "identity",
      ...(key !== undefined && { authorization: `Bearer ${key}` }),
    };
    this.#pool = new Pool(origin, {
      connections: concurrencyMax,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      allowH2: false,
      connect: guardedConnector(rules, around.resolve, timeoutMs),
    });
  }

  async ask<T>({ body, read, signal }: JudgeQuestion<T>): Promise<JudgeAnswer<T>> {
    const { figures, nowMs } = this.#around;
    const startedMs = nowMs();
    const ending = new AbortController();
    const end = (why: JudgeFailure): void => ending.abort(new Failed(why));
    const timer = setTimeout(end, this.#endpoint.timeoutMs, "timeout" as const);
    const onGone = (): void => end("gone");
    signal?.addEventListener("abort", onGone, { once: true });
    if (signal?.aborted === true || this.#isClosed) onGone();
    try {
      const value = await this.#inTurn({ body, read }, ending.signal);
      figures.answered += 1;
      figures.answeredMs += nowMs() - startedMs;
      return { kind: "answered", value };
    } catch (error) {
      const failure = causeOf(error, ending.signal);
      figures.failed[failure] += 1;
      return { kind: "failed", cause: failure };
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onGone);
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.onClose();
    await this.#pool.destroy();
  }

  async #inTurn<T>(question: JudgeQuestion<T>, signal: AbortSignal): Promise<T> {
    const { circuit } = this.#around.figures;
    signal.throwIfAborted();
    if (!this.#hasKey) throw new Failed("key");
    if (circuit.refuses) throw new Failed("open");
    const turn = await this.#turns.enter(signal);
    if (turn === "full") throw new Failed("full");
    signal.throwIfAborted();
    try {
      const leave = circuit.enter();
      if (leave === undefined) throw new Failed("open");
      return await this.#withLeave(leave, question, signal);
    } finally {
      this.#turns.leave();
    }
  }

  async #withLeave<T>(leave: Leave, { body, read }: JudgeQuestion<T>, signal: AbortSignal): Promise<T> {
    const { figures } = this.#around;
    const { breaker } = this.#endpoint;
    try {
      const value = readBy(read, await this.#call(body, signal));
      if (value === undefined) throw new Failed("malformed");
      figures.circuit.good(leave, breaker);
      return value;
    } catch (error) {
      const cause = causeOf(error, signal);
      if (OWN_CAUSES.has(cause)) figures.circuit.unused(leave);
      else {
        figures.lastCause = cause;
        figures.circuit.bad(leave, breaker);
      }
      throw error;
    }
  }

  async #call(body: string, signal: AbortSignal): Promise<string> {
    const answer = await this.#pool.request({
      method: "POST",
      path: this.#path,
      headers: this.#headers,
      body,
      signal,
    });
    const { statusCode, headers } = answer;
    const fault =
      statusCode >= 300 && statusCode < 400
        ? "redirect"
        : statusCode !== 200
          ? "status"
          : headers["content-encoding"] !== undefined
            ? "protocol"
            : undefined;
    if (fault !== undefined) {
      // What is left of it costs a connection, not memory.
      answer.body.on("error", () => {}).destroy();
      throw new Failed(fault);
    }
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const part of answer.body as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > this.#endpoint.answerBytesMax) throw new Failed("too_large");
      parts.push(part);
    }
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts));
    } catch {
      throw new Failed("protocol");
    }
  }
}

/** A reader that throws has read no verdict. */
function readBy<T>(read: (answer: string) => T | undefined, answer: string): T | undefined {
  try {
    return read(answer);
  } catch {
    return undefined;
  }
}

/** Why it was ended, where it was; otherwise undici and the socket name what broke by codes. */
function causeOf(error: unknown, signal: AbortSignal): JudgeFailure {
  if (signal.aborted && signal.reason instanceof Failed) return signal.reason.failure;
  if (error instanceof Failed) return error.failure;
  if (error instanceof AddressRefused) return "address";
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (/TIMEOUT|TIMEDOUT/.test(code)) return "timeout";
  // Nothing was said yet: the network, the name or TLS.
  if (
    /^(ECONN|EPIPE|UND_ERR_SOCKET|ENOTFOUND|EAI_|EHOST|ENET|EADDR|ERR_TLS|ERR_SSL|CERT_|DEPTH_|UNABLE_|SELF_SIGNED)/.test(
      code,
    )
  ) {
    return "connect";
  }
  return "protocol";
}
