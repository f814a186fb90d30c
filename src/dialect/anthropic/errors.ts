/** Errors in the vendor's words: the SDK picks its error class by the status and shows `error.type`. */
import type { PublicProblem } from "../dialect.ts";

const TYPES: ReadonlyMap<number, string> = new Map([
  [400, "invalid_request_error"],
  [401, "authentication_error"],
  [402, "billing_error"],
  [403, "permission_error"],
  [404, "not_found_error"],
  [408, "timeout_error"],
  [413, "request_too_large"],
  [429, "rate_limit_error"],
  [503, "overloaded_error"],
  [504, "timeout_error"],
  [529, "overloaded_error"],
]);

export function errorBody(problem: PublicProblem): string {
  const type = TYPES.get(problem.status) ?? (problem.status < 500 ? "invalid_request_error" : "api_error");
  return JSON.stringify({
    type: "error",
    error: { type, message: problem.message },
    request_id: problem.requestId,
  });
}
