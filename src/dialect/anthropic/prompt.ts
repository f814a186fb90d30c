/**
 * Turns a request into a Prompt: one walk over the body along the tables of request.ts. Every string
 * becomes a leaf, and so does every member name that the tables do not list; a value of another JSON type
 * than the tables expect is covered whole and named in `unknown`.
 */
import type { LeafKind, Prompt, Role } from "../../layer/index.ts";
import { askOf } from "../ask.ts";
import type { Json, JsonObject, PromptInput } from "../dialect.ts";
import { type About, Leaves, pointerToken } from "../leaves.ts";
import { MESSAGE, PARAMETERS, REQUEST } from "./request.ts";
import { PLAIN, type Shape, type StringClass, variantOf } from "./shape.ts";

const QUERY: About = { role: "none", kind: "query", turn: -1 };
/** Where no turn is: `kind` is what `words` are. */
const OUTSIDE: About = { role: "none", kind: "parameter", turn: -1 };
const ROLES: ReadonlyMap<Json | undefined, Role> = new Map([
  ["user", "user"],
  ["assistant", "assistant"],
  ["system", "system"],
]);
const KINDS: Readonly<Record<Exclude<StringClass, "words">, LeafKind>> = {
  parameter: "parameter",
  media: "media",
  arguments: "tool-arguments",
  schema: "tool-schema",
};

export function readPrompt(input: PromptInput): Prompt {
  const { operation, body } = input;
  const leaves = new Leaves();
  let model = "";
  for (const [name, text] of input.parameters) {
    const path = `?${name}`;
    leaves.add(path, text, QUERY);
    if (!PARAMETERS.has(name)) leaves.unmodelled(path, name, null, OUTSIDE);
    if (operation === "models" && (name === "model" || name === "model_id" || name === "id")) model = text;
  }
  if (body !== undefined) {
    const shape = operation === "messages" || operation === "count_tokens" ? REQUEST : PLAIN;
    readMembers(leaves, "", body, shape, OUTSIDE);
    if (typeof body["model"] === "string") model = body["model"];
  }
  const endUser = userOf(body);
  return {
    dialect: "anthropic",
    operation,
    model,
    stream: body?.["stream"] === true,
    ...(endUser === undefined ? {} : { endUser }),
    ...(operation === "messages" ? askOf(body?.["max_tokens"]) : {}),
    leaves: leaves.list,
    newestTurn: leaves.newestTurn,
    unknown: leaves.unknown,
    mediaCount: leaves.mediaCount,
  };
}

function userOf(body: JsonObject | undefined): string | undefined {
  const metadata = body?.["metadata"];
  if (metadata === null || typeof metadata !== "object" || Array.isArray(metadata)) return undefined;
  return typeof metadata["user_id"] === "string" ? metadata["user_id"] : undefined;
}

function read(leaves: Leaves, path: string, value: Json | undefined, shape: Shape, around: About): void {
  if (typeof value === "string") {
    const kind = shape.string ?? shape.tree;
    if (kind === undefined) unexpected(leaves, path, value, around);
    else readString(leaves, path, value, kind, inside(shape, around));
  } else if (value === null || typeof value !== "object") {
    return;
  } else if (shape.tree !== undefined) {
    leaves.tree(path, value, about(shape.tree, inside(shape, around)));
  } else if (!Array.isArray(value)) {
    const variant = variantOf(shape, value);
    if (variant === undefined) unexpected(leaves, path, value, around);
    else readMembers(leaves, path, value, variant, inside(variant, inside(shape, around)));
  } else if (shape.items === MESSAGE) {
    for (let turn = 0; turn < value.length; turn++) readTurn(leaves, `${path}/${turn}`, value[turn], turn);
  } else if (shape.items !== undefined) {
    const below = inside(shape, around);
    for (let i = 0; i < value.length; i++) read(leaves, `${path}/${i}`, value[i], shape.items, below);
  } else {
    unexpected(leaves, path, value, around);
  }
}

function readMembers(leaves: Leaves, path: string, value: JsonObject, shape: Shape, around: About): void {
  for (const name of Object.keys(value)) {
    const below = `${path}/${pointerToken(name)}`;
    const known = shape.fields?.get(name);
    if (known === undefined) leaves.unmodelled(below, name, value[name], around);
    else read(leaves, below, value[name], known, around);
  }
}

function readTurn(leaves: Leaves, path: string, value: Json | undefined, turn: number): void {
  const named =
    value !== null && typeof value === "object" && !Array.isArray(value) ? value["role"] : undefined;
  // A speaker that the API does not know is taken for the one who is trusted least.
  const role = ROLES.get(named) ?? "user";
  if (!ROLES.has(named)) leaves.unknown.push(`${path}/role`);
  read(leaves, path, value, MESSAGE, { role, kind: "text", turn });
  if (leaves.newestTurn < turn) leaves.newestTurn = turn;
}

function readString(leaves: Leaves, path: string, text: string, kind: StringClass, around: About): void {
  if (kind === "media") leaves.media(path, text, around);
  else leaves.add(path, text, about(kind, around));
}

function about(kind: StringClass, around: About): About {
  return kind === "words" ? around : { role: around.role, kind: KINDS[kind], turn: around.turn };
}

/** What the text below a shape is. */
function inside(shape: Shape, around: About): About {
  switch (shape.within) {
    case undefined:
      return around;
    case "tool-result":
      return { role: "tool", kind: "tool-result", turn: around.turn };
    case "tool-schema":
      return { role: around.role, kind: "tool-schema", turn: around.turn };
    case "instructions":
      return { role: "system", kind: "text", turn: around.turn };
    default:
      return shape.within satisfies never;
  }
}

/** Not the JSON type, or not a `type`, that the tables know here. */
function unexpected(leaves: Leaves, path: string, value: Json, around: About): void {
  leaves.unknown.push(path);
  leaves.tree(path, value, { role: around.role, kind: "unknown", turn: around.turn });
}
