/**
 * The streamed events of the Responses API as a table: which member of an event carries text, on which
 * channel, and whether the text goes on (`delta`), repeats what was streamed (`done`) or stands alone.
 */
import type { ChannelKind } from "../../layer/index.ts";
import { ANNOTATION, CONTENT_PART, ERROR, INPUT_ITEM, SHELL_OUTPUT } from "./fields.ts";
import type { Rule } from "./shape.ts";

export interface EventSpec {
  readonly mode: "delta" | "done" | "state";
  /** First part of the channel's name; "" without text. */
  readonly prefix: string;
  readonly kind: ChannelKind;
  /** Member that tells texts of one item apart; "" when an item has only one. */
  readonly index: string;
  /** Member that carries the text; "" without text. */
  readonly field: string;
  /** Marks the channels of a repetition. */
  readonly suffix: string;
}

/** Event, channel, member that tells apart, member with the whole text in `.done`. */
const RUNS: readonly (readonly [
  base: string,
  prefix: string,
  kind: ChannelKind,
  index: string,
  whole: string,
])[] = [
  ["output_text", "answer", "answer", "content_index", "text"],
  ["refusal", "refusal", "refusal", "content_index", "refusal"],
  ["reasoning_text", "thinking", "thinking", "content_index", "text"],
  ["reasoning_summary_text", "thinking", "thinking", "summary_index", "text"],
  ["function_call_arguments", "tool", "tool", "", "arguments"],
  ["mcp_call_arguments", "tool", "tool", "", "arguments"],
  ["custom_tool_call_input", "tool", "tool", "", "input"],
  ["code_interpreter_call_code", "tool", "tool", "", "code"],
  ["shell_call_command", "tool", "tool", "command_index", "command"],
  ["apply_patch_call_operation_diff", "tool", "tool", "", "diff"],
  ["shell_call_output_content", "other", "other", "command_index", ""],
  ["audio.transcript", "transcript", "transcript", "", ""],
  ["audio", "other:audio", "other", "", ""],
];

/** Events that tell of a state; their objects are walked by the rules below. */
const STATES = `created queued in_progress completed failed incomplete output_item.added output_item.done
  content_part.added content_part.done reasoning_summary_part.added reasoning_summary_part.done
  output_text.annotation.added shell_call_command.added code_interpreter_call.in_progress
  code_interpreter_call.interpreting code_interpreter_call.completed file_search_call.in_progress
  file_search_call.searching file_search_call.completed web_search_call.in_progress web_search_call.searching
  web_search_call.completed image_generation_call.in_progress image_generation_call.generating
  image_generation_call.completed image_generation_call.partial_image mcp_call.in_progress mcp_call.completed
  mcp_call.failed mcp_list_tools.in_progress mcp_list_tools.completed mcp_list_tools.failed
  compaction.compacting`;

export const EVENTS: ReadonlyMap<string, EventSpec> = new Map([
  ...STATES.split(/\s+/).map((name): [string, EventSpec] => [`response.${name}`, state(name)]),
  ...["error", "keepalive"].map((name): [string, EventSpec] => [name, state(name)]),
  ...RUNS.flatMap(([base, prefix, kind, index, whole]): [string, EventSpec][] => [
    [`response.${base}.delta`, { mode: "delta", prefix, kind, index, field: "delta", suffix: "" }],
    [
      `response.${base}.done`,
      { mode: "done", prefix, kind, index, field: whole, suffix: `#${base.split("_").at(-1)}_done` },
    ],
  ]),
  [
    "response.shell_call_command.added",
    { ...state("command_added"), prefix: "tool", kind: "tool", index: "command_index", field: "command" },
  ],
]);

function state(name: string): EventSpec {
  const suffix = `#${name.replace("output_", "").replace(".", "_")}`;
  return { mode: "state", prefix: "", kind: "other", index: "", field: "", suffix };
}

/** Members that are numbers in every event. */
export const NUMBERS: ReadonlySet<string> = new Set([
  "sequence_number",
  "output_index",
  "content_index",
  "summary_index",
  "command_index",
  "annotation_index",
  "partial_image_index",
]);

/** Members with a string that is told when it changes. */
export const WORDS: ReadonlySet<string> = new Set([
  "item_id",
  "obfuscation",
  "status",
  "background",
  "output_format",
  "quality",
  "size",
  "name",
]);

/** Members with text of an event alone, told each time. */
export const ALONE: ReadonlySet<string> = new Set(["partial_image_b64", "code", "message", "param"]);

/** Objects in an event; `response` and the logprobs are read by the stream itself. */
export const OBJECTS: ReadonlyMap<string, Rule> = new Map([
  ["item", INPUT_ITEM],
  ["part", CONTENT_PART],
  ["annotation", ANNOTATION],
  ["output", SHELL_OUTPUT],
  ["error", ERROR],
]);

export const TERMINAL: ReadonlySet<string> = new Set([
  "response.completed",
  "response.incomplete",
  "response.failed",
  "error",
]);
