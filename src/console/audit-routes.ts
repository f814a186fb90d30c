/** Who changed what: the audit chain, page by page. That it is whole, `sallyport audit verify` says, not this. */
import { z } from "zod";
import { AUDIT_OUTCOMES, type AuditRecord } from "../ledger/audit-record.ts";
import { limitQuery } from "./paging.ts";
import { SENIOR_RESPONDERS } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const seq = z.int().min(0);
const hash = z.string().describe("SHA-256, hex.");
const time = z.iso.datetime();
const text = (about: string) => z.string().min(1).max(300).optional().describe(about);

const recordView = z
  .strictObject({
    seq: seq.describe("From 1, without a gap."),
    at: time.describe("When it was written."),
    actor: z.string().describe("Who; `file` for a policy that came by file, `system` for the gateway."),
    via: z
      .enum(["environment", "token", "session", "nobody"])
      .optional()
      .describe(
        "How an admin call's actor is known; nobody: a login that failed, or was not one. Absent: there was no call.",
      ),
    action: z.string().describe("What, such as keys.revoke."),
    target: z.string().describe("On what."),
    outcome: z
      .enum(AUDIT_OUTCOMES)
      .describe("begun: about to be done · done · refused: nothing was changed · failed: nobody knows."),
    status: z.int().optional().describe("HTTP status of the call. Absent: there was none."),
    of: seq.optional().describe("The record that says `begun`. Absent: there is none."),
    before: z.unknown().optional().describe("What it was. Absent: nothing, or not known."),
    after: z.unknown().optional().describe("What it became. Absent: nothing, or not known."),
    unrecorded: z
      .int()
      .optional()
      .describe(
        "Refusals before this one that have no record of their own, as there were too many. Absent: none.",
      ),
    prev: hash.describe("Hash of the record before."),
    hash: hash.describe("Hash of this record."),
  })
  .meta({ id: "AuditRecord", description: "One record of the audit chain." });

export const auditRoutes = [
  defineRoute({
    id: "audit.list",
    noun: "audit",
    method: "GET",
    path: "/api/audit",
    access: SENIOR_RESPONDERS,
    summary: "Who changed what, newest first.",
    query: z.strictObject({
      limit: limitQuery,
      cursor: z.coerce
        .number()
        .int()
        .min(1)
        .optional()
        .describe("`next` of the answer before, for older records; absent: the newest."),
      actor: text("Only by this actor. Absent: by anybody."),
      action: text("Only this action, such as keys.revoke. Absent: any."),
      target: text("Only where the target contains this. Absent: any."),
    }),
    answers: {
      200: {
        description: "One page; it may have fewer records than asked for and still not be the last.",
        schema: z
          .strictObject({
            records: z.array(recordView).describe("Newest first."),
            next: z.int().nullable().describe("`cursor` of the next page; null on the last page."),
            head: z
              .strictObject({ seq: seq.describe("The last record."), hash })
              .describe("Where the chain ends."),
            checkpoint: z
              .strictObject({ seq: seq.describe("The record that it names."), at: time.describe("When.") })
              .nullable()
              .describe("The last checkpoint of this process; null: none yet."),
            problem: z
              .string()
              .nullable()
              .describe("Why records or checkpoints cannot be written; null: they can."),
          })
          .meta({ id: "AuditPage", description: "Records of the audit chain." }),
      },
    },
    async handle({ query: { cursor, ...query } }, { audit }) {
      const { records, next } = await audit.read({ ...query, before: cursor });
      const { head, checkpoint, problem } = audit.stats();
      return ok({
        records: records.map(viewOf),
        next: next ?? null,
        head,
        checkpoint: checkpoint ?? null,
        problem: problem ?? null,
      });
    },
  }),
];

function viewOf({ v: _, ...record }: AuditRecord) {
  return record;
}
