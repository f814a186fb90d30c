/** Whether a request lies within what its key may be used for. Pure; the reason code where it does not. */
import type { KeyScope, Operation, Prompt, RequestContext } from "../../src/layer/index.ts";

/** Tools that call a model of their own name it beside the request's (such as image generation in Responses). */
const TOOL_MODEL = /^\/tools\/\d+\/model$/;

/** What can be told from the head. Where no prompt will be read, no model can be checked. */
export function outsideScope(
  scope: KeyScope,
  { route, operation, address }: Pick<RequestContext, "route" | "operation" | "address">,
): string | undefined {
  if (scope.networks !== undefined && !scope.networks.has(address)) return "auth.scope.network";
  if (scope.routes !== undefined && !scope.routes.has(route)) return "auth.scope.route";
  if (scope.models !== undefined && isCarried(operation)) return "auth.scope.model";
  return undefined;
}

/** False where the prompt asks for a model that is not among `models`, or for whichever the upstream may pick. */
export function modelsAllow(models: readonly string[], prompt: Prompt): boolean {
  const { model, operation, leaves } = prompt;
  // The list of models uses none.
  if (!matches(models, model) && !(operation === "models" && model === "")) return false;
  for (const { path, text } of leaves) {
    if (TOOL_MODEL.test(path) && !matches(models, text)) return false;
  }
  return true;
}

function matches(models: readonly string[], model: string): boolean {
  for (const pattern of models) {
    if (pattern.endsWith("*") ? model !== "" && model.startsWith(pattern.slice(0, -1)) : model === pattern)
      return true;
  }
  return false;
}

/** Byte for byte, without a prompt. */
function isCarried(operation: Operation): boolean {
  return operation === "realtime" || operation === "pass_through";
}
