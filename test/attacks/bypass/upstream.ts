/**
 * The model API behind the gateway under attack: it answers each call with what the call's case wrote for it,
 * chunk for chunk, and keeps every byte that it was sent. A call is told by the tag in its body or path, so
 * that many cases may run at once.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { benignAnswer } from "./benign.ts";

/** What a call is answered with. Each chunk is an HTTP chunk of its own, so readers get it by itself. */
export interface Answer {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly trailers?: Readonly<Record<string, string>>;
  readonly chunks: readonly (string | Buffer)[];
  /** Between two chunks; 0 is a turn of the event loop. */
  readonly gapMs?: number;
  /** How it ends: in order, by a reset, or not before the caller leaves (or HANG_MS_MAX). */
  readonly end?: "end" | "reset" | "hang";
  /** The chunks are all that is written, head included. */
  readonly raw?: boolean;
}

export interface Received {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  /** The caller went before the answer had ended. */
  aborted: boolean;
  done: boolean;
}

const TAG = /bypass-\d+-x/;
const HANG_MS_MAX = 4_000;

export class ScriptedUpstream {
  readonly #server = createServer((request, response) => {
    this.#serve(request, response).catch(() => response.destroy());
  });
  readonly #sockets = new Set<Socket>();
  readonly #answers = new Map<string, Answer>();
  readonly #received = new Map<string, Received[]>();
  url = "";

  static async open(host: string, port: number): Promise<ScriptedUpstream> {
    const upstream = new ScriptedUpstream();
    const server = upstream.#server;
    server.keepAliveTimeout = 600_000;
    server.on("connection", (socket) => {
      upstream.#sockets.add(socket);
      socket.on("close", () => upstream.#sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(port, host, resolve);
    });
    upstream.url = `http://${host}:${(server.address() as AddressInfo).port}`;
    return upstream;
  }

  script(tag: string, answer: Answer): void {
    this.#answers.set(tag, answer);
  }

  /** The calls that carried `tag`. */
  received(tag: string): readonly Received[] {
    return this.#received.get(tag) ?? [];
  }

  /** Lets go of what one case needed. */
  forget(tag: string): void {
    this.#answers.delete(tag);
    this.#received.delete(tag);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const sent = Buffer.concat(parts);
    const body = request.headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent;
    const path = request.url ?? "";
    const tag = TAG.exec(body.toString("latin1"))?.[0] ?? TAG.exec(path)?.[0] ?? "";
    const received: Received = { path, headers: request.headers, body, aborted: false, done: false };
    const list = this.#received.get(tag);
    if (list === undefined) this.#received.set(tag, [received]);
    else list.push(received);
    response.on("close", () => {
      if (!received.done) received.aborted = true;
    });
    const answer = this.#answers.get(tag) ?? benignAnswer(path, body);
    await write(response, answer, () => received.aborted);
    received.done = !received.aborted;
  }
}

async function write(response: ServerResponse, answer: Answer, isGone: () => boolean): Promise<void> {
  const { status = 200, headers = {}, chunks, gapMs = 0, end = "end", raw = false, trailers } = answer;
  const { socket } = response;
  if (raw) {
    for (const chunk of chunks) socket?.write(chunk);
    socket?.end();
    return;
  }
  response.writeHead(status, { "content-type": "application/json", ...headers });
  for (const chunk of chunks) {
    if (isGone()) return;
    if (chunk.length > 0) response.write(chunk);
    await (gapMs > 0 ? sleep(gapMs) : turn());
  }
  for (let waited = 0; end === "hang" && waited < HANG_MS_MAX && !isGone(); waited += 20) await sleep(20);
  if (isGone()) return;
  if (end === "reset") socket?.resetAndDestroy();
  else {
    if (trailers !== undefined) response.addTrailers(trailers);
    response.end();
  }
}
