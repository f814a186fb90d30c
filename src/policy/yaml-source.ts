/**
 * Reads one YAML file into plain values and remembers where each of them stands. The conversion is our
 * own walk over the parsed nodes rather than the parser's, because it must find duplicate keys in linear
 * time, refuse cycles, bound what aliases expand to, and never throw, whatever the bytes are.
 */
import { isUtf8 } from "node:buffer";
import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type ParsedNode,
  parseDocument,
  type Scalar,
  type YAMLMap,
} from "yaml";
import { type FileProblem, formatPath, PROBLEMS_MAX, wholeFileProblem } from "./problems.ts";

/** Nesting allowed in a configuration. */
const DEPTH_MAX = 64;
/** Values in one file after aliases are expanded. */
const VALUES_MAX = 200_000;

/** Syntax problems that leave the rest of the document in its shape, so that it is worth reading on. */
const HARMLESS: ReadonlySet<string> = new Set(["TAB_AS_INDENT", "TAG_RESOLVE_FAILED", "NON_STRING_KEY"]);

/** Which part of a place is meant: the value, the member's name, or the spot for something that is not there. */
export type Spot = "value" | "key";

interface Inside {
  readonly content: string;
  readonly index: number;
}

export interface YamlSource {
  readonly file: string;
  readonly text: string;
  /** Plain objects, arrays and scalars; undefined when the file cannot be read as YAML at all. */
  readonly value: unknown;
  readonly problems: readonly FileProblem[];
  /** A problem at `path`, or at its nearest ancestor that exists; `inside` points into a string's content. */
  problem(path: readonly PropertyKey[], message: string, spot?: Spot, inside?: Inside): FileProblem;
}

type Node = ParsedNode | Scalar | YAMLMap | Alias | null | undefined;

export function readYaml(file: string, content: Uint8Array | string, bytesMax: number): YamlSource {
  const failed = (problem: FileProblem, text = ""): YamlSource => ({
    file,
    text,
    value: undefined,
    problems: [problem],
    problem: (path, message) => ({ ...wholeFileProblem(file, message), path: formatPath(path) }),
  });
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  if (bytes.length > bytesMax) {
    return failed(wholeFileProblem(file, `the file has ${bytes.length} bytes; at most ${bytesMax} are read`));
  }
  if (!isUtf8(bytes)) return failed(notUtf8(file, bytes));
  const text = new TextDecoder().decode(bytes);
  const nul = text.indexOf("\0");
  if (nul >= 0)
    return failed(problemAt(file, text, nul, [], "the file has a NUL byte; write plain text"), text);

  const lines = new LineCounter();
  let document: ReturnType<typeof parseDocument>;
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      stringKeys: true,
      uniqueKeys: false,
      resolveKnownTags: false,
      logLevel: "error",
    });
  } catch (error) {
    return failed(wholeFileProblem(file, `the file cannot be read as YAML: ${messageOf(error)}`), text);
  }
  const syntax = [...document.errors, ...document.warnings];
  const problems = syntax
    .slice(0, PROBLEMS_MAX + 1)
    .map(({ pos, message }) => problemAt(file, text, pos[0], [], firstLine(message)));
  const broken = document.errors.some(({ code }) => !HARMLESS.has(code));
  const root = document.contents as Node;
  if (root === null || root === undefined) {
    const empty = wholeFileProblem(file, "the file is empty; copy the shipped one and change what you need");
    return { ...failed(empty, text), problems: problems.length > 0 ? problems : [empty] };
  }
  if (broken) return { ...failed(wholeFileProblem(file, ""), text), problems };

  const walk = new Walk(file, text);
  const value = walk.read(root, [], 0);
  problems.push(...walk.problems);
  return {
    file,
    text,
    value,
    problems,
    problem(path, message, spot = "value", inside) {
      const offset = locate(root, walk.targets, path, spot);
      return problemAt(file, text, inside === undefined ? offset : into(text, offset, inside), path, message);
    },
  };
}

class Walk {
  readonly problems: FileProblem[] = [];
  /** What each alias stands for. */
  readonly targets = new Map<Alias, Node>();
  readonly #anchors = new Map<string, Node>();
  readonly #open = new Set<Node>();
  readonly #file: string;
  readonly #text: string;
  #values = 0;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  read(node: Node, path: readonly PropertyKey[], depth: number): unknown {
    this.#values += 1;
    if (this.#values > VALUES_MAX) {
      if (this.#values === VALUES_MAX + 1) {
        this.#fault(node, path, `more than ${VALUES_MAX} values (aliases count as often as they are used)`);
      }
      return undefined;
    }
    if (depth > DEPTH_MAX) {
      this.#fault(node, path, `nested more than ${DEPTH_MAX} deep`);
      return undefined;
    }
    if (isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target === undefined) {
        this.#fault(node, path, `no anchor "&${node.source}" stands before this alias`);
        return undefined;
      }
      if (this.#open.has(target)) {
        this.#fault(node, path, `the alias "*${node.source}" contains itself`);
        return undefined;
      }
      this.targets.set(node, target);
      return this.read(target, path, depth + 1);
    }
    if (node?.anchor !== undefined) this.#anchors.set(node.anchor, node);
    if (isSeq(node) || isMap(node)) {
      this.#open.add(node);
      const value = isSeq(node)
        ? node.items.map((item, i) => this.read(item as Node, [...path, i], depth + 1))
        : this.#readMap(node as YAMLMap, path, depth);
      this.#open.delete(node);
      return value;
    }
    return isScalar(node) ? node.value : null;
  }

  #readMap(node: YAMLMap, path: readonly PropertyKey[], depth: number): Record<string, unknown> {
    const value: Record<string, unknown> = {};
    for (const { key, value: below } of node.items) {
      if (!isScalar(key)) continue; // reported by the parser: keys are strings here
      const name = String(key.value ?? "");
      const at = [...path, name];
      if (name === "__proto__") this.#fault(key, at, `"__proto__" is not a field`);
      else if (Object.hasOwn(value, name)) this.#fault(key, at, `the field "${name}" is given twice`);
      else value[name] = this.read(below as Node, at, depth + 1);
    }
    return value;
  }

  #fault(node: Node, path: readonly PropertyKey[], message: string): void {
    if (this.problems.length > PROBLEMS_MAX) return;
    const offset = node?.range?.[0] ?? 0;
    this.problems.push(problemAt(this.#file, this.#text, offset, path, message));
  }
}

/**
 * Offset of the value at `path`. What is missing is shown at its parent: the parent's own name where it has
 * one, otherwise the parent's first character.
 */
function locate(
  root: Node,
  targets: ReadonlyMap<Alias, Node>,
  path: readonly PropertyKey[],
  spot: Spot,
): number {
  let node = root;
  let key: Node;
  for (let i = 0; ; i++) {
    while (isAlias(node)) node = targets.get(node);
    if (i === path.length) break;
    const part = path[i];
    if (isSeq(node) && typeof part === "number" && part < node.items.length) {
      node = node.items[part] as Node;
      key = undefined;
      continue;
    }
    const pair = isMap(node)
      ? (node as YAMLMap).items.find((item) => isScalar(item.key) && String(item.key.value ?? "") === part)
      : undefined;
    // Nothing there: the parent's name, or where the parent begins.
    if (pair === undefined) return startOf(key) ?? startOf(node) ?? 0;
    key = pair.key as Node;
    node = pair.value as Node;
  }
  const own = startOf(node);
  const isEmpty = own === undefined || (isScalar(node) && node.range?.[0] === node.range?.[1]);
  return (spot === "key" || isEmpty ? startOf(key) : own) ?? own ?? 0;
}

/** Content that stands in the file as it is, plain or in quotes, can be pointed into; escaped or folded cannot. */
function into(text: string, offset: number, { content, index }: Inside): number {
  for (const quote of [0, 1]) {
    if (text.startsWith(content, offset + quote)) return offset + quote + index;
  }
  return offset;
}

function startOf(node: Node): number | undefined {
  return node?.range?.[0];
}

function problemAt(
  file: string,
  text: string,
  offset: number,
  path: readonly PropertyKey[],
  message: string,
): FileProblem {
  // A fault at the very end of a file is shown at its last character that is not a line break.
  let at = Math.min(offset, text.length);
  if (at === text.length) while (at > 0 && /[\r\n]/.test(text[at - 1]!)) at -= 1;
  const start = text.lastIndexOf("\n", at - 1) + 1;
  const end = text.indexOf("\n", at);
  let line = 1;
  for (let i = text.indexOf("\n"); i >= 0 && i < at; i = text.indexOf("\n", i + 1)) line += 1;
  return {
    file,
    line,
    column: at - start + 1,
    path: formatPath(path),
    message,
    excerpt: text.slice(start, end < 0 ? undefined : end).replace(/\r$/, ""),
  };
}

function notUtf8(file: string, bytes: Uint8Array): FileProblem {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start);
    if (!isUtf8(bytes.subarray(start, end < 0 ? bytes.length : end))) break;
    if (end < 0) break;
    start = end + 1;
  }
  return { file, line, column: 1, path: "", message: "this line is not valid UTF-8; save the file as UTF-8" };
}

function firstLine(message: string): string {
  return message.split("\n", 1)[0]!;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? firstLine(error.message) : String(error);
}
