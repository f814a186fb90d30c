/**
 * Takes the upstream's answer from undici: checks its head, gathers a whole answer under its bound, hands a
 * stream on piece by piece, and gives every way to fail its own code. While seats still judge the head,
 * nothing that came after it is handed on.
 */
import type { Dispatcher } from "undici";
import type { Await, ProblemCode } from "../layer/index.ts";
import { clientHeaders } from "./headers.ts";
import type { Valve } from "./stream-relay.ts";
import { upstreamProblem } from "./upstream.ts";

export interface AnswerHead {
  readonly status: number;
  /** Allow-listed. */
  readonly headers: Record<string, string>;
  readonly stream: boolean;
}

export interface IntakeOptions {
  /** The caller asked for a stream; one that nobody asked for is refused. */
  readonly streamWanted: boolean;
  readonly answerBytesMax: number;
  /** The call is under way; `abort` cancels it. */
  onStart(controller: Dispatcher.DispatchController): void;
  /** True: go on. */
  onHead(head: AnswerHead): Await<boolean>;
  onStreamData(chunk: Buffer, valve: Valve): void;
  /** Without a code the stream ended in order. */
  onStreamEnd(failure?: ProblemCode): void;
  onWhole(head: AnswerHead, bytes: Buffer): void;
  onFault(code: ProblemCode, detail?: string): void;
}

export class AnswerIntake implements Dispatcher.DispatchHandler {
  readonly #options: IntakeOptions;
  #head: AnswerHead | undefined;
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** What came while the head was judged, in order; little, as the upstream is paused. */
  #early: (() => void)[] | undefined;
  #isOver = false;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#options.onStart(controller);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    raw: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (this.#isOver || status < 200) return;
    const type = mediaType(raw["content-type"]);
    const stream = type === "text/event-stream" && status < 300;
    const fault = headFault(status, raw["content-encoding"], type, stream && !this.#options.streamWanted);
    if (fault !== undefined) return this.#fault(fault);
    this.#head = { status, headers: clientHeaders(raw), stream };
    const goOn = this.#options.onHead(this.#head);
    if (!(goOn instanceof Promise)) {
      if (!goOn) this.#isOver = true;
      return;
    }
    this.#early = [];
    controller.pause();
    const replay = (agreed: boolean) => {
      const early = this.#early ?? [];
      this.#early = undefined;
      if (!agreed) this.#isOver = true;
      for (const step of early) step();
      controller.resume();
    };
    goOn.then(replay).catch(() => this.#fault("internal"));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#early !== undefined) {
      this.#early.push(() => this.onResponseData(controller, chunk));
      return;
    }
    if (this.#isOver || this.#head === undefined) return;
    if (this.#head.stream) return this.#options.onStreamData(chunk, controller);
    this.#bytes += chunk.length;
    if (this.#bytes > this.#options.answerBytesMax) return this.#fault("upstream_too_large");
    this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    if (this.#early !== undefined) {
      this.#early.push(() => this.onResponseEnd());
      return;
    }
    if (this.#isOver || this.#head === undefined) return;
    this.#isOver = true;
    if (this.#head.stream) return this.#options.onStreamEnd();
    const bytes = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#bytes);
    this.#options.onWhole(this.#head, bytes);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#early !== undefined) {
      this.#early.push(() => this.onResponseError(_controller, error));
      return;
    }
    if (this.#isOver) return;
    const code = upstreamProblem(error, this.#head !== undefined);
    if (this.#head?.stream === true) {
      this.#isOver = true;
      this.#options.onStreamEnd(code);
      return;
    }
    this.#fault(code, error.message);
  }

  #fault(code: ProblemCode, detail?: string): void {
    this.#isOver = true;
    this.#options.onFault(code, detail);
  }
}

/** Answers are 2xx in the format that was asked for, or errors; redirects and the like are none of a model API's. */
function headFault(
  status: number,
  encoding: string | string[] | undefined,
  type: string,
  isUnwantedStream: boolean,
): ProblemCode | undefined {
  if ((status >= 300 && status < 400) || status > 599) return "upstream_protocol";
  if (encoding !== undefined && encoding !== "identity") return "upstream_encoding";
  if (isUnwantedStream) return "upstream_content_type";
  if (status < 300 && type !== "application/json" && type !== "text/event-stream")
    return "upstream_content_type";
  return undefined;
}

/** "application/json" of `Application/JSON; charset=utf-8`; "" where there is none, or more than one. */
export function mediaType(value: string | string[] | undefined): string {
  if (typeof value !== "string") return "";
  const semicolon = value.indexOf(";");
  return (semicolon < 0 ? value : value.slice(0, semicolon)).trim().toLowerCase();
}
