/** Named bearer tokens for the command line and CI. The token in clear is in the answer that made it and nowhere else. */
import { z } from "zod";
import { role, tokenId, tokenName } from "../ports/operators-record.ts";
import type { TokenListing } from "../ports/operators-tokens.ts";
import { fault } from "./faults.ts";
import { nextCursor, pageOf, pageQuery } from "./paging.ts";
import { ADMINS } from "./roles.ts";
import { defineRoute, ok } from "./route.ts";

const id = tokenId.describe("The token's id.");
const time = z.iso.datetime({ offset: true });
const STATES = ["active", "expired", "revoked"] as const;

const tokenView = z
  .strictObject({
    id,
    prefix: z.string().describe("How the token starts, for people to tell tokens apart."),
    name: tokenName.describe('What it is for; "token:" and this goes on record.'),
    role: role.describe("What it may do."),
    state: z.enum(STATES).describe("Whether it works now."),
    createdAt: time.describe("When it was made."),
    createdBy: z.string().describe("Who made it."),
    expiresAt: time.optional().describe("When it stops working. Absent: never."),
    revokedAt: time.optional().describe("When it was revoked. Absent: it was not."),
  })
  .meta({ id: "Token", description: "A named bearer token, without the token itself." });

const STORE_AWAY = "The tokens cannot be written now.";
const NO_SUCH = "There is no token with this id.";

export const tokensRoutes = [
  defineRoute({
    id: "tokens.list",
    noun: "tokens",
    method: "GET",
    path: "/api/tokens",
    access: ADMINS,
    summary: "Lists tokens, oldest first.",
    query: z.strictObject(pageQuery),
    answers: {
      200: {
        description: "One page.",
        schema: z
          .strictObject({ tokens: z.array(tokenView).describe("Oldest first."), next: nextCursor })
          .meta({ id: "TokenPage", description: "Tokens." }),
      },
    },
    handle({ query }, { operators }) {
      const nowMs = Date.now();
      const place = ({ createdAt: at, id: own }: TokenListing) => ({ at, id: own });
      const { rows, next } = pageOf(operators.tokens.list(), place, query);
      return ok({ tokens: rows.map((row) => viewOf(row, nowMs)), next });
    },
  }),
  defineRoute({
    id: "tokens.create",
    noun: "tokens",
    method: "POST",
    path: "/api/tokens",
    access: ADMINS,
    summary: "Makes a token.",
    body: z.strictObject({
      name: tokenName.describe("What it is for; no two that work have the same."),
      role: role.describe("What it may do."),
      expiresAt: time.optional().describe("When it stops working, RFC 3339. Absent: never."),
    }),
    answers: {
      201: {
        description: "The new token.",
        schema: z
          .strictObject({
            id,
            token: z.string().describe("The token in clear, shown this once."),
            note: z.string().describe("The same in words."),
          })
          .meta({ id: "MadeToken", description: "A token that was just made." }),
      },
    },
    faults: { store_away: STORE_AWAY },
    async handle({ body, actor }, { operators }) {
      const made = await operators.tokens.create(body, { by: actor });
      const target = `${made.id} ${body.name} ${body.role}`;
      return { status: 201, body: { ...made, note: "The token is shown this once." }, target };
    },
  }),
  defineRoute({
    id: "tokens.revoke",
    noun: "tokens",
    method: "DELETE",
    path: "/api/tokens/{id}",
    access: ADMINS,
    summary: "Revokes a token, on every replica within a second. A second time changes nothing.",
    params: z.strictObject({ id }),
    answers: {
      200: {
        description: "It is revoked.",
        schema: z
          .strictObject({ id, revoked: z.literal(true).describe("It does not work any more.") })
          .meta({ id: "RevokedToken", description: "A token that was revoked." }),
      },
    },
    faults: { not_found: NO_SUCH, store_away: STORE_AWAY },
    async handle({ params }, { operators }) {
      if (await operators.tokens.revoke(params.id)) return ok({ id: params.id, revoked: true });
      return fault("not_found", `${NO_SUCH} GET /api/tokens lists them.`);
    },
  }),
];

function viewOf({ id: own, prefix, name, role: has, ...rest }: TokenListing, nowMs: number) {
  const { expiresAt, revokedAt } = rest;
  const isOver = expiresAt !== undefined && Date.parse(expiresAt) <= nowMs;
  const state = revokedAt !== undefined ? "revoked" : isOver ? "expired" : "active";
  return { id: own, prefix, name, role: has, state, ...rest };
}
