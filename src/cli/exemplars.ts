/**
 * `sallyport exemplars`: adds, lists and removes texts that are known as bad or good on a running gateway through its
 * admin API, so that their like is known everywhere within a second. The text is sent, not kept.
 */
import { readFileSync } from "node:fs";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import {
  ADMIN_ENVIRONMENT,
  type AdminClient,
  type AdminIo,
  PROCESS_IO,
  runAction,
  UsageError,
} from "./admin-client.ts";

const LABELS = ["bad", "good"];

const USAGE = `sallyport exemplars list [--label LABEL] [--json]
sallyport exemplars add LABEL (--text TEXT | --file FILE) --reason WORDS [--note WORDS] [--shadow]
sallyport exemplars remove EXEMPLAR

  LABEL           bad: abuse; good: it looks like abuse and is none
  --text TEXT     the text, as it was sent; it is not kept
  --file FILE     or the file that holds it; - is standard input
  --reason WORDS  why, in words for people
  --note WORDS    a few words more, such as a case's id
  --shadow        what is near it is flagged at most
  --json          print the list as JSON

${ADMIN_ENVIRONMENT}`;

interface ExemplarView {
  readonly id: string;
  readonly label: string;
  readonly mode: string;
  readonly reason: string;
  readonly note?: string;
  readonly by: string;
  readonly createdAt: string;
  readonly units: number;
}

const TEXT = { type: "string" } as const;
const SWITCH = { type: "boolean" } as const;
const HELP = { help: { ...SWITCH, short: "h" } } as const;
const FLAGS = {
  list: { ...HELP, label: TEXT, json: SWITCH },
  add: { ...HELP, text: TEXT, file: TEXT, reason: TEXT, note: TEXT, shadow: SWITCH },
  remove: HELP,
} as const;

export async function runExemplars(args: readonly string[], io: AdminIo = PROCESS_IO): Promise<number> {
  const [action = "", ...rest] = args;
  const name = `sallyport exemplars${action in FLAGS ? ` ${action}` : ""}`;
  return runAction({ name, usage: USAGE, io }, async (client) => {
    if (action === "--help" || action === "-h") return io.log(USAGE);
    if (action !== "list" && action !== "add" && action !== "remove") {
      throw new UsageError(
        action === "" ? "say list, add or remove" : `there is no action ${JSON.stringify(action)}`,
      );
    }
    const { values, positionals } = parsed(FLAGS[action], rest);
    if (values["help"] === true) return io.log(USAGE);
    switch (action) {
      case "list":
        if (positionals.length > 0)
          throw new UsageError(`unexpected argument ${JSON.stringify(positionals[0])}`);
        return list(client, io, values);
      case "add":
        return add(client, io, values, positionals);
      case "remove":
        return remove(client, io, positionals);
      default:
        return action satisfies never;
    }
  });
}

type Values = Readonly<Record<string, unknown>>;

async function list(client: AdminClient, io: AdminIo, { label, json }: Values): Promise<void> {
  const query = new URLSearchParams({ limit: "500" });
  if (typeof label === "string") query.set("label", labelOf(label, "--label"));
  const found: ExemplarView[] = [];
  for (;;) {
    const page = await client.ask<{ exemplars: ExemplarView[]; next: string | null }>(
      "GET",
      `/api/exemplars?${query}`,
    );
    found.push(...page.exemplars);
    if (page.next === null) break;
    query.set("cursor", page.next);
  }
  if (json === true) io.log(JSON.stringify(found, null, 2));
  else if (found.length === 0) io.log("no exemplars");
  else io.log(found.map(lineOf).join("\n"));
}

async function add(
  client: AdminClient,
  io: AdminIo,
  { text, file, reason, note, shadow }: Values,
  positionals: readonly string[],
): Promise<void> {
  const [label = ""] = positionals;
  if (positionals.length !== 1) throw new UsageError("say what it is: bad or good");
  if (typeof reason !== "string") throw new UsageError("--reason WORDS is missing");
  if ((typeof text === "string") === (typeof file === "string"))
    throw new UsageError("give --text TEXT or --file FILE");
  const row = await client.ask<ExemplarView>("POST", "/api/exemplars", {
    text: typeof text === "string" ? text : readText(String(file)),
    label: labelOf(label, "LABEL"),
    reason,
    ...(typeof note === "string" && { note }),
    ...(shadow === true && { mode: "shadow" }),
  });
  io.log(lineOf(row));
}

async function remove(client: AdminClient, io: AdminIo, positionals: readonly string[]): Promise<void> {
  const [id = ""] = positionals;
  if (positionals.length !== 1) throw new UsageError("give the id of one exemplar, such as ex_1a2b...");
  await client.ask("DELETE", `/api/exemplars/${encodeURIComponent(id)}`);
  io.log(`removed ${id}`);
}

function lineOf({ id, label, mode, reason, note, by, createdAt, units }: ExemplarView): string {
  const shadow = mode === "shadow" ? " (shadow)" : "";
  const more = note === undefined ? "" : ` (${note})`;
  return `${id}  ${label}${shadow}  ${units} characters  ${createdAt} by ${by}: ${reason}${more}`;
}

function labelOf(given: string, what: string): string {
  if (LABELS.includes(given)) return given;
  throw new UsageError(`${what}: must be bad or good, not ${JSON.stringify(given)}`);
}

function readText(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`--file: cannot be read: ${why}`);
  }
}

function parsed(
  options: ParseArgsOptionsConfig,
  args: readonly string[],
): { readonly values: Values; readonly positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
