/** What the layer costs a request: `node layers/media/layer.bench.ts`. */
import { IDLE_PORTS, type Leaf, type Prompt, type RequestContext } from "../../src/layer/index.ts";
import { config } from "./config.ts";
import { media } from "./layer.ts";

const layer = media.compile(config.parse({}), {
  ...IDLE_PORTS,
  seat: "media",
  artifacts: { text: () => "", bytes: () => new Uint8Array() },
});

function promptOf(given: readonly Partial<Leaf>[]): Prompt {
  const leaves = given.map(
    (one, i): Leaf => ({
      channel: `prompt:${i}`,
      path: `/messages/${i}/content`,
      role: "user",
      kind: "text",
      turn: i,
      text: "some words",
      ...one,
    }),
  );
  return {
    dialect: "openai",
    operation: "chat",
    model: "m",
    stream: false,
    leaves,
    newestTurn: leaves.length - 1,
    unknown: [],
    mediaCount: leaves.filter(({ kind }) => kind === "media").length,
  };
}

const png = (bytes: number) => `data:image/png;base64,iVBORw0KGgo${"A".repeat(Math.floor((bytes * 4) / 3))}`;
const image = (text: string): Partial<Leaf> => ({
  kind: "media",
  text,
  path: "/messages/0/content/0/image_url/url",
});
const ordinary = promptOf(
  Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? {} : { kind: "parameter", path: "/model" })),
);
const CASES: readonly (readonly [name: string, prompt: Prompt, runs: number])[] = [
  ["12 leaves, no media", ordinary, 200_000],
  ["one image of 10 KB", promptOf([{}, image(png(10_000))]), 100_000],
  ["one image of 20 MB", promptOf([{}, image(png(20_000_000))]), 20_000],
  [
    "100 addresses",
    promptOf(Array.from({ length: 100 }, () => image("https://images.example.com/a.png"))),
    2_000,
  ],
  ["100,000 leaves, no media", promptOf(Array.from({ length: 100_000 }, () => ({}))), 50],
];

for (const [name, prompt, runs] of CASES) {
  for (const counted of [false, true]) {
    const before = process.cpuUsage();
    for (let i = 0; i < runs; i++) layer.open({} as RequestContext).onPrompt?.(prompt);
    const { user, system } = process.cpuUsage(before);
    if (counted) console.log(`${name}: ${((user + system) / runs).toFixed(2)} µs`);
  }
}
