/**
 * What of a prompt a judge gets to see: bounded parts, the newest turn first, each turn whole before the next older
 * one. Of a text that is too long for a part its beginning and end come first, then the middle, so that a long head
 * hides nothing behind it. What found no room is counted, never forgotten.
 *
 *   turn 7 (newest)   [piece: head] [piece: tail] [middle ...]   window 1, 2 ...
 *   turn 6, 5 ...                                                 ... until window.max are full; the rest: left out
 *   outside of turns  system, tool schemas                        inside a window all stands in the order it was sent
 */
import type { Leaf, Prompt, Role } from "../../src/layer/index.ts";

export interface WindowRules {
  readonly units: number;
  readonly overlap: number;
  readonly max: number;
}

export interface Windows {
  readonly texts: readonly string[];
  /** 0..1: share of the prompt's characters that no window holds. */
  readonly leftOut: number;
}

interface Piece {
  /** Place in the prompt, then in the leaf. */
  readonly order: number;
  readonly start: number;
  readonly label: string;
  readonly text: string;
}

/** Room for a piece's label. */
const LABEL_UNITS = 48;
const WORDS = /\S/;
const KINDS: ReadonlySet<string> = new Set([
  "text",
  "tool-result",
  "tool-arguments",
  "tool-schema",
  "unknown",
]);

export function windowsOf(prompt: Prompt, roles: ReadonlySet<Role>, rules: WindowRules): Windows {
  const { leaves } = prompt;
  const places: number[] = [];
  let total = 0;
  for (let i = 0; i < leaves.length; i++) {
    const { kind, role, text } = leaves[i]!;
    if (!KINDS.has(kind) || !roles.has(role) || !WORDS.test(text)) continue;
    places.push(i);
    total += text.length;
  }
  places.sort((a, b) => leaves[b]!.turn - leaves[a]!.turn || a - b);
  const windows: { room: number; readonly pieces: Piece[] }[] = [];
  let seen = 0;
  fill: for (const order of places) {
    const leaf = leaves[order]!;
    for (const { start, end, fresh } of cutsOf(leaf.text, rules)) {
      const need = end - start + LABEL_UNITS;
      let window = windows.find(({ room }) => room >= need);
      if (window === undefined) {
        if (windows.length === rules.max) break fill;
        window = { room: rules.units, pieces: [] };
        windows.push(window);
      }
      window.room -= need;
      seen += fresh;
      window.pieces.push({
        order,
        start,
        label: labelOf(leaf, start > 0 || end < leaf.text.length),
        text: leaf.text.slice(start, end).toWellFormed(),
      });
    }
  }
  return {
    texts: windows.map(({ pieces }) => render(pieces)),
    leftOut: total === 0 ? 0 : Math.max(0, 1 - seen / total),
  };
}

/** Head, tail, then the middle in order. `fresh`: units that no piece before held. */
function* cutsOf(
  text: string,
  { units, overlap }: WindowRules,
): Generator<{ start: number; end: number; fresh: number }> {
  const size = units - LABEL_UNITS;
  const { length } = text;
  if (length <= size) {
    yield { start: 0, end: length, fresh: length };
    return;
  }
  yield { start: 0, end: size, fresh: size };
  const tail = Math.max(size - overlap, length - size);
  yield { start: tail, end: length, fresh: length - Math.max(size, tail) };
  for (let start = size - overlap; start + overlap < tail; start += size - overlap) {
    const end = Math.min(start + size, tail + overlap);
    yield { start, end, fresh: Math.max(0, Math.min(end, tail) - (start + overlap)) };
  }
}

function labelOf({ turn, role, kind }: Leaf, isPart: boolean): string {
  const place = turn < 0 ? "outside the conversation" : `turn ${turn}`;
  return `[${place}, ${role}, ${kind}${isPart ? ", a part" : ""}]`;
}

/** One text stands bare, as guard models are trained on it; several need to be told apart. */
function render(pieces: readonly Piece[]): string {
  if (pieces.length === 1) return pieces[0]!.text;
  const inOrder = pieces.toSorted((a, b) => a.order - b.order || a.start - b.start);
  return inOrder.map(({ label, text }) => `${label}\n${text}`).join("\n\n");
}
