/**
 * The design's import rules, checked on the source as it stands: imports run one way, no layer imports
 * another, and the data plane never reaches into the ledger's SQL, the monitor, learning or the console.
 * Run by `npm run check`; prints each breach as file:line and exits 1.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../..");

/** Folder to the folders that it may import from, besides itself. "*" is everything. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "src/layer": [],
  "src/text": [],
  "src/guard": ["src/layer", "src/text"],
  "src/wire": ["src/layer"],
  "src/dialect": ["src/layer", "src/wire"],
  "src/policy": ["src/layer", "src/files"],
  "src/files": [],
  "src/ports": ["src/layer", "src/text", "src/files"],
  "src/ledger": ["src/layer", "src/files"],
  "src/learn": ["src/text"],
  "src/telemetry": ["src/layer", "src/ledger"],
  "src/pipeline": ["src/layer", "src/text", "src/policy", "src/ledger", "src/dialect", "src/wire"],
  "src/http": ["src/layer", "src/policy", "src/ledger", "src/dialect", "src/wire", "src/pipeline"],
  "src/console": ["src/layer", "src/policy", "src/text", "src/ledger", "src/ports", "src/telemetry"],
  // Off the data plane: it runs a policy's seats as the gateway would, on what is on record.
  "src/rehearse": [
    "src/layer",
    "src/ledger",
    "src/policy",
    "src/ports",
    "src/pipeline",
    "src/dialect",
    "src/wire",
    "src/http",
    "layers",
  ],
  "src/cli": ["*"],
  src: ["*"],
  layers: ["src/layer", "src/text", "src/guard"],
};

/** The data plane may name the decision and the spool, nothing else of the ledger. */
const DATA_PLANE = ["src/http", "src/pipeline", "layers"];
const NEVER_IN_DATA_PLANE = /^src\/(ledger\/sql|monitor|learn|console|enforce)(\/|$)/;

interface Import {
  readonly file: string;
  readonly line: number;
  readonly target: string;
}

function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /(?<!\.test|\.bench)\.ts$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  const found: Import[] = [];
  for (const match of text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g)) {
    const target = relative(ROOT, resolve(ROOT, dirname(file), match[1]!));
    found.push({ file, line: text.slice(0, match.index).split("\n").length, target });
  }
  return found;
}

/** The room of the house that a file is in. */
function roomOf(file: string): string {
  const [top, second, third] = file.split("/");
  if (top === "src") return third === undefined ? "src" : `src/${second}`;
  return top ?? "";
}

function breachOf({ file, target }: Import): string | undefined {
  const from = roomOf(file);
  const to = roomOf(target);
  if (DATA_PLANE.includes(from) && NEVER_IN_DATA_PLANE.test(target))
    return `the data plane never imports ${target}`;
  if (from === "layers" && to === "layers") {
    const [, own] = file.split("/");
    const [, other] = target.split("/");
    const isRegistry = own === "index.ts";
    return isRegistry || own === other ? undefined : `a layer never imports another layer (${target})`;
  }
  if (from === to) return undefined;
  const allowed = MAY_IMPORT[from];
  if (allowed === undefined) return `${from} has no rule in test/support/import-rules.ts`;
  return allowed.includes("*") || allowed.includes(to) ? undefined : `${from} may not import ${to}`;
}

const breaches = [...sources("src"), ...sources("layers")].flatMap(importsOf).flatMap((found) => {
  const breach = breachOf(found);
  return breach === undefined ? [] : [`${found.file}:${found.line}: ${breach}`];
});
for (const breach of breaches) console.error(breach);
if (breaches.length > 0) process.exitCode = 1;
else console.log("import rules: ok");
