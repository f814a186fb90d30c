/**
 * What is said, before any vendor's format: the runs of text, thinking, refusal and tool calls of one
 * choice, from the script where it speaks and from the seeded generator where it does not. The endpoints
 * turn a Reply into a whole answer or into events, so that both always tell the same story.
 */
import { guardText } from "./guard.ts";
import { asList, asObject, asText, type JsonObject } from "./json.ts";
import type { Random } from "./random.ts";
import { sampleOf } from "./schema-sample.ts";
import type { Script } from "./script.ts";

const WORDS_DEFAULT = 60;
const THINKING_WORDS = 24;
/** Tool arguments and structured answers leave in pieces of this many characters. */
const JSON_PIECE_CHARS = 8;

/** One request as the endpoints see it. */
export interface Call {
  readonly body: JsonObject;
  readonly script: Script;
  readonly random: Random;
  /** The last part of a path such as /v1/models/NAME; "" otherwise. */
  readonly name: string;
  /** Model names that have a script of their own. */
  readonly scripted: readonly string[];
}

export interface Tool {
  readonly name: string;
  readonly schema: unknown;
}

/** What the request asks for, read from the vendor's fields. */
export interface Wishes {
  readonly tool?: Tool | undefined;
  /** JSON Schema that the answer must fit. */
  readonly schema?: unknown;
  readonly tokensMax?: number | undefined;
  readonly thinking?: boolean;
}

interface ToolCall {
  readonly name: string;
  /** JSON text, in the pieces in which it is streamed. */
  readonly pieces: readonly string[];
}

/** Each list holds the pieces in which a text is streamed; an empty list means that there is no such text. */
export interface Reply {
  readonly thinking: readonly string[];
  readonly refusal: readonly string[];
  readonly text: readonly string[];
  readonly toolCalls: readonly ToolCall[];
  /** The text was cut at the request's token limit. */
  readonly cut: boolean;
}

export function composeReply(call: Call, wishes: Wishes, choice = 0): Reply {
  const { script } = call;
  const random = call.random.fork(`choice ${choice}`);
  const thinking = thinkingOf(script, wishes, random.fork("thinking"));
  const refusal = script.refusal === undefined ? [] : cutText(script.refusal, script.chunkChars);
  const toolCalls = toolCallsOf(script, wishes, random.fork("tools"));
  const scripted = script.chunks ?? guardPieces(call) ?? textPieces(script, choice);
  if (scripted !== undefined) return { thinking, refusal, text: scripted, toolCalls, cut: false };
  if (refusal.length > 0 || toolCalls.length > 0)
    return { thinking, refusal, text: [], toolCalls, cut: false };
  const text = generated(script, wishes, random.fork("text"));
  const cut = wishes.tokensMax !== undefined && text.length > wishes.tokensMax;
  return { thinking, refusal, text: cut ? text.slice(0, wishes.tokensMax) : text, toolCalls, cut };
}

/** A guard's words in the pieces that are asked for, or whole: its format is strict about white space. */
function guardPieces({ script, body }: Call): string[] | undefined {
  if (script.guard === undefined) return undefined;
  const text = guardText(script.guard, body);
  return script.chunkChars === undefined ? [text] : cutText(text, script.chunkChars);
}

function textPieces(script: Script, choice: number): string[] | undefined {
  const text = script.choices === undefined ? script.text : (script.choices[choice] ?? "");
  return text === undefined ? undefined : cutText(text, script.chunkChars);
}

function generated(script: Script, wishes: Wishes, random: Random): string[] {
  if (wishes.schema !== undefined && script.words === undefined) {
    return cutText(
      JSON.stringify(sampleOf(wishes.schema, random)) ?? "null",
      script.chunkChars ?? JSON_PIECE_CHARS,
    );
  }
  const words = random.prose(script.words ?? WORDS_DEFAULT);
  return script.chunkChars === undefined ? words : cutText(words.join(""), script.chunkChars);
}

function thinkingOf(script: Script, wishes: Wishes, random: Random): string[] {
  if (script.thinking !== undefined) return cutText(script.thinking, script.chunkChars);
  return wishes.thinking === true ? random.prose(THINKING_WORDS) : [];
}

function toolCallsOf(script: Script, wishes: Wishes, random: Random): ToolCall[] {
  const chars = script.chunkChars ?? JSON_PIECE_CHARS;
  if (script.toolCalls !== undefined) {
    return script.toolCalls.map((one) => {
      const json = typeof one.arguments === "string" ? one.arguments : JSON.stringify(one.arguments);
      return { name: one.name, pieces: cutText(json, chars) };
    });
  }
  const answered =
    script.text ??
    script.chunks ??
    script.guard ??
    script.choices ??
    script.words ??
    script.refusal ??
    script.events;
  if (wishes.tool === undefined || answered !== undefined) return [];
  const json = JSON.stringify(sampleOf(wishes.tool.schema, random) ?? {});
  return [{ name: wishes.tool.name, pieces: cutText(json, chars) }];
}

/** Pieces of `chars` characters (never half a surrogate pair), or one for each word with the space before it. */
function cutText(text: string, chars?: number): string[] {
  if (chars === undefined) return wordsOf(text);
  const points = Array.from(text);
  const pieces: string[] = [];
  for (let i = 0; i < points.length; i += chars) pieces.push(points.slice(i, i + chars).join(""));
  return pieces;
}

/** Cut where a word ends, which takes no stack: one pattern for a whole word overflows it at some 10 million letters. */
function wordsOf(text: string): string[] {
  if (text === "") return [];
  const words = text.split(/(?<=\S)(?=\s)/);
  // Space at the end belongs to the last word.
  if (words.length > 1 && words.at(-1)!.trim() === "") words.push(words.splice(-2).join(""));
  return words;
}

/**
 * The tool that a request wants called: the one that `choice` names, else the first; none when the caller
 * forbids it or has just given a tool's result.
 */
export function chooseTool(tools: readonly Tool[], choice: unknown, resultGiven: boolean): Tool | undefined {
  const kind = asText(choice) ?? asText(asObject(choice)?.["type"]);
  if (tools.length === 0 || kind === "none") return undefined;
  const named =
    asText(asObject(choice)?.["name"]) ?? asText(asObject(asObject(choice)?.["function"])?.["name"]);
  if (named !== undefined) return tools.find((tool) => tool.name === named);
  return resultGiven ? undefined : tools[0];
}

/** Tools with the schema field that the vendor uses; others (web search and the like) are not called. */
export function toolsOf(value: unknown, inner: string | undefined, schemaField: string): Tool[] {
  return asList(value).flatMap((entry) => {
    const tool = inner === undefined ? asObject(entry) : asObject(asObject(entry)?.[inner]);
    const name = asText(tool?.["name"]);
    return name === undefined || (inner === undefined && tool?.[schemaField] === undefined)
      ? []
      : [{ name, schema: tool?.[schemaField] }];
  });
}

export function usageOf(call: Call, replies: readonly Reply[], inputTokens: number) {
  const { usage } = call.script;
  let thinkingTokens = 0;
  let said = 0;
  for (const reply of replies) {
    thinkingTokens += reply.thinking.length;
    said += reply.text.length + reply.refusal.length;
    for (const tool of reply.toolCalls) said += tool.pieces.length + 1;
  }
  return {
    input: usage?.inputTokens ?? inputTokens,
    output: usage?.outputTokens ?? said + thinkingTokens,
    cached: usage?.cachedTokens ?? 0,
    thinking: usage?.thinkingTokens ?? thinkingTokens,
  };
}
