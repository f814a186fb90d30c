/** What stage one costs a streamed answer: microseconds a sentence, the shipped model, prose in deltas of 5 units. */
import { readFileSync } from "node:fs";
import { IDLE_PORTS, type RequestContext } from "../../src/layer/index.ts";
import { PortionReader } from "../../src/pipeline/portions.ts";
import { sentencesOf } from "../../src/text/sentences.ts";
import { outputClassifier } from "./layer.ts";

const WORDS =
  "the river small answer because morning window people garden letter question number light market between every simple quiet story under travel paper".split(
    " ",
  );
let seed = 7;
const draw = (count: number) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 16) % count;
};
const text = Array.from({ length: 400 }, () => {
  const words = Array.from({ length: 8 + draw(12) }, () => WORDS[draw(WORDS.length)]).join(" ");
  return `${words}. `;
}).join("");

const models = new URL("../../config/models/", import.meta.url);
const config = outputClassifier.config.parse({ stageTwo: { enabled: false } });
const layer = outputClassifier.compile(config, {
  ...IDLE_PORTS,
  seat: "bench",
  artifacts: {
    bytes: ({ path }) => readFileSync(new URL(path.replace("models/", ""), models)),
    text: ({ path }) => readFileSync(new URL(path.replace("models/", ""), models), "utf8"),
  },
});

const sentences = sentencesOf(text).length;
for (const size of [5, 40, text.length]) {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 12; run++) {
    const watch = layer.open({
      soFar: () => ({ act: "allow", findings: [] }),
    } as unknown as RequestContext);
    const reader = new PortionReader(outputClassifier.portions!(config)!);
    const startedMs = performance.now();
    for (let start = 0; start < text.length; start += size) {
      const piece = text.slice(start, start + size);
      const final = start + size >= text.length;
      const delta = { channel: "a", kind: "answer", choice: 0, start, text: piece, final } as const;
      void reader.tell(delta, (portion) => watch.onChunk!(portion));
    }
    best = Math.min(best, performance.now() - startedMs);
  }
  const each = (best * 1000) / sentences;
  const event = (best * 1000) / Math.ceil(text.length / size);
  console.log(`deltas of ${size}: ${each.toFixed(1)} µs a sentence, ${event.toFixed(2)} µs a delta`);
}
