/**
 * Changing the policy: the whole text, one seat, back to what was served before. Each call says why, is checked before
 * anything is written, and is served before it is answered.
 */
import { z } from "zod";
import type { ChangeResult } from "../policy/change.ts";
import { patchSeat } from "../policy/edit.ts";
import type { Origin } from "../policy/history.ts";
import { POLICY_BYTES_MAX, seatSchema } from "../policy/policy-file.ts";
import { fault } from "./faults.ts";
import { changedTo, names } from "./if-match.ts";
import { problem, reloaded, revision, tagOf } from "./policy-routes.ts";
import { EVERYBODY, TUNERS } from "./roles.ts";
import { type Call, defineRoute, ok, type Reply } from "./route.ts";

/** JSON may write a character in six. */
const BODY_BYTES_MAX = 2 * POLICY_BYTES_MAX + 65_536;
const STORE_AWAY = "The policy cannot be written now; nothing was changed.";

export const reason = z
  .string()
  .trim()
  .min(1)
  .max(500)
  .regex(/^[^\u0000-\u001f\u007f]*$/, { error: "must be one line" })
  .describe("Why, in words for people: it stays in the history.");
const text = z.string().max(POLICY_BYTES_MAX).describe("The whole text of policy.yaml.");

const changed = z.discriminatedUnion("result", [
  z.strictObject({
    result: z.literal("applied").describe("It is served now."),
    revision,
    previous: z.string().optional().describe("What was served before. Absent: nothing."),
    servedFrom: z
      .enum(["file", "override"])
      .describe(
        "`file`: policy.yaml was written. `override`: it is kept in the data folder and served until policy.yaml changes or it is withdrawn.",
      ),
    notKept: z.string().optional().describe("Why it could not be kept for the next start. Absent: it was."),
  }),
  z.strictObject({ result: z.literal("unchanged").describe("It is what is served."), revision }),
  z.strictObject({
    result: z.literal("refused").describe("It cannot be served; nothing was changed."),
    revision,
    problems: z.array(problem).describe("What is wrong with it."),
  }),
]);

const CHANGED = {
  200: { description: "It is served, or was already.", schema: changed },
  422: { description: "It cannot be served; nothing was changed.", schema: changed },
};

const { mode, rollout, sample, when, timeoutMs, onError } = seatSchema.shape;
/** A field that may be left out, or taken out with null so that its default holds. */
function settable<Schema extends z.ZodType>(schema: Schema, what: string) {
  return schema.nullable().optional().describe(`${what} null: its default. Absent: as it is.`);
}

export const patchFields = {
  mode: settable(mode.unwrap(), "off, shadow or enforce."),
  rollout: settable(rollout.unwrap(), "Share of accounts, 0 to 100."),
  sample: settable(sample.unwrap(), "Share of requests, 0 to 1."),
  when: settable(when.unwrap(), "CEL condition."),
  timeoutMs: settable(timeoutMs.unwrap(), "Time for each phase."),
  onError: settable(onError.unwrap(), "allow or block."),
  with: z
    .record(z.string().max(256), z.union([z.string().max(4096), z.number(), z.boolean(), z.null()]))
    .optional()
    .describe(
      'Values in the layer\'s own settings by JSON Pointer, such as {"/any/blockAt": 0.9}. null: taken out. Absent: as they are.',
    ),
};

export const policyChangeRoutes = [
  defineRoute({
    id: "policy.source",
    noun: "policy",
    method: "GET",
    path: "/api/policy/source",
    access: EVERYBODY,
    summary: "The text of the policy that is wanted: the override's, else policy.yaml, good or bad.",
    answers: {
      200: {
        description: "The text.",
        schema: z
          .strictObject({
            text,
            from: z
              .enum(["file", "override", "served"])
              .describe("`served`: there is no file that can be read."),
            isServed: z.boolean().describe("False: it cannot be served, or nobody has looked yet."),
          })
          .meta({ id: "PolicySource", description: "The text of a policy." }),
      },
    },
    etag: tagOf,
    async handle(_call, { policy }) {
      const { tag: _, ...source } = await policy.source();
      return ok(source);
    },
  }),
  defineRoute({
    id: "policy.put",
    noun: "policy",
    method: "PUT",
    path: "/api/policy",
    access: TUNERS,
    summary: "Replaces the whole policy. Of two that send the same if-match one wins.",
    bodyBytesMax: BODY_BYTES_MAX,
    needsIfMatch: true,
    body: z.strictObject({ text, reason }),
    answers: CHANGED,
    faults: { store_away: STORE_AWAY },
    etag: tagOf,
    async handle(call, { policy }) {
      const { body } = call;
      return replyTo(
        await policy.change({
          make: () => ({ text: body.text }),
          expects: expectationOf(call),
          origin: originOf(call, "api"),
        }),
      );
    },
  }),
  defineRoute({
    id: "policy.validate",
    noun: "policy",
    method: "POST",
    path: "/api/policy/validate",
    access: TUNERS,
    summary: "Says what is wrong with a text, against the artifacts that are there. Changes nothing.",
    bodyBytesMax: BODY_BYTES_MAX,
    body: z.strictObject({ text }),
    answers: {
      200: {
        description: "What came of it.",
        schema: z.discriminatedUnion("ok", [
          z.strictObject({
            ok: z.literal(true).describe("It can be served."),
            revision: z.string().describe("Under which revision it would be served."),
            seats: z.int().describe("Seats that would run."),
            seatsOff: z.int().describe("Seats that are off."),
            routes: z.int().describe("Routes that would be served."),
          }),
          z.strictObject({
            ok: z.literal(false).describe("It cannot be served."),
            problems: z.array(problem).describe("What is wrong with it."),
          }),
        ]),
      },
    },
    handle: async ({ body }, { policy }) => ok(await policy.validate(body.text)),
  }),
  defineRoute({
    id: "policy.patch",
    noun: "policy",
    method: "PATCH",
    path: "/api/policy/seats/{id}",
    access: TUNERS,
    summary: "Changes fields of one seat in the text of the policy, which keeps its comments.",
    params: z.strictObject({ id: seatSchema.shape.id }),
    body: z.strictObject({ ...patchFields, reason }),
    answers: CHANGED,
    faults: { store_away: STORE_AWAY },
    etag: tagOf,
    async handle(call, { policy }) {
      const { reason: _, ...patch } = call.body;
      const result = await policy.change({
        make: (source) => ({ text: patchSeat(source, call.params.id, patch) }),
        expects: expectationOf(call),
        origin: originOf(call, "api"),
      });
      const reply = replyTo(result);
      return { ...reply, target: `${call.params.id} ${reply.target ?? ""}`.trim() };
    },
  }),
  defineRoute({
    id: "policy.rollback",
    noun: "policy",
    method: "POST",
    path: "/api/policy/rollback",
    access: TUNERS,
    summary: "Serves a revision of the history again, its text and its artifacts as they were.",
    body: z.strictObject({
      to: z
        .string()
        .regex(/^([0-9a-f]{12}|[0-9a-f]{64})$/, { error: "must be a revision such as 0123456789ab" })
        .describe("The revision, or its whole hash."),
      reason,
    }),
    answers: CHANGED,
    faults: { not_found: "No such revision is kept.", store_away: STORE_AWAY },
    etag: tagOf,
    async handle(call, { policy }) {
      const entry = policy.history.find(call.body.to);
      if (entry === undefined)
        return fault("not_found", "No such revision is kept. GET /api/policy/revisions lists them.");
      const { policy: kept, artifacts } = await policy.history.bundle(entry);
      return replyTo(
        await policy.change({
          make: () => ({ text: new TextDecoder().decode(kept), artifacts }),
          expects: expectationOf(call),
          origin: originOf(call, "rollback"),
        }),
      );
    },
  }),
  defineRoute({
    id: "policy.withdraw",
    noun: "policy",
    method: "DELETE",
    path: "/api/policy/override",
    access: TUNERS,
    summary: "Ends the override and serves the folder's policy.yaml.",
    answers: {
      200: { description: "The folder is served.", schema: reloaded },
      422: { description: "The folder cannot be served; the override still is.", schema: reloaded },
    },
    faults: { not_found: "There is no override.", store_away: STORE_AWAY },
    async handle({ actor }, { policy }) {
      const origin = { by: actor, reason: "the override was withdrawn", source: "api" as const };
      const result = await policy.withdraw(origin);
      if (result === undefined) return fault("not_found", "There is no override: the folder is served.");
      const status = result.result === "refused" ? 422 : 200;
      return { status, body: result, target: result.revision };
    },
  }),
];

function expectationOf({ ifMatch }: Pick<Call, "ifMatch">): ((tag: string) => boolean) | undefined {
  return ifMatch === undefined ? undefined : (tag) => names(ifMatch, tag);
}

function originOf(
  { actor, body }: { readonly actor: string; readonly body: { readonly reason: string } },
  source: Origin["source"],
): Origin {
  return { by: actor, reason: body.reason, source };
}

function replyTo(result: ChangeResult): Reply {
  switch (result.result) {
    case "changed":
      return changedTo(result.tag);
    case "refused":
      return { status: 422, body: result, target: result.revision };
    case "applied":
    case "unchanged": {
      const { tag, ...body } = result;
      return { status: 200, body, headers: { etag: tag }, target: result.revision };
    }
    default:
      return result satisfies never;
  }
}
