/** Every policy that was served: when, by whom, why, its text, and what differs between any two. */
import { z } from "zod";
import { unifiedDiff } from "../policy/diff.ts";
import { type HistoryEntry, SOURCES } from "../policy/history.ts";
import { diffPolicies } from "../policy/seat-diff.ts";
import { fault } from "./faults.ts";
import { limitQuery } from "./paging.ts";
import type { AdminParts } from "./parts.ts";
import { EVERYBODY } from "./roles.ts";
import { defineRoute, ok, type Reply } from "./route.ts";

const revisionId = z
  .string()
  .regex(/^([0-9a-f]{12}|[0-9a-f]{64})$/, { error: "must be a revision such as 0123456789ab" })
  .describe("The revision, or its whole hash.");
const NO_SUCH = "No such revision is kept.";

const listed = {
  revision: z.string().describe("First 12 hex digits of its hash."),
  hash: z.string().describe("Hash over its text and artifacts."),
  at: z.iso.datetime().describe("When it was taken into service."),
  by: z.string().describe('Who made it; "" for a file that somebody wrote.'),
  reason: z.string().describe('Why; "" where nobody said.'),
  source: z.enum(SOURCES).describe("What made it."),
  artifacts: z
    .array(
      z.strictObject({
        path: z.string().describe("Relative to the policy's folder."),
        sha256: z.string().describe("Hash of its content."),
      }),
    )
    .describe("What it was compiled with."),
};
const field = z
  .strictObject({
    path: z.string().describe("Where in the seat, such as with.any.blockAt."),
    before: z.unknown().optional().describe("Absent: it was not given."),
    after: z.unknown().optional().describe("Absent: it is not given."),
  })
  .meta({ id: "PolicyFieldChange", description: "A value that differs." });

export const policyHistoryRoutes = [
  defineRoute({
    id: "policy.revisions",
    noun: "policy",
    method: "GET",
    path: "/api/policy/revisions",
    access: EVERYBODY,
    summary: "Lists the policies that were served, newest first.",
    query: z.strictObject({ limit: limitQuery }),
    answers: {
      200: {
        description: "The newest ones.",
        schema: z
          .strictObject({
            revisions: z
              .array(
                z
                  .strictObject(listed)
                  .meta({ id: "PolicyRevision", description: "A policy that was served." }),
              )
              .describe("Newest first; at most 200 are kept."),
          })
          .meta({ id: "PolicyRevisions", description: "Policies that were served." }),
      },
    },
    handle({ query: { limit } }, { policy }) {
      return ok({ revisions: policy.history.entries.slice(-limit).reverse().map(viewOf) });
    },
  }),
  defineRoute({
    id: "policy.revision",
    noun: "policy",
    method: "GET",
    path: "/api/policy/revisions/{revision}",
    access: EVERYBODY,
    summary: "Shows one policy that was served, with its text.",
    params: z.strictObject({ revision: revisionId }),
    answers: {
      200: {
        description: "The latest time that it was served.",
        schema: z
          .strictObject({ ...listed, text: z.string().describe("Its text.") })
          .meta({ id: "PolicyRevisionText", description: "A policy that was served, with its text." }),
      },
    },
    faults: { not_found: NO_SUCH },
    async handle({ params }, { policy }) {
      const entry = policy.history.find(params.revision);
      if (entry === undefined) return noSuch();
      return ok({ ...viewOf(entry), text: await textOf(policy, entry) });
    },
  }),
  defineRoute({
    id: "policy.diff",
    noun: "policy",
    method: "GET",
    path: "/api/policy/revisions/{revision}/diff",
    access: EVERYBODY,
    summary: "Says what differs between an older revision and another, as text and seat by seat.",
    params: z.strictObject({ revision: revisionId }),
    query: z.strictObject({
      to: revisionId.optional().describe("The newer one. Absent: the one that is served."),
    }),
    answers: {
      200: {
        description: "What differs.",
        schema: z
          .strictObject({
            from: z.string().describe("The older revision."),
            to: z.string().describe("The newer one."),
            text: z.string().describe("A unified diff of the texts."),
            added: z.array(z.string()).describe("Seats that came."),
            removed: z.array(z.string()).describe("Seats that went."),
            moved: z.array(z.string()).describe("Seats that stand elsewhere in the order."),
            changed: z
              .array(
                z.strictObject({
                  seat: z.string().describe("The seat."),
                  fields: z.array(field).describe("What of it differs."),
                }),
              )
              .describe("Seats that both have."),
            fields: z.array(field).describe("What differs outside the seats."),
            artifacts: z.array(z.string()).describe("Paths whose content differs."),
          })
          .meta({ id: "PolicyDiff", description: "What differs between two policies." }),
      },
    },
    faults: { not_found: NO_SUCH },
    async handle({ params, query }, { policy }) {
      const from = policy.history.find(params.revision);
      const to = policy.history.find(query.to ?? policy.current().revision);
      if (from === undefined || to === undefined) return noSuch();
      const [before, after] = [await textOf(policy, from), await textOf(policy, to)];
      const named = { before: `policy.yaml ${from.revision}`, after: `policy.yaml ${to.revision}` };
      return ok({
        from: from.revision,
        to: to.revision,
        text: unifiedDiff(before, after, named),
        ...diffPolicies(before, after),
        artifacts: artifactsBetween(from, to),
      });
    },
  }),
];

function artifactsBetween(from: HistoryEntry, to: HistoryEntry): readonly string[] {
  const paths = new Set([...Object.keys(from.artifacts), ...Object.keys(to.artifacts)]);
  return [...paths].filter((path) => from.artifacts[path]?.sha256 !== to.artifacts[path]?.sha256).sort();
}

async function textOf(policy: AdminParts["policy"], entry: HistoryEntry): Promise<string> {
  return new TextDecoder().decode((await policy.history.bundle(entry)).policy);
}

function viewOf({ revision, hash, at, by, reason, source, artifacts }: HistoryEntry) {
  const files = Object.entries(artifacts).map(([path, { sha256 }]) => ({ path, sha256 }));
  return { revision, hash, at, by, reason, source, artifacts: files };
}

function noSuch(): Reply {
  return fault("not_found", `${NO_SUCH} GET /api/policy/revisions lists those that are.`);
}
