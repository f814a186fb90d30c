/**
 * `sallyport sanctions`: imposes, lists and lifts sanctions on a running gateway through its admin API, so that
 * they hold everywhere within a second and the record says who imposed them.
 */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { ENTITY_KINDS, SANCTION_ACTS } from "../layer/index.ts";
import {
  ADMIN_ENVIRONMENT,
  type AdminClient,
  type AdminIo,
  PROCESS_IO,
  runAction,
  UsageError,
} from "./admin-client.ts";

const USAGE = `sallyport sanctions list [--all] [--kind KIND] [--json]
sallyport sanctions impose KIND ID --act ACT --reason TEXT [--for TIME | --until DATE] [--scale NUMBER]
sallyport sanctions lift SANCTION

  KIND ID         on whom: ${ENTITY_KINDS.join(", ")}; such as org acme, end_user acme/user-17,
                  address 192.0.2.7, network 192.0.2.0/24
  --act ACT       ${SANCTION_ACTS.join(", ")}
  --reason TEXT   why, in words for people
  --for TIME      how long it holds, such as 30m, 6h or 7d; only a ban may be without an end
  --until DATE    or until when, such as 2027-01-01T12:00:00Z
  --scale NUMBER  for throttle: what limits are multiplied by (default: 0.5)
  --all           those that have ended too
  --json          print the list as JSON

${ADMIN_ENVIRONMENT}`;

interface SanctionView {
  readonly id: string;
  readonly entity: { readonly kind: string; readonly id: string };
  readonly act: string;
  readonly reason: string;
  readonly by: string;
  readonly active: boolean;
  readonly expiresAt?: string;
  readonly liftedAt?: string;
  readonly liftedBy?: string;
}

const TEXT = { type: "string" } as const;
const SWITCH = { type: "boolean" } as const;
const HELP = { help: { ...SWITCH, short: "h" } } as const;
const FLAGS = {
  list: { ...HELP, all: SWITCH, kind: TEXT, json: SWITCH },
  impose: { ...HELP, act: TEXT, reason: TEXT, for: TEXT, until: TEXT, scale: TEXT },
  lift: HELP,
} as const;
const UNIT_SEC: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

export async function runSanctions(args: readonly string[], io: AdminIo = PROCESS_IO): Promise<number> {
  const [action = "", ...rest] = args;
  const name = `sallyport sanctions${action in FLAGS ? ` ${action}` : ""}`;
  return runAction({ name, usage: USAGE, io }, async (client) => {
    if (action === "--help" || action === "-h") return io.log(USAGE);
    if (action !== "list" && action !== "impose" && action !== "lift") {
      throw new UsageError(
        action === "" ? "say list, impose or lift" : `there is no action ${JSON.stringify(action)}`,
      );
    }
    const { values, positionals } = parsed(FLAGS[action], rest);
    if (values["help"] === true) return io.log(USAGE);
    switch (action) {
      case "list":
        if (positionals.length > 0)
          throw new UsageError(`unexpected argument ${JSON.stringify(positionals[0])}`);
        return list(client, io, values);
      case "impose":
        return impose(client, io, values, positionals);
      case "lift":
        return lift(client, io, positionals);
      default:
        return action satisfies never;
    }
  });
}

type Values = Readonly<Record<string, unknown>>;

async function list(client: AdminClient, io: AdminIo, { all, kind, json }: Values): Promise<void> {
  const query = new URLSearchParams({ limit: "500" });
  if (all !== true) query.set("active", "true");
  if (typeof kind === "string") query.set("kind", oneOf(ENTITY_KINDS, kind, "--kind"));
  const found: SanctionView[] = [];
  for (;;) {
    const page = await client.ask<{ sanctions: SanctionView[]; next: string | null }>(
      "GET",
      `/api/sanctions?${query}`,
    );
    found.push(...page.sanctions);
    if (page.next === null) break;
    query.set("cursor", page.next);
  }
  if (json === true) io.log(JSON.stringify(found, null, 2));
  else if (found.length === 0) io.log(all === true ? "no sanctions" : "no sanctions in force");
  else io.log(found.map(lineOf).join("\n"));
}

async function impose(
  client: AdminClient,
  io: AdminIo,
  values: Values,
  positionals: readonly string[],
): Promise<void> {
  const [kind = "", id = ""] = positionals;
  if (positionals.length !== 2) throw new UsageError("say on whom: KIND and ID, such as org acme");
  const { act, reason, until, scale } = values;
  if (typeof act !== "string") throw new UsageError("--act ACT is missing");
  if (typeof reason !== "string") throw new UsageError("--reason TEXT is missing");
  const row = await client.ask<SanctionView>("POST", "/api/sanctions", {
    entity: { kind: oneOf(ENTITY_KINDS, kind, "KIND"), id },
    act: oneOf(SANCTION_ACTS, act, "--act"),
    reason,
    ...(typeof values["for"] === "string" && { forSec: secondsOf(values["for"]) }),
    ...(typeof until === "string" && { expiresAt: instantOf(until) }),
    ...(typeof scale === "string" && { limitScale: Number(scale) }),
  });
  io.log(lineOf(row));
}

async function lift(client: AdminClient, io: AdminIo, positionals: readonly string[]): Promise<void> {
  const [id = ""] = positionals;
  if (positionals.length !== 1) throw new UsageError("give the id of one sanction, such as sanc_1a2b3c");
  await client.ask("DELETE", `/api/sanctions/${encodeURIComponent(id)}`);
  io.log(`lifted ${id}`);
}

function lineOf({
  id,
  entity,
  act,
  reason,
  by,
  active,
  expiresAt,
  liftedAt,
  liftedBy,
}: SanctionView): string {
  const end =
    liftedAt !== undefined
      ? `lifted ${liftedAt} by ${liftedBy ?? "nobody known"}`
      : expiresAt === undefined
        ? "until lifted"
        : `${active ? "until" : "ended"} ${expiresAt}`;
  return `${id}  ${act}  ${entity.kind} ${entity.id}  ${end}  by ${by}: ${reason}`;
}

function oneOf(known: readonly string[], given: string, what: string): string {
  if (known.includes(given)) return given;
  throw new UsageError(`${what}: must be one of ${known.join(", ")}, not ${JSON.stringify(given)}`);
}

function secondsOf(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SEC[unit ?? ""] ?? Number.NaN);
  if (seconds > 0) return seconds;
  throw new UsageError(`--for: must be a time such as 30m, 6h or 7d, not ${JSON.stringify(text)}`);
}

function instantOf(text: string): string {
  const ms = Date.parse(text);
  if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  throw new UsageError(
    `--until: must be a date or time such as 2027-01-01T12:00:00Z, not ${JSON.stringify(text)}`,
  );
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
