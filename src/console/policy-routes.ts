/** The policy that is served, and the order to look at its folder now. */
import { z } from "zod";
import { SOURCES } from "../policy/history.ts";
import type { AdminParts } from "./parts.ts";
import { EVERYBODY, TUNERS } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

export const problem = z
  .strictObject({
    file: z.string().describe("The file, relative to the folder of the policy."),
    line: z.int().min(0).describe("From 1; 0 where the problem has no place in a file."),
    column: z.int().min(0).describe("From 1; 0 with line 0."),
    path: z.string().describe("Where in the document, such as `seats[2].with.packs[0]`."),
    message: z.string().describe("What is wrong and how to put it right."),
    excerpt: z.string().optional().describe("The line. Absent: there is none."),
  })
  .meta({ id: "PolicyProblem", description: "What is wrong with a policy, at its spot." });
const problems = z.array(problem).describe("What is wrong with the folder as it is.");

export const revision = z.string().describe("First 12 hex digits of the hash of the policy that is served.");
const servedFrom = z
  .enum(["file", "override", "last-good", "embedded"])
  .describe(
    "`override`: one that stands in for policy.yaml until that changes or it is withdrawn. `last-good`: the one on file cannot be served. `embedded`: there is none on file.",
  );
const seat = {
  id: z.string().describe("The seat."),
  use: z.string().describe("Kind of its layer."),
  mode: z.string().describe("shadow or enforce."),
};

const statusFields = {
  revision,
  hash: z.string().describe("Its whole hash."),
  loadedAt: z.iso.datetime().describe("When it was taken into service."),
  servedFrom,
  lastResult: z.enum(["applied", "refused"]).describe("What became of the last change on file."),
  problems,
  draining: z.int().min(0).describe("Older policies that running requests still use."),
  override: z
    .strictObject({
      at: z.iso.datetime().describe("When it was made."),
      by: z.string().describe("Who made it."),
      reason: z.string().describe("Why."),
      source: z.enum(SOURCES).describe("What made it."),
      pinned: z.array(z.string()).describe("Artifacts that are not the folder's."),
    })
    .optional()
    .describe("What stands in for policy.yaml. Absent: nothing."),
  historyProblem: z.string().optional().describe("Why the history is not whole. Absent: it is."),
};

export const policyStatus = z
  .strictObject({ ...statusFields, seats: z.array(z.strictObject(seat)).describe("In their order.") })
  .meta({ id: "PolicyStatus", description: "The policy that is served." });

const seatView = z
  .strictObject({
    ...seat,
    rollout: z.number().describe("Share of accounts, 0 to 100, for which `enforce` holds."),
    sample: z.number().describe("Share of requests, 0 to 1, that it looks at."),
    onError: z.enum(["allow", "block"]).describe("What a failure of it counts as."),
    timeoutMs: z.number().describe("Time for each asynchronous phase."),
    holdMax: z.number().describe("Text units that it may hold back."),
  })
  .meta({ id: "Seat", description: "A layer's place in the policy." });

export const reloaded = z.discriminatedUnion("result", [
  z.strictObject({
    result: z.literal("applied").describe("It is served now."),
    revision,
    previous: z.string().optional().describe("What was served before. Absent: nothing."),
    servedFrom,
    problems,
    notKept: z.string().optional().describe("Why it could not be kept for the next start. Absent: it was."),
  }),
  z.strictObject({ result: z.literal("unchanged").describe("The folder is what is served."), revision }),
  z.strictObject({
    result: z.literal("refused").describe("The folder's policy is bad; the one before is served."),
    revision,
    problems,
  }),
]);

export const policyRoutes = [
  defineRoute({
    id: "policy.get",
    noun: "policy",
    method: "GET",
    path: "/api/policy",
    access: EVERYBODY,
    summary: "The policy that is served, seat by seat, and what is wrong with the one on file.",
    answers: {
      200: {
        description: "The policy.",
        schema: z
          .strictObject({
            ...statusFields,
            seats: z.array(seatView).describe("In their order."),
            routes: z.array(z.string()).describe("Ids of the routes that are served."),
          })
          .meta({ id: "Policy", description: "The policy that is served, seat by seat." }),
      },
    },
    etag: tagOf,
    handle(_call, { policy }) {
      const { seats, routes } = policy.current();
      const listed = seats.map(({ id, use, mode, rollout, sample, onError, timeoutMs, holdMax }) => ({
        id,
        use,
        mode,
        rollout,
        sample,
        onError,
        timeoutMs,
        holdMax,
      }));
      return ok({ ...policy.status(), seats: listed, routes: [...routes] });
    },
  }),
  defineRoute({
    id: "policy.reload",
    noun: "policy",
    method: "POST",
    path: "/api/policy/reload",
    access: TUNERS,
    summary: "Looks at the policy's folder now.",
    answers: {
      200: { description: "It was taken into service, or had not changed.", schema: reloaded },
      422: { description: "It cannot be served; the one before still is.", schema: reloaded },
    },
    etag: tagOf,
    async handle(_call, { policy }) {
      const looked = await policy.reload();
      const { problems: bad } = policy.status();
      // The watch may have been faster: whoever asks afterwards hears what it found.
      const result =
        looked.result === "unchanged" && bad.length > 0
          ? { result: "refused" as const, revision: looked.revision, problems: bad }
          : looked;
      const { revision: target } = result;
      const change = result.result === "applied" ? { before: result.previous, after: target } : {};
      return { status: result.result === "refused" ? 422 : 200, body: result, target, change };
    },
  }),
];

/** Of the text that is wanted: while it is what is served, the revision. */
export async function tagOf(_call: unknown, { policy }: AdminParts): Promise<string> {
  return (await policy.source()).tag;
}
