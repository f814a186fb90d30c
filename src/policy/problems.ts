/**
 * What is wrong with a configuration, each fault at its exact spot. Problems are values: everything in
 * this folder gathers them all, so that one look at the report is enough to mend a file.
 */

export interface FileProblem {
  /** As the reader knows the file: relative to the folder that was given. */
  readonly file: string;
  /** 1-based; 0 where the problem is not at one spot of a file (a missing file, an environment variable). */
  readonly line: number;
  /** 1-based, in UTF-16 code units; 0 with line 0. */
  readonly column: number;
  /** Where in the document, such as `seats[2].with.packs[0]`; "" for the document itself. */
  readonly path: string;
  /** What is wrong and how to put it right. */
  readonly message: string;
  /** The source line, for the caret. */
  readonly excerpt?: string;
}

/** Problems kept of one reading; a broken file can yield one for every byte. */
export const PROBLEMS_MAX = 100;

/** Width of the source line that is shown; longer ones are cut around the spot. */
const EXCERPT_MAX = 140;

export function wholeFileProblem(file: string, message: string): FileProblem {
  return { file, line: 0, column: 0, path: "", message };
}

/** `seats[2].with.packs[0]`; names that are not plain words are quoted. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (/^[\w-]+$/.test(String(part))) text += text === "" ? String(part) : `.${String(part)}`;
    else text += `[${JSON.stringify(String(part))}]`;
  }
  return text;
}

/** Sorted by spot, without repeats, at most PROBLEMS_MAX and a word that there are more. */
export function tidyProblems(problems: readonly FileProblem[]): readonly FileProblem[] {
  const byKey = new Map<string, FileProblem>();
  for (const problem of problems) {
    const key = `${problem.file}\0${problem.line}\0${problem.column}\0${problem.path}\0${problem.message}`;
    if (!byKey.has(key)) byKey.set(key, problem);
  }
  // The sort is stable and by line alone within a file, so artifacts follow the policy that names them.
  const files = [...new Set(problems.map(({ file }) => file))];
  const sorted = [...byKey.values()].sort(
    (a, b) => files.indexOf(a.file) - files.indexOf(b.file) || a.line - b.line || a.column - b.column,
  );
  if (sorted.length <= PROBLEMS_MAX) return sorted;
  const more = wholeFileProblem(sorted[0]!.file, "and more problems; mend these first");
  return [...sorted.slice(0, PROBLEMS_MAX), more];
}

/** `file:line:column: path: message`, then the source line and a caret under the spot. */
export function formatProblems(problems: readonly FileProblem[]): string {
  return problems.map(formatProblem).join("\n");
}

function formatProblem({ file, line, column, path, message, excerpt }: FileProblem): string {
  const spot = line > 0 ? `${file}:${line}:${column}` : file;
  const head = `${spot}: ${path === "" ? "" : `${path}: `}${message}`;
  if (excerpt === undefined || line === 0) return head;
  const from = excerpt.length <= EXCERPT_MAX ? 0 : Math.max(0, column - 1 - EXCERPT_MAX / 2);
  const shown = excerpt
    .slice(from, from + EXCERPT_MAX)
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "\ufffd");
  const indent = shown.slice(0, Math.max(0, column - 1 - from)).replace(/[^\t]/g, " ");
  const margin = String(line);
  return `${head}\n  ${margin} | ${shown}\n  ${" ".repeat(margin.length)} | ${indent}^`;
}
