/**
 * Server-sent events as bytes: a decoder that takes chunks cut anywhere and an encoder that writes one
 * canonical form. It follows the WHATWG event-stream grammar, but refuses bytes that are not UTF-8 and an
 * event larger than a bound, so that a broken or hostile upstream can neither slip bytes past the layers
 * nor fill memory. What it does never depends on where the chunks were cut.
 *
 *   chunk    ....data: {"a":1}\n\nevent: x\ndata: {"b
 *                 complete lines ----------^ tail ---^   (copied into #tail until its line ends)
 */
import { isUtf8 } from "node:buffer";

/** One server-sent event: lines of `data` joined with "\n"; `event` is "" when unnamed. */
export interface SseEvent {
  readonly event: string;
  readonly data: string;
}

/** Bytes that cannot be read as an event stream; the decoder is of no use afterwards. */
export class SseFault extends Error {
  readonly code: "event_too_large" | "utf8";
  constructor(code: "event_too_large" | "utf8", message: string) {
    super(message);
    this.name = "SseFault";
    this.code = code;
  }
}

const LF = 10;
const CR = 13;
const SPACE = 32;
const COLON = 58;
const BOM_BYTES = 3;
const TAIL_BYTES_MIN = 1024;

export class SseDecoder {
  readonly #eventBytesMax: number;
  /** Bytes of a line whose end has not come yet; grows by doubling, up to the bound. */
  #tail: Buffer = Buffer.alloc(0);
  #tailBytes = 0;
  /** The last line ended with CR: an LF that comes next belongs to it. */
  #afterCr = false;
  #atStart = true;
  #event = "";
  #data: string | undefined;
  /** Bytes of the present event's `event` and `data` lines so far, one more per line for its end. */
  #eventBytes = 0;

  constructor(options: { readonly eventBytesMax: number }) {
    this.#eventBytesMax = options.eventBytesMax;
  }

  /** Throws SseFault; events before the fault were handed over. */
  push(chunk: Uint8Array, onEvent: (event: SseEvent) => void, onComment?: () => void): void {
    let bytes = Buffer.isBuffer(chunk)
      ? chunk
      : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#afterCr && bytes.length > 0) {
      this.#afterCr = false;
      if (bytes[0] === LF) bytes = bytes.subarray(1);
    }
    if (bytes.length === 0) return;
    const cut = endOfLines(bytes);
    if (cut > 0) {
      const lines = cut === bytes.length ? bytes : bytes.subarray(0, cut);
      this.#afterCr = cut === bytes.length && bytes[cut - 1] === CR;
      this.#read(this.#tailBytes === 0 ? lines : this.#withTail(lines), onEvent, onComment);
    }
    if (cut < bytes.length) this.#keep(cut === 0 ? bytes : bytes.subarray(cut));
  }

  /** What is kept of an event whose end has not come. */
  get waitingBytes(): number {
    return this.#tailBytes + this.#eventBytes;
  }

  /** Tells whether the stream ended between events; what is left of an unfinished one is dropped. */
  end(): "clean" | "unterminated" {
    return this.#tailBytes === 0 && this.#data === undefined && this.#event === "" ? "clean" : "unterminated";
  }

  #withTail(lines: Buffer): Buffer {
    const whole = Buffer.concat([this.#tail.subarray(0, this.#tailBytes), lines]);
    this.#tailBytes = 0;
    return whole;
  }

  #keep(bytes: Buffer): void {
    const size = this.#tailBytes + bytes.length;
    if (this.#eventBytes + size > this.#eventBytesMax) throw this.#tooLarge();
    if (size > this.#tail.length) {
      const grown = Buffer.allocUnsafe(Math.max(TAIL_BYTES_MIN, size, this.#tail.length * 2));
      this.#tail.copy(grown, 0, 0, this.#tailBytes);
      this.#tail = grown;
    }
    bytes.copy(this.#tail, this.#tailBytes);
    this.#tailBytes = size;
  }

  /** `bytes` are whole lines: the last one ends where they end. */
  #read(bytes: Buffer, onEvent: (event: SseEvent) => void, onComment: (() => void) | undefined): void {
    if (isUtf8(bytes)) {
      this.#readText(bytes.toString("utf8"), bytes.length, onEvent, onComment);
      return;
    }
    // Only to hand over the good lines before the bad one, as any other cutting of the stream would.
    let at = 0;
    while (at < bytes.length) {
      let end = at;
      while (bytes[end] !== LF && bytes[end] !== CR) end += 1;
      end += bytes[end] === CR && bytes[end + 1] === LF ? 2 : 1;
      const line = bytes.subarray(at, end);
      if (!isUtf8(line)) throw new SseFault("utf8", "The event stream is not valid UTF-8.");
      this.#readText(line.toString("utf8"), line.length, onEvent, onComment);
      at = end;
    }
  }

  #readText(
    raw: string,
    size: number,
    onEvent: (event: SseEvent) => void,
    onComment: (() => void) | undefined,
  ): void {
    const ascii = size === raw.length;
    const text = raw.includes("\r") ? raw.replace(/\r\n?/g, "\n") : raw;
    let at = 0;
    if (this.#atStart) {
      this.#atStart = false;
      if (text.charCodeAt(0) === 0xfeff) {
        at = 1;
        this.#eventBytes = BOM_BYTES;
      }
    }
    while (at < text.length) {
      const end = text.indexOf("\n", at);
      if (end === at) this.#dispatch(onEvent);
      else this.#line(text, at, end, ascii, onComment);
      at = end + 1;
    }
  }

  #dispatch(onEvent: (event: SseEvent) => void): void {
    const data = this.#data;
    const event = this.#event;
    this.#data = undefined;
    this.#event = "";
    this.#eventBytes = 0;
    if (data !== undefined) onEvent({ event, data });
  }

  #line(text: string, at: number, end: number, ascii: boolean, onComment: (() => void) | undefined): void {
    const bytes = ascii ? end - at : Buffer.byteLength(text.slice(at, end));
    if (this.#eventBytes + bytes > this.#eventBytesMax) throw this.#tooLarge();
    if (text.startsWith("data:", at)) {
      const value = text.slice(at + (text.charCodeAt(at + 5) === SPACE ? 6 : 5), end);
      this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    } else if (text.startsWith("event:", at)) {
      this.#event = text.slice(at + (text.charCodeAt(at + 6) === SPACE ? 7 : 6), end);
    } else if (text.charCodeAt(at) === COLON) {
      onComment?.();
      return;
    } else if (end - at === 4 && text.startsWith("data", at)) {
      this.#data = this.#data === undefined ? "" : `${this.#data}\n`;
    } else if (end - at === 5 && text.startsWith("event", at)) {
      this.#event = "";
    } else {
      return; // `id`, `retry` and fields that nobody knows: nothing is kept, so nothing is counted.
    }
    this.#eventBytes += bytes + 1;
  }

  #tooLarge(): SseFault {
    return new SseFault("event_too_large", `An event is larger than ${this.#eventBytesMax} bytes.`);
  }
}

/** Where the last complete line ends: the offset after its LF or CR, or 0. */
function endOfLines(bytes: Buffer): number {
  const last = bytes[bytes.length - 1];
  if (last === LF || last === CR) return bytes.length;
  return Math.max(bytes.lastIndexOf(LF), bytes.lastIndexOf(CR)) + 1;
}

/** The canonical form: `event` unless unnamed, one `data` line per line of data. Data must hold no CR. */
export function encodeSse(event: SseEvent): string {
  const name = event.event === "" ? "" : `event: ${event.event}\n`;
  const data = event.data.includes("\n") ? event.data.replaceAll("\n", "\ndata: ") : event.data;
  return `${name}data: ${data}\n\n`;
}
