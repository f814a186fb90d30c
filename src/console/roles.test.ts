/**
 * Every route with every role, over a socket, by token and by session. The table below is kept by hand: a route
 * that is not in it fails, and so does one whose row says another thing.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ROLES, type Role } from "../ports/operators-record.ts";
import { rolesTable } from "./openapi.ts";
import type { RouteRow } from "./route.ts";
import { ADMIN_ROWS } from "./routes.ts";
import { openConsole, READ_TOKEN, standInParts, TOKEN } from "./stand-ins.ts";

/** Roles by their first letters: viewer, analyst, senior analyst, sre, admin; - for whoever comes. */
const WHO: Readonly<Record<string, string>> = {
  "health.live": "-",
  "health.ready": "-",
  "health.metrics": "v a s r x",
  "health.status": "v a s r x",
  "session.setup": "-",
  "session.login": "-",
  "session.logout": "v a s r x",
  "session.get": "v a s r x",
  "session.password": "v a s r x",
  "accounts.list": "x",
  "accounts.create": "x",
  "accounts.get": "x",
  "accounts.change": "x",
  "accounts.password": "x",
  "tokens.list": "x",
  "tokens.create": "x",
  "tokens.revoke": "x",
  "audit.list": "s r x",
  "policy.get": "v a s r x",
  "policy.reload": "r x",
  "policy.guard": "v a s r x",
  "policy.source": "v a s r x",
  "policy.put": "r x",
  "policy.validate": "r x",
  "policy.patch": "r x",
  "policy.rollback": "r x",
  "policy.withdraw": "r x",
  "policy.revisions": "v a s r x",
  "policy.revision": "v a s r x",
  "policy.diff": "v a s r x",
  "policy.switches": "v a s r x",
  "policy.kill": "r x",
  "policy.revive": "r x",
  "keys.list": "v a s r x",
  "keys.create": "r x",
  "keys.get": "v a s r x",
  "keys.rotate": "r x",
  "keys.revoke": "s r x",
  "limits.list": "v a s r x",
  "limits.live": "v a s r x",
  "limits.reset": "s r x",
  "reputation.worst": "v a s r x",
  "reputation.explain": "v a s r x",
  "reputation.rule": "a s x",
  "sanctions.list": "v a s r x",
  "sanctions.impose": "a s r x",
  "sanctions.get": "v a s r x",
  "sanctions.lift": "s r x",
  "exemplars.list": "v a s r x",
  "exemplars.add": "a s x",
  "exemplars.get": "v a s r x",
  "exemplars.remove": "s x",
  "upstreams.list": "v a s r x",
  "stores.get": "v a s r x",
  "api.openapi": "v a s r x",
};
const LETTER: Readonly<Record<Role, string>> = {
  viewer: "v",
  analyst: "a",
  "senior-analyst": "s",
  sre: "r",
  admin: "x",
};

const SAMPLES: Readonly<Record<string, string>> = {
  id: "x_1",
  kind: "org",
  name: "nobody",
  revision: "000000000000",
  target: "x_1",
};

function callOf({ method, path }: RouteRow): string {
  return `${method} ${path.replaceAll(/\{(\w+)\}/g, (_, name: string) => SAMPLES[name] ?? assert.fail(name))}`;
}

function may(row: RouteRow, role: Role | undefined): boolean {
  const who = WHO[row.id] ?? assert.fail(`${row.id} is not in the table of this test: say who may call it`);
  return who === "-" || (role !== undefined && who.split(" ").includes(LETTER[role]));
}

const PASSWORD = "correct horse battery";

test("each route answers the roles of the table and no other, by token and by session", async (context) => {
  const parts = { ...standInParts(), metricsAccess: "token" as const };
  const admin = await openConsole(parts);
  context.after(() => admin.close());
  const { accounts, sessions, tokens } = parts.operators;
  const callers: { role: Role | undefined; headers: () => Promise<Record<string, string>> }[] = [
    { role: undefined, headers: async () => ({}) },
    { role: "admin", headers: async () => ({ authorization: `Bearer ${TOKEN}` }) },
    { role: "viewer", headers: async () => ({ authorization: `Bearer ${READ_TOKEN}` }) },
  ];
  for (const role of ROLES) {
    const { token } = await tokens.create({ name: role, role }, { by: "test" });
    callers.push({ role, headers: async () => ({ authorization: `Bearer ${token}` }) });
    await accounts.create({ name: `mia.${role}`, password: PASSWORD, role }, { by: "test" });
    callers.push({
      role,
      // A session of its own for each call: one of the routes ends it.
      headers: async () => {
        const { secret, csrf } = (await sessions.open(`mia.${role}`)) ?? assert.fail();
        return { cookie: `sallyport=${secret}`, "x-sallyport-csrf": csrf };
      },
    });
  }
  let calls = 0;
  for (const row of ADMIN_ROWS) {
    for (const { role, headers } of callers) {
      const where = `${row.id} as ${role ?? "nobody"}`;
      const { status, body } = await admin.ask(callOf(row), { token: "", headers: await headers() });
      calls += 1;
      // An open route that finds fault with what was sent has let it in.
      if (row.id === "session.setup" || row.id === "session.login") assert.equal(status, 400, where);
      else if (may(row, role)) assert.ok(![401, 403].includes(status), `${where}: ${status}`);
      else assert.equal(status, role === undefined ? 401 : 403, `${where}: ${JSON.stringify(body)}`);
    }
  }
  assert.equal(calls, ADMIN_ROWS.length * (3 + 2 * ROLES.length));
});

test("the table names every route once, and none that is gone; the page of the roles says the same", () => {
  assert.deepEqual(Object.keys(WHO).sort(), ADMIN_ROWS.map(({ id }) => id).sort());
  const lines = rolesTable(ADMIN_ROWS).split("\n");
  for (const row of ADMIN_ROWS) {
    const line = lines.find((one) => one.startsWith(`| ${row.id} |`)) ?? assert.fail(row.id);
    const cells = line.split("|").slice(3, -1);
    const yes = ROLES.filter((_, i) => cells[i]?.trim() === "yes");
    assert.deepEqual(
      yes,
      ROLES.filter((role) => may(row, role)),
      row.id,
    );
  }
});
