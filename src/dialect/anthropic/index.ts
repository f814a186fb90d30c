/** The Messages API: messages, count_tokens and models, streamed or not. */
import type { Dialect } from "../dialect.ts";
import { readAnswer } from "./answer.ts";
import { errorBody } from "./errors.ts";
import { readPrompt } from "./prompt.ts";
import { quotaHeaders } from "./quotas.ts";
import { MessageStream } from "./stream.ts";

export const anthropic: Dialect = {
  name: "anthropic",
  readPrompt,
  readAnswer,
  // Only messages are streamed; an answer to anything else that claims to be has no event that is modelled.
  openAnswerStream: () => new MessageStream(),
  errorBody,
  quotaHeaders,
};
