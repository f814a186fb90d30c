/**
 * The prompt defence without a gateway: the policy's seats that judge prompts, each applied to one prompt, and the
 * classifier's own figures beside their verdict. Nothing is remembered from one prompt to the next.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { layerKinds } from "../../layers/index.ts";
import { openai } from "../dialect/openai/index.ts";
import { type Finding, IDLE_PORTS, type Prompt } from "../layer/index.ts";
import { Passage } from "../pipeline/passage.ts";
import { VerdictCache } from "../pipeline/verdict-cache.ts";
import { compilePolicy, disposeQuietly } from "../policy/compile.ts";
import { openReading, POLICY_FILE } from "../policy/policy-folder.ts";
import { formatProblems } from "../policy/problems.ts";
import type { Snapshot } from "../policy/snapshot.ts";
import { openEncoder } from "../ports/encoder.ts";
import { PromptModel, type Scores } from "../text/model/prompt-model.ts";
import { scoreText } from "../text/model/scoring.ts";
import type { JsonObject } from "../wire/json-text.ts";

export type LineScore =
  | {
      readonly id: unknown;
      readonly scores: Readonly<Record<"jailbreak" | "injection" | "harmful", number>>;
      /** How likely the prompt is malicious in any way, 0..1, by the classifier and the strongest rule together. */
      readonly score: number;
      /** What the seats would do together, those in shadow included. */
      readonly act: string;
      readonly stage: 1 | 2;
      readonly reasons: readonly string[];
    }
  | { readonly id: unknown; readonly error: string };

/** Layers that judge what a prompt says; others need a caller, a clock or a network. */
const PROMPT_LAYERS = new Set(["prompt-rules", "prompt-classifier"]);
const ENCODER = { workers: 1, queueMax: 64, timeoutMs: 60_000 };

export async function openScorer(configDir: string) {
  const encoder = openEncoder(ENCODER);
  const snapshot = await promptSeats(configDir, encoder);
  const seat = snapshot.seats.find((one) => one.use === "prompt-classifier");
  if (seat === undefined) throw new Error(`${configDir}/${POLICY_FILE} seats no prompt-classifier`);
  const model = new PromptModel(readFileSync(join(configDir, (seat.config as { model: string }).model)));
  const encode = async (texts: readonly string[]): Promise<Float32Array[]> => {
    const results = await Promise.all(texts.map((text) => encoder.encode(text)));
    return results.map((result) => {
      if (result.kind !== "embedding") throw new Error(`the encoder did not answer: ${result.kind}`);
      return result.embedding;
    });
  };

  const scorePrompt = async (id: unknown, prompt: Prompt): Promise<LineScore> => {
    let scores: Scores = { any: 0, harmful: 0, jailbreak: 0, injection: 0 };
    let stage: 1 | 2 = 1;
    for (const leaf of prompt.leaves) {
      if (leaf.kind !== "text" && leaf.kind !== "tool-result") continue;
      const scored = await scoreText(model, leaf.text, encode);
      if (scored.scores.any < scores.any) continue;
      ({ scores, stage } = scored);
    }
    const passage = new Passage(
      snapshot,
      { id: "req_score", dialect: "openai", operation: "chat", route: "openai.chat", address: "127.0.0.1" },
      new VerdictCache({ entriesMax: 0 }),
    );
    await passage.onPrompt(prompt);
    await passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: false });
    const findings = passage
      .records()
      .flatMap((record): readonly Pick<Finding, "reason" | "score">[] => record.findings);
    const byRules = findings.reduce(
      (most, { reason, score }) => (reason.startsWith("prompt.rule.") ? Math.max(most, score) : most),
      0,
    );
    const { any, jailbreak, injection, harmful } = scores;
    return {
      id,
      scores: { jailbreak, injection, harmful },
      // Either alone may be right: the chance that both are wrong, as if they erred apart.
      score: 1 - (1 - any) * (1 - byRules),
      act: passage.acts().would,
      stage,
      reasons: [...new Set(findings.map(({ reason }) => reason))],
    };
  };

  return {
    async scoreLine(line: string): Promise<LineScore> {
      let id: unknown;
      try {
        const row = JSON.parse(line) as JsonObject;
        id = row["id"] ?? null;
        return await scorePrompt(id, promptOf(row));
      } catch (error) {
        return { id: id ?? null, error: error instanceof Error ? error.message : String(error) };
      }
    },
    async close(): Promise<void> {
      await Promise.all(snapshot.seats.map(({ layer }) => disposeQuietly(layer)));
      await encoder.close();
    },
  };
}

/** As the gateway reads a chat: a text alone is the user's only turn. */
function promptOf(row: JsonObject): Prompt {
  const { text, messages } = row;
  if (typeof text === "string") {
    return openai.readPrompt({
      operation: "chat",
      body: { model: "", messages: [{ role: "user", content: text }] },
      parameters: [],
    });
  }
  if (!Array.isArray(messages)) throw new Error('a line needs "text" (a string) or "messages" (a list)');
  return openai.readPrompt({ operation: "chat", body: { model: "", messages }, parameters: [] });
}

async function promptSeats(configDir: string, encoder: ReturnType<typeof openEncoder>): Promise<Snapshot> {
  const reading = await openReading(configDir);
  const path = join(configDir, POLICY_FILE);
  const content = await reading.file(POLICY_FILE).catch((error: unknown) => {
    throw new Error(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  });
  const compiled = await compilePolicy({
    file: { path, content },
    artifact: reading.file,
    kinds: layerKinds,
    portsFor: () => ({ ...IDLE_PORTS, encoder }),
  });
  if (!compiled.ok) throw new Error(formatProblems(compiled.problems));
  const { snapshot } = compiled;
  const seats = snapshot.seats
    .filter((seat) => PROMPT_LAYERS.has(seat.use))
    .map((seat) => ({ ...seat, when: undefined, sample: 1 }));
  return { ...snapshot, seats };
}
