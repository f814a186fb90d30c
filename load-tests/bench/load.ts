/**
 * The load generator: a fixed number of chat requests over a fixed number of keep-alive connections, each
 * with one request under way at a time. Every answer is checked; one that is wrong ends the bench, since a
 * proxy that fails fast would otherwise look cheap.
 */
import { connect, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import { AnswerReader } from "./answer-reader.ts";
import {
  FIRST_WORD,
  requestBody,
  requestParts,
  STREAM_END,
  streamedAnswer,
  textOf,
  WHOLE_ANSWER,
} from "./messages.ts";

const ANSWER_TIMEOUT_MS = 30_000;

export interface Target {
  readonly port: number;
  /** Beside those that every request carries. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Load {
  readonly connections: number;
  readonly requests: number;
  /** Events in each answer; 0 asks for a whole answer. */
  readonly events: number;
  /** Of a request; absent: 1 KB. */
  readonly bodyBytes?: number;
}

export interface LoadResult {
  readonly seconds: number;
  /** From the request's write to the answer's end, one entry per request. */
  readonly answerMs: Float64Array;
  /** From the request's write to the first word of the answer's text. */
  readonly firstWordMs: Float64Array;
  /** How often a socket gave bytes: fewer reads than events means that events came glued together. */
  readonly reads: number;
}

/** Never used twice in one run of the bench, so that no request repeats another's text. */
let lastNumber = 0;

export async function drive(target: Target, load: Load): Promise<LoadResult> {
  const head = requestHead(target);
  const parts = requestParts({ events: load.events, bodyBytes: load.bodyBytes });
  const answerMs = new Float64Array(load.requests);
  const firstWordMs = new Float64Array(load.requests);
  let reads = 0;
  let next = 0;
  const openConnections = await Promise.all(
    Array.from({ length: load.connections }, () => Line.open(target.port)),
  );
  const started = performance.now();
  try {
    await Promise.all(
      openConnections.map(async (line) => {
        while (next < load.requests) {
          const index = next++;
          const body = requestBody(parts, ++lastNumber);
          const answer = await line.exchange(`${head}${body.length}\r\n\r\n${body}`);
          check(answer, load.events);
          answerMs[index] = answer.answerMs;
          firstWordMs[index] = answer.firstWordMs;
          reads += answer.reads;
          if (answer.closes) await line.reopen();
        }
      }),
    );
  } finally {
    for (const line of openConnections) line.close();
  }
  return { seconds: (performance.now() - started) / 1000, answerMs, firstWordMs, reads };
}

/** One request whose answer must hold the upstream's text to the letter: asked before anything is measured. */
export async function verify(target: Target, events: number): Promise<void> {
  const line = await Line.open(target.port);
  try {
    const body = requestBody(requestParts({ events }), ++lastNumber);
    const answer = await line.exchange(`${requestHead(target)}${body.length}\r\n\r\n${body}`);
    check(answer, events);
    const text = textOf(answer.body, events > 0);
    if (text !== (events > 0 ? streamedAnswer(events) : WHOLE_ANSWER)) {
      throw new Error(`the answer's text was changed on its way: ${JSON.stringify(text.slice(0, 200))}`);
    }
  } finally {
    line.close();
  }
}

function requestHead(target: Target): string {
  const headers = {
    host: `127.0.0.1:${target.port}`,
    "content-type": "application/json",
    accept: "application/json",
    "user-agent": "sallyport-bench",
    ...target.headers,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST /v1/chat/completions HTTP/1.1\r\n${lines.join("")}content-length: `;
}

function check(answer: Answer, events: number): void {
  const whole = events === 0 || answer.body.endsWith(STREAM_END);
  if (answer.status === 200 && whole && answer.firstWordMs > 0) return;
  const said = JSON.stringify(answer.body.slice(-300));
  throw new Error(
    `a request failed: status ${answer.status}, ${answer.body.length} bytes, ending in ${said}`,
  );
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly closes: boolean;
  readonly answerMs: number;
  readonly firstWordMs: number;
  readonly reads: number;
}

/** One connection, one request at a time. */
class Line {
  readonly #port: number;
  #socket: Socket;

  private constructor(port: number, socket: Socket) {
    this.#port = port;
    this.#socket = socket;
  }

  static async open(port: number): Promise<Line> {
    return new Line(port, await openSocket(port));
  }

  async reopen(): Promise<void> {
    this.close();
    this.#socket = await openSocket(this.#port);
  }

  close(): void {
    this.#socket.destroy();
  }

  exchange(request: string): Promise<Answer> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      const reader = new AnswerReader();
      let reads = 0;
      let firstWordMs = 0;
      const settle = () => {
        socket.off("data", onData).off("error", fail).off("close", onClose).off("timeout", onTimeout);
        socket.setTimeout(0);
      };
      const fail = (error: Error) => {
        settle();
        reject(error);
      };
      const onClose = () => fail(new Error("the connection was closed before the answer's end"));
      const onTimeout = () => fail(new Error(`no complete answer within ${ANSWER_TIMEOUT_MS} ms`));
      const onData = (bytes: Buffer) => {
        reads++;
        try {
          const done = reader.push(bytes);
          if (firstWordMs === 0 && reader.body.includes(FIRST_WORD))
            firstWordMs = performance.now() - started;
          if (!done) return;
        } catch (error) {
          fail(error instanceof Error ? error : new Error(String(error)));
          return;
        }
        settle();
        const { status, body, closes } = reader;
        resolve({ status, body, closes, answerMs: performance.now() - started, firstWordMs, reads });
      };
      socket.on("data", onData).on("error", fail).on("close", onClose).on("timeout", onTimeout);
      socket.setTimeout(ANSWER_TIMEOUT_MS);
      const started = performance.now();
      socket.write(request, "latin1");
    });
  }
}

function openSocket(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}
