/**
 * Reads a request body into a Prompt. The tables of fields.ts say what each known member is; this file walks
 * them, and hands whatever they do not name to `leaves.unmodelled`, so that every string becomes a leaf.
 */
import type { Operation, Prompt, Role } from "../../layer/index.ts";
import type { Json, JsonObject, PromptInput } from "../dialect.ts";
import { type About, Leaves, PARAMETER, pointerToken, UNKNOWN } from "../leaves.ts";
import { readAsk } from "./ask.ts";
import { CHAT_MESSAGE, CHAT_PART, INPUT_ITEM, REQUEST_MEMBERS, roleOfItem } from "./fields.ts";
import { ANY_NAME, isObject, type Members, membersOf, type Placement, type Rule } from "./shape.ts";

/** Who speaks, and in which turn. */
interface Where {
  readonly role: Role;
  readonly turn: number;
}

const OUTSIDE: Where = { role: "none", turn: -1 };
const USER_TURN: Where = { role: "user", turn: 0 };
const WORDS_OF: Readonly<Record<string, Where>> = {
  instructions: { role: "system", turn: -1 },
  prediction: { role: "assistant", turn: -1 },
  prompt: { role: "user", turn: -1 },
  suffix: USER_TURN,
};
const NO_MEMBERS: Members = new Map();
const WORDS: Rule = { place: "words", free: false, members: undefined, union: undefined };
const USER_PART: Rule = { ...CHAT_PART, place: "words" };
const ROLES: ReadonlyMap<unknown, Role> = new Map<unknown, Role>([
  ["system", "system"],
  ["developer", "developer"],
  ["user", "user"],
  ["assistant", "assistant"],
  ["tool", "tool"],
  ["function", "tool"],
]);

/** Members that hold the conversation, by operation, and how each is walked. */
type Walk = (leaves: Leaves, path: string, value: Json | undefined) => void;
const CONVERSATIONS: Readonly<Partial<Record<Operation, Readonly<Record<string, Walk>>>>> = {
  chat: { messages: (leaves, path, value) => turns(leaves, CHAT_MESSAGE, path, value, roleOfMessage) },
  responses: { input: responsesInput },
  completions: { prompt: completionPrompt },
  embeddings: { input: (leaves, path, value) => walk(leaves, WORDS, path, value, USER_TURN) },
  moderations: { input: (leaves, path, value) => walk(leaves, USER_PART, path, value, USER_TURN) },
};
const KNOWN_PARAMETERS = new Set(["model", "after", "before", "limit", "order", "include"]);

export function readPrompt(input: PromptInput): Prompt {
  const leaves = new Leaves();
  const body = input.body;
  let model = "";
  for (const [name, value] of input.parameters) {
    if (!KNOWN_PARAMETERS.has(name)) leaves.add(`?${name}`, name, { role: "none", kind: "key", turn: -1 });
    leaves.add(`?${name}`, value, { role: "none", kind: "query", turn: -1 });
    if (name === "model") model = value;
  }
  if (body !== undefined) walkBody(leaves, input.operation, body);
  if (typeof body?.["model"] === "string") model = body["model"];
  const endUser = text(body?.["safety_identifier"]) ?? text(body?.["user"]);
  return {
    dialect: "openai",
    operation: input.operation,
    model,
    stream: body?.["stream"] === true,
    ...(endUser === undefined ? {} : { endUser }),
    ...readAsk(input.operation, body),
    leaves: leaves.list,
    newestTurn: leaves.newestTurn,
    unknown: leaves.unknown,
    mediaCount: leaves.mediaCount,
  };
}

function text(value: Json | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function walkBody(leaves: Leaves, operation: Operation, body: JsonObject): void {
  const known = REQUEST_MEMBERS[operation] ?? NO_MEMBERS;
  const conversation = CONVERSATIONS[operation];
  for (const name of Object.keys(body)) {
    const value = body[name];
    const rule = known.get(name);
    if (conversation !== undefined && Object.hasOwn(conversation, name)) {
      conversation[name]?.(leaves, `/${name}`, value);
    } else if (rule === undefined) {
      leaves.unmodelled(`/${pointerToken(name)}`, name, value, UNKNOWN);
    } else if (typeof value !== "number" && typeof value !== "boolean") {
      walk(leaves, rule, `/${name}`, value, Object.hasOwn(WORDS_OF, name) ? WORDS_OF[name]! : OUTSIDE);
    }
  }
}

function turns(
  leaves: Leaves,
  rule: Rule,
  path: string,
  list: Json | undefined,
  roleOf: (turn: JsonObject) => Role,
): void {
  if (!Array.isArray(list)) {
    walk(leaves, rule, path, list, OUTSIDE);
    return;
  }
  for (let i = 0; i < list.length; i++) {
    const turn = list[i];
    const role = isObject(turn) ? roleOf(turn) : "none";
    walk(leaves, rule, `${path}/${i}`, turn, { role, turn: i });
  }
}

function roleOfMessage(message: JsonObject): Role {
  return ROLES.get(message["role"]) ?? "none";
}

function responsesInput(leaves: Leaves, path: string, value: Json | undefined): void {
  if (typeof value === "string") walk(leaves, WORDS, path, value, USER_TURN);
  else
    turns(leaves, INPUT_ITEM, path, value, (item) => {
      const type = item["type"];
      if (type === "message" || typeof type !== "string") return roleOfMessage(item);
      return roleOfItem(type);
    });
}

/** Token ids are text that nobody here can read: they are named for the policy's `unknownFields`. */
function completionPrompt(leaves: Leaves, path: string, value: Json | undefined): void {
  const first = Array.isArray(value) ? value[0] : value;
  if (typeof first === "number" || Array.isArray(first)) leaves.unknown.push(path);
  walk(leaves, WORDS, path, value, USER_TURN);
}

function walk(leaves: Leaves, rule: Rule, path: string, value: Json | undefined, at: Where): void {
  if (typeof value === "string") {
    string(leaves, rule.place, path, value, at);
  } else if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      if (typeof value[i] !== "number") walk(leaves, rule, `${path}/${i}`, value[i], at);
    }
  } else if (isObject(value)) {
    object(leaves, rule, path, value, at);
  }
}

function object(leaves: Leaves, rule: Rule, path: string, value: JsonObject, at: Where): void {
  if (rule.free) {
    leaves.tree(path, value, aboutOf(rule.place, at));
    return;
  }
  const members = membersOf(rule, value);
  if (members === undefined) {
    leaves.unknown.push(path);
    leaves.tree(path, value, { role: at.role, kind: "unknown", turn: at.turn });
    return;
  }
  const any = members.get(ANY_NAME);
  for (const name of Object.keys(value)) {
    const member = name === ANY_NAME ? undefined : members.get(name);
    if (member !== undefined) {
      walk(leaves, member, `${path}/${name}`, value[name], at);
      continue;
    }
    const below = `${path}/${pointerToken(name)}`;
    if (any === undefined) {
      leaves.unmodelled(below, name, value[name], { role: at.role, kind: "unknown", turn: at.turn });
    } else {
      leaves.add(below, name, { role: at.role, kind: "key", turn: at.turn });
      walk(leaves, any, below, value[name], at);
    }
  }
}

function string(leaves: Leaves, place: Placement, path: string, value: string, at: Where): void {
  if (place === "media") {
    leaves.media(path, value, aboutOf("words", at));
    return;
  }
  if (place === "unknown") leaves.unknown.push(path);
  leaves.add(path, value, aboutOf(place, at));
}

/** Role and kind of a string by its place; a parameter outside the conversation needs no object of its own. */
function aboutOf(place: Placement, at: Where): About {
  switch (place) {
    case "param":
      return at.turn === -1 ? PARAMETER : { role: at.role, kind: "parameter", turn: at.turn };
    case "words":
    case "transcript":
    case "refusal":
      return { role: at.role, kind: at.role === "tool" ? "tool-result" : "text", turn: at.turn };
    case "thinking":
      return { role: "assistant", kind: "text", turn: at.turn };
    case "call":
    case "arguments":
      return { role: "assistant", kind: "tool-arguments", turn: at.turn };
    case "result":
      return { role: "tool", kind: "tool-result", turn: at.turn };
    case "schema":
      return { role: at.role, kind: "tool-schema", turn: at.turn };
    case "media":
    case "unknown":
      return { role: at.role, kind: "unknown", turn: at.turn };
    default:
      return place satisfies never;
  }
}
