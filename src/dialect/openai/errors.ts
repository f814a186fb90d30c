/**
 * Problems in OpenAI's words. The SDKs choose the error class by the HTTP status; `type` follows what the
 * API itself says for that status, and `code` is the gateway's own stable code.
 */
import type { PublicProblem } from "../dialect.ts";

const TYPES: ReadonlyMap<number, string> = new Map([
  [401, "authentication_error"],
  [403, "permission_error"],
  [429, "rate_limit_error"],
]);

export interface ErrorObject {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
}

export function errorObject(problem: PublicProblem): ErrorObject {
  const type =
    TYPES.get(problem.status) ?? (problem.status >= 500 ? "server_error" : "invalid_request_error");
  return { message: problem.message, type, param: problem.param ?? null, code: problem.code };
}

export function errorBody(problem: PublicProblem): string {
  return JSON.stringify({ error: errorObject(problem) });
}
