/**
 * `sallyport audit`: says whether the audit chain is what was written, and shows its records. It reads files alone:
 * the gateway may be down, or the chain a copy on the desk of whoever investigates.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { auditDirOf, checkpointsOf } from "../ledger/audit.ts";
import { publicKeyPath, readPublicKeys } from "../ledger/audit-key.ts";
import { readAudit } from "../ledger/audit-reader.ts";
import { type AuditRecord, ascii } from "../ledger/audit-record.ts";
import { verifyChain } from "../ledger/audit-verify.ts";
import { loadGateway } from "../policy/gateway-file.ts";
import { formatProblems } from "../policy/problems.ts";
import { type AdminIo, PROCESS_IO, UsageError } from "./admin-client.ts";

const USAGE = `sallyport audit verify [--checkpoints PATH] [--public-key FILE]
sallyport audit list [--limit N] [--actor NAME] [--action ID] [--target TEXT] [--json]

  --checkpoints PATH  folder or file of checkpoints, from where the gateway cannot change them
                      (default: audit.checkpoints in gateway.yaml)
  --public-key FILE   who may have signed them, in PEM: a copy that does not lie in the data folder
                      (default: audit/public-key.pem in the data folder)
  --limit N           how many records, the newest (default: 50)
  --actor, --action   only by this actor, only this action, such as keys.revoke
  --target TEXT       only where the target contains this
  --json              print the records as JSON lines

  --data DIR          data folder of the gateway (default: data in gateway.yaml)
  --config DIR        folder with the gateway's gateway.yaml (default: ./config, else the shipped one)

verify answers 0 where the chain is whole, 1 where it is not (or cannot be read), 2 where it was wrongly asked.`;

const SHIPPED_CONFIG = resolve(import.meta.dirname, "../../config");
const LIST_DEFAULT = 50;
const LIST_MAX = 100_000;
const PAGE = 500;

const TEXT = { type: "string" } as const;
const SWITCH = { type: "boolean" } as const;
const COMMON = { data: TEXT, config: TEXT, help: { ...SWITCH, short: "h" } } as const;
const FLAGS = {
  verify: { ...COMMON, checkpoints: TEXT, "public-key": TEXT },
  list: { ...COMMON, limit: TEXT, actor: TEXT, action: TEXT, target: TEXT, json: SWITCH },
} as const;

export async function runAudit(args: readonly string[], io: AdminIo = PROCESS_IO): Promise<number> {
  const [action = "", ...rest] = args;
  try {
    if (action === "--help" || action === "-h") {
      io.log(USAGE);
      return 0;
    }
    if (action !== "verify" && action !== "list") {
      throw new UsageError(
        action === "" ? "say verify or list" : `there is no action ${JSON.stringify(action)}`,
      );
    }
    const text = textsOf(FLAGS[action], rest);
    if (text("help") !== undefined) {
      io.log(USAGE);
      return 0;
    }
    return await (action === "verify" ? verify(text, io) : list(text, io));
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    const isUsage = error instanceof UsageError;
    io.error(`sallyport audit${action === "" ? "" : ` ${action}`}: ${words}${isUsage ? `\n\n${USAGE}` : ""}`);
    return isUsage ? 2 : 1;
  }
}

/** A flag as it was typed; a switch that is on is "". */
type Text = (flag: string) => string | undefined;

async function verify(text: Text, io: AdminIo): Promise<number> {
  const { dataDir, checkpoints } = await placesOf(text, io);
  const dir = auditDirOf(dataDir);
  const place = text("checkpoints") ?? checkpointsOf(dataDir, checkpoints);
  const keyFile = text("public-key") ?? publicKeyPath(dir);
  const keys = readPublicKeys(keyFile);
  const report = await verifyChain({ dir, checkpoints: { place, keys } });
  const { problem, head, chain, checkpointed, notes } = report;
  for (const note of notes) io.error(`note: ${note}`);
  if (problem !== undefined) {
    io.error(`BAD at record ${problem.seq}: ${problem.where}: ${problem.message}`);
    return 1;
  }
  const rest = head.seq - checkpointed;
  const bare = rest === 0 ? "" : `; the last ${rest} are held against themselves alone`;
  io.log(`ok: chain ${chain}, ${head.seq} records, the last one ${head.hash.slice(0, 16)}`);
  io.log(`checkpoints in ${place} reach record ${checkpointed}${bare}`);
  io.log(`signed by ${[...keys.keys()].join(", ")} (${keyFile})`);
  return 0;
}

async function list(text: Text, io: AdminIo): Promise<number> {
  const { dataDir } = await placesOf(text, io);
  const wanted = Number(text("limit") ?? LIST_DEFAULT);
  if (!Number.isSafeInteger(wanted) || wanted < 1 || wanted > LIST_MAX)
    throw new UsageError(`--limit: must be a whole number from 1 to ${LIST_MAX}`);
  const found: AuditRecord[] = [];
  let before: number | undefined;
  do {
    const limit = Math.min(PAGE, wanted - found.length);
    const filter = { actor: text("actor"), action: text("action"), target: text("target") };
    const page = await readAudit(auditDirOf(dataDir), { limit, before, ...filter });
    found.push(...page.records);
    before = page.next;
  } while (before !== undefined && found.length < wanted);
  if (text("json") !== undefined) for (const record of found) io.log(JSON.stringify(record));
  else if (found.length === 0) io.log(`no such records in ${auditDirOf(dataDir)}`);
  else io.log(found.map(lineOf).join("\n"));
  return 0;
}

/** On a terminal nothing but text: what is said of a record came from callers of the admin API. */
function lineOf({ seq, at, actor, action, target, outcome, status, of }: AuditRecord): string {
  const end = `${outcome}${status === undefined ? "" : ` ${status}`}${of === undefined ? "" : ` (begun as ${of})`}`;
  return ascii(`${seq}  ${at}  ${actor}  ${action}  ${target}  ${end}`);
}

async function placesOf(text: Text, { env }: AdminIo) {
  const configDir = resolve(text("config") ?? (existsSync("config") ? "config" : SHIPPED_CONFIG));
  const loaded = await loadGateway(configDir, env);
  if (!loaded.ok)
    throw new Error(`the gateway's settings cannot be read\n${formatProblems(loaded.problems)}`);
  const { data, audit } = loaded.config;
  const dataDir = resolve(text("data") ?? data);
  if (!existsSync(auditDirOf(dataDir)))
    throw new Error(
      `${auditDirOf(dataDir)}: there is no audit chain; name the gateway's data folder with --data`,
    );
  return { dataDir, checkpoints: audit.checkpoints };
}

function textsOf(options: ParseArgsOptionsConfig, args: readonly string[]): Text {
  try {
    const { values } = parseArgs({ args: [...args], options });
    return (flag) => {
      const value = values[flag];
      return typeof value === "string" ? value : value === true ? "" : undefined;
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
