/** Accounts of operators: made, listed, given another role or password, disabled and enabled again. */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { AccountListing } from "../ports/operators-accounts.ts";
import { operatorName, role } from "../ports/operators-record.ts";
import { fault } from "./faults.ts";
import { nextCursor, pageOf, pageQuery } from "./paging.ts";
import type { AdminParts } from "./parts.ts";
import { ADMINS } from "./roles.ts";
import { defineRoute, ok, type Reply } from "./route.ts";
import { newPassword } from "./session-routes.ts";

const params = z.strictObject({ name: operatorName.describe("The account's name.") });
const time = z.iso.datetime({ offset: true });
const roleField = role.describe("What it may do.");

const accountView = z
  .strictObject({
    name: operatorName.describe("What it logs in with, and what goes on record."),
    role: roleField,
    disabled: z.boolean().describe("It cannot log in."),
    createdAt: time.describe("When it was made."),
    createdBy: z.string().describe("Who made it."),
    lastLoginAt: time.optional().describe("When it logged in last. Absent: never."),
  })
  .meta({ id: "Account", description: "An operator's account, without its password." });

const change = z
  .strictObject({
    role: roleField.optional().describe("Absent: as it is."),
    disabled: z.boolean().optional().describe("Absent: as it is."),
  })
  .refine(({ role: wanted, disabled }) => wanted !== undefined || disabled !== undefined, {
    error: "name role, disabled or both",
  });

const STORE_AWAY = "The accounts cannot be written now.";
const NO_SUCH = "There is no account of this name.";
const LAST_ADMIN = "It is the last account that may manage accounts.";

export const accountsRoutes = [
  defineRoute({
    id: "accounts.list",
    noun: "accounts",
    method: "GET",
    path: "/api/accounts",
    access: ADMINS,
    summary: "Lists accounts, oldest first.",
    query: z.strictObject(pageQuery),
    answers: {
      200: {
        description: "One page.",
        schema: z
          .strictObject({ accounts: z.array(accountView).describe("Oldest first."), next: nextCursor })
          .meta({ id: "AccountPage", description: "Accounts." }),
      },
    },
    handle({ query }, { operators }) {
      const place = ({ createdAt: at, id }: AccountListing) => ({ at, id });
      const { rows, next } = pageOf(operators.accounts.list(), place, query);
      return ok({ accounts: rows.map(viewOf), next });
    },
  }),
  defineRoute({
    id: "accounts.create",
    noun: "accounts",
    method: "POST",
    path: "/api/accounts",
    access: ADMINS,
    summary: "Makes an account.",
    body: z.strictObject({
      name: operatorName.describe("What it logs in with, and what goes on record."),
      password: newPassword,
      role: roleField,
    }),
    answers: { 201: { description: "It is made.", schema: accountView } },
    faults: { conflict: "There is an account of this name.", store_away: STORE_AWAY },
    async handle({ body, actor }, { operators }) {
      const made = await operators.accounts.create(body, { by: actor });
      const headers = { location: `/api/accounts/${encodeURIComponent(made.id)}` };
      return { status: 201, body: viewOf(made), headers, target: `${made.id} ${made.role}` };
    },
  }),
  defineRoute({
    id: "accounts.get",
    noun: "accounts",
    method: "GET",
    path: "/api/accounts/{name}",
    access: ADMINS,
    summary: "Shows one account.",
    params,
    answers: { 200: { description: "The account.", schema: accountView } },
    faults: { not_found: NO_SUCH },
    etag: ({ params: { name } }, parts) => tagOf(name, parts),
    handle({ params: { name } }, { operators }) {
      const found = operators.accounts.get(name);
      return found === undefined ? noSuch() : ok(viewOf(found));
    },
  }),
  defineRoute({
    id: "accounts.change",
    noun: "accounts",
    method: "PATCH",
    path: "/api/accounts/{name}",
    access: ADMINS,
    summary:
      "Gives an account another role, disables or enables it. Its sessions end on every replica within a second.",
    params,
    body: change,
    answers: { 200: { description: "As it is now.", schema: accountView } },
    faults: { not_found: NO_SUCH, conflict: LAST_ADMIN, store_away: STORE_AWAY },
    etag: ({ params: { name } }, parts) => tagOf(name, parts),
    async handle({ params: { name }, body }, { operators }) {
      const now = await operators.accounts.change(name, body);
      if (now === undefined) return noSuch();
      return ok(viewOf(now), { target: `${now.id} ${now.role}${now.disabled ? " disabled" : ""}` });
    },
  }),
  defineRoute({
    id: "accounts.password",
    noun: "accounts",
    method: "POST",
    path: "/api/accounts/{name}/password",
    access: ADMINS,
    summary: "Sets an account's password. Its sessions end on every replica within a second.",
    params,
    body: z.strictObject({ password: newPassword }),
    answers: { 200: { description: "It is set.", schema: accountView } },
    faults: { not_found: NO_SUCH, store_away: STORE_AWAY },
    async handle({ params: { name }, body: { password } }, { operators }) {
      const now = await operators.accounts.setPassword(name, password);
      return now === undefined ? noSuch() : ok(viewOf(now), { target: now.id });
    },
  }),
];

function viewOf({ id: name, role: has, disabled, ...rest }: AccountListing) {
  return { name, role: has, disabled, ...rest };
}

function noSuch(): Reply {
  return fault("not_found", `${NO_SUCH} GET /api/accounts lists them.`);
}

/** A login is no change of the account. */
function tagOf(name: string, { operators }: AdminParts): string | undefined {
  const found = operators.accounts.get(name);
  if (found === undefined) return undefined;
  const { lastLoginAt: _, ...row } = found;
  return `"${createHash("sha256").update(JSON.stringify(row)).digest("base64url").slice(0, 16)}"`;
}
