/** How the rows of forbidden prompts are written: a request that says `text`, with `tag` to know it by. */
import type { Ask } from "../client.ts";

export interface Row {
  readonly id: string;
  readonly control?: string;
  readonly carried?: (text: string) => readonly string[];
  readonly ask: (text: string, tag: string) => Ask;
}

export const CHAT = "/v1/chat/completions";
export const FILLER = "The boats lie at the quay and the gulls are loud this morning. ";
export const json = (path: string, body: unknown): Ask => ({ path, body: JSON.stringify(body) });
export const chat = (tag: string, content: unknown, more: object = {}): Ask =>
  json(CHAT, { model: tag, messages: [{ role: "user", content }], ...more });
export const turns = (tag: string, messages: readonly object[], more: object = {}): Ask =>
  json(CHAT, { model: tag, messages, ...more });
export const said = (content: unknown, role = "user") => ({ role, content });
