/**
 * Logging in and out, the first account, and one's own password. Whether a name is known is told to nobody who has
 * not logged in: a wrong name and a wrong password get the same answer after the same time.
 */
import { z } from "zod";
import { operatorName, role } from "../ports/operators-record.ts";
import { fault, invalid } from "./faults.ts";
import { tooMany } from "./gate.ts";
import type { AdminParts } from "./parts.ts";
import { EVERYBODY } from "./roles.ts";
import { type Call, defineRoute, ok, type Reply } from "./route.ts";
import { cookieOf, noCookie } from "./session-cookie.ts";

/** No rule of passwords is told to somebody who guesses. */
const presented = z.string().min(1).max(1_000);
const typedName = z.string().min(1).max(64).describe("The account's name.");
export const newPassword = z
  .string()
  .max(1_000)
  .describe("12 to 256 characters, at least 5 different ones, more than the name.");
const time = z.iso.datetime({ offset: true });

const csrf = z.string().describe("To be sent as x-sallyport-csrf with each call that changes something.");
const sessionView = z
  .strictObject({
    account: z.string().describe("The account's name."),
    role: role.describe("What it may do."),
    csrf,
    expiresAt: time.describe("When the session ends at the latest."),
  })
  .meta({ id: "Session", description: "A session that was just opened; its id is in the cookie alone." });

const callerView = z
  .strictObject({
    name: z.string().describe("Who goes on record for what is done with this."),
    role: role.describe("What may be done."),
    via: z.enum(["environment", "token", "session"]).describe("How the caller is known."),
    csrf: csrf.optional().describe("Of a session: to be sent as x-sallyport-csrf. Absent: it is no session."),
    expiresAt: time.optional().describe("When the session ends at the latest. Absent: it is no session."),
  })
  .meta({ id: "Caller", description: "Who calls." });

const STORE_AWAY = "Sessions cannot be written now.";
const NO_SESSION = "It is called with a token, which has no session.";
const SLOW = "Too many failed logins of this account or from this address, or too many at once.";

export const sessionRoutes = [
  defineRoute({
    id: "session.setup",
    noun: "session",
    method: "POST",
    path: "/api/setup",
    access: "open",
    summary: "Makes the first account, an admin, with the one-time token of the first start; logs it in.",
    body: z.strictObject({
      token: presented.describe("The one-time token that `sallyport serve` printed."),
      name: operatorName.describe("The account's name."),
      password: newPassword,
    }),
    answers: { 201: { description: "It is made, and logged in.", schema: sessionView } },
    faults: {
      unauthenticated: "The token is not the one, is used up or has expired.",
      attempts: SLOW,
      conflict: "There is an account already.",
      store_away: STORE_AWAY,
    },
    async handle({ body: { token, name, password }, address }, parts) {
      const attempt = parts.logins.try("(setup)", address);
      if (attempt.waitMs > 0)
        return tooMany(attempt.waitMs, "make an account with `sallyport accounts create`");
      const account = await parts.operators.setUp(token, { name, password });
      if (account === undefined) {
        return fault(
          "unauthenticated",
          "The token is not the one, is used up or has expired. A restart prints another while there is no account.",
        );
      }
      if ("succeeded" in attempt) attempt.succeeded();
      return loggedIn(account.id, parts, 201);
    },
  }),
  defineRoute({
    id: "session.login",
    noun: "session",
    method: "POST",
    path: "/api/login",
    access: "open",
    summary: "Logs in: opens a session, whose id comes as a cookie.",
    body: z.strictObject({ name: typedName, password: presented.describe("The account's password.") }),
    answers: { 200: { description: "The session is open.", schema: sessionView } },
    faults: {
      unauthenticated: "Name or password are wrong, or the account is disabled.",
      attempts: SLOW,
      store_away: STORE_AWAY,
    },
    async handle({ body: { name, password }, address }, parts) {
      const attempt = parts.logins.try(name, address);
      if (attempt.waitMs > 0) return tooMany(attempt.waitMs, "from where you logged in before");
      const account = await parts.operators.accounts.login(name, password).catch((error: unknown) => {
        if ("undone" in attempt) attempt.undone();
        throw error;
      });
      if (account === undefined) return wrong();
      if ("succeeded" in attempt) attempt.succeeded();
      return loggedIn(account.id, parts, 200);
    },
  }),
  defineRoute({
    id: "session.logout",
    noun: "session",
    method: "POST",
    path: "/api/logout",
    access: EVERYBODY,
    summary: "Ends the session, on every replica within a second.",
    answers: {
      200: {
        description: "It is over.",
        schema: z
          .strictObject({ loggedOut: z.literal(true).describe("The cookie opens nothing any more.") })
          .meta({ id: "LoggedOut", description: "A session that was ended." }),
      },
    },
    faults: { conflict: NO_SESSION, store_away: STORE_AWAY },
    async handle({ caller }, { operators, isSecure }) {
      if (caller?.session === undefined) return noSession();
      await operators.sessions.close(caller.session.id);
      return ok({ loggedOut: true }, { headers: { "set-cookie": noCookie(isSecure) }, target: caller.name });
    },
  }),
  defineRoute({
    id: "session.get",
    noun: "session",
    method: "GET",
    path: "/api/session",
    access: EVERYBODY,
    summary: "Who calls, and what they may do.",
    answers: { 200: { description: "The caller.", schema: callerView } },
    handle({ caller }, { operators }) {
      const { name, role: has, via, session } = caller!;
      return ok({
        name,
        role: has,
        via,
        ...(session !== undefined && {
          csrf: operators.sessions.csrfOf(session.id),
          expiresAt: new Date(session.expiresMs).toISOString(),
        }),
      });
    },
  }),
  defineRoute({
    id: "session.password",
    noun: "session",
    method: "POST",
    path: "/api/session/password",
    access: EVERYBODY,
    summary: "Changes one's own password. All sessions of the account end, and this one is opened anew.",
    body: z.strictObject({
      current: presented.describe("The password as it is."),
      password: newPassword,
    }),
    answers: { 200: { description: "It is changed.", schema: sessionView } },
    faults: { conflict: NO_SESSION, store_away: STORE_AWAY },
    handle: ownPassword,
  }),
];

async function ownPassword(
  { caller, address, body }: Call<unknown, unknown, { readonly current: string; readonly password: string }>,
  parts: AdminParts,
): Promise<Reply> {
  if (caller?.session === undefined) return noSession();
  const { accounts } = parts.operators;
  const attempt = parts.logins.try(caller.name, address);
  if (attempt.waitMs > 0) return tooMany(attempt.waitMs, "ask an admin to set it");
  if (!(await accounts.verify(caller.name, body.current)))
    return invalid([{ path: "current", message: "is not the account's password" }]);
  if ("succeeded" in attempt) attempt.succeeded();
  await accounts.setPassword(caller.name, body.password);
  return loggedIn(caller.name, parts, 200);
}

async function loggedIn(name: string, { operators, isSecure }: AdminParts, status: number): Promise<Reply> {
  const session = await operators.sessions.open(name);
  const account = operators.accounts.get(name);
  // Disabled in the same moment.
  if (session === undefined || account === undefined) return wrong();
  const body = {
    account: account.id,
    role: account.role,
    csrf: session.csrf,
    expiresAt: new Date(session.expiresMs).toISOString(),
  };
  const headers = { "set-cookie": cookieOf(session.secret, session.expiresMs, isSecure) };
  return { status, body, headers, target: account.id, loggedIn: account.id };
}

function wrong(): Reply {
  return fault("unauthenticated", "The name or the password is wrong.");
}

function noSession(): Reply {
  return fault("conflict", `${NO_SESSION} Revoke a token with DELETE /api/tokens/ID.`);
}
