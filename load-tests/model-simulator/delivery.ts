/**
 * Sends a transcript over a connection at the script's pace. Each piece goes to the socket in a write of
 * its own: Node would otherwise gather the events of one turn of its loop into one write, and a receiver
 * would never see events apart. A full socket is waited for, and nothing is sent after the client left.
 */
import type { EventEmitter } from "node:events";
import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Script } from "./script.ts";
import type { Piece, Transcript } from "./transcript.ts";

/** Below this a timer is no more exact than going on at once. */
const WAIT_MS_MIN = 0.5;
const SLOW_HEAD_GAP_MS = 50;

export interface Delivery {
  /** The client left, or the server closes: send nothing more. */
  stop(): void;
  /** Everything that the transcript holds was handed to the operating system, faults included. */
  readonly sent: boolean;
}

const NOTHING_LEFT: Delivery = { stop() {}, sent: true };

export function deliver(response: ServerResponse, transcript: Transcript, script: Script): Delivery {
  const { head, ending, pieces, status, headers } = transcript;
  const only = pieces.length === 1 && !transcript.chunked ? pieces[0] : undefined;
  if (only !== undefined && head === "now" && ending === "clean" && script.firstByteDelayMs === undefined) {
    response.writeHead(status, headers as string[]);
    response.end(only.payload);
    return NOTHING_LEFT;
  }
  const paced = new PacedDelivery(response, transcript, script);
  paced.start();
  return paced;
}

class PacedDelivery implements Delivery {
  sent = false;
  readonly #response: ServerResponse;
  readonly #transcript: Transcript;
  readonly #script: Script;
  #stopped = false;
  #next = 0;
  #timer: NodeJS.Timeout | undefined;
  /** When the next piece may leave, on the performance.now clock. */
  #dueAt = 0;
  #write: (piece: Piece) => boolean = () => true;
  /** Tells when a write that found no room has gone out. */
  #drains: EventEmitter;

  constructor(response: ServerResponse, transcript: Transcript, script: Script) {
    this.#response = response;
    this.#drains = response;
    this.#transcript = transcript;
    this.#script = script;
  }

  start(): void {
    const delayMs = this.#script.firstByteDelayMs ?? 0;
    if (delayMs > 0) this.#timer = setTimeout(() => this.#sendHead(), delayMs);
    else this.#sendHead();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #sendHead(): void {
    const { head, status, headers } = this.#transcript;
    if (this.#stopped) return;
    if (head === "withheld") return this.#finish();
    if (head === "slow") return this.#sendSlowHead(0, rawHead(status, headers));
    const response = this.#response;
    response.writeHead(status, headers as string[]);
    response.flushHeaders();
    const { socket } = response;
    // Our own chunk framing holds only where Node frames so too (not for HTTP/1.0, nor behind a pipelined answer).
    const direct = socket !== null && (!this.#transcript.chunked || response.chunkedEncoding);
    if (direct) this.#drains = socket;
    this.#write = direct ? ({ wire }) => socket.write(wire) : ({ payload }) => response.write(payload);
    this.#begin();
  }

  #begin(): void {
    this.#dueAt = performance.now();
    this.#pump();
  }

  /** By hand and in small writes, which Node's own head does not allow; the body then ends with the connection. */
  #sendSlowHead(from: number, raw: Buffer): void {
    const { socket } = this.#response;
    if (this.#stopped || socket === null) return;
    const to = from + this.#transcript.headBytes;
    socket.write(raw.subarray(from, to));
    if (to < raw.length) {
      const gapMs = this.#script.eventGapMs ?? SLOW_HEAD_GAP_MS;
      this.#timer = setTimeout(() => this.#sendSlowHead(to, raw), gapMs);
    } else {
      this.#drains = socket;
      this.#write = ({ payload }) => socket.write(payload);
      this.#begin();
    }
  }

  readonly #pump = (): void => {
    const { pieces } = this.#transcript;
    const { eventGapMs = 0, tokensPerSecond = 0 } = this.#script;
    const paced = eventGapMs > 0 || tokensPerSecond > 0;
    while (!this.#stopped) {
      const piece = pieces[this.#next];
      if (piece === undefined) return this.#finish();
      if (paced) {
        const waitMs = this.#dueAt - performance.now();
        if (waitMs >= WAIT_MS_MIN) {
          this.#timer = setTimeout(this.#pump, waitMs);
          return;
        }
        const tokensMs = tokensPerSecond > 0 ? (piece.tokens * 1_000) / tokensPerSecond : 0;
        this.#dueAt += eventGapMs + tokensMs;
      }
      this.#next += 1;
      if (!this.#write(piece)) {
        this.#drains.once("drain", this.#pump);
        return;
      }
    }
  };

  #finish(): void {
    const { ending, head } = this.#transcript;
    const { socket } = this.#response;
    switch (ending) {
      case "clean":
        this.sent = true;
        if (head === "slow") socket?.end();
        else this.#response.end();
        return;
      case "reset":
        this.sent = true;
        // One turn later, so that what was written is on its way before the reset overtakes it.
        setImmediate(() => socket?.resetAndDestroy());
        return;
      case "half_close":
        this.sent = true;
        socket?.end();
        return;
      case "silence":
        // Not `sent`: that the client leaves is the only end there is, and the record says so.
        return;
      default:
        ending satisfies never;
    }
  }
}

function rawHead(status: number, headers: readonly string[]): Buffer {
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n`;
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return Buffer.from(`${head}connection: close\r\n\r\n`, "latin1");
}
