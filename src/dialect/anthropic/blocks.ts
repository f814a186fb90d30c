/**
 * Content blocks and tools of the Messages API, as requests carry them and answers bring them. One table
 * for both directions, for every block that may nest in another: the API itself is stricter about which
 * goes where, and refusing that is its business.
 */
import {
  either,
  type Fields,
  list,
  MEDIA,
  object,
  PARAMETER,
  PLAIN,
  type Shape,
  tagged,
  tree,
  WORDS,
} from "./shape.ts";

export const CACHE: Shape = object({ type: PARAMETER, ttl: PARAMETER });
const CITATIONS_CONFIG = object({ enabled: PLAIN });
const CALLER = object({ type: PARAMETER, tool_id: PARAMETER });
const NAMES = list(PARAMETER);

/** Filled at the end of this file, since blocks nest. */
const blocks = new Map<string, Shape>();
export const BLOCK: Shape = { variants: blocks, blank: { type: "text", text: "" } };
/** A text, blocks, or (what a tool gave back) one block. */
export const CONTENT: Shape = either(WORDS, list(BLOCK), BLOCK);

const SOURCE = tagged({
  base64: { data: MEDIA, media_type: PARAMETER },
  text: { data: WORDS, media_type: PARAMETER },
  content: { content: CONTENT },
  url: { url: MEDIA },
  file: { file_id: PARAMETER },
});

const QUOTED: Fields = {
  cited_text: WORDS,
  document_index: PLAIN,
  document_title: WORDS,
  file_id: PARAMETER,
};
export const CITATION: Shape = tagged({
  char_location: { ...QUOTED, start_char_index: PLAIN, end_char_index: PLAIN },
  page_location: { ...QUOTED, start_page_number: PLAIN, end_page_number: PLAIN },
  content_block_location: { ...QUOTED, start_block_index: PLAIN, end_block_index: PLAIN },
  web_search_result_location: { cited_text: WORDS, encrypted_index: PARAMETER, title: WORDS, url: WORDS },
  search_result_location: {
    cited_text: WORDS,
    source: WORDS,
    title: WORDS,
    search_result_index: PLAIN,
    start_block_index: PLAIN,
    end_block_index: PLAIN,
  },
});

// Tools -----------------------------------------------------------------------------------------------

const EVERY_TOOL: Fields = {
  name: WORDS,
  allowed_callers: NAMES,
  cache_control: CACHE,
  defer_loading: PLAIN,
  strict: PLAIN,
  input_examples: tree("schema"),
};
const DESCRIBED: Fields = { name: WORDS, description: WORDS, input_schema: tree("schema") };
const URL_SOURCE = object({ type: PARAMETER, tools: list(object({ type: PARAMETER, name: WORDS })) });
const WEB: Fields = {
  allowed_domains: list(WORDS),
  blocked_domains: list(WORDS),
  max_uses: PLAIN,
  response_inclusion: PARAMETER,
};
const WEB_SEARCH: Fields = {
  ...WEB,
  user_location: object({ type: PARAMETER, city: WORDS, country: WORDS, region: WORDS, timezone: WORDS }),
};
const WEB_FETCH: Fields = {
  ...WEB,
  citations: CITATIONS_CONFIG,
  max_content_tokens: PLAIN,
  use_cache: PLAIN,
  url_sources: object({
    client_tool_results: URL_SOURCE,
    server_tool_results: URL_SOURCE,
    user_input: URL_SOURCE,
  }),
};
const SCREEN: Fields = {
  display_height_px: PLAIN,
  display_width_px: PLAIN,
  display_number: PLAIN,
  enable_zoom: PLAIN,
};
const TOOLSET: Fields = { cache_control: CACHE, configs: tree("schema") };

const TOOL_TYPES: Readonly<Record<string, Fields>> = {
  custom: { ...DESCRIBED, eager_input_streaming: PLAIN },
  bash_20241022: {},
  bash_20250124: {},
  code_execution_20250522: {},
  code_execution_20250825: {},
  code_execution_20260120: {},
  code_execution_20260521: {},
  computer_20241022: SCREEN,
  computer_20250124: SCREEN,
  computer_20251124: SCREEN,
  memory_20250818: {},
  text_editor_20241022: {},
  text_editor_20250124: {},
  text_editor_20250429: {},
  text_editor_20250728: { max_characters: PLAIN },
  tool_search_tool_bm25: {},
  tool_search_tool_bm25_20251119: {},
  tool_search_tool_regex: {},
  tool_search_tool_regex_20251119: {},
  web_search_20250305: WEB_SEARCH,
  web_search_20260209: WEB_SEARCH,
  web_search_20260318: WEB_SEARCH,
  web_fetch_20250910: WEB_FETCH,
  web_fetch_20260209: WEB_FETCH,
  web_fetch_20260309: WEB_FETCH,
  web_fetch_20260318: WEB_FETCH,
  advisor_20260301: { model: PARAMETER, caching: CACHE, max_tokens: PLAIN, max_uses: PLAIN },
};

export const TOOL: Shape = {
  ...tagged({
    ...Object.fromEntries(
      Object.entries(TOOL_TYPES).map(([type, fields]) => [type, { ...EVERY_TOOL, ...fields }]),
    ),
    browser_toolset_20260801: TOOLSET,
    computer_toolset_20260801: TOOLSET,
    mcp_toolset: {
      ...TOOLSET,
      mcp_server_name: WORDS,
      default_config: object({ defer_loading: PLAIN, enabled: PLAIN }),
      tools: list(object(DESCRIBED)),
    },
  }),
  untyped: "custom",
  within: "tool-schema",
};

// Blocks ----------------------------------------------------------------------------------------------

/** What the model asks of a tool. */
const CALL: Fields = {
  id: { string: "parameter", speech: "tool-id" },
  name: { string: "arguments", speech: "tool-name" },
  input: { tree: "arguments", speech: "tool" },
  caller: CALLER,
  toolset_name: PARAMETER,
};
/** What a tool gave back. */
const RESULT: Fields = { tool_use_id: PARAMETER, content: CONTENT, caller: CALLER };
const FAILURE: Fields = { error_code: PARAMETER, error_message: WORDS };
const RUN: Fields = { content: CONTENT, return_code: PLAIN, stderr: WORDS, stdout: WORDS };
const MODEL = object({ model: PARAMETER });

const CACHED_BLOCKS: Readonly<Record<string, Fields>> = {
  text: { text: { string: "words", speech: "answer" }, citations: list(CITATION) },
  image: { source: SOURCE, transformations: object({ oversized_image: PARAMETER }) },
  document: { source: SOURCE, title: WORDS, context: WORDS, citations: CITATIONS_CONFIG },
  search_result: { source: WORDS, title: WORDS, content: CONTENT, citations: CITATIONS_CONFIG },
  tool_use: CALL,
  server_tool_use: CALL,
  mcp_tool_use: { ...CALL, server_name: { string: "arguments" } },
  container_upload: { file_id: PARAMETER },
  tool_reference: { tool_name: WORDS, name: WORDS },
  compaction: {
    content: WORDS,
    encrypted_content: PARAMETER,
    signature: PARAMETER,
    tool_changes: list(BLOCK),
  },
  tool_addition: { tool: BLOCK },
  tool_removal: { tool: BLOCK },
  browser_state: {
    tabs: list(object({ tab_id: PARAMETER, title: WORDS, url: WORDS, active: PLAIN })),
    state_changes: list(
      object({
        type: PARAMETER,
        tab_id: PARAMETER,
        download_id: PARAMETER,
        url: WORDS,
        path: WORDS,
        error: WORDS,
        size_bytes: PLAIN,
      }),
    ),
  },
};

const TOOL_RESULTS: Readonly<Record<string, Fields>> = {
  tool_result: { ...RESULT, is_error: PLAIN, toolset_name: PARAMETER },
  mcp_tool_result: { ...RESULT, is_error: PLAIN },
  web_search_tool_result: RESULT,
  web_fetch_tool_result: RESULT,
  code_execution_tool_result: RESULT,
  bash_code_execution_tool_result: RESULT,
  text_editor_code_execution_tool_result: RESULT,
  tool_search_tool_result: RESULT,
  advisor_tool_result: RESULT,
};

/** Blocks without `cache_control`: what the results above are made of, and what only an answer brings. */
const INNER_BLOCKS: Readonly<Record<string, Fields>> = {
  thinking: {
    thinking: { string: "words", speech: "thinking" },
    signature: { string: "parameter", speech: "signature" },
  },
  redacted_thinking: { data: { string: "parameter", speech: "redacted" } },
  web_search_result: { encrypted_content: PARAMETER, page_age: WORDS, title: WORDS, url: WORDS },
  web_fetch_result: { content: CONTENT, url: WORDS, retrieved_at: PARAMETER },
  code_execution_result: RUN,
  code_execution_output: { file_id: PARAMETER },
  encrypted_code_execution_result: { ...RUN, encrypted_stdout: PARAMETER },
  bash_code_execution_result: RUN,
  bash_code_execution_output: { file_id: PARAMETER },
  text_editor_code_execution_view_result: {
    content: WORDS,
    file_type: PARAMETER,
    num_lines: PLAIN,
    start_line: PLAIN,
    total_lines: PLAIN,
  },
  text_editor_code_execution_create_result: { is_file_update: PLAIN },
  text_editor_code_execution_str_replace_result: {
    lines: list(WORDS),
    new_lines: PLAIN,
    new_start: PLAIN,
    old_lines: PLAIN,
    old_start: PLAIN,
  },
  tool_search_tool_search_result: { tool_references: list(BLOCK) },
  advisor_result: { text: WORDS, stop_reason: PARAMETER },
  advisor_redacted_result: { encrypted_content: PARAMETER, stop_reason: PARAMETER },
  web_search_tool_result_error: FAILURE,
  web_fetch_tool_result_error: FAILURE,
  code_execution_tool_result_error: FAILURE,
  bash_code_execution_tool_result_error: FAILURE,
  text_editor_code_execution_tool_result_error: FAILURE,
  tool_search_tool_result_error: FAILURE,
  advisor_tool_result_error: FAILURE,
  mcp_tool_reference: { name: WORDS, server_name: WORDS },
  mcp_toolset_reference: { server_name: WORDS },
  tool_definition: { definition: TOOL },
  mcp_tool_listing: { mcp_server_name: WORDS, tools: { ...list(object(DESCRIBED)), within: "tool-schema" } },
  fallback: { from: MODEL, to: MODEL, trigger: tree("parameter") },
};

function cached(blocks: Readonly<Record<string, Fields>>): Record<string, Fields> {
  return Object.fromEntries(
    Object.entries(blocks).map(([type, fields]) => [type, { ...fields, cache_control: CACHE }]),
  );
}

for (const [type, shape] of tagged({ ...cached(CACHED_BLOCKS), ...INNER_BLOCKS }).variants!)
  blocks.set(type, shape);
for (const [type, shape] of tagged(cached(TOOL_RESULTS)).variants!) {
  blocks.set(type, { ...shape, within: "tool-result" });
}
