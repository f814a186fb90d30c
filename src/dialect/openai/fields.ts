/**
 * The vocabulary of the OpenAI API as field tables (language: shape.ts), taken from the official SDK's
 * request and response types. Adding a field that the vendor adds is one word here; nothing else changes.
 */
import type { Operation } from "../../layer/index.ts";
import { defineUnion, type Members, objectRule, shape, unionRule } from "./shape.ts";

const CALLER = "caller{type caller_id}";
const LOCATION = "user_location{type city country region timezone approximate{city country region timezone}}";
const MODERATION = "moderation{model policy{input{mode} output{mode}}}";
const CACHE_BREAKPOINT = "prompt_cache_breakpoint{mode ttl}";
const NETWORK =
  "file_ids memory_limit network_policy{type allowed_domains domain_secrets{domain name value}} skills@skill";
const FORMAT = "format{type name:schema description:schema schema:schema* strict grammar:schema}";
const ANNOTATIONS =
  "annotations{type file_id filename index start_index end_index title url container_id url_citation{title url start_index end_index}}";
const TOKENS = "{token bytes logprob top_logprobs{token bytes logprob}}";
const SAFETY_CHECK = "{id code message}";
const TOOL_FILTER = "{read_only tool_names}";
const IMAGE_ERROR = "error{code message param type moderation_details{categories moderation_stage}}";
const IMAGE_USAGE = "svg_usage{input_tokens model output_tokens reasoning_tokens total_tokens}";

// Chat completions

defineUnion("chat-part", `type ${CACHE_BREAKPOINT}`, {
  text: "text:words",
  image_url: "image_url:media{url:media detail}",
  input_audio: "input_audio{data:media format}",
  file: "file{file_data:media file_id filename}",
  refusal: "refusal:refusal",
});

const FUNCTION_CALL = "function_call{name:call arguments:arguments}";

export const CHAT_MESSAGE = objectRule(`
  role content:words@chat-part name refusal:refusal tool_call_id ${FUNCTION_CALL}
  reasoning_content:thinking reasoning:thinking parsed:words* ${ANNOTATIONS}
  audio{id data:media transcript:transcript expires_at}
  tool_calls{id index type function{name:call arguments:arguments parsed_arguments:arguments*}
    custom{name:call input:arguments}}
`);

const SAMPLING = `model frequency_penalty presence_penalty logit_bias:param* logprobs max_tokens n seed stop
  stream stream_options{include_obfuscation include_usage} temperature top_p user`;

const CHAT = `${SAMPLING} audio{format voice:param{id}} function_call:param{name}
  functions{name:schema description:schema parameters:schema*} max_completion_tokens metadata:param* modalities
  ${MODERATION} parallel_tool_calls prediction{type content:words@chat-part} prompt_cache_key
  prompt_cache_options{mode ttl} prompt_cache_retention reasoning_effort
  response_format{type json_schema{name:schema description:schema schema:schema* strict} grammar:schema}
  safety_identifier service_tier store top_logprobs verbosity
  tool_choice:param{type function{name} custom{name} allowed_tools{mode tools:param*}}
  tools{type function{name:schema description:schema parameters:schema* strict}
    custom{name:schema description:schema format{type grammar{definition:schema syntax}}}}
  web_search_options{search_context_size ${LOCATION}}`;

// Responses

defineUnion("content", `type ${CACHE_BREAKPOINT}`, {
  input_text: "text:words",
  input_image: "image_url:media detail file_id",
  input_file: "file_data:media file_id file_url:media filename detail",
  input_audio: "input_audio{data:media format}",
  output_text: `text:words ${ANNOTATIONS} logprobs${TOKENS}`,
  output_audio: "data:media transcript:transcript",
  refusal: "refusal:refusal",
  reasoning_text: "text:thinking",
  summary_text: "text:thinking",
});

const REASONING_PARTS = "{type text:thinking}";

const ITEMS = {
  message: "role content:words@content phase",
  item_reference: "",
  function_call: `name:call arguments:arguments namespace async ${CALLER}`,
  function_call_output: `output:result@content name namespace ${CALLER}`,
  custom_tool_call: `name:call input:arguments namespace async ${CALLER}`,
  custom_tool_call_output: `output:result@content name ${CALLER}`,
  file_search_call: "queries:arguments results{attributes:result* file_id filename score text:result}",
  computer_call: `action:arguments* actions:arguments* pending_safety_checks${SAFETY_CHECK}`,
  computer_call_output: `output{type file_id image_url:media} acknowledged_safety_checks${SAFETY_CHECK}`,
  web_search_call:
    "action{type query:arguments queries:arguments sources{type url:result} url:arguments pattern:arguments}",
  tool_search_call: "arguments:arguments* execution",
  tool_search_output: "tools@tool execution",
  additional_tools: "role tools@tool",
  configuration_update: `reasoning{effort} text{${FORMAT}}`,
  reasoning: `summary${REASONING_PARTS} content${REASONING_PARTS} encrypted_content:thinking`,
  compaction: "encrypted_content:thinking",
  compaction_trigger: "",
  image_generation_call: `result:media action background output_format quality size revised_prompt:words ${IMAGE_ERROR} ${IMAGE_USAGE}`,
  code_interpreter_call: "code:arguments container_id outputs{type logs:result url:media}",
  local_shell_call:
    "action{type command:arguments env:arguments* timeout_ms user working_directory:arguments}",
  local_shell_call_output: "output:result",
  shell_call: `action{commands:arguments max_output_length timeout_ms} ${CALLER} environment{type container_id skills@skill}`,
  shell_call_output: `output{outcome{type exit_code} stderr:result stdout:result created_by} max_output_length ${CALLER}`,
  apply_patch_call: `operation{type path:arguments diff:arguments} ${CALLER}`,
  apply_patch_call_output: `output:result ${CALLER}`,
  mcp_list_tools:
    "server_label error:result tools{name:schema description:schema input_schema:schema* annotations:schema*}",
  mcp_approval_request: "name:call arguments:arguments server_label",
  mcp_approval_response: "approval_request_id approve reason:words",
  mcp_call:
    "name:call arguments:arguments server_label approval_request_id output:result error:result{type code message:result content:result*}",
  program: "code:arguments fingerprint",
  program_output: "result:result",
} as const;

defineUnion("item", "id type status call_id created_by", ITEMS, (item) =>
  "role" in item || "content" in item ? "message" : "item_reference",
);

defineUnion("skill", "type", {
  skill_reference: "skill_id version",
  inline: "name:schema description:schema source{type media_type data:media}",
  "": "name:schema description:schema path",
});

const NAMED = "name:schema description:schema";
const PREVIEW_SEARCH = `search_content_types search_context_size ${LOCATION}`;
const WEB_SEARCH = `external_web_access filters{allowed_domains} search_context_size ${LOCATION}`;

const FILTERS = ["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"];
defineUnion("filter", "type", Object.fromEntries(FILTERS.map((type) => [type, "key value filters@filter"])));

defineUnion("tool", "type allowed_callers", {
  function: `${NAMED} parameters:schema* output_schema:schema* strict async defer_loading`,
  custom: `${NAMED} format{type definition:schema syntax} async defer_loading`,
  file_search:
    "vector_store_ids filters@filter max_num_results ranking_options{hybrid_search{embedding_weight text_weight} ranker score_threshold}",
  computer: "",
  computer_use_preview: "display_height display_width environment",
  web_search: WEB_SEARCH,
  web_search_2025_08_26: WEB_SEARCH,
  web_search_preview: PREVIEW_SEARCH,
  web_search_preview_2025_03_11: PREVIEW_SEARCH,
  mcp: `server_label allowed_tools:param${TOOL_FILTER} authorization connector_id defer_loading headers:param*
    require_approval:param{always${TOOL_FILTER} never${TOOL_FILTER}} server_description:schema server_url tunnel_id`,
  code_interpreter: `container:param{type ${NETWORK}}`,
  programmatic_tool_calling: "",
  image_generation: `action background complexity frame_count frame_duration_ms input_fidelity
    input_image_mask{file_id image_url:media} model moderation output_compression output_format partial_images
    quality size svg{model reasoning{effort}}`,
  local_shell: "",
  shell: `environment{type container_id ${NETWORK}}`,
  namespace: `${NAMED} tools@tool`,
  tool_search: "description:schema execution parameters:schema*",
  apply_patch: "",
});

const SETTINGS = `access_programs{cyber} background context_management{type compact_threshold}
  conversation:param{id} image{context_compression} include instructions:words@item max_output_tokens
  max_tool_calls metadata:param* model parallel_tool_calls previous_response_id
  prompt{id variables{*:words@content} version} prompt_cache_key prompt_cache_retention
  reasoning{context effort generate_summary mode summary} safety_identifier service_tier store stream
  stream_options{include_obfuscation} temperature text{${FORMAT} verbosity}
  tool_choice:param{type name mode tools:param* server_label} tools@tool top_logprobs top_p truncation user`;

const RESPONSES = `${SETTINGS} ${MODERATION} prompt_cache_options{comparison_response_id mode prewarm ttl}`;

/** Everything of a Response but its `output`: mostly the request's own settings, said back. */
export const RESPONSE_MEMBERS: Members = shape(`${SETTINGS} id object created_at completed_at status
  error{code message param type misalignment:param*} incomplete_details{reason} output_text:words
  input_transformations{id action reason type} moderation:param* prompt_cache_diagnostics:param*
  prompt_cache_options{comparison_response_id mode ttl} frequency_penalty presence_penalty billing:param*
  tool_usage:param* usage{input_tokens output_tokens total_tokens
    input_tokens_details{cache_write_tokens cached_tokens cache_write_tokens_details{ttl_12h_tokens ttl_30m_tokens}}
    output_tokens_details{reasoning_tokens}}`);

/** The members of a request body but for the conversation itself, which prompt.ts walks by turns. */
export const REQUEST_MEMBERS: Readonly<Partial<Record<Operation, Members>>> = {
  chat: shape(CHAT),
  completions: shape(`${SAMPLING} best_of echo suffix:words`),
  responses: shape(RESPONSES),
  embeddings: shape("model dimensions encoding_format user"),
  moderations: shape("model"),
};

export const INPUT_ITEM = unionRule("item");
export const CONTENT_PART = unionRule("content");
export const CHAT_PART = unionRule("chat-part");

// Answers

export const COMPLETION_USAGE = objectRule(`prompt_tokens completion_tokens total_tokens
  completion_tokens_details{accepted_prediction_tokens audio_tokens reasoning_tokens rejected_prediction_tokens text_tokens}
  prompt_tokens_details{audio_tokens cache_write_tokens cached_tokens image_tokens text_tokens}`);
/** What the chunk reader itself does not place of a chat message or choice. */
export const CHAT_EXTRAS: Members = shape(`${ANNOTATIONS} moderation:param* metadata:param*`);
export const CHAT_LOGPROBS = objectRule(`content${TOKENS} refusal${TOKENS}`);
export const COMPLETION_LOGPROBS = objectRule("text_offset token_logprobs tokens top_logprobs{*}");
export const ANNOTATION = objectRule(ANNOTATIONS.slice("annotations{".length, -1));
export const RESPONSE_LOGPROBS = objectRule("token bytes logprob top_logprobs{token bytes logprob}");
export const SHELL_OUTPUT = objectRule("outcome{type exit_code} stderr:result stdout:result created_by");
export const ERROR = objectRule("message type param code misalignment:param* headers:param*");

export const PLAIN_ANSWERS: Readonly<Partial<Record<Operation, ReturnType<typeof objectRule>>>> = {
  embeddings: objectRule(
    "object model data{object index embedding} usage{prompt_tokens total_tokens} error{message type param code}",
  ),
  moderations: objectRule(
    "id model results{flagged categories:param* category_scores:param* category_applied_input_types:param*}",
  ),
  models: objectRule(
    "object id created owned_by shutdown_date deleted data{id object created owned_by shutdown_date}",
  ),
};

/** Who speaks in an input item that is no message; outputs of tools are told by their name. */
const ITEM_ROLES: ReadonlyMap<string, "user" | "developer" | "tool" | "none"> = new Map([
  ["mcp_approval_response", "user"],
  ["additional_tools", "developer"],
  ["configuration_update", "developer"],
  ["mcp_list_tools", "tool"],
  ["item_reference", "none"],
  ["compaction_trigger", "none"],
]);

export function roleOfItem(type: string): "user" | "developer" | "tool" | "none" | "assistant" {
  return ITEM_ROLES.get(type) ?? (type.endsWith("_output") ? "tool" : "assistant");
}
