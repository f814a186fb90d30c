/**
 * `sallyport keys`: makes, lists and revokes virtual keys in a data folder. A running gateway on the same
 * folder sees the change within a second. The key in clear is printed once, alone on standard output, so
 * that a script can take it.
 */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { type IdentityStore, type KeyListing, openIdentities } from "../ports/identities.ts";

const USAGE = `sallyport keys create --org ORG [--project NAME] [--name TEXT] [--expires DATE] [--data DIR]
sallyport keys list [--json] [--data DIR]
sallyport keys revoke ID [--data DIR]

  --org ORG       organisation that the key belongs to
  --project NAME  project within it (default: default)
  --name TEXT     words for people: what the key is for
  --expires DATE  when it stops working, such as 2027-01-01 or 2027-01-01T12:00:00Z
  --data DIR      data folder of the gateway (default: data)
  --json          print the list as JSON

Environment: SALLYPORT_KEY_PEPPER, where the gateway has it too.`;

export interface KeysIo {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const TEXT = { type: "string" } as const;
const COMMON = { data: TEXT, help: { type: "boolean", short: "h" } } as const;
const FLAGS = {
  create: { ...COMMON, org: TEXT, project: TEXT, name: TEXT, expires: TEXT },
  list: { ...COMMON, json: { type: "boolean" } },
  revoke: COMMON,
} as const;

/** What was asked for cannot be done as it was asked; exit code 2. */
class UsageError extends Error {}

const PROCESS: KeysIo = { log: console.log, error: console.error, env: process.env };

export async function runKeys(args: readonly string[], io: KeysIo = PROCESS): Promise<number> {
  const [action = "", ...rest] = args;
  try {
    if (action === "--help" || action === "-h") {
      io.log(USAGE);
      return 0;
    }
    if (action !== "create" && action !== "list" && action !== "revoke") {
      throw new UsageError(
        action === "" ? "say create, list or revoke" : `there is no action ${JSON.stringify(action)}`,
      );
    }
    return await run(action, rest, io);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const isUsage = error instanceof UsageError;
    io.error(`sallyport keys${action === "" ? "" : ` ${action}`}: ${text}${isUsage ? `\n\n${USAGE}` : ""}`);
    return isUsage ? 2 : 1;
  }
}

async function run(action: keyof typeof FLAGS, args: readonly string[], io: KeysIo): Promise<number> {
  const { values, positionals } = parsed(action, args);
  if (values["help"] === true) {
    io.log(USAGE);
    return 0;
  }
  const text = (flag: string): string | undefined => {
    const value = values[flag];
    return typeof value === "string" ? value : undefined;
  };
  if (action !== "revoke" && positionals.length > 0) {
    throw new UsageError(`unexpected argument ${JSON.stringify(positionals[0])}`);
  }
  if (action === "create" && !text("org")) throw new UsageError("--org ORG is missing");
  if (action === "revoke" && positionals.length !== 1)
    throw new UsageError("give the ID of one key, such as key_1a2b3c");

  const dataDir = text("data") ?? "data";
  const store = await openIdentities({ dataDir, env: io.env, bootstrap: false, watch: false });
  switch (action) {
    case "create":
      return create(store, io, text);
    case "list":
      io.log(values["json"] === true ? JSON.stringify(store.list(), null, 2) : table(store.list()));
      return 0;
    case "revoke":
      if (await store.revoke(positionals[0]!)) {
        io.log(`revoked ${positionals[0]}`);
        return 0;
      }
      throw new Error(`there is no key ${JSON.stringify(positionals[0])} in ${dataDir}`);
    default:
      return action satisfies never;
  }
}

interface Parsed {
  readonly values: Readonly<Record<string, unknown>>;
  readonly positionals: readonly string[];
}

function parsed(action: keyof typeof FLAGS, args: readonly string[]): Parsed {
  try {
    const options: ParseArgsOptionsConfig = FLAGS[action];
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The store names its fields; people typed flags. */
const FLAG_OF: Readonly<Record<string, string>> = {
  org: "--org",
  project: "--project",
  name: "--name",
  expiresAt: "--expires",
};

async function create(
  store: IdentityStore,
  io: KeysIo,
  text: (flag: string) => string | undefined,
): Promise<number> {
  const expiresAt = text("expires");
  try {
    const { id, key } = await store.create({
      org: text("org") ?? "",
      project: text("project") ?? "default",
      name: text("name") ?? "",
      ...(expiresAt !== undefined && { expiresAt }),
    });
    io.error(`${id}: the key is shown this once`);
    io.log(key);
    return 0;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(error.message.replace(/^\w+(?=: )/, (field) => FLAG_OF[field] ?? field));
  }
}

function table(keys: readonly KeyListing[]): string {
  if (keys.length === 0) return "no keys yet: sallyport keys create --org ORG";
  const rows = keys.map(({ id, prefix, org, project, name, createdAt, expiresAt, revokedAt }) => [
    id,
    prefix,
    org,
    project,
    name,
    createdAt.slice(0, 10),
    stateOf(expiresAt, revokedAt),
  ]);
  const all = [["ID", "KEY", "ORG", "PROJECT", "NAME", "CREATED", "STATE"], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function stateOf(expiresAt: string | undefined, revokedAt: string | undefined): string {
  if (revokedAt !== undefined) return `revoked ${revokedAt.slice(0, 10)}`;
  if (expiresAt === undefined) return "active";
  return `${Date.parse(expiresAt) <= Date.now() ? "expired" : "active until"} ${expiresAt.slice(0, 10)}`;
}
