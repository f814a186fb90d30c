/**
 * `sallyport tokens`: makes, lists and revokes named bearer tokens of the admin API where the gateway has them, in the
 * data folder or on Redis. The token in clear is printed once, alone on standard output, so that a script can take it.
 */
import type { Operators } from "../ports/operators.ts";
import { ROLES } from "../ports/operators-record.ts";
import { PROCESS_IO, UsageError } from "./admin-client.ts";
import { aligned, type Given, type OperatorsIo, runOperators, terminal } from "./operators-command.ts";
import { PLACE_USAGE } from "./store-place.ts";

const USAGE = `sallyport tokens create NAME --role ROLE [--expires DATE]
sallyport tokens list [--json]
sallyport tokens revoke ID

  --role ROLE     ${ROLES.join(", ")}
  --expires DATE  when it stops working, such as 2027-01-01 or 2027-01-01T12:00:00Z (default: never)
  --json          print the list as JSON
${PLACE_USAGE}`;

const ACTIONS = ["create", "list", "revoke"] as const;

export async function runTokens(
  args: readonly string[],
  io: OperatorsIo = { ...PROCESS_IO, readLine: async () => "" },
): Promise<number> {
  return runOperators({ name: "sallyport tokens", usage: USAGE, actions: ACTIONS, run }, args, io);
}

async function run(given: Given, { tokens }: Operators, io: OperatorsIo): Promise<void> {
  const [name = ""] = given.names;
  const action = given.action as (typeof ACTIONS)[number];
  switch (action) {
    case "create": {
      const role = ROLES.find((one) => one === given.text("role"));
      if (role === undefined) throw new UsageError(`--role: say one of ${ROLES.join(", ")}`);
      const made = await tokens.create({ name, role, expiresAt: given.text("expires") }, { by: terminal() });
      io.error(`${made.id}: the token is shown this once`);
      return io.log(made.token);
    }
    case "list": {
      const rows = tokens.list();
      return io.log(given.is("json") ? JSON.stringify(rows, null, 2) : tableOf(rows));
    }
    case "revoke":
      if (!(await tokens.revoke(name))) throw new Error(`there is no token ${JSON.stringify(name)}`);
      return io.log(`revoked ${name}`);
    default:
      return action satisfies never;
  }
}

function tableOf(rows: ReturnType<Operators["tokens"]["list"]>): string {
  if (rows.length === 0) return "no tokens yet: sallyport tokens create NAME --role ROLE";
  const lines = rows.map(({ id, prefix, name, role, createdAt, createdBy, expiresAt, revokedAt }) => [
    ...[id, prefix, name, role, createdAt.slice(0, 10), createdBy],
    revokedAt !== undefined ? `revoked ${revokedAt.slice(0, 10)}` : stateOf(expiresAt),
  ]);
  return aligned([["ID", "TOKEN", "NAME", "ROLE", "CREATED", "BY", "STATE"], ...lines]);
}

function stateOf(expiresAt: string | undefined): string {
  if (expiresAt === undefined) return "active";
  return `${Date.parse(expiresAt) <= Date.now() ? "expired" : "active until"} ${expiresAt.slice(0, 10)}`;
}
