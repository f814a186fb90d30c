/**
 * Cuts a text into the sentence pieces of the encoder's vocabulary: the split with the best sum of scores
 * (Viterbi over a unigram model), as the model's own tokenizer finds it. Linear in the text: at each place the
 * vocabulary is walked for at most its longest piece. Text is bounded before and after NFKC, which makes up to 18
 * characters of one.
 */

/** A piece and its score; the place in the list is the piece's number. */
export type Vocabulary = readonly (readonly [piece: string, score: number])[];

export interface PieceCutter {
  /** Numbers of the text's first pieces, at most `piecesMax`, as far as its first `charactersMax` show them. */
  cut(text: string): Int32Array;
}

/** The first pieces of the vocabulary stand for no text: unknown, start, end, spare ones. */
const RESERVED = 6;
const UNKNOWN = 0;
const SPACE = "\u2581";

export function openPieceCutter(
  vocabulary: Vocabulary,
  { piecesMax, charactersMax }: { readonly piecesMax: number; readonly charactersMax: number },
): PieceCutter {
  const tree = new PieceTree(vocabulary);
  // Backtracking goes by the UTF-16 length of a piece over code points, as the original does: all are in the BMP.
  const lengths = Int32Array.from(vocabulary, ([piece]) => piece.length);
  const symbols = new Int32Array(charactersMax + 1);
  const best = new Float64Array(symbols.length + 1);
  const words = new Int32Array(symbols.length + 1);

  const read = (text: string): number => {
    const normal = text.slice(0, charactersMax).normalize("NFKC");
    if (normal.length === 0) return 0;
    let count = 0;
    symbols[count++] = SPACE.charCodeAt(0);
    for (const symbol of normal) {
      if (count === symbols.length) break;
      symbols[count++] = (symbol === " " ? SPACE : symbol).codePointAt(0)!;
    }
    return count;
  };

  return {
    cut(text) {
      const count = read(text);
      best.fill(0, 0, count + 1);
      words.fill(UNKNOWN, 0, count + 1);
      for (let start = 0; start < count; start += 1) {
        let node = tree.root;
        let found = false;
        for (let end = start; end < count; end += 1) {
          node = tree.child(node, symbols[end]!);
          if (node === NONE) break;
          const piece = tree.pieceAt(node);
          if (piece === NONE) continue;
          found = true;
          relax(start, end + 1, piece, vocabulary[piece]![1]);
        }
        if (!found) relax(start, start + 1, UNKNOWN, 0);
      }
      return backtrack(count);
    },
  };

  /** A best score of 0 means "none yet", and the later of two equals wins: both as in the original. */
  function relax(start: number, end: number, piece: number, pieceScore: number): void {
    const score = pieceScore + best[start]!;
    if (best[end] !== 0 && score < best[end]!) return;
    best[end] = score;
    words[end] = piece;
  }

  function backtrack(count: number): Int32Array {
    const pieces: number[] = [];
    for (let end = count; end > 0; end -= lengths[words[end]!]!) {
      const piece = words[end]!;
      // A run of unknown symbols is one unknown piece.
      if (piece !== UNKNOWN || pieces.at(-1) !== UNKNOWN) pieces.push(piece);
    }
    return Int32Array.from(pieces.reverse().slice(0, piecesMax));
  }
}

const NONE = -1;
const CODE_POINT_BITS = 21;

/** A prefix tree in one open-addressing hash table: (node, code point) -> node. */
class PieceTree {
  readonly root = 0;
  readonly #mask: number;
  readonly #nodes: Int32Array;
  readonly #symbols: Int32Array;
  readonly #children: Int32Array;
  readonly #pieces: number[] = [NONE];

  constructor(vocabulary: Vocabulary) {
    const symbolCount = vocabulary.reduce((sum, [piece]) => sum + piece.length, 0);
    // At most half full.
    const size = 2 ** Math.ceil(Math.log2(2 * symbolCount));
    this.#mask = size - 1;
    this.#nodes = new Int32Array(size).fill(NONE);
    this.#symbols = new Int32Array(size);
    this.#children = new Int32Array(size);
    for (const [number, [piece]] of vocabulary.entries()) {
      if (number < RESERVED) continue;
      let node = this.root;
      for (const symbol of piece) node = this.#grow(node, symbol.codePointAt(0)!);
      this.#pieces[node] = number;
    }
  }

  child(node: number, symbol: number): number {
    const slot = this.#slot(node, symbol);
    return this.#nodes[slot] === NONE ? NONE : this.#children[slot]!;
  }

  pieceAt(node: number): number {
    return this.#pieces[node]!;
  }

  #grow(node: number, symbol: number): number {
    const slot = this.#slot(node, symbol);
    if (this.#nodes[slot] === NONE) {
      this.#nodes[slot] = node;
      this.#symbols[slot] = symbol;
      this.#children[slot] = this.#pieces.push(NONE) - 1;
    }
    return this.#children[slot]!;
  }

  /** Where the pair is, or the free slot where it would be. */
  #slot(node: number, symbol: number): number {
    let slot = (Math.imul(node ^ (symbol << (32 - CODE_POINT_BITS)), 0x9e3779b1) >>> 7) & this.#mask;
    while (this.#nodes[slot] !== NONE && (this.#nodes[slot] !== node || this.#symbols[slot] !== symbol)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }
}
