/**
 * `sallyport policy`: shows and changes the policy of a running gateway through its admin API. A change is served when
 * the command returns, and the history keeps who made it and why.
 */
import { readFile } from "node:fs/promises";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { type FileProblem, formatProblems } from "../policy/problems.ts";
import {
  ADMIN_ENVIRONMENT,
  type AdminClient,
  type AdminIo,
  PROCESS_IO,
  runAction,
  UsageError,
} from "./admin-client.ts";

const USAGE = `sallyport policy status                        what is served, from where, and what is switched off
sallyport policy show [REVISION]               its text
sallyport policy check FILE                    what is wrong with a text
sallyport policy diff REVISION [REVISION]      what differs; the second is what is served unless it is given
sallyport policy history                       what was served, newest first
sallyport policy put FILE --reason TEXT        replace the whole text
sallyport policy patch SEAT --reason TEXT [--mode MODE] [--rollout PERCENT] [--sample SHARE] [--when CEL]
                       [--timeout MS] [--on-error allow|block] [--set POINTER=VALUE]...
sallyport policy rollback REVISION --reason TEXT
sallyport policy withdraw                      end an override and serve policy.yaml
sallyport policy kill KIND TARGET --reason TEXT [--for TIME]
sallyport policy revive KIND TARGET

  KIND TARGET          seat, layer or rule, and its name, such as seat prompt-rules
  --reason TEXT        why, in words for people
  --set POINTER=VALUE  a value in the layer's settings, such as --set /any/blockAt=0.9
  --for TIME           how long, such as 30m, 6h or 7d; absent: until it is revived

${ADMIN_ENVIRONMENT}`;

const TEXT = { type: "string" } as const;
const HELP = { help: { type: "boolean", short: "h" } } as const;
const REASON = { ...HELP, reason: TEXT } as const;
const FLAGS = {
  status: HELP,
  show: HELP,
  check: HELP,
  diff: HELP,
  history: HELP,
  put: REASON,
  patch: {
    ...REASON,
    mode: TEXT,
    rollout: TEXT,
    sample: TEXT,
    when: TEXT,
    timeout: TEXT,
    "on-error": TEXT,
    set: { type: "string", multiple: true },
  },
  rollback: REASON,
  withdraw: HELP,
  kill: { ...REASON, for: TEXT },
  revive: HELP,
} as const satisfies Readonly<Record<string, ParseArgsOptionsConfig>>;
type Action = keyof typeof FLAGS;
type Values = Readonly<Record<string, unknown>>;

const UNIT_SEC: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

export async function runPolicy(args: readonly string[], io: AdminIo = PROCESS_IO): Promise<number> {
  const [action = "", ...rest] = args;
  const name = `sallyport policy${Object.hasOwn(FLAGS, action) ? ` ${action}` : ""}`;
  return runAction({ name, usage: USAGE, io }, async (client) => {
    if (action === "--help" || action === "-h") return io.log(USAGE);
    if (!isAction(action)) {
      const actions = Object.keys(FLAGS).join(", ");
      throw new UsageError(
        action === ""
          ? `say one of ${actions}`
          : `there is no action ${JSON.stringify(action)}; there are ${actions}`,
      );
    }
    const { values, positionals } = parsed(FLAGS[action], rest);
    if (values["help"] === true) return io.log(USAGE);
    return run(action, { client, io, values, positionals });
  });
}

interface Asked {
  readonly client: AdminClient;
  readonly io: AdminIo;
  readonly values: Values;
  readonly positionals: readonly string[];
}

function run(action: Action, asked: Asked): Promise<void> {
  switch (action) {
    case "status":
      return status(asked);
    case "show":
      return show(asked);
    case "check":
      return check(asked);
    case "diff":
      return diff(asked);
    case "history":
      return history(asked);
    case "put":
      return put(asked);
    case "patch":
      return patch(asked);
    case "rollback":
      return rollback(asked);
    case "withdraw":
      return withdraw(asked);
    case "kill":
      return kill(asked);
    case "revive":
      return revive(asked);
    default:
      return action satisfies never;
  }
}

interface Origin {
  readonly at: string;
  readonly by: string;
  readonly reason: string;
  readonly source: string;
}

interface Status {
  readonly revision: string;
  readonly loadedAt: string;
  readonly servedFrom: string;
  readonly problems: readonly FileProblem[];
  readonly seats: readonly { readonly id: string; readonly mode: string; readonly rollout: number }[];
  readonly override?: Origin & { readonly pinned: readonly string[] };
  readonly historyProblem?: string;
}

interface SwitchView {
  readonly kind: string;
  readonly target: string;
  readonly reason: string;
  readonly by: string;
  readonly expiresAt?: string;
}

async function status({ client, io, positionals }: Asked): Promise<void> {
  takes(positionals, []);
  const policy = await client.ask<Status>("GET", "/api/policy");
  const { switches } = await client.ask<{ switches: readonly SwitchView[] }>("GET", "/api/policy/switches");
  io.log(`${policy.revision} from ${policy.servedFrom} since ${policy.loadedAt}`);
  if (policy.override !== undefined) {
    const { at, by, reason, pinned } = policy.override;
    const artifacts = pinned.length === 0 ? "" : `, with its own ${pinned.join(", ")}`;
    io.log(
      `override: by ${by} at ${at}: ${reason}${artifacts}; until policy.yaml changes or it is withdrawn`,
    );
  }
  for (const { id, mode, rollout } of policy.seats)
    io.log(`  ${id}: ${mode}${rollout < 100 ? ` for ${rollout}% of accounts` : ""}`);
  for (const { kind, target, reason, by, expiresAt } of switches)
    io.log(
      `switched off: ${kind} ${target} by ${by}: ${reason}; ${expiresAt === undefined ? "until revived" : `until ${expiresAt}`}`,
    );
  if (policy.historyProblem !== undefined) io.error(`the history is not whole: ${policy.historyProblem}`);
  if (policy.problems.length > 0) io.error(`policy.yaml is not served:\n${formatProblems(policy.problems)}`);
}

async function show({ client, io, positionals: [revision, ...more] }: Asked): Promise<void> {
  takes(more, []);
  const path = revision === undefined ? "source" : `revisions/${encodeURIComponent(revision)}`;
  const { text } = await client.ask<{ readonly text: string }>("GET", `/api/policy/${path}`);
  io.log(text.replace(/\n$/, ""));
}

async function check({ client, io, positionals }: Asked): Promise<void> {
  const [file] = takes(positionals, ["FILE"]);
  const text = await textIn(file);
  const found = await client.ask<
    | { readonly ok: true; readonly revision: string; readonly seats: number; readonly seatsOff: number }
    | { readonly ok: false; readonly problems: readonly FileProblem[] }
  >("POST", "/api/policy/validate", { text });
  if (!found.ok) throw new Error(`it cannot be served\n${formatProblems(found.problems)}`);
  io.log(`ok: revision ${found.revision}, ${found.seats} seats (and ${found.seatsOff} off)`);
}

async function diff({ client, io, positionals: [from, to, ...more] }: Asked): Promise<void> {
  takes(more, []);
  if (from === undefined) throw new UsageError("give REVISION");
  const query = to === undefined ? "" : `?to=${encodeURIComponent(to)}`;
  const path = `/api/policy/revisions/${encodeURIComponent(from)}/diff${query}`;
  const { text, artifacts } = await client.ask<{ text: string; artifacts: readonly string[] }>("GET", path);
  if (text !== "") io.log(text.replace(/\n$/, ""));
  for (const artifact of artifacts) io.log(`artifact ${artifact} differs`);
  if (text === "" && artifacts.length === 0) io.log("the same");
}

async function history({ client, io, positionals }: Asked): Promise<void> {
  takes(positionals, []);
  const { revisions } = await client.ask<{ revisions: readonly (Origin & { revision: string })[] }>(
    "GET",
    "/api/policy/revisions?limit=500",
  );
  for (const { revision, at, source, by, reason } of revisions)
    io.log(`${revision}  ${at}  ${source}${by === "" ? "" : `  ${by}: ${reason}`}`);
}

interface Changed {
  readonly result: "applied" | "unchanged";
  readonly revision: string;
  readonly servedFrom?: string;
}

async function put({ client, io, values, positionals }: Asked): Promise<void> {
  const [file] = takes(positionals, ["FILE"]);
  const reason = reasonIn(values);
  const text = await textIn(file);
  const ifMatch = await client.tagOf("/api/policy/source");
  tell(io, await client.ask<Changed>("PUT", "/api/policy", { text, reason }, ifMatch));
}

async function patch({ client, io, values, positionals }: Asked): Promise<void> {
  const [seat] = takes(positionals, ["SEAT"]);
  const reason = reasonIn(values);
  const number = (flag: string) => {
    const given = values[flag];
    if (typeof given !== "string") return undefined;
    if (given.trim() !== "" && Number.isFinite(Number(given))) return Number(given);
    throw new UsageError(`--${flag}: must be a number, not ${JSON.stringify(given)}`);
  };
  const sets = (values["set"] ?? []) as readonly string[];
  const fields = {
    mode: values["mode"],
    rollout: number("rollout"),
    sample: number("sample"),
    when: values["when"],
    timeoutMs: number("timeout"),
    onError: values["on-error"],
    ...(sets.length > 0 && { with: Object.fromEntries(sets.map(setting)) }),
  };
  if (Object.values(fields).every((value) => value === undefined))
    throw new UsageError("say what to change, such as --mode shadow");
  tell(
    io,
    await client.ask<Changed>("PATCH", `/api/policy/seats/${encodeURIComponent(seat)}`, {
      ...fields,
      reason,
    }),
  );
}

/** What reads as JSON is that; anything else is text. */
function setting(given: string): [string, unknown] {
  const mark = given.indexOf("=");
  if (mark < 1) throw new UsageError(`--set: must be POINTER=VALUE, not ${JSON.stringify(given)}`);
  const text = given.slice(mark + 1);
  try {
    return [given.slice(0, mark), JSON.parse(text)];
  } catch {
    return [given.slice(0, mark), text];
  }
}

async function rollback({ client, io, values, positionals }: Asked): Promise<void> {
  const [to] = takes(positionals, ["REVISION"]);
  tell(io, await client.ask<Changed>("POST", "/api/policy/rollback", { to, reason: reasonIn(values) }));
}

async function withdraw({ client, io, positionals }: Asked): Promise<void> {
  takes(positionals, []);
  tell(io, await client.ask<Changed>("DELETE", "/api/policy/override"));
}

async function kill({ client, io, values, positionals }: Asked): Promise<void> {
  const [kind, target] = takes(positionals, ["KIND", "TARGET"]);
  const time = values["for"];
  const body = { reason: reasonIn(values), ...(typeof time === "string" && { forSec: secondsOf(time) }) };
  await client.ask("PUT", switchPath(kind, target), body);
  io.log(`switched off: ${kind} ${target}`);
}

async function revive({ client, io, positionals }: Asked): Promise<void> {
  const [kind, target] = takes(positionals, ["KIND", "TARGET"]);
  await client.ask("DELETE", switchPath(kind, target));
  io.log(`revived: ${kind} ${target}`);
}

function switchPath(kind: string, target: string): string {
  return `/api/policy/switches/${encodeURIComponent(kind)}/${encodeURIComponent(target)}`;
}

function tell(io: AdminIo, { result, revision, servedFrom }: Changed): void {
  if (result === "unchanged") return io.log(`${revision} is served already`);
  const where =
    servedFrom === "override" ? " as an override, until policy.yaml changes or it is withdrawn" : "";
  io.log(`${revision} is served${where}`);
}

function isAction(text: string): text is Action {
  return Object.hasOwn(FLAGS, text);
}

function takes<Names extends readonly string[]>(
  given: readonly string[],
  names: readonly [...Names],
): { readonly [Index in keyof Names]: string } {
  if (given.length < names.length) throw new UsageError(`give ${names.slice(given.length).join(" and ")}`);
  if (given.length > names.length)
    throw new UsageError(`unexpected argument ${JSON.stringify(given[names.length])}`);
  return given as unknown as { readonly [Index in keyof Names]: string };
}

function reasonIn({ reason }: Values): string {
  if (typeof reason === "string" && reason.trim() !== "") return reason;
  throw new UsageError("--reason TEXT is missing");
}

function secondsOf(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SEC[unit ?? ""] ?? Number.NaN);
  if (seconds > 0) return seconds;
  throw new UsageError(`--for: must be a time such as 30m, 6h or 7d, not ${JSON.stringify(text)}`);
}

async function textIn(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new UsageError(`FILE: cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function parsed(options: ParseArgsOptionsConfig, args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
