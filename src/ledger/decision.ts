/**
 * The record of one request: what every seat would have done, what was applied, and how it ended. Written
 * to the spool before the answer's last byte. It holds no prompt, no answer and no credential.
 */
import type { Act, Cause, DialectName, Operation, Proof, Tier } from "../layer/index.ts";

/** A guard that did not run to its end is never recorded as allowed. */
export type SeatState =
  | "ran"
  | "not_reached"
  | "skipped_sample"
  | "skipped_when"
  /** By a kill switch: it judged nothing. */
  | "switched_off"
  | "failed"
  | "timed_out";

/** A finding without its offsets. `via`, `method` and `hazard` as in src/layer/verdict.ts. */
export interface FindingRecord {
  readonly reason: string;
  readonly score: number;
  /** A JSON Pointer or a channel. */
  readonly path?: string;
  readonly via?: string;
  readonly method?: string;
  readonly hazard?: string;
}

export interface SeatRecord {
  readonly seat: string;
  readonly mode: "shadow" | "enforce";
  readonly state: SeatState;
  /** What the seat would do. */
  readonly would: Act;
  /** What was done of it. */
  readonly applied: Act;
  /** Strongest first, at most 16. */
  readonly findings: readonly FindingRecord[];
  /** Time inside the seat, all phases. */
  readonly micros: number;
  /** Kill switches that touched it, such as "rule:ignore-previous". Absent: none. */
  readonly off?: readonly string[];
}

export interface Decision {
  readonly v: 1;
  readonly id: string;
  /** RFC 3339, when the request came. */
  readonly at: string;
  readonly revision: string;
  readonly route: string;
  readonly dialect: DialectName;
  readonly operation: Operation;
  readonly model: string;
  readonly stream: boolean;
  /** False for pass-through and WebSocket: only `onRequest` saw them. */
  readonly scanned: boolean;
  readonly org: string;
  readonly project: string;
  readonly keyId: string;
  readonly endUser: string;
  readonly address: string;
  /** How the caller proved who they are; "" where nobody asked or nobody could tell. */
  readonly proof: Proof | "";
  /** The standing that seats were told of, with the risk in 0..1. */
  readonly tier: Tier;
  readonly risk: number;
  readonly country: string;
  readonly asn: string;
  /** The joined act that was applied. */
  readonly act: Act;
  /** The joined act of all seats, shadow included. */
  readonly would: Act;
  /** HTTP status sent; 0 when the client left before one was. */
  readonly status: number;
  readonly cause: Cause;
  readonly seats: readonly SeatRecord[];
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly totalMs: number;
  /** From the request's first byte to the answer's first byte; null when none was sent. */
  readonly firstByteMs: number | null;
  /** From the call upstream to its head; null when no call was made. */
  readonly upstreamMs: number | null;
  /** Whether the upstream was called at all. */
  readonly upstreamCalled: boolean;
  readonly traceId?: string;
}
