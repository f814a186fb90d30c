/**
 * One record of the audit chain: a line of JSON that ends with the hash of everything before it, and names the hash
 * of the record before. Whoever changes a byte breaks the line's own hash; whoever makes that good breaks the next
 * line; whoever makes all of them good is told by a checkpoint that lies elsewhere.
 *
 *   {"v":1,"seq":7,"at":...,"actor":"mia","action":"keys.revoke",...,"prev":"<hash of 6>","hash":"<hash of this>"}
 *    \_________________________ what the hash is made of _______________________________/
 *
 * Lines are plain ASCII (everything else is escaped), so that no two rows of bytes read as the same text and nothing
 * in them can steer a terminal.
 */
import { hash } from "node:crypto";

/** `begun`: about to be done; a record with the same `of` says how it ended. */
export const AUDIT_OUTCOMES = ["begun", "done", "refused", "failed"] as const;
export type AuditOutcome = (typeof AUDIT_OUTCOMES)[number];

/** What is known of a record when it is written; the chain adds the rest. */
export interface AuditFact {
  /** RFC 3339. */
  readonly at: string;
  /** An account's name, "token:" and a token's name, or what the holder of an environment's token calls themselves. */
  readonly actor: string;
  /** How an admin call's actor is known; `nobody`: a login that failed, or was not one. Absent: there was no call. */
  readonly via?: "environment" | "token" | "session" | "nobody";
  /** Such as "keys.revoke". */
  readonly action: string;
  /** Ids and names; never a key or a token. */
  readonly target: string;
  readonly outcome: AuditOutcome;
  /** HTTP status of the admin call; absent where there was none. */
  readonly status?: number;
  /** Sequence number of the record that said `begun`. */
  readonly of?: number;
  /** What it was and what it became: a small value, or a hash of a large one. */
  readonly before?: unknown;
  readonly after?: unknown;
  /** Refusals since the record before that have none of their own, as there were too many. */
  readonly unrecorded?: number;
}

export interface AuditRecord extends AuditFact {
  readonly v: 1;
  /** From 1, without a gap. */
  readonly seq: number;
  /** Hash of the record before, `GENESIS` for the first. */
  readonly prev: string;
  readonly hash: string;
}

/** Where a chain ends: what the next record is tied to. */
export interface ChainHead {
  readonly seq: number;
  readonly hash: string;
}

export const GENESIS: ChainHead = { seq: 0, hash: "0".repeat(64) };

/** Action of the first record; its target is the chain's id. */
export const CHAIN_BEGIN = "audit.begin";

/** Of `before` and `after` each, in JSON; a larger one is kept as its length and hash. */
const VALUE_UNITS_MAX = 4_096;
const TEXT_UNITS_MAX = 1_000;

/** The line of a record, with its line feed, and the head that the chain then has. */
export function lineAfter(
  head: ChainHead,
  fact: AuditFact,
): { readonly line: string; readonly head: ChainHead } {
  const { at, actor, via, action, target, outcome, status, of, before, after, unrecorded } = fact;
  const seq = head.seq + 1;
  const sealed = ascii(
    JSON.stringify({
      ...{ v: 1, seq, at, actor: clipped(actor) },
      ...(via !== undefined && { via }),
      ...{ action: clipped(action), target: clipped(target), outcome },
      ...(status !== undefined && { status }),
      ...(of !== undefined && { of }),
      ...(before !== undefined && { before: small(before) }),
      ...(after !== undefined && { after: small(after) }),
      ...(unrecorded !== undefined && { unrecorded }),
      prev: head.hash,
    }),
  );
  const own = digest(sealed);
  return { line: `${sealed.slice(0, -1)},"hash":"${own}"}\n`, head: { seq, hash: own } };
}

const SHAPE = /^(\{[ -~]*),"hash":"([0-9a-f]{64})"\}$/;

/** The record that a line (without its line feed) holds, or what is wrong with the line. */
export function readLine(line: string): AuditRecord | string {
  const [, sealed, own] = SHAPE.exec(line) ?? [];
  if (sealed === undefined || own === undefined) return "it is no record: its line was damaged";
  if (digest(`${sealed}}`) !== own) return "its content does not match its hash: it was edited";
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return "it is no JSON, though its hash is right: it was made by something else";
  }
  return isRecord(value)
    ? value
    : "fields are missing, though its hash is right: it was made by something else";
}

function isRecord(value: unknown): value is AuditRecord {
  if (typeof value !== "object" || value === null) return false;
  const { v, seq, at, actor, action, target, outcome, prev } = value as Readonly<Record<string, unknown>>;
  return (
    v === 1 &&
    Number.isSafeInteger(seq) &&
    [at, actor, action, target, prev].every((one) => typeof one === "string") &&
    (AUDIT_OUTCOMES as readonly unknown[]).includes(outcome)
  );
}

function digest(sealed: string): string {
  return hash("sha256", sealed, "hex");
}

export function ascii(text: string): string {
  return text.replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function clipped(text: string): string {
  return text.length <= TEXT_UNITS_MAX ? text : `${text.slice(0, TEXT_UNITS_MAX)}…`;
}

function small(value: unknown): unknown {
  const text = JSON.stringify(value) ?? "null";
  if (text.length <= VALUE_UNITS_MAX) return value;
  return { units: text.length, sha256: hash("sha256", text, "hex") };
}
