/**
 * One request on its way to a set of targets: it stands between undici and the exchange, tells the target's
 * limit and health how it went, and tries once more elsewhere where that is safe. The exchange sees a single
 * request: one start, one head, one end, and one controller that is good for all of it.
 *
 * Tried again is only what the caller has heard nothing of, not one byte of an answer's head:
 *
 *   not connected                              any target, also the same
 *   reset, on a connection that was kept alive any target, also the same: the usual race with an idle close
 *   reset, on a new connection                 another target
 *   502, 503, 504, 529 (429 where configured)  another target
 *
 * After a reset or a 502, the first target may have begun to work on the request, and be paid for it. A model's
 * answer has no effect but its cost, so that the caller's answer is worth more. Never tried again: a head that
 * did not come in time (the second wait would be as long), and whatever goes wrong after the head.
 */
import type { Dispatcher } from "undici";
import type { Tier } from "../layer/index.ts";
import { type Credential, failedOnUsedConnection, type UpstreamCall, upstreamProblem } from "./upstream.ts";
import type { Sent } from "./upstream-limit.ts";
import type { RetryBudget, RetrySettings } from "./upstream-retry.ts";
import type { Target } from "./upstream-target.ts";

/** Who asks, and for what: decides on the credential, the share of the limit, and what time is usual. */
export interface Caller {
  readonly tier: Tier;
  readonly org: string;
  /** The caller's own key for the upstream, sent in place of ours. */
  readonly ownKey?: string | undefined;
  readonly model?: string | undefined;
  readonly stream?: boolean | undefined;
}

/** What an attempt needs of its set. */
export interface AttemptHost {
  readonly retry: RetrySettings;
  readonly budget: RetryBudget;
  /** Another target with room for the tier. */
  elsewhere(than: Target, tier: Tier, nowMs: number): Target | undefined;
  /** The target fails too much. */
  onUnfit(target: Target, nowMs: number): void;
  onRetry(): void;
  onCompleted(spentMs: number, nowMs: number): void;
}

export interface AttemptOptions {
  readonly call: UpstreamCall;
  readonly handler: Dispatcher.DispatchHandler;
  readonly caller: Caller;
  /** Undefined: the target's own. */
  readonly credential: Credential | undefined;
}

const BUSY = new Set([429, 503, 529]);

export class UpstreamAttempts implements Dispatcher.DispatchHandler, Dispatcher.DispatchController, Sent {
  readonly #host: AttemptHost;
  readonly #options: AttemptOptions;
  /** Of the call's headers, before a target's own were added. */
  readonly #headersLength: number;
  #target: Target;
  /** Of the attempt that counts; what another one still says is not heard. */
  #controller: Dispatcher.DispatchController | undefined;
  #attempt = 0;
  // What the target's limit needs to know.
  readonly model: string;
  readonly stream: boolean;
  sentMs = 0;
  alongside = 0;
  #isProbe = false;
  #isSlotHeld = false;
  #hasBegun = false;
  #headMs = 0;
  #isOver = false;
  #reason: Error | null = null;
  #isPaused = false;

  constructor(host: AttemptHost, target: Target, options: AttemptOptions) {
    this.#host = host;
    this.#target = target;
    this.#options = options;
    this.#headersLength = options.call.headers.length;
    this.model = options.caller.model ?? "";
    this.stream = options.caller.stream ?? false;
  }

  start(nowMs: number): void {
    this.#options.handler.onRequestStart?.(this, undefined);
    this.#send(nowMs);
  }

  #send(nowMs: number): void {
    const { call, credential } = this.#options;
    this.#attempt += 1;
    this.sentMs = nowMs;
    this.#controller = undefined;
    this.#hasBegun = false;
    this.#headMs = 0;
    this.#isSlotHeld = true;
    this.alongside = this.#target.limit.began();
    this.#isProbe = this.#target.health.sent();
    call.headers.length = this.#headersLength;
    this.#target.upstream.dispatch(call, this, credential);
  }

  // What undici tells of an attempt.

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // While it waited for a connection, there was nothing to abort or pause.
    if (this.#reason !== null) controller.abort(this.#reason);
    else if (this.#isPaused) controller.pause();
  }

  onResponseStarted(): void {
    this.#hasBegun = true;
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseStart"]>>[2],
    statusMessage?: string,
  ): void {
    if (controller !== this.#controller || this.#isOver) return;
    if (status >= 200) {
      const nowMs = performance.now();
      this.#headMs = nowMs;
      this.#target.limit.headOver();
      this.#tellOfHead(status, nowMs);
      if (this.#isWorthRetry(status)) {
        const target = this.#nextTarget(false, nowMs);
        if (target !== undefined) {
          this.#controller = undefined;
          controller.abort(new Error("tried at another target"));
          return this.#again(target, nowMs);
        }
      }
    }
    this.#options.handler.onResponseStart?.(this, status, headers, statusMessage);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (controller === this.#controller) this.#options.handler.onResponseData?.(this, chunk);
  }

  onResponseEnd(
    controller: Dispatcher.DispatchController,
    trailers: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseEnd"]>>[1],
  ): void {
    if (controller !== this.#controller || this.#isOver) return;
    this.#isOver = true;
    this.#release();
    const nowMs = performance.now();
    this.#host.onCompleted(nowMs - this.sentMs, nowMs);
    this.#options.handler.onResponseEnd?.(this, trailers);
  }

  onResponseError(controller: Dispatcher.DispatchController | undefined, error: Error): void {
    // An attempt that was given up tells of its end, too; one that never reached a connection has no controller.
    if (this.#isOver || (controller ?? undefined) !== this.#controller) return;
    const nowMs = performance.now();
    if (this.#reason !== null) {
      if (this.#headMs === 0) this.#target.limit.left(this, nowMs);
    } else {
      const failed = this.#tellOfError(error, nowMs);
      const target = failed === "final" ? undefined : this.#nextTarget(failed === "anywhere", nowMs);
      if (target !== undefined) return this.#again(target, nowMs);
    }
    this.#isOver = true;
    this.#release();
    this.#options.handler.onResponseError?.(this, error);
  }

  // What the exchange may do, at any time and whichever attempt is under way.

  get aborted(): boolean {
    return this.#reason !== null;
  }

  get paused(): boolean {
    return this.#controller?.paused ?? this.#isPaused;
  }

  get reason(): Error | null {
    return this.#reason;
  }

  abort(reason: Error): void {
    if (this.#reason !== null || this.#isOver) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }

  pause(): void {
    this.#isPaused = true;
    this.#controller?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#controller?.resume();
  }

  /** The only place that gives the target's slot back. */
  #release(): void {
    if (!this.#isSlotHeld) return;
    this.#isSlotHeld = false;
    if (this.#headMs === 0) this.#target.limit.headOver();
    this.#target.limit.ended();
    if (this.#isProbe) this.#target.health.probeOver();
  }

  #again(target: Target, nowMs: number): void {
    this.#release();
    this.#host.budget.spend(nowMs);
    this.#host.onRetry();
    this.#target = target;
    this.#send(nowMs);
  }

  #nextTarget(maySame: boolean, nowMs: number): Target | undefined {
    const { retry, budget } = this.#host;
    if (this.#reason !== null || this.#attempt >= retry.attemptsMax || !budget.has(nowMs)) return undefined;
    const other = this.#host.elsewhere(this.#target, this.#options.caller.tier, nowMs);
    return other ?? (maySame ? this.#target : undefined);
  }

  #isWorthRetry(status: number): boolean {
    switch (status) {
      case 502:
      case 503:
      case 504:
      case 529:
        return true;
      case 429:
        return this.#host.retry.rateLimited;
      default:
        return false;
    }
  }

  #tellOfHead(status: number, nowMs: number): void {
    const { limit, health } = this.#target;
    if (status < 300) limit.answered(this, nowMs);
    // Another's key has its own rate: that it is used up says nothing of the upstream.
    else if (BUSY.has(status) && (status !== 429 || this.#options.credential === undefined)) {
      limit.refused(this, nowMs);
    }
    if (status === 503 || status === 529) this.#tellOfFailure("busy", nowMs);
    else if (status === 502 || status === 504) this.#tellOfFailure("broken", nowMs);
    else if (status !== 500) health.answered(nowMs, this.#isProbe);
  }

  /** How the call may be tried again. */
  #tellOfError(error: Error, nowMs: number): "anywhere" | "elsewhere" | "final" {
    if (isOurs(error)) return "final";
    this.#tellOfFailure("broken", nowMs);
    // After the head the limit has had its answer.
    if (this.#headMs > 0) return "final";
    this.#target.limit.refused(this, nowMs);
    if (this.#controller === undefined) return "anywhere";
    if (this.#hasBegun || upstreamProblem(error, false) !== "upstream_reset") return "final";
    return failedOnUsedConnection(error) ? "anywhere" : "elsewhere";
  }

  #tellOfFailure(kind: "broken" | "busy", nowMs: number): void {
    if (this.#target.health.failed(kind, nowMs, this.#isProbe)) this.#host.onUnfit(this.#target, nowMs);
  }
}

/** A call that could not be made, or a set that is being closed, is no fault of the target. */
function isOurs(error: Error): boolean {
  const code = "code" in error ? error.code : undefined;
  return code === "UND_ERR_INVALID_ARG" || code === "UND_ERR_DESTROYED" || code === "UND_ERR_CLOSED";
}
