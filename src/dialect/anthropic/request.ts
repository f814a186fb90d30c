/**
 * The request body of messages and count_tokens, field by field: the union of what the stable and the beta
 * API take. count_tokens knows fewer fields, but refusing the others is the upstream's business.
 */
import { BLOCK, CACHE, CONTENT, TOOL } from "./blocks.ts";
import { either, list, object, PARAMETER, PLAIN, type Shape, tagged, tags, tree, WORDS } from "./shape.ts";

const NAMES = list(PARAMETER);
const EFFORT = PARAMETER;
const BLOCK_BINDING = object({ prefix_mismatch_behavior: PARAMETER });
const THINKING = object({
  type: PARAMETER,
  budget_tokens: PLAIN,
  display: PARAMETER,
  block_binding: BLOCK_BINDING,
});
const FORMAT: Shape = { ...object({ type: PARAMETER, schema: tree("schema") }), within: "tool-schema" };
const OUTPUT_CONFIG = object({
  effort: EFFORT,
  format: FORMAT,
  task_budget: object({ type: PARAMETER, total: PLAIN, remaining: PLAIN }),
});
const AMOUNT = object({ type: PARAMETER, value: PLAIN });
/** Words that steer the model without being a turn. */
const INSTRUCTIONS: Shape = { ...WORDS, within: "instructions" };

const CONTEXT_MANAGEMENT = object({
  edits: list(
    tagged({
      clear_tool_uses_20250919: {
        clear_at_least: AMOUNT,
        clear_tool_inputs: NAMES,
        exclude_tools: NAMES,
        keep: AMOUNT,
        trigger: AMOUNT,
      },
      clear_thinking_20251015: { keep: either(PARAMETER, AMOUNT) },
      compact_20260112: { instructions: INSTRUCTIONS, pause_after_compaction: PLAIN, trigger: AMOUNT },
    }),
  ),
});

const MCP_SERVER = object({
  type: PARAMETER,
  name: PARAMETER,
  url: PARAMETER,
  authorization_token: PARAMETER,
  tool_configuration: object({ allowed_tools: NAMES, enabled: PLAIN }),
});

export const MESSAGE = object({
  role: tags("user", "assistant", "system"),
  content: CONTENT,
  clear_at: PARAMETER,
  output_config: object({ effort: EFFORT }),
});

export const REQUEST = object({
  model: PARAMETER,
  messages: list(MESSAGE),
  system: { ...either(WORDS, list(BLOCK)), within: "instructions" },
  max_tokens: PLAIN,
  stream: PLAIN,
  stop_sequences: NAMES,
  // The SDK's present types no longer list these three; clients and older models do.
  temperature: PLAIN,
  top_k: PLAIN,
  top_p: PLAIN,
  tools: list(TOOL),
  tool_choice: object({ type: PARAMETER, name: PARAMETER, disable_parallel_tool_use: PLAIN }),
  metadata: object({ user_id: PARAMETER }),
  thinking: THINKING,
  output_config: OUTPUT_CONFIG,
  output_format: FORMAT,
  mcp_servers: list(MCP_SERVER),
  container: either(
    PARAMETER,
    object({
      id: PARAMETER,
      skills: list(object({ type: PARAMETER, skill_id: PARAMETER, version: PARAMETER })),
    }),
  ),
  context_management: CONTEXT_MANAGEMENT,
  compaction: object({ type: PARAMETER, instructions: INSTRUCTIONS }),
  cache_control: CACHE,
  service_tier: PARAMETER,
  inference_geo: PARAMETER,
  speed: PARAMETER,
  user_profile_id: PARAMETER,
  workspace_id: PARAMETER,
  diagnostics: object({ previous_message_id: PARAMETER }),
  billing_policy: object({ type: PARAMETER, bill_to: PARAMETER }),
  thread: object({ type: PARAMETER, previous_message_id: PARAMETER }),
  fallbacks: either(
    PARAMETER,
    list(
      object({
        model: PARAMETER,
        max_tokens: PLAIN,
        output_config: OUTPUT_CONFIG,
        speed: PARAMETER,
        thinking: THINKING,
      }),
    ),
  ),
  fallback_credit_token: either(PARAMETER, object({ token: PARAMETER, mode: PARAMETER })),
});

/** Path and query parameters: pages of models, and the flag that the SDK sends with every beta call. */
export const PARAMETERS: ReadonlySet<string> = new Set([
  "model",
  "model_id",
  "id",
  "after_id",
  "before_id",
  "limit",
  "lifecycle",
  "lifecycle[]",
  "beta",
]);
