/**
 * `sallyport check [DIR] [--json]`: validates a configuration folder the way the gateway would, without
 * running anything. For CI: exits 0 when it can be served, 1 when it cannot, 2 when the question is wrong.
 */
import { parseArgs } from "node:util";
import { layerKinds } from "../../layers/index.ts";
import { checkFolder } from "../policy/check-folder.ts";
import { formatProblems } from "../policy/problems.ts";

const USAGE = `sallyport check [DIR] [--json]

Validates DIR/policy.yaml with its artifacts, and DIR/gateway.yaml when there is one. DIR is "config" unless
it is given. Exits 0 when the folder can be served, 1 when it cannot, 2 for wrong usage.

  --json    print {"ok", "revision", "seats", "seatsOff", "routes", "problems"}`;

interface Output {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
}

export async function runCheck(args: readonly string[], output: Output = console): Promise<number> {
  let parsed: {
    readonly values: { json?: boolean; help?: boolean };
    readonly positionals: readonly string[];
  };
  try {
    parsed = parseArgs({
      args: [...args],
      options: { json: { type: "boolean" }, help: { type: "boolean", short: "h" } },
      allowPositionals: true,
    });
  } catch (error) {
    output.error(`sallyport check: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  if (parsed.values.help === true) {
    output.log(USAGE);
    return 0;
  }
  const [dir = "config", ...more] = parsed.positionals;
  if (more.length > 0) {
    output.error(`sallyport check: one folder at a time, please\n\n${USAGE}`);
    return 2;
  }
  const report = await checkFolder(dir, layerKinds, process.env);
  if (parsed.values.json === true) {
    output.log(JSON.stringify(report, null, 2));
  } else if (report.ok) {
    const off = report.seatsOff > 0 ? ` (and ${report.seatsOff} off)` : "";
    output.log(`ok: revision ${report.revision}, ${report.seats} seats${off}, ${report.routes} routes`);
  } else {
    output.error(formatProblems(report.problems));
    const count = report.problems.length;
    output.error(`\n${count} ${count === 1 ? "problem" : "problems"} in ${dir}`);
  }
  return report.ok ? 0 : 1;
}
