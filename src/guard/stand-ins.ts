/** For tests of what asks a guard: the guard's answer, and prompts. */
import type { Leaf, Prompt } from "../layer/index.ts";

export function completion(content: string, more: object = {}, choice: object = {}): string {
  const message = { role: "assistant", content, refusal: null, ...more };
  return JSON.stringify({ choices: [{ index: 0, message, finish_reason: "stop", ...choice }] });
}

export function leaf(text: string, more: Partial<Leaf> = {}): Leaf {
  return {
    channel: "prompt:0",
    path: "/messages/0/content",
    role: "user",
    kind: "text",
    turn: 0,
    text,
    ...more,
  };
}

export function prompt(leaves: readonly Leaf[]): Prompt {
  return {
    dialect: "openai",
    operation: "chat",
    model: "m",
    stream: false,
    leaves: leaves.map((one, i) => ({ ...one, channel: `prompt:${i}` })),
    newestTurn: Math.max(-1, ...leaves.map(({ turn }) => turn)),
    unknown: [],
    mediaCount: leaves.filter(({ kind }) => kind === "media").length,
  };
}
