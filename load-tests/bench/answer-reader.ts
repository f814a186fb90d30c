/**
 * Reads HTTP/1.1 answers off a socket for the load generator. It is ours because the generator shares the
 * machine's cores with what it measures: a client library would cost more per request than the proxies do.
 * It knows what the bench's servers send (a length or chunks) and refuses everything else.
 *
 *   head --content-length--> body ------------------------------> done
 *        --chunked--> size <--> data (with its CRLF) ; size 0 --> trailer --> done
 */

const HEAD_BYTES_MAX = 16_384;
const BODY_BYTES_MAX = 4_194_304;

type State = "head" | "body" | "size" | "data" | "trailer" | "done";

export class AnswerReader {
  status = 0;
  /** Status line and header fields, as they came. */
  head = "";
  /** Of Latin-1 characters, one a byte: the bench's texts are ASCII. */
  body = "";
  /** The server will close the connection after this answer. */
  closes = false;
  #state: State = "head";
  /** Bytes that were read and do not yet make a line or a head. */
  #pending = "";
  /** Bytes that are still to come of the body or of a chunk with its CRLF. */
  #left = 0;

  /** Takes what the socket gave; true when the answer is complete. Throws on what is not an answer. */
  push(bytes: Buffer): boolean {
    let at = 0;
    while (at < bytes.length) {
      if (this.done) throw new Error("bytes came after the end of an answer");
      switch (this.#state) {
        case "head": {
          const start = this.#pending.length;
          this.#pending += bytes.toString("latin1", at);
          const end = this.#pending.indexOf("\r\n\r\n");
          if (end < 0) {
            if (this.#pending.length > HEAD_BYTES_MAX) throw new Error("the answer's head is too large");
            return false;
          }
          at += end + 4 - start;
          this.#readHead(this.#pending.slice(0, end));
          this.#pending = "";
          break;
        }
        case "body":
        case "data":
          at += this.#readBody(bytes, at);
          break;
        case "size":
        case "trailer": {
          const end = bytes.indexOf(10, at);
          this.#pending += bytes.toString("latin1", at, end < 0 ? bytes.length : end);
          if (this.#pending.length > HEAD_BYTES_MAX) throw new Error("a line of the answer is too long");
          if (end < 0) return false;
          at = end + 1;
          this.#readLine(this.#pending.trim());
          this.#pending = "";
          break;
        }
      }
    }
    return this.done;
  }

  get done(): boolean {
    return this.#state === "done";
  }

  #readHead(head: string): void {
    const lines = head.split("\r\n");
    const status = /^HTTP\/1\.1 (\d{3})/.exec(lines[0] ?? "");
    if (status === null) throw new Error(`not an HTTP/1.1 answer: ${JSON.stringify(lines[0])}`);
    this.status = Number(status[1]);
    this.head = head;
    for (const line of lines) {
      const lower = line.toLowerCase();
      if (lower.startsWith("content-length:")) {
        this.#left = Number(line.slice("content-length:".length));
        if (!(this.#left <= BODY_BYTES_MAX)) throw new Error(`the answer's length is out of bounds: ${line}`);
        this.#state = this.#left === 0 ? "done" : "body";
      } else if (lower.startsWith("transfer-encoding:") && lower.includes("chunked")) {
        this.#state = "size";
      } else if (lower.startsWith("connection:") && lower.includes("close")) {
        this.closes = true;
      }
    }
    if (this.#state === "head") throw new Error("the answer has neither a length nor chunks");
  }

  #readBody(bytes: Buffer, at: number): number {
    const taken = Math.min(this.#left, bytes.length - at);
    // A chunk's last two bytes are its CRLF and no part of the body.
    const tail = this.#state === "data" ? 2 : 0;
    const text = Math.min(taken, Math.max(0, this.#left - tail));
    this.body += bytes.toString("latin1", at, at + text);
    if (this.body.length > BODY_BYTES_MAX) throw new Error("the answer is too large");
    this.#left -= taken;
    if (this.#left === 0) this.#state = this.#state === "data" ? "size" : "done";
    return taken;
  }

  #readLine(line: string): void {
    if (this.#state === "trailer") {
      if (line === "") this.#state = "done";
      return;
    }
    const size = /^[0-9a-f]{1,8}/i.exec(line);
    if (size === null) throw new Error(`not the size of a chunk: ${JSON.stringify(line)}`);
    this.#left = Number.parseInt(size[0], 16);
    if (this.#left === 0) this.#state = "trailer";
    else {
      this.#left += 2;
      this.#state = "data";
    }
  }
}
