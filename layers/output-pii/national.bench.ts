/** F1 of national numbers on made documents: `node layers/output-pii/national.bench.ts [--seed N] [--misses]`. */
import { parseArgs } from "node:util";
import { figures, judgeNational } from "./corpus/measurement.ts";
import { NUMBERS, nationalDocuments } from "./corpus/national.ts";

const { values: args } = parseArgs({
  options: { seed: { type: "string", default: "1" }, misses: { type: "boolean" } },
});
const judged = nationalDocuments(Number(args.seed), 60).map(judgeNational);
for (const of of ["all", ...NUMBERS]) {
  const { documents, extra, precision, recall, f1 } = figures(judged, of === "all" ? undefined : of);
  console.log(
    `${of.padEnd(20)} ${String(documents).padStart(5)} documents  F1 ${f1.toFixed(3)}  precision ${precision.toFixed(3)}  recall ${recall.toFixed(3)}  (${extra} extra)`,
  );
}
if (args.misses === true)
  for (const { document, found, missed, extra } of judged)
    if (missed > 0 || extra > 0) console.log(document.of, JSON.stringify(document.text), found);
