/**
 * `sallyport accounts`: makes and changes accounts of operators where the gateway has them, in the data folder or on
 * Redis. It needs no login: who can write there can do everything already. A running gateway sees a change within a
 * second. Passwords come on standard input, as an argument would stand in the list of processes.
 */
import { createInterface } from "node:readline/promises";
import type { Operators } from "../ports/operators.ts";
import { ROLES, type Role } from "../ports/operators-record.ts";
import { PROCESS_IO, UsageError } from "./admin-client.ts";
import { aligned, type Given, type OperatorsIo, runOperators, terminal } from "./operators-command.ts";
import { PLACE_USAGE } from "./store-place.ts";

const USAGE = `sallyport accounts create NAME --role ROLE   the password is read from standard input
sallyport accounts list [--json]
sallyport accounts role NAME --role ROLE
sallyport accounts disable|enable NAME
sallyport accounts password NAME             the new password is read from standard input

  --role ROLE     ${ROLES.join(", ")}
  --json          print the list as JSON
${PLACE_USAGE}`;

const ACTIONS = ["create", "list", "role", "disable", "enable", "password"] as const;

export async function runAccounts(
  args: readonly string[],
  io: OperatorsIo = { ...PROCESS_IO, readLine },
): Promise<number> {
  return runOperators({ name: "sallyport accounts", usage: USAGE, actions: ACTIONS, run }, args, io);
}

async function run(given: Given, { accounts }: Operators, io: OperatorsIo): Promise<void> {
  const [name = ""] = given.names;
  const action = given.action as (typeof ACTIONS)[number];
  switch (action) {
    case "create": {
      const role = roleOf(given);
      const made = await accounts.create({ name, password: await io.readLine(), role }, { by: terminal() });
      return io.log(`made ${made.id}, ${made.role}`);
    }
    case "list": {
      const rows = accounts.list();
      return io.log(given.is("json") ? JSON.stringify(rows, null, 2) : tableOf(rows));
    }
    case "role": {
      const role = roleOf(given);
      known(await accounts.change(name, { role }), name);
      return io.log(`${name} is now ${role}; its sessions have ended`);
    }
    case "disable":
    case "enable":
      known(await accounts.change(name, { disabled: action === "disable" }), name);
      return io.log(`${action}d ${name}`);
    case "password":
      if (accounts.get(name) === undefined) known(undefined, name);
      await accounts.setPassword(name, await io.readLine());
      return io.log(`the password of ${name} is set; its sessions have ended`);
    default:
      return action satisfies never;
  }
}

function roleOf(given: Given): Role {
  const role = ROLES.find((one) => one === given.text("role"));
  if (role === undefined) throw new UsageError(`--role: say one of ${ROLES.join(", ")}`);
  return role;
}

function known(found: unknown, name: string): void {
  if (found === undefined) throw new Error(`there is no account ${JSON.stringify(name)}`);
}

function tableOf(rows: ReturnType<Operators["accounts"]["list"]>): string {
  if (rows.length === 0) return "no accounts yet: sallyport accounts create NAME --role admin";
  const lines = rows.map(({ id, role, disabled, createdAt, createdBy, lastLoginAt }) => [
    id,
    role,
    disabled ? "disabled" : "active",
    createdAt.slice(0, 10),
    createdBy,
    lastLoginAt?.slice(0, 16) ?? "never",
  ]);
  return aligned([["NAME", "ROLE", "STATE", "CREATED", "BY", "LAST LOGIN"], ...lines]);
}

/** At a terminal the password is asked for and shown nowhere. */
async function readLine(): Promise<string> {
  const { stdin } = process;
  if (stdin.isTTY) process.stderr.write("password: ");
  // readline's echo goes to its output: it gets none.
  const lines = createInterface({ input: stdin, terminal: stdin.isTTY });
  try {
    for await (const line of lines) return line;
    throw new UsageError("the password is read from standard input, which had none");
  } finally {
    lines.close();
    if (stdin.isTTY) process.stderr.write("\n");
  }
}
