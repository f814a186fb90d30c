/**
 * Precision and recall on the labelled corpus: `node layers/output-secrets/measure.bench.ts [--seed N] [--half even|odd]
 * [--misses]`. `--half even` keeps the strings whose template and surroundings both have an even place in their list:
 * these were looked at while the layer was mended; `odd` are those where both are odd.
 */
import { parseArgs } from "node:util";
import type { Ports } from "../../src/layer/index.ts";
import { altered, corpusOf, type Sample } from "./corpus/generator.ts";
import { figuresOf, type Judged, judge, type Share } from "./corpus/measurement.ts";
import { outputSecrets } from "./layer.ts";

const { values: args } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    half: { type: "string" },
    misses: { type: "boolean" },
    kinds: { type: "boolean" },
  },
});
const layer = outputSecrets.compile(outputSecrets.config.parse({}), {} as Ports);
const seed = Number(args.seed);
const all = corpusOf(seed)
  .filter(isAsked)
  .map((sample) => judge(layer, sample));

function isAsked({ make: { template, around } }: Sample): boolean {
  if (args.half === undefined) return true;
  const rest = args.half === "even" ? 0 : 1;
  return template % 2 === rest && around % 2 === rest;
}

const show = ({ value, low, high }: Share) => `${value.toFixed(3)} (${low.toFixed(3)}-${high.toFixed(3)})`;
const line = (name: string, judged: readonly Judged[]) => {
  const { strings, secrets, precision, recall } = figuresOf(judged);
  const named = judged.filter(({ sample: { of }, kinds }) => kinds.includes(of)).length;
  return `${name.padEnd(28)} ${String(strings).padStart(5)} strings  ${String(secrets).padStart(5)} secrets  precision ${show(precision)}  recall ${show(recall)}  named ${named}`;
};
console.log(line("all", all));
const bySort = Map.groupBy(all, ({ sample }) => sample.of);
for (const [of, judged] of bySort) {
  const wrong = judged.filter(({ outcome }) => outcome === "missed" || outcome === "alarm").length;
  if (args.kinds === true || wrong > 0) console.log(line(of, judged));
}
if (args.misses === true) {
  for (const { sample, outcome, kinds } of all) {
    if (outcome !== "missed" && outcome !== "alarm") continue;
    console.log(`${outcome} ${sample.of} [${kinds}] ${JSON.stringify(sample.text.slice(0, 300))}`);
  }
}
const changed = altered(seed, 40).map((sample) => judge(layer, sample));
console.log(line("wrong checksum (kept in)", changed));
