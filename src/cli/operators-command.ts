/** What `sallyport accounts` and `sallyport tokens` share: their flags, their store, their tables and their errors. */
import { userInfo } from "node:os";
import { parseArgs } from "node:util";
import { type Operators, openOperators } from "../ports/operators.ts";
import { type AdminIo, UsageError } from "./admin-client.ts";
import { openPlace } from "./store-place.ts";

export interface OperatorsIo extends AdminIo {
  /** One line of standard input, without its end. */
  readonly readLine: () => Promise<string>;
}

export interface Given {
  readonly action: string;
  readonly names: readonly string[];
  text(flag: string): string | undefined;
  is(flag: string): boolean;
}

export interface Command {
  readonly name: string;
  readonly usage: string;
  readonly actions: readonly string[];
  readonly run: (given: Given, operators: Operators, io: OperatorsIo) => Promise<void>;
}

const TEXT = { type: "string" } as const;
const SWITCH = { type: "boolean" } as const;
const FLAGS = {
  ...{ data: TEXT, config: TEXT, redis: TEXT, role: TEXT, expires: TEXT },
  ...{ json: SWITCH, help: { ...SWITCH, short: "h" } },
} as const;

/** 0 done, 1 refused, 2 wrongly asked. */
export async function runOperators(
  { name, usage, actions, run }: Command,
  args: readonly string[],
  io: OperatorsIo,
): Promise<number> {
  try {
    const { values, positionals } = parsed(args);
    const [action = "", ...names] = positionals;
    if (values.help === true) {
      io.log(usage);
      return 0;
    }
    if (!actions.includes(action)) {
      const said =
        action === "" ? `say ${actions.join(", ")}` : `there is no action ${JSON.stringify(action)}`;
      throw new UsageError(said);
    }
    if (names.length !== (action === "list" ? 0 : 1))
      throw new UsageError(action === "list" ? "list takes no name" : `${action} takes one name or id`);
    const flags: Readonly<Record<string, string | boolean | undefined>> = values;
    const given: Given = {
      action,
      names,
      text(flag) {
        const value = flags[flag];
        return typeof value === "string" ? value : undefined;
      },
      is: (flag) => flags[flag] === true,
    };
    const { dataDir, redis } = await openPlace(values, io.env, `the ${name.slice("sallyport ".length)}`);
    try {
      const operators = await openOperators({ dataDir, env: io.env, redis, watch: false });
      try {
        await run(given, operators, io);
      } finally {
        await operators.close();
      }
    } finally {
      await redis?.close();
    }
    return 0;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const isUsage = error instanceof UsageError || error instanceof RangeError;
    io.error(`${name}: ${text}${error instanceof UsageError ? `\n\n${usage}` : ""}`);
    return isUsage ? 2 : 1;
  }
}

/** Whoever sits at the terminal, for `createdBy`. */
export function terminal(): string {
  try {
    return `cli:${userInfo().username.slice(0, 60)}`;
  } catch {
    // A process without an entry in the list of users has no name.
    return "cli";
  }
}

export function aligned(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: FLAGS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
