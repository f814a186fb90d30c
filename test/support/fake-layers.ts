/**
 * Small layers for tests of the policy: they judge nothing, but fail to compile on demand and tell when
 * they are disposed.
 */
import { z } from "zod";
import { ConfigProblem, defineLayer, type Layer, type LayerKind } from "../../src/layer/index.ts";

export interface FakeLayer extends Layer {
  readonly words: readonly string[];
  readonly packs: readonly string[];
  disposed: number;
}

const config = z.strictObject({
  words: z.array(z.string()).default([]).describe("Words; some of them make compiling fail."),
  packs: z.array(z.string()).default([]).describe("Artifacts."),
  limit: z.int().min(1).optional().describe("A number."),
  act: z
    .union([z.enum(["flag", "block"]), z.strictObject({ score: z.number() })])
    .default("flag")
    .describe("An act."),
});

/** Acts after the body; fails on `bad-word`, `throw` and `one-of-many`, and on a pack that says `broken`. */
export const probe = defineLayer({
  kind: "probe",
  summary: "Judges nothing.",
  config,
  phases: ["onPrompt"],
  needs: ({ packs }) => packs.map((path) => ({ path })),
  compile({ words, packs }, { artifacts }): FakeLayer {
    for (const [i, word] of words.entries()) {
      if (word === "bad-word") throw new ConfigProblem(`the word "${word}" is not allowed`, ["words", i]);
      if (word === "throw") throw new TypeError("undefined is not a word");
      if (word === "one-of-many") {
        throw new AggregateError([
          new ConfigProblem("first of two", ["words", i]),
          new ConfigProblem("second of two", ["act"]),
        ]);
      }
    }
    const texts = packs.map((path, i) => {
      const text = artifacts.text({ path });
      const at = text.split("\n").findIndex((line) => line.includes("broken"));
      if (at >= 0) throw new ConfigProblem(`${path}:${at + 1}:3: the rule is broken`, ["packs", i], path);
      return text;
    });
    const layer: FakeLayer = {
      words,
      packs: texts,
      disposed: 0,
      open: () => ({}),
      dispose: async () => {
        layer.disposed += 1;
      },
    };
    return layer;
  },
});

/** Acts on the request's head, before the body is read. */
export const early = defineLayer({
  kind: "early",
  summary: "Judges nothing, early.",
  config: z.strictObject({}),
  phases: ["onRequest"],
  compile: () => ({ open: () => ({}) }),
});

export const FAKE_KINDS: readonly LayerKind[] = [probe, early];
