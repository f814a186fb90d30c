/**
 * `npm run attack`: every known way past a gateway, tried on one. Without a target it starts a Sallyport of this
 * working tree. The exit code is 1 when anything leaked or broke, 2 when the attack could not be made.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { printed, reportOf } from "./report.ts";
import { MARKERS, runSuite, type Target } from "./suite.ts";
import { type OpenTarget, openPortkeyTarget, openSallyportTarget, withVersion } from "./targets.ts";
import { ScriptedUpstream } from "./upstream.ts";

const USAGE = `npm run attack -- [--target URL [--key KEY]] [--peer portkey] [--only TEXT,...] [--json FILE]

  --target URL            a gateway that runs already; its upstreams must be the address of --upstream-listen
  --key KEY               what it asks of callers (or SALLYPORT_KEY)
  --upstream-listen ADDR  HOST:PORT of the scripted upstream (with --target 127.0.0.1:9090, else any free port)
  --peer portkey          starts Portkey with an equal rule instead
  --only TEXT,...         only cases whose id holds one of these texts
  --prompt-marker TEXT    what the target refuses in a prompt (${JSON.stringify(MARKERS.prompt)})
  --json FILE             writes the report as JSON`;

class UsageError extends Error {}

function readOptions(args: readonly string[]) {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      target: text,
      key: text,
      "upstream-listen": text,
      peer: text,
      only: text,
      "prompt-marker": text,
      json: text,
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.peer !== undefined && values.peer !== "portkey")
    throw new UsageError(`--peer knows portkey, not ${values.peer}`);
  if (values.peer !== undefined && values.target !== undefined)
    throw new UsageError("--peer and --target exclude each other");
  if (values.target !== undefined && !URL.canParse(values.target))
    throw new UsageError(`--target takes a URL, not ${values.target}`);
  const listen =
    values["upstream-listen"] ?? (values.target === undefined ? "127.0.0.1:0" : "127.0.0.1:9090");
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(listen) ?? [];
  if (host === undefined) throw new UsageError(`--upstream-listen takes HOST:PORT, not ${listen}`);
  return { ...values, host, port: Number(port) };
}

type Options = ReturnType<typeof readOptions>;

async function openTarget(options: Options, upstreamUrl: string): Promise<OpenTarget> {
  if (options.peer !== undefined) return openPortkeyTarget(upstreamUrl);
  if (options.target === undefined) return openSallyportTarget(upstreamUrl);
  const key = options.key ?? process.env["SALLYPORT_KEY"];
  const named: Target = {
    name: options.target,
    base: options.target,
    headers: (dialect) => withVersion(dialect, key === undefined ? {} : { authorization: `Bearer ${key}` }),
  };
  return { ...named, close: async () => {} };
}

async function attack(options: Options): Promise<number> {
  const upstream = await ScriptedUpstream.open(options.host, options.port);
  try {
    const target = await openTarget(options, upstream.url);
    try {
      const started = performance.now();
      const prompt = options["prompt-marker"] ?? MARKERS.prompt;
      const rows = await runSuite({
        target,
        upstream,
        markers: { ...MARKERS, prompt },
        only: options.only?.split(",") ?? [],
        note: (line) => console.error(`attack: ${line}`),
      });
      const report = reportOf(target.name, rows, (performance.now() - started) / 1_000);
      console.log(printed(report));
      if (options.json !== undefined)
        writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
      return report.totals.leaked + report.totals.broken > 0 ? 1 : 0;
    } finally {
      await target.close();
    }
  } finally {
    await upstream.close();
  }
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = readOptions(process.argv.slice(2));
  } catch (error) {
    console.error(`attack: ${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  try {
    return await attack(options);
  } catch (error) {
    console.error(`attack: ${error instanceof Error ? error.message : error}`);
    return 2;
  }
}

process.exitCode = await main();
