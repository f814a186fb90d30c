/**
 * The model simulator as a command. Standard output gets one line, the address, for whoever started it to
 * read; what happens to each request goes to standard error.
 */
import { parseArgs } from "node:util";
import { parseScript, type Script } from "./script.ts";
import { startSimulator } from "./simulator.ts";

const USAGE = `usage: node load-tests/model-simulator/main.ts [--listen HOST:PORT] [--seed N] [--script JSON] [--quiet] [--no-record]
  --listen     address; 127.0.0.1:8090 by default, port 0 takes any free one
  --seed       whole number; the same seed and request give the same answer (default 1)
  --script     what is answered until it is changed through /_script, as README.md describes
  --quiet      no line per request on standard error
  --no-record  keep nothing of what is received (for benches)`;

function fail(problem: string): never {
  process.stderr.write(`${problem}\n${USAGE}\n`);
  process.exit(2);
}

function readScript(json: string): Script {
  try {
    return parseScript(json, "--script");
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        listen: { type: "string", default: "127.0.0.1:8090" },
        seed: { type: "string", default: "1" },
        script: { type: "string" },
        quiet: { type: "boolean", default: false },
        "no-record": { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    return values;
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

const values = readArguments();
if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
const address = /^(?:\[([0-9a-fA-F:]+)\]|([^:]+)):(\d{1,5})$/.exec(values.listen);
const port = Number(address?.[3]);
if (address === null || port > 65_535)
  fail(`--listen: "${values.listen}" is not HOST:PORT, such as 127.0.0.1:8090`);
if (!/^\d{1,15}$/.test(values.seed)) fail(`--seed: "${values.seed}" is not a whole number`);

const script = values.script === undefined ? undefined : readScript(values.script);
const quiet = values.quiet || values["no-record"];
const simulator = await startSimulator({
  host: address[1] ?? address[2] ?? "",
  port,
  seed: Number(values.seed),
  record: !values["no-record"],
  ...(script && { script }),
  ...(!quiet && {
    onClose: (request, status) => {
      const end = request.aborted ? "client left" : request.completed ? "complete" : "cut";
      const ms = (performance.now() - request.at).toFixed(1);
      process.stderr.write(`${request.method} ${request.url} ${status} ${end} ${ms} ms\n`);
    },
  }),
}).catch((error: unknown) => fail(`--listen: ${error instanceof Error ? error.message : String(error)}`));
process.stdout.write(`model simulator listening on ${simulator.url}\n`);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void simulator.close().then(() => process.exit(0)));
}
