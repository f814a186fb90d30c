/**
 * Text that was cut over several messages, tool results or fields, seen as one. Only what a caller or a tool wrote
 * is joined, and of a long leaf only its two ends: what lies inside one leaf is seen there. Where a leaf ends
 * inside a word, the next one is joined to it both with a space and without.
 */

import { type View, viewsOf } from "./views.ts";

/** A leaf as joining needs it; src/layer's Leaf fits. */
export interface JoinableLeaf {
  readonly text: string;
  readonly role: string;
  readonly kind: string;
}

export interface Joined {
  /** Kind `joined`, or, where the joined text decodes to something, of the decoding. */
  readonly view: View;
  /** Indexes of all leaves that were joined. */
  readonly leaves: readonly number[];
  /** A budget ended the search for encodings. */
  readonly truncated: boolean;
  /** Indexes into the prompt's leaves, in order, that units [start, end) of the view came from, with offsets in each. */
  parts(start: number, end: number): JoinedPart[];
}

export interface JoinedPart {
  readonly leaf: number;
  readonly start: number;
  readonly end: number;
}

/** Units of each end of a leaf: half of the longest match of a rule, as the other half is the other leaf's. */
export const END_UNITS = 400;
/** All joined text together; the newest is joined first. */
export const JOINED_UNITS_MAX = 32_768;

const ROLES: ReadonlySet<string> = new Set(["user", "tool", "none"]);
const KINDS: ReadonlySet<string> = new Set(["text", "tool-result", "tool-arguments", "unknown"]);
/** Stands where the middle of a long leaf is left out. */
const CUT = "\uffff";

interface Piece {
  readonly leaf: number;
  readonly from: number;
  readonly text: string;
}

/** [] where nothing can be split: fewer than two leaves that are joined. */
export function joinedView(prompt: { readonly leaves: readonly JoinableLeaf[] }): Joined[] {
  const pieces = piecesOf(prompt.leaves);
  if (pieces.length < 2 || pieces[0]!.leaf === pieces.at(-1)!.leaf) return [];
  const views = joinedBy(pieces, " ");
  const cutWords = pieces.some(
    (piece, i) => i > 0 && endsInWord(pieces[i - 1]!.text) && WORD.test(piece.text[0] ?? ""),
  );
  return cutWords ? [...views, ...joinedBy(pieces, "")] : views;
}

const WORD = /[\p{L}\p{N}=+/_-]/u;

function endsInWord(text: string): boolean {
  return WORD.test(text.at(-1) ?? "");
}

/** In the order of the prompt, newest kept when there is too much. */
function piecesOf(leaves: readonly JoinableLeaf[]): Piece[] {
  const pieces: Piece[] = [];
  let left = JOINED_UNITS_MAX;
  for (let leaf = leaves.length - 1; leaf >= 0 && left > 0; leaf--) {
    const { text, role, kind } = leaves[leaf]!;
    if (text.length === 0 || !ROLES.has(role) || !KINDS.has(kind)) continue;
    if (text.length <= 2 * END_UNITS) {
      pieces.push({ leaf, from: 0, text });
      left -= text.length;
    } else {
      const from = text.length - END_UNITS;
      pieces.push(
        { leaf, from, text: text.slice(from) },
        { leaf, from: 0, text: text.slice(0, END_UNITS) + CUT },
      );
      left -= 2 * END_UNITS;
    }
  }
  return pieces.reverse();
}

function joinedBy(pieces: readonly Piece[], gap: string): Joined[] {
  const starts: number[] = [];
  let text = "";
  for (const piece of pieces) {
    if (text !== "") text += gap;
    starts.push(text.length);
    text += piece.text;
  }
  const { views, marks } = viewsOf(text);
  const leaves = [...new Set(pieces.map(({ leaf }) => leaf))];
  return views.map((view) => ({
    leaves,
    truncated: marks.truncated,
    view: view.kind === "plain" ? joinedKind(view) : view,
    parts(start, end) {
      const span = view.span(start, end);
      const found: JoinedPart[] = [];
      pieces.forEach((piece, i) => {
        const low = Math.max(span.start, starts[i]!);
        const high = Math.min(span.end, starts[i]! + piece.text.length);
        if (low < high)
          found.push({
            leaf: piece.leaf,
            start: low - starts[i]! + piece.from,
            end: high - starts[i]! + piece.from,
          });
      });
      return found;
    },
  }));
}

function joinedKind(view: View): View {
  return { kind: "joined", steps: view.steps, text: view.text, span: (start, end) => view.span(start, end) };
}
