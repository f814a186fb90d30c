/**
 * What the simulator received, byte for byte, so that a test can compare it with what was sent. It keeps
 * the newest requests within two bounds and forgets the oldest beyond them; what became of each answer is
 * noted on the same entry, with times on the clock of performance.now.
 */

const REQUESTS_MAX = 1_000;
const BODY_BYTES_MAX = 64 * 1024 * 1024;

export interface ReceivedRequest {
  /** Counts up from 1. */
  readonly id: number;
  readonly method: string;
  /** Path and query as sent. */
  readonly url: string;
  readonly rawHeaders: readonly string[];
  /** Empty until all of it arrived; after an abort, what did arrive. */
  readonly body: Buffer;
  /** When the head arrived, on performance.now's clock. */
  readonly at: number;
  /** The client left before the end of the answer. */
  readonly aborted: boolean;
  /** From `at` until the client was seen to be gone. */
  readonly abortedAfterMs: number | null;
  /** The whole answer, or all that its fault lets through, was handed to the operating system. */
  readonly completed: boolean;
}

/** The entry while its exchange runs. */
export type Exchange = { -readonly [Key in keyof ReceivedRequest]: ReceivedRequest[Key] };

const NO_BYTES = Buffer.alloc(0);

export class Recorder {
  readonly #keeps: boolean;
  /** By id, oldest first. */
  readonly #held = new Map<number, Exchange>();
  #heldBytes = 0;
  #lastId = 0;
  /** Since the start or the last clear. */
  total = 0;

  constructor(keeps: boolean) {
    this.#keeps = keeps;
  }

  open(method: string, url: string, rawHeaders: readonly string[]): Exchange {
    this.#lastId += 1;
    this.total += 1;
    const exchange: Exchange = {
      id: this.#lastId,
      method,
      url,
      rawHeaders,
      body: NO_BYTES,
      at: performance.now(),
      aborted: false,
      abortedAfterMs: null,
      completed: false,
    };
    if (this.#keeps) {
      this.#held.set(exchange.id, exchange);
      this.#forgetOldest();
    }
    return exchange;
  }

  setBody(exchange: Exchange, body: Buffer): void {
    if (!this.#held.has(exchange.id)) return;
    exchange.body = body;
    this.#heldBytes += body.length;
    this.#forgetOldest();
  }

  received(): readonly ReceivedRequest[] {
    return [...this.#held.values()];
  }

  clear(): void {
    this.#held.clear();
    this.#heldBytes = 0;
    this.total = 0;
  }

  toJson(): string {
    const wallMs = performance.timeOrigin;
    return JSON.stringify(
      this.received().map(({ body, ...rest }) => ({
        ...rest,
        atEpochMs: wallMs + rest.at,
        bodyBase64: body.toString("base64"),
      })),
    );
  }

  #forgetOldest(): void {
    for (const [id, oldest] of this.#held) {
      const tooMany = this.#held.size > REQUESTS_MAX;
      if (!tooMany && (this.#heldBytes <= BODY_BYTES_MAX || this.#held.size === 1)) return;
      this.#held.delete(id);
      this.#heldBytes -= oldest.body.length;
    }
  }
}
