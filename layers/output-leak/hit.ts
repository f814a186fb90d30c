/** What the scanners of this layer give to it. */
import type { Span } from "../../src/layer/index.ts";

export interface Hit {
  /** The kind of leak: a key of `acts`. */
  readonly kind: string;
  readonly score: number;
  readonly where: Span;
  readonly via?: string;
}

/** Adds a hit; one that goes on where the last one ended is a part of it. */
export function addHit(hits: Hit[], hit: Hit): void {
  const last = hits.at(-1);
  if (
    last === undefined ||
    last.kind !== hit.kind ||
    last.via !== hit.via ||
    last.where.end !== hit.where.start
  )
    hits.push(hit);
  else hits[hits.length - 1] = { ...last, where: { ...last.where, end: hit.where.end } };
}

/** Where nothing need be held. */
export const FREE = Number.POSITIVE_INFINITY;

/** JSON as tools get it: escapes in it are undone before anybody reads them, and its quotes must stay. */
export function looksLikeJson(text: string): boolean {
  const first = text.trimStart()[0];
  return first === "{" || first === "[";
}
