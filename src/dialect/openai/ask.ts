/** How much a request asks for, by operation. */
import type { Operation } from "../../layer/index.ts";
import { type Ask, askOf, countOf } from "../ask.ts";
import type { Json, JsonObject } from "../dialect.ts";

/** What the API takes for `max_tokens` of a completion that names none. */
const COMPLETION_TOKENS = 16;

export function readAsk(operation: Operation, body: JsonObject | undefined): Ask {
  if (body === undefined) return {};
  switch (operation) {
    case "chat":
      return askOf(body["max_completion_tokens"] ?? body["max_tokens"], countOf(body["n"]));
    case "completions": {
      const answers = Math.max(countOf(body["n"]) ?? 1, countOf(body["best_of"]) ?? 1);
      const { prompts, ids } = listed(body["prompt"]);
      return askOf(body["max_tokens"] ?? COMPLETION_TOKENS, answers * prompts, ids);
    }
    case "responses":
      return askOf(body["max_output_tokens"]);
    case "embeddings":
      return askOf(undefined, 1, listed(body["input"]).ids);
    default:
      return {};
  }
}

/** One prompt, or a list of them; each a text or a list of token ids. */
function listed(value: Json | undefined): { readonly prompts: number; readonly ids: number } {
  if (!Array.isArray(value) || value.length === 0) return { prompts: 1, ids: 0 };
  if (typeof value[0] === "number") return { prompts: 1, ids: value.length };
  let ids = 0;
  for (const prompt of value) if (Array.isArray(prompt)) ids += prompt.length;
  return { prompts: value.length, ids };
}
