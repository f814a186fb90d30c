/**
 * `sallyport keys`: makes, lists, rotates and revokes virtual keys, in the data folder or on Redis, wherever the
 * gateway has them. A running gateway sees the change within a second. The key in clear is printed once, alone
 * on standard output, so that a script can take it.
 */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { ROUTE_IDS } from "../policy/policy-file.ts";
import { type IdentityStore, openIdentities } from "../ports/identities.ts";
import { UsageError } from "./admin-client.ts";
import { keysTable } from "./keys-table.ts";
import { openPlace } from "./store-place.ts";

const USAGE = `sallyport keys create --org ORG [--project NAME] [--name TEXT] [--expires DATE] [--canary]
                      [--scope-routes LIST] [--scope-models LIST] [--scope-networks LIST]
sallyport keys list [--json]
sallyport keys rotate ID [--overlap TIME]
sallyport keys revoke ID

  --org ORG              organisation that the key belongs to
  --project NAME         project within it (default: default)
  --name TEXT            words for people: what the key is for
  --expires DATE         when it stops working, such as 2027-01-01 or 2027-01-01T12:00:00Z
  --canary               a key for nobody: whoever uses it has stolen it
  --scope-routes LIST    the only routes that it opens, such as openai.chat,openai.models
  --scope-models LIST    the only models, each a name or its start and "*", such as gpt-5,claude-*
  --scope-networks LIST  the only networks that it works from, such as 192.0.2.0/24,2001:db8::/32
  --overlap TIME         how long the old key works beside the new one, such as 24h, 30m or 0 (default: 24h)
  --json                 print the list as JSON

  --data DIR             data folder of the gateway (default: data in gateway.yaml)
  --config DIR           folder with the gateway's gateway.yaml (default: ./config, else the shipped one)
  --redis URL            where the keys are, such as redis://127.0.0.1:6379 (default: stores in gateway.yaml)

Environment: SALLYPORT_REDIS_URL, SALLYPORT_REDIS_PASSWORD and SALLYPORT_KEY_PEPPER, where the gateway has them.`;

const DEFAULT_OVERLAP = "24h";
const UNIT_SEC: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

export interface KeysIo {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const TEXT = { type: "string" } as const;
const SWITCH = { type: "boolean" } as const;
const COMMON = { data: TEXT, config: TEXT, redis: TEXT, help: { ...SWITCH, short: "h" } } as const;
const FLAGS = {
  create: {
    ...COMMON,
    org: TEXT,
    project: TEXT,
    name: TEXT,
    expires: TEXT,
    canary: SWITCH,
    "scope-routes": TEXT,
    "scope-models": TEXT,
    "scope-networks": TEXT,
  },
  list: { ...COMMON, json: SWITCH },
  rotate: { ...COMMON, overlap: TEXT },
  revoke: COMMON,
} as const;
type Action = keyof typeof FLAGS;

const PROCESS: KeysIo = { log: console.log, error: console.error, env: process.env };

export async function runKeys(args: readonly string[], io: KeysIo = PROCESS): Promise<number> {
  const [action = "", ...rest] = args;
  try {
    if (action === "--help" || action === "-h") {
      io.log(USAGE);
      return 0;
    }
    if (!isAction(action)) {
      throw new UsageError(
        action === "" ? "say create, list, rotate or revoke" : `there is no action ${JSON.stringify(action)}`,
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

function isAction(text: string): text is Action {
  return Object.hasOwn(FLAGS, text);
}

/** What was typed: text by flag, and which switches are on. */
interface Given {
  text(flag: string): string | undefined;
  is(flag: string): boolean;
}

async function run(action: Action, args: readonly string[], io: KeysIo): Promise<number> {
  const { values, positionals } = parsed(action, args);
  const given: Given = {
    text(flag) {
      const value = values[flag];
      return typeof value === "string" ? value : undefined;
    },
    is: (flag) => values[flag] === true,
  };
  if (given.is("help")) {
    io.log(USAGE);
    return 0;
  }
  const takesId = action === "revoke" || action === "rotate";
  if (!takesId && positionals.length > 0) {
    throw new UsageError(`unexpected argument ${JSON.stringify(positionals[0])}`);
  }
  if (takesId && positionals.length !== 1) {
    throw new UsageError("give the ID of one key, such as key_1a2b3c");
  }
  if (action === "create" && !given.text("org")) throw new UsageError("--org ORG is missing");
  checkRoutes(given);
  const overlapSec = secondsOf(given.text("overlap") ?? DEFAULT_OVERLAP);

  const { store, place, close } = await open(given, io.env);
  try {
    switch (action) {
      case "create":
        return await create(store, io, given);
      case "list":
        io.log(given.is("json") ? JSON.stringify(store.list(), null, 2) : keysTable(store.list()));
        return 0;
      case "rotate":
        return await rotate(store, io, { id: positionals[0]!, overlapSec });
      case "revoke":
        if (!(await store.revoke(positionals[0]!))) {
          throw new Error(`there is no key ${JSON.stringify(positionals[0])} in ${place}`);
        }
        io.log(`revoked ${positionals[0]}`);
        return 0;
      default:
        return action satisfies never;
    }
  } finally {
    await close();
  }
}

/** The store that the gateway has: what its gateway.yaml says, unless a flag says otherwise. */
async function open(given: Given, env: KeysIo["env"]) {
  const flags = { data: given.text("data"), config: given.text("config"), redis: given.text("redis") };
  const { dataDir, redis, name } = await openPlace(flags, env, "the keys");
  try {
    const store = await openIdentities({ dataDir, env, redis, bootstrap: false, watch: false });
    return {
      store,
      place: name,
      close: async () => {
        await store.close();
        await redis?.close();
      },
    };
  } catch (error) {
    await redis?.close();
    throw error;
  }
}

interface Parsed {
  readonly values: Readonly<Record<string, unknown>>;
  readonly positionals: readonly string[];
}

function parsed(action: Action, args: readonly string[]): Parsed {
  try {
    const options: ParseArgsOptionsConfig = FLAGS[action];
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function checkRoutes(given: Given): void {
  const known: readonly string[] = [...ROUTE_IDS, "pass_through"];
  const wrong = listOf(given.text("scope-routes"))?.find((route) => !known.includes(route));
  if (wrong === undefined) return;
  throw new UsageError(
    `--scope-routes: there is no route ${JSON.stringify(wrong)}; there are ${known.join(", ")}`,
  );
}

function secondsOf(text: string): number {
  const [, count, unit] = /^(\d{1,8})([smhd]?)$/.exec(text) ?? [];
  if (count === undefined || (unit === "" && Number(count) !== 0)) {
    throw new UsageError("--overlap: takes a number and a unit (s, m, h or d), such as 24h, or 0");
  }
  return Number(count) * (UNIT_SEC[unit ?? ""] ?? 1);
}

function listOf(text: string | undefined): readonly string[] | undefined {
  return text?.split(",").map((entry) => entry.trim());
}

/** The store names its fields; people typed flags. */
const FLAG_OF: Readonly<Record<string, string>> = {
  org: "--org",
  project: "--project",
  name: "--name",
  expiresAt: "--expires",
  "scopes.routes": "--scope-routes",
  "scopes.models": "--scope-models",
  "scopes.networks": "--scope-networks",
  overlapSec: "--overlap",
  id: "ID",
};

function usageOf(error: RangeError): UsageError {
  return new UsageError(
    error.message.replace(/^(\w+(?:\.[a-z]+)?)(?:\.(\d+))?(?=: )/, (all, field: string, index?: string) => {
      const flag = FLAG_OF[field];
      if (flag === undefined) return all;
      return index === undefined ? flag : `${flag}, entry ${Number(index) + 1}`;
    }),
  );
}

async function create(store: IdentityStore, io: KeysIo, given: Given): Promise<number> {
  const expiresAt = given.text("expires");
  const routes = listOf(given.text("scope-routes"));
  const models = listOf(given.text("scope-models"));
  const networks = listOf(given.text("scope-networks"));
  try {
    const { id, key } = await store.create({
      org: given.text("org") ?? "",
      project: given.text("project") ?? "default",
      name: given.text("name") ?? "",
      ...(expiresAt !== undefined && { expiresAt }),
      scopes: {
        ...(routes !== undefined && { routes: [...routes] }),
        ...(models !== undefined && { models: [...models] }),
        ...(networks !== undefined && { networks: [...networks] }),
      },
      canary: given.is("canary"),
    });
    io.error(`${id}: the key is shown this once`);
    io.log(key);
    return 0;
  } catch (error) {
    throw error instanceof RangeError ? usageOf(error) : error;
  }
}

async function rotate(
  store: IdentityStore,
  io: KeysIo,
  { id: old, overlapSec }: { readonly id: string; readonly overlapSec: number },
): Promise<number> {
  try {
    const { id, key } = await store.rotate(old, { overlapSec });
    const untilMs = Date.now() + overlapSec * 1000;
    const until =
      overlapSec === 0
        ? "has stopped working"
        : `works until ${new Date(untilMs).toISOString()} at the latest`;
    io.error(`${id} takes the place of ${old}, which ${until}; the key is shown this once`);
    io.log(key);
    return 0;
  } catch (error) {
    throw error instanceof RangeError ? usageOf(error) : error;
  }
}
