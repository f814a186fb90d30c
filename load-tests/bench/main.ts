/**
 * `npm run bench`: what the gateway costs, beside its peers, on this machine. It ends with 1 when a request
 * failed or a process did not start, and with 0 when a bar falls short: the report says that.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type BenchOptions, runBench } from "./bench.ts";
import { printed } from "./report.ts";
import { SUITES } from "./suites.ts";
import { VARIANTS } from "./variants.ts";

const ROUNDS_MIN = 3;
const ROUNDS_DEFAULT = 9;
/** `--requests` is told for the first workload; the others keep their proportion to it. */
const REQUESTS_DEFAULT = SUITES[0]!.workloads[0]!.load.requests;

const USAGE = `npm run bench -- [--json FILE] [--only SUITE,...] [--variants NAME,...] [--rounds N] [--requests N]

  --json FILE      write the report as JSON
  --only SUITES    of: ${SUITES.map((suite) => suite.name).join(", ")} (all)
  --variants NAMES of: ${Object.keys(VARIANTS).join(", ")} (those of the suites)
  --rounds N       at least ${ROUNDS_MIN} (${ROUNDS_DEFAULT}); figures are medians over the rounds
  --requests N     requests per run at 16 connections (${REQUESTS_DEFAULT}); other workloads in proportion`;

class UsageError extends Error {}

interface Command {
  readonly json: string | undefined;
  readonly bench: Pick<BenchOptions, "suites" | "variants" | "rounds" | "scale">;
}

function readCommand(args: readonly string[]): Command | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "string" },
      only: { type: "string" },
      variants: { type: "string" },
      rounds: { type: "string", default: String(ROUNDS_DEFAULT) },
      requests: { type: "string", default: String(REQUESTS_DEFAULT) },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  const suiteNames = SUITES.map((suite) => suite.name);
  const chosen = listed("--only", values.only, suiteNames) ?? suiteNames;
  const suites = SUITES.filter((suite) => chosen.includes(suite.name));
  const variants = listed("--variants", values.variants, Object.keys(VARIANTS));
  return {
    json: values.json,
    bench: {
      suites: variants === undefined ? suites : suites.map((suite) => ({ ...suite, variants })),
      variants: variants ?? [...new Set(suites.flatMap((suite) => suite.variants))],
      rounds: whole("--rounds", values.rounds, ROUNDS_MIN),
      scale: whole("--requests", values.requests, 1) / REQUESTS_DEFAULT,
    },
  };
}

function listed(
  option: string,
  value: string | undefined,
  known: readonly string[],
): readonly string[] | undefined {
  if (value === undefined) return undefined;
  const names = [...new Set(value.split(","))];
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new UsageError(`${option}: ${unknown.join(", ")} is not one of ${known.join(", ")}`);
  }
  return names;
}

function whole(option: string, value: string, least: number): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < least) {
    throw new UsageError(`${option} takes a whole number from ${least}, not ${JSON.stringify(value)}`);
  }
  return number;
}

async function main(): Promise<number> {
  let command: Command | undefined;
  try {
    command = readCommand(process.argv.slice(2));
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  if (command === undefined) {
    console.log(USAGE);
    return 0;
  }
  try {
    const report = await runBench({
      ...command.bench,
      note: (line) => console.error(line),
      signal: endedBySignals(),
    });
    console.log(printed(report));
    if (command.json !== undefined) writeFileSync(command.json, `${JSON.stringify(report, undefined, 2)}\n`);
    return 0;
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : error}`);
    return 1;
  }
}

/** The first signal stops what was started and waits for its end; the second does not wait. */
function endedBySignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(130);
      controller.abort(new Error(`ended by ${name}`));
    });
  }
  return controller.signal;
}

process.exitCode = await main();
