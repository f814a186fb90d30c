/**
 * A plain load generator for faults: kept connections to the replicas of a fleet, one request at a time on
 * each, answers read off the socket. It tells when each request was written and when its answer had come, on
 * the test's own monotonic clock, so that a proof about windows needs nobody else's clock.
 */
import { connect, type Socket } from "node:net";
import { AnswerReader } from "../../load-tests/bench/answer-reader.ts";
import { KEY } from "./house.ts";

const ANSWER_MS_MAX = 60_000;
/** Connections being opened at once: a listener's backlog holds 511. */
const OPENING_MAX = 200;

export interface Told {
  /** 0: the connection broke, and `body` says how. */
  readonly status: number;
  readonly head: string;
  readonly body: string;
  /** On the clock of performance.now. */
  readonly sentMs: number;
  readonly gotMs: number;
}

export class Line {
  readonly port: number;
  #socket: Socket | undefined;

  constructor(port: number) {
    this.port = port;
  }

  async open(): Promise<void> {
    this.#socket ??= await openSocket(this.port);
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  /** Writes a request and waits for its answer; connects first where there is no connection. Never rejects. */
  async ask(request: string): Promise<Told> {
    const startedMs = performance.now();
    try {
      await this.open();
    } catch (error) {
      return { status: 0, head: "", body: String(error), sentMs: startedMs, gotMs: performance.now() };
    }
    const socket = this.#socket!;
    return new Promise((resolve) => {
      const reader = new AnswerReader();
      const settle = (status: number, body: string) => {
        socket.off("data", onData).off("error", onError).off("close", onClose);
        clearTimeout(timer);
        if (status === 0 || reader.closes) this.close();
        resolve({ status, head: reader.head, body, sentMs, gotMs: performance.now() });
      };
      const onError = (error: Error) => settle(0, String(error));
      const onClose = () => settle(0, "the connection was closed before the answer's end");
      const onData = (bytes: Buffer) => {
        try {
          if (reader.push(bytes)) settle(reader.status, reader.body);
        } catch (error) {
          settle(0, String(error));
        }
      };
      const timer = setTimeout(() => settle(0, `no answer within ${ANSWER_MS_MAX} ms`), ANSWER_MS_MAX);
      socket.on("data", onData).on("error", onError).on("close", onClose);
      const sentMs = performance.now();
      socket.write(request, "latin1");
    });
  }
}

/** `count` lines that are connected already, spread evenly over the ports. */
export async function openLines(ports: readonly number[], count: number): Promise<readonly Line[]> {
  const lines = Array.from({ length: count }, (_, index) => new Line(ports[index % ports.length]!));
  for (let at = 0; at < count; at += OPENING_MAX) {
    await Promise.all(lines.slice(at, at + OPENING_MAX).map((line) => line.open()));
  }
  return lines;
}

/** One request on each line, all written before any answer is read. */
export function volley(lines: readonly Line[], request: (index: number) => string): Promise<readonly Told[]> {
  return Promise.all(lines.map((line, index) => line.ask(request(index))));
}

/** Each line asks again as soon as it was answered, until the time is up. */
export async function hammer(
  lines: readonly Line[],
  forMs: number,
  request: (index: number) => string,
): Promise<readonly Told[]> {
  const told: Told[] = [];
  const untilMs = performance.now() + forMs;
  await Promise.all(
    lines.map(async (line, index) => {
      while (performance.now() < untilMs) {
        const answer = await line.ask(request(index));
        told.push(answer);
        // A gateway that is away answers at once; asking it in a tight loop would starve the others.
        if (answer.status === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }),
  );
  return told;
}

/**
 * Requests at a steady rate, whether or not the ones before were answered, so that a stall is seen by all
 * who would have come in it. The nth goes to port n modulo their number.
 */
export class SteadyLoad {
  readonly told: (Told & { readonly number: number; readonly port: number })[] = [];
  readonly #ports: readonly number[];
  readonly #idle = new Map<number, Line[]>();
  readonly #request: (number: number) => string;
  readonly #timer: NodeJS.Timeout;
  readonly #startedMs = performance.now();
  #sent = 0;
  #waiting = 0;

  constructor(options: {
    readonly ports: readonly number[];
    readonly perSecond: number;
    request(number: number): string;
  }) {
    this.#ports = options.ports;
    this.#request = options.request;
    this.#timer = setInterval(() => {
      const due = ((performance.now() - this.#startedMs) / 1000) * options.perSecond;
      while (this.#sent < due) void this.#send();
    }, 2);
  }

  /** Sends no more, waits for the answers that are still to come, and closes. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#waiting > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    for (const lines of this.#idle.values()) for (const line of lines) line.close();
  }

  async #send(): Promise<void> {
    const number = this.#sent++;
    const port = this.#ports[number % this.#ports.length]!;
    const idle = this.#idle.get(port) ?? [];
    this.#idle.set(port, idle);
    const line = idle.pop() ?? new Line(port);
    this.#waiting += 1;
    const answer = await line.ask(this.#request(number));
    this.#waiting -= 1;
    idle.push(line);
    this.told.push({ ...answer, number, port });
  }
}

/** A caller who goes without a word: connects, asks, and breaks the connection so many milliseconds later. */
export async function leave(port: number, request: string, afterMs: number): Promise<void> {
  const socket = await openSocket(port);
  socket.resume();
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.write(request, "latin1");
  const timer = setTimeout(() => socket.resetAndDestroy(), afterMs);
  await closed;
  clearTimeout(timer);
}

export interface Ask {
  readonly key?: string;
  readonly model?: string;
  readonly user?: string;
  readonly stream?: boolean;
  readonly outputTokensMax?: number;
  readonly text?: string;
}

/** A chat request as it goes over the wire. */
export function chat(ask: Ask = {}): string {
  const body = JSON.stringify({
    model: ask.model ?? "m",
    ...(ask.stream === true && { stream: true, stream_options: { include_usage: true } }),
    ...(ask.user !== undefined && { user: ask.user }),
    ...(ask.outputTokensMax !== undefined && { max_completion_tokens: ask.outputTokensMax }),
    messages: [{ role: "user", content: ask.text ?? "hello" }],
  });
  return (
    "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n" +
    `authorization: Bearer ${ask.key ?? KEY}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

/** How many answers have each status. */
export function statuses(told: readonly Told[]): Readonly<Record<number, number>> {
  const count: Record<number, number> = {};
  for (const { status } of told) count[status] = (count[status] ?? 0) + 1;
  return count;
}

/** The value of a header, or undefined. */
export function headerOf({ head }: Told, name: string): string | undefined {
  const line = head.split("\r\n").find((text) => text.toLowerCase().startsWith(`${name.toLowerCase()}:`));
  return line?.slice(name.length + 1).trim();
}

function openSocket(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      // Between two requests nobody listens; a connection that breaks then is found out by the next one.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}
