/**
 * What an embedding costs on one core, by length of the text, and what of it is spent on cutting the text. Run it
 * alone: `node src/text/encoder/encoder.bench.ts`.
 */
import { openEncoder } from "./encoder.ts";
import { readModel } from "./model-files.ts";
import { PIECES_MAX } from "./network-weights.ts";
import { openPieceCutter } from "./sentence-pieces.ts";

const RUNS = 101;
const WARM_UP = 20;
const TEXT =
  "Please look through the minutes of last Tuesday's meeting and list what was decided, who took it on and by " +
  "when; where nobody did, say so plainly. The council asked for a second survey of the sea wall, and the " +
  "harbour master promised to bring the figures of both winters to the next session. ";

const medianOf = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

async function medianMs(run: () => unknown): Promise<number> {
  const spent: number[] = [];
  for (let i = 0; i < WARM_UP + RUNS; i += 1) {
    const start = performance.now();
    await run();
    if (i >= WARM_UP) spent.push(performance.now() - start);
  }
  return medianOf(spent);
}

const start = performance.now();
const encoder = openEncoder();
console.log(`weights read in ${(performance.now() - start).toFixed(0)} ms`);
const cutter = openPieceCutter(readModel().vocabulary, { piecesMax: PIECES_MAX, charactersMax: 2_048 });
for (const characters of [20, 60, 250, 500, 2_000]) {
  const text = TEXT.repeat(10).slice(0, characters);
  const cut = await medianMs(() => cutter.cut(text));
  const encode = await medianMs(() => encoder.encode([text]));
  console.log(
    `${characters} characters, ${cutter.cut(text).length} pieces: ${encode.toFixed(1)} ms, ` +
      `of it cutting ${(cut * 1_000).toFixed(0)} µs`,
  );
}
const many = Array.from({ length: 64 }, (_, i) => TEXT.slice(i, i + 60));
console.log(
  `64 texts of 60 characters: ${((await medianMs(() => encoder.encode(many))) / 64).toFixed(2)} ms each`,
);
