/** The OpenAI dialect's one door. */
import type { Dialect } from "../dialect.ts";
import { openAnswerStream, readAnswer } from "./answers.ts";
import { errorBody } from "./errors.ts";
import { readPrompt } from "./prompt.ts";
import { quotaHeaders } from "./quotas.ts";

export const openai: Dialect = {
  name: "openai",
  readPrompt,
  readAnswer,
  openAnswerStream,
  errorBody,
  quotaHeaders,
};
