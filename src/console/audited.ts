/**
 * Puts an admin call on record around its handler: that it is begun before anything is changed, and how it ended
 * before it is answered. A change that cannot be put on record is not made.
 *
 *   begin (on disk) --ok--> handle --> end (on disk) --ok--> the handler's answer
 *      | no: 507, nothing was changed        | no: 507, it says what was done
 */
import type { AuditTrail } from "../ledger/audit.ts";
import { fault } from "./faults.ts";
import type { Reply } from "./route.ts";

/** What an audit trail is told of a call. */
export type AuditEntry = Parameters<AuditTrail["end"]>[1];

/** A call as it goes on record. */
export interface Named {
  readonly action: string;
  readonly actor: string;
  readonly via: NonNullable<AuditEntry["via"]>;
  /** Values of the path. */
  readonly segments: Readonly<Record<string, string>>;
}

/** Answers with what `handle` answers, once that is on record. */
export async function audited(
  named: Named,
  audit: Omit<AuditTrail, "note"> | undefined,
  handle: () => Promise<Reply>,
): Promise<Reply> {
  if (audit === undefined) return handle();
  const { action, actor, via, segments } = named;
  let begun: number;
  try {
    begun = await audit.begin({ actor, via, action, target: plainNames(segments) });
  } catch (error) {
    return fault("unrecorded", `${sentence(error)} Nothing was changed.`);
  }
  const reply = await handle();
  const entry = entryOf(named, reply);
  try {
    await audit.end(begun, entry);
    return reply;
  } catch (error) {
    const what = `It ended with ${reply.status}${entry.target === "" ? "" : ` on ${entry.target}`}`;
    return fault("unrecorded", `${sentence(error)} ${what}; record ${begun} says only that it was begun.`);
  }
}

export function entryOf(
  { action, actor, via, segments }: Named,
  { status, target, change, loggedIn }: Reply,
): AuditEntry {
  const outcome = status < 300 ? "done" : status < 500 ? "refused" : "failed";
  // What was refused may hold anything, a key in the wrong place for one: only what a handler names is kept.
  const named = target ?? (outcome === "refused" && status === 400 ? "" : plainNames(segments));
  return {
    ...(loggedIn === undefined ? { actor, via } : { actor: loggedIn, via: "session" }),
    ...{ action, target: named, outcome, status },
    ...masked(change ?? {}),
  };
}

/** Values of the path, without whatever looks like a credential. */
function plainNames(segments: Readonly<Record<string, string>>): string {
  return Object.values(segments)
    .map((value) => mask(value).slice(0, 300))
    .join(" ");
}

function masked<Value>(value: Value): Value {
  return JSON.parse(JSON.stringify(value), (_name, one: unknown) =>
    typeof one === "string" ? mask(one) : one,
  ) as Value;
}

function mask(text: string): string {
  return text.replace(/\b(?:sk|sp|pk)-[\w-]{6,}/g, "[masked]");
}

function sentence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return `${text.replace(/\.$/, "")}.`;
}
