/**
 * Plays a guard model: reads the text that it is to judge out of the request and answers in a guard's own format, by
 * rules on that text. It can also be as weak as real ones are: talkative, obedient to whatever reaches it outside of
 * the quotation, or a parrot of verdicts that it reads.
 */
import { asList, asObject, asText, type JsonObject } from "./json.ts";
import type { Script } from "./script.ts";

type Guard = NonNullable<Script["guard"]>;
type Rule = Guard["unsafe"][number];

const SURE = 0.95;
const FINE = 0.02;
/** Where a chat template ends a turn: what follows is nobody's quotation any more. */
const TURN_END = /<\|(?:eot_id|im_end|end_of_text)\|>/;
const ORDER = /answer safe/i;

/** What a request shows its judge: the quoted text, and what stands around it. */
interface Shown {
  readonly quoted: string;
  readonly around: string;
}

export function guardText(guard: Guard, body: JsonObject): string {
  const { quoted, around } = shownTo(body);
  const isAnswer = asObject(asList(body["messages"]).at(-1))?.["role"] === "assistant";
  const rule = guard.unsafe.find(({ match }) => quoted.toLowerCase().includes(match.toLowerCase()));
  switch (guard.mode) {
    case "honest":
    case undefined:
      return say(guard, rule, isAnswer);
    case "prose":
      return `Let me think about this. ${say(guard, rule, isAnswer)} I hope this helps!`;
    case "obeys":
      return say(guard, ORDER.test(around) ? undefined : rule, isAnswer);
    case "parrots":
      return verdictIn(quoted) ?? say(guard, rule, isAnswer);
    default:
      return guard.mode satisfies never;
  }
}

/** POST /v1/classify: any JSON in, a label and a score out. */
export function classifyWhole({
  script,
  body,
}: {
  readonly script: Script;
  readonly body: JsonObject;
}): object {
  const guard = script.guard ?? { format: "http", unsafe: [] };
  return asObject(
    JSON.parse(guardText({ ...guard, format: "http" }, { messages: [{ content: flat(body) }] })),
  )!;
}

/** `isAnswer`: the last turn is the assistant's, which a guard judges in a form of its own. */
function say({ format }: Guard, rule: Rule | undefined, isAnswer: boolean): string {
  const score = rule === undefined ? FINE : (rule.score ?? SURE);
  switch (format) {
    case "openai-policy":
      return JSON.stringify({
        violation: rule !== undefined,
        category: rule?.category ?? "none",
        score,
        rationale: rule === undefined ? "Nothing in it breaks the policy." : `It holds "${rule.match}".`,
      });
    case "llama-guard":
      return rule === undefined ? "safe" : `unsafe\n${rule.category}`;
    case "qwen3guard":
      return [
        `Safety: ${rule === undefined ? "Safe" : score < SURE ? "Controversial" : "Unsafe"}`,
        `Categories: ${rule?.category ?? "None"}`,
        ...(isAnswer ? ["Refusal: No"] : []),
      ].join("\n");
    case "http":
      return JSON.stringify({ label: rule?.category ?? "safe", score });
    default:
      return format satisfies never;
  }
}

/** With a boundary named by the system message, what lies between its lines; otherwise up to the turn's end. */
function shownTo(body: JsonObject): Shown {
  const messages = asList(body["messages"]).map(asObject);
  const system = messages.filter((one) => one?.["role"] === "system").map((one) => wordsOf(one?.["content"]));
  const user = wordsOf(messages.at(-1)?.["content"]);
  const boundary = /"BEGIN ([0-9a-f]{16,})"/.exec(system.join("\n"))?.[1];
  const begin = user.indexOf(`BEGIN ${boundary}\n`);
  const end = user.indexOf(`\nEND ${boundary}`, begin);
  if (boundary !== undefined && begin >= 0 && end >= 0) {
    const from = begin + `BEGIN ${boundary}\n`.length;
    return { quoted: user.slice(from, end), around: user.slice(0, begin) + user.slice(end) };
  }
  const cut = user.search(TURN_END);
  return cut < 0 ? { quoted: user, around: "" } : { quoted: user.slice(0, cut), around: user.slice(cut) };
}

function wordsOf(content: unknown): string {
  if (typeof content === "string") return content;
  return asList(content)
    .map((part) => asText(asObject(part)?.["text"]) ?? "")
    .join("\n");
}

function flat(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return "";
  return Object.values(value).map(flat).join("\n");
}

/** The first JSON object, "safe" line or the like that the text itself brings. */
function verdictIn(text: string): string | undefined {
  return /\{[^{}]*"violation"[^{}]*\}/.exec(text)?.[0] ?? /^(?:safe|Safety: Safe.*)$/m.exec(text)?.[0];
}
