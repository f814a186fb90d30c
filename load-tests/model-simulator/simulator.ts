/**
 * A model API on loopback for tests, benches and `npm start`: it speaks both vendors' wire formats, answers
 * from a seed or a script, breaks on demand and records what it received. This file is the server around
 * the pure parts: it reads a request, finds the script, has the transcript made and delivers it.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Capacity } from "./capacity.ts";
import { type Delivery, deliver } from "./delivery.ts";
import { type Found, findEndpoint } from "./endpoints.ts";
import { asObject, asText, BadCall, type JsonObject } from "./json.ts";
import { Random } from "./random.ts";
import { type Exchange, type ReceivedRequest, Recorder } from "./recorder.ts";
import {
  BODY_BYTES_MAX,
  parseScript,
  SCRIPT_HEADER,
  type Script,
  ScriptBook,
  ScriptProblem,
} from "./script.ts";
import { errorTranscript, makeTranscript, type Transcript } from "./transcript.ts";

export type { ReceivedRequest } from "./recorder.ts";
export { type Script, scriptHeader } from "./script.ts";

export interface SimulatorOptions {
  /** 127.0.0.1 by default. */
  readonly host?: string;
  /** 0 by default: any free one. */
  readonly port?: number;
  /** The same seed, script and request give the same answer. 1 by default. */
  readonly seed?: number;
  /** False: keep nothing of what is received, for benches. */
  readonly record?: boolean;
  /** Stands until it is changed through /_script. */
  readonly script?: Script;
  /** The client of this request left before the end of its answer; `abortedAfterMs` says when. */
  readonly onAbort?: (request: ReceivedRequest) => void;
  /** Called once for every request whose exchange is over. */
  readonly onClose?: (request: ReceivedRequest, status: number) => void;
}

export interface Simulator {
  readonly url: string;
  readonly port: number;
  /** Destroys open connections too. */
  close(): Promise<void>;
  /** Oldest first; empty without `record`. */
  received(): readonly ReceivedRequest[];
  clearReceived(): void;
  /** Exchanges that are not over yet: streamed or not, WebSockets included. */
  openStreams(): number;
  /** As `POST /_script`: a script, or `{times, script}`. */
  setScript(script: Script | { readonly times?: number; readonly script: Script }, model?: string): void;
  clearScripts(model?: string): void;
}

const CACHE_ENTRIES_MAX = 256;
const CACHE_BODY_BYTES_MAX = 64 * 1024;
const CACHE_ANSWER_BYTES_MAX = 1024 * 1024;
const KEEP_ALIVE_MS = 75_000;
/** Of a refusal where the capacity's queue is full. */
const FULL_STATUS = 503;

export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const { host = "127.0.0.1", port = 0 } = options;
  const running = new RunningSimulator(options);
  await running.listen(host, port);
  return running;
}

class RunningSimulator implements Simulator {
  url = "";
  port = 0;
  readonly #options: SimulatorOptions;
  readonly #server: Server;
  readonly #recorder: Recorder;
  readonly #scripts = new ScriptBook();
  /** Answers to requests seen before, good while the scripts stay as they are. */
  readonly #cache = new Map<string, { transcript: Transcript; script: Script }>();
  #cacheRevision = 0;
  readonly #sockets = new Set<Socket>();
  /** Shared by all requests whose script names a capacity. */
  readonly #capacity = new Capacity();
  #open = 0;
  #closing = false;

  constructor(options: SimulatorOptions) {
    this.#options = options;
    this.#recorder = new Recorder(options.record ?? true);
    if (options.script !== undefined) this.#scripts.set(options.script);
    // Tests decide how long a request may take; the server itself never cuts one off.
    this.#server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0, headersTimeout: 0 });
    this.#server.on("request", (request, response) => this.#onRequest(request, response));
    this.#server.on("upgrade", (request, socket, head) => void this.#onUpgrade(request, socket, head));
    this.#server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  async listen(host: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, () => resolve());
    });
    this.port = (this.#server.address() as AddressInfo).port;
    this.url = `http://${host.includes(":") ? `[${host}]` : host}:${this.port}`;
  }

  async close(): Promise<void> {
    this.#closing = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  received(): readonly ReceivedRequest[] {
    return this.#recorder.received();
  }

  clearReceived(): void {
    this.#recorder.clear();
  }

  openStreams(): number {
    return this.#open;
  }

  setScript(script: Script | { readonly times?: number; readonly script: Script }, model?: string): void {
    this.#scripts.set(script, model);
  }

  clearScripts(model?: string): void {
    this.#scripts.clear(model);
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const { method = "", url = "/" } = request;
    if (url.startsWith("/_")) {
      readBody(request, (body) => this.#admin(request, response, body));
      return;
    }
    const exchange = this.#recorder.open(method, url, request.rawHeaders);
    let delivery: Delivery | undefined;
    this.#open += 1;
    response.once("close", () => {
      delivery?.stop();
      this.#over(exchange, response.writableFinished || delivery?.sent === true, response.statusCode);
    });
    readBody(request, (body, arrived) => {
      this.#recorder.setBody(exchange, body ?? arrived);
      if (response.destroyed) return;
      const { transcript, script } = this.#answer(request, method, url, body);
      const { capacity } = script;
      if (capacity === undefined) {
        delivery = deliver(response, transcript, script);
        return;
      }
      const place = this.#capacity.enter(capacity, () => {
        const paced = { ...script, firstByteDelayMs: capacity.serviceMs ?? script.firstByteDelayMs };
        delivery = deliver(response, transcript, paced);
      });
      if (place !== undefined) response.once("close", place.leave);
      else delivery = deliver(response, this.#full(request, url, capacity.status ?? FULL_STATUS), NO_SCRIPT);
    });
  }

  #over(exchange: Exchange, completed: boolean, status: number): void {
    this.#open -= 1;
    exchange.completed = completed;
    if (!completed && !this.#closing) {
      exchange.aborted = true;
      exchange.abortedAfterMs = performance.now() - exchange.at;
      this.#options.onAbort?.(exchange);
    }
    this.#options.onClose?.(exchange, status);
  }

  #answer(request: IncomingMessage, method: string, url: string, body: Buffer | undefined) {
    const found = findEndpoint(url, request.headers["anthropic-version"] !== undefined);
    const header = request.headers[SCRIPT_HEADER];
    const kept = header === undefined && body !== undefined && body.length <= CACHE_BODY_BYTES_MAX;
    const key = kept ? `${method} ${found.vendor} ${url}\n${body.toString("latin1")}` : "";
    if (this.#cacheRevision !== this.#scripts.revision) {
      this.#cache.clear();
      this.#cacheRevision = this.#scripts.revision;
    }
    const known = kept ? this.#cache.get(key) : undefined;
    if (known !== undefined) return known;
    const made = this.#make(found, method, body, Array.isArray(header) ? header[0] : header);
    // A script that is used up by this request has moved the revision: its answer must not be kept.
    if (
      kept &&
      this.#cacheRevision === this.#scripts.revision &&
      made.transcript.bytes <= CACHE_ANSWER_BYTES_MAX
    ) {
      if (this.#cache.size >= CACHE_ENTRIES_MAX) this.#cache.clear();
      this.#cache.set(key, made);
    }
    return made;
  }

  #full(request: IncomingMessage, url: string, status: number): Transcript {
    const { vendor } = findEndpoint(url, request.headers["anthropic-version"] !== undefined);
    const random = new Random(`${this.#options.seed ?? 1} full`);
    return errorTranscript(vendor, random, status, "The server is at its capacity. Please try again later.");
  }

  #make(found: Found, method: string, bytes: Buffer | undefined, header: string | undefined) {
    const { vendor, endpoint, name } = found;
    let random = new Random(`${this.#options.seed ?? 1} ${method} ${name}`);
    const refuse = (status: number, message: string, param: string | null = null) => ({
      transcript: errorTranscript(vendor, random, status, message, param),
      script: NO_SCRIPT,
    });
    if (endpoint === undefined) return refuse(404, "Unknown request URL. Check the path for typos.");
    if (method !== endpoint.method) return refuse(405, `Not allowed to ${method} on this path.`);
    if (bytes === undefined) return refuse(413, `The request body is larger than ${BODY_BYTES_MAX} bytes.`);
    try {
      const body = endpoint.method === "GET" ? {} : readJson(bytes);
      // `stream` does not change what is said, so that a test can compare both ways of saying it.
      const { stream: _, stream_options: __, ...asked } = body;
      random = new Random(`${this.#options.seed ?? 1} ${method} ${name} ${JSON.stringify(asked)}`);
      const model = endpoint.method === "GET" ? name : asText(body["model"]);
      const script =
        header === undefined ? this.#scripts.take(model) : parseScript(header, `header ${SCRIPT_HEADER}`);
      const call = { body, script, random, name, scripted: [...this.#scripts.models()] };
      return { transcript: makeTranscript(endpoint, call), script };
    } catch (error) {
      if (error instanceof BadCall) return refuse(error.status, error.message, error.param);
      if (error instanceof ScriptProblem) return refuse(400, error.message, SCRIPT_HEADER);
      throw error;
    }
  }

  #admin(request: IncomingMessage, response: ServerResponse, body: Buffer | undefined): void {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://simulator");
    const model = searchParams.get("model") ?? undefined;
    const send = (status: number, json: string): void => {
      response.writeHead(status, ["content-type", "application/json"]);
      response.end(json);
    };
    try {
      switch (`${request.method} ${pathname}`) {
        case "POST /_script":
          if (body === undefined) throw new ScriptProblem(`body: larger than ${BODY_BYTES_MAX} bytes`);
          this.#scripts.setJson(body.toString("utf8"), model);
          return send(200, '{"ok":true}');
        case "DELETE /_script":
          this.#scripts.clear(model);
          return send(200, '{"ok":true}');
        case "GET /_received":
          return send(200, this.#recorder.toJson());
        case "DELETE /_received":
          this.#recorder.clear();
          return send(200, '{"ok":true}');
        case "GET /_received/count":
          return send(200, JSON.stringify({ count: this.#recorder.total, open: this.#open }));
        default:
          return send(404, JSON.stringify({ error: `${request.method} ${pathname} is not served` }));
      }
    } catch (error) {
      if (!(error instanceof ScriptProblem)) throw error;
      send(400, JSON.stringify({ error: error.message }));
    }
  }

  async #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { method = "", url = "/", rawHeaders } = request;
    socket.on("error", () => socket.destroy());
    const exchange = this.#recorder.open(method, url, rawHeaders);
    this.#open += 1;
    if (url !== "/v1/realtime" && !url.startsWith("/v1/realtime?")) {
      socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      return this.#over(exchange, true, 404);
    }
    try {
      const { openRealtime } = await import("./realtime.ts");
      // A failed handshake closes the socket without a client, so the socket tells of the end as well.
      let over = false;
      const end = (orderly: boolean): void => {
        if (!over) this.#over(exchange, orderly, 101);
        over = true;
      };
      socket.once("close", () => setImmediate(end, false));
      openRealtime(request, socket, head, end);
    } catch (error) {
      socket.end("HTTP/1.1 501 Not Implemented\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      process.emitWarning(`/v1/realtime needs the package "ws": ${String(error)}`);
      this.#over(exchange, true, 501);
    }
  }
}

const NO_SCRIPT: Script = {};

/**
 * Gives the whole body, or undefined where it is too large or broken off; then `arrived` is what there is.
 * A body that is too large is read to its end but not kept, so that the client gets to see the 413.
 */
function readBody(request: IncomingMessage, done: (body: Buffer | undefined, arrived: Buffer) => void): void {
  const chunks: Buffer[] = [];
  let size = 0;
  request.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= BODY_BYTES_MAX) chunks.push(chunk);
  });
  let over = false;
  const finish = (whole: boolean): void => {
    if (over) return;
    over = true;
    const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    done(whole && size <= BODY_BYTES_MAX ? body : undefined, body);
  };
  request.on("end", () => finish(true));
  request.on("error", () => finish(false));
}

function readJson(bytes: Buffer): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw new BadCall("We could not parse the JSON body of your request.");
  }
  const body = asObject(value);
  if (body === undefined) throw new BadCall("The JSON body of the request must be an object.");
  return body;
}
