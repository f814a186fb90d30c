/** Virtual keys: made, listed, rotated, revoked. The key in clear is in the answer that made it and nowhere else. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { accountName, keyName, keyScopes } from "../ports/keys-record.ts";
import { fault } from "./faults.ts";
import { nextCursor, pageOf, pageQuery } from "./paging.ts";
import type { AdminParts, KeyListing } from "./parts.ts";
import { EVERYBODY, SENIOR_RESPONDERS, TUNERS } from "./roles.ts";
import { defineRoute, ok, type Reply } from "./route.ts";

const KEY_STATES = ["active", "expired", "revoked"] as const;
type KeyState = (typeof KEY_STATES)[number];

const OVERLAP_SEC_MAX = 2_592_000;

const keyId = z
  .string()
  .regex(/^key_\w{1,40}$/, { error: 'must look like "key_1a2b3c"; it is the id, not the key' })
  .describe("The key's id.");
const params = z.strictObject({ id: keyId });
const time = z.iso.datetime({ offset: true });

const scopes = z
  .strictObject({
    routes: keyScopes.shape.routes.describe(
      'Route ids, such as "openai.chat"; "pass_through" for all that the policy passes through. Absent: all.',
    ),
    models: keyScopes.shape.models.describe('Names, or beginnings and one "*". Absent: all.'),
    networks: keyScopes.shape.networks.describe("Addresses and CIDRs to be called from. Absent: all."),
  })
  .describe("What the key may be used for. Absent: all.");

const newKey = z.strictObject({
  org: accountName.describe("Organisation that the key belongs to."),
  project: accountName.default("default").describe("Project within the organisation."),
  name: keyName.default("").describe("Words for people: what the key is for."),
  expiresAt: time.optional().describe("When it stops working, RFC 3339. Absent: never."),
  scopes: scopes.optional(),
  canary: z
    .boolean()
    .default(false)
    .describe("It works for nobody, and tells when it is tried: leave it where only a thief looks."),
});

const rotation = z.strictObject({
  overlapSec: z
    .int()
    .min(0)
    .max(OVERLAP_SEC_MAX)
    .default(3_600)
    .describe("How long the old key goes on working beside the new one."),
});

const keyView = z
  .strictObject({
    id: keyId,
    prefix: z.string().describe("How the key starts, for people to tell keys apart."),
    org: z.string().describe("Organisation."),
    project: z.string().describe("Project within the organisation."),
    name: z.string().describe("What the key is for."),
    state: z.enum(KEY_STATES).describe("Whether it works now."),
    createdAt: time.describe("When it was made."),
    expiresAt: time.optional().describe("When it stops working. Absent: never."),
    revokedAt: time.optional().describe("When it was revoked. Absent: it was not."),
    scopes: scopes.optional(),
    canary: z.literal(true).optional().describe("A use of it is an alarm. Absent: an ordinary key."),
    replacedBy: keyId.optional().describe("The key that was made in its place. Absent: none."),
    rotatedFrom: keyId.optional().describe("The key in whose place it was made. Absent: none."),
  })
  .meta({ id: "Key", description: "A virtual key, without the key itself." });

const madeKey = z
  .strictObject({
    id: keyId,
    key: z.string().describe("The key in clear, shown this once."),
    note: z.string().describe("The same in words."),
  })
  .meta({ id: "MadeKey", description: "A key that was just made." });

const SHOWN_ONCE = "The key is shown this once.";
const STORE_AWAY = "The keys cannot be written now.";
const NO_SUCH_KEY = "There is no key with this id.";

export const keysRoutes = [
  defineRoute({
    id: "keys.list",
    noun: "keys",
    method: "GET",
    path: "/api/keys",
    access: EVERYBODY,
    summary: "Lists keys, oldest first.",
    query: z.strictObject({
      org: accountName.optional().describe("Only of this organisation. Absent: of all."),
      state: z.enum(KEY_STATES).optional().describe("Only in this state. Absent: in any."),
      ...pageQuery,
    }),
    answers: {
      200: {
        description: "One page.",
        schema: z
          .strictObject({ keys: z.array(keyView).describe("Oldest first."), next: nextCursor })
          .meta({ id: "KeyPage", description: "Keys." }),
      },
    },
    handle({ query: { org, state, ...page } }, { identities }) {
      const nowMs = Date.now();
      const wanted = identities
        .list()
        .filter(
          (key) =>
            (org === undefined || key.org === org) && (state === undefined || stateOf(key, nowMs) === state),
        );
      const { rows, next } = pageOf(wanted, ({ createdAt: at, id }) => ({ at, id }), page);
      return ok({ keys: rows.map((key) => viewOf(key, nowMs)), next });
    },
  }),
  defineRoute({
    id: "keys.create",
    noun: "keys",
    method: "POST",
    path: "/api/keys",
    access: TUNERS,
    summary: "Makes a key.",
    body: newKey,
    answers: { 201: { description: "The new key.", schema: madeKey } },
    faults: { store_away: STORE_AWAY },
    async handle({ body }, { identities }) {
      const { expiresAt, scopes: wanted, canary, ...rest } = body;
      const made = await identities.create({
        ...rest,
        ...(expiresAt !== undefined && { expiresAt }),
        ...(wanted !== undefined && { scopes: wanted }),
        ...(canary && { canary }),
      });
      const { id: _, prefix: _prefix, ...after } = keyWith(made.id, { identities }) ?? { id: "", prefix: "" };
      return { ...created(made), change: { after } };
    },
  }),
  defineRoute({
    id: "keys.get",
    noun: "keys",
    method: "GET",
    path: "/api/keys/{id}",
    access: EVERYBODY,
    summary: "Shows one key.",
    params,
    answers: { 200: { description: "The key.", schema: keyView } },
    faults: { not_found: NO_SUCH_KEY },
    etag: ({ params: { id } }, parts) => tagOf(keyWith(id, parts)),
    handle({ params: { id } }, parts) {
      const key = keyWith(id, parts);
      return key === undefined ? noSuchKey() : ok(viewOf(key, Date.now()));
    },
  }),
  defineRoute({
    id: "keys.rotate",
    noun: "keys",
    method: "POST",
    path: "/api/keys/{id}/rotate",
    access: TUNERS,
    summary: "Makes a key in the place of another, which stops working after the overlap.",
    params,
    body: rotation,
    answers: { 201: { description: "The new key.", schema: madeKey } },
    faults: {
      not_found: NO_SUCH_KEY,
      conflict: "The key was revoked, has expired, was replaced already or is a canary.",
      store_away: STORE_AWAY,
    },
    async handle({ params: { id }, body }, parts) {
      if (keyWith(id, parts) === undefined) return noSuchKey();
      try {
        const made = await parts.identities.rotate(id, body);
        const change = { after: { replacedBy: made.id, overlapSec: body.overlapSec } };
        return { ...created(made), target: `${id} ${made.id}`, change };
      } catch (error) {
        // What can be wrong with the id now is only the state of its key.
        if (!(error instanceof RangeError) || !error.message.startsWith("id: ")) throw error;
        return fault("conflict", error.message.slice("id: ".length));
      }
    },
  }),
  defineRoute({
    id: "keys.revoke",
    noun: "keys",
    method: "DELETE",
    path: "/api/keys/{id}",
    access: SENIOR_RESPONDERS,
    summary: "Revokes a key, on every replica within a second. A second time changes nothing.",
    params,
    answers: {
      200: {
        description: "It is revoked.",
        schema: z
          .strictObject({ id: keyId, revoked: z.literal(true).describe("It does not work any more.") })
          .meta({ id: "RevokedKey", description: "A key that was revoked." }),
      },
    },
    faults: { not_found: NO_SUCH_KEY, store_away: STORE_AWAY },
    etag: ({ params: { id } }, parts) => tagOf(keyWith(id, parts)),
    async handle({ params: { id } }, parts) {
      const before = keyWith(id, parts);
      if (!(await parts.identities.revoke(id))) return noSuchKey();
      const change = { before: stateIn(before), after: stateIn(keyWith(id, parts)) };
      return ok({ id, revoked: true }, { change });
    },
  }),
];

function created(made: { readonly id: string; readonly key: string }): Reply {
  const headers = { location: `/api/keys/${made.id}` };
  return { status: 201, body: { ...made, note: SHOWN_ONCE }, headers, target: made.id };
}

/** What a revocation can change of a key. */
function stateIn(key: KeyListing | undefined) {
  return { expiresAt: key?.expiresAt ?? null, revokedAt: key?.revokedAt ?? null };
}

function keyWith(id: string, { identities }: Pick<AdminParts, "identities">): KeyListing | undefined {
  return identities.list().find((key) => key.id === id);
}

function noSuchKey(): Reply {
  return fault("not_found", `${NO_SUCH_KEY} GET /api/keys lists them.`);
}

/** A rotation and a revocation change it; that the clock ran does not. */
function tagOf(key: KeyListing | undefined): string | undefined {
  if (key === undefined) return undefined;
  return `"${createHash("sha256").update(JSON.stringify(key)).digest("base64url").slice(0, 16)}"`;
}

function viewOf(key: KeyListing, nowMs: number) {
  const { id, prefix, org, project, name, ...rest } = key;
  return { id, prefix, org, project, name, state: stateOf(key, nowMs), ...rest };
}

function stateOf({ expiresAt, revokedAt }: KeyListing, nowMs: number): KeyState {
  if (revokedAt !== undefined) return "revoked";
  return expiresAt !== undefined && Date.parse(expiresAt) <= nowMs ? "expired" : "active";
}
