/**
 * Judging and redacting text that is all there: the segments of a whole answer, and the leaves of a prompt
 * that a seat wants redacted before it is forwarded.
 */
import type { Segment } from "../dialect/dialect.ts";
import type { Await, Delta, Prompt, Verdict } from "../layer/index.ts";
import { ALLOW } from "../layer/index.ts";
import type { ChunkJudge } from "./hold-back.ts";
import type { ChunkOutcome } from "./passage.ts";
import { Redactions } from "./redaction.ts";

/** A seat stops the answer. */
export interface Blocked {
  readonly blocked: Verdict;
}

/** Texts with redactions applied; undefined when nothing changes. */
export function withRedactions(
  segments: readonly Segment[],
  judge: ChunkJudge,
  redaction: string,
): Await<readonly string[] | Blocked | undefined> {
  const texts: string[] = [];
  let changed = false;
  const take = (segment: Segment, { verdict }: ChunkOutcome): boolean => {
    if (verdict === ALLOW || verdict.act === "flag" || verdict.act === "allow") {
      texts.push(segment.text);
      return true;
    }
    if (verdict.act !== "redact") return false;
    const redactions = new Redactions(redaction);
    for (const span of verdict.spans) {
      if (span.channel === segment.channel) redactions.add(span, verdict.findings);
    }
    const seen = redactions.apply(segment.text, 0);
    if (seen !== segment.text) changed = true;
    texts.push(seen);
    return true;
  };
  const from = (first: number): Await<readonly string[] | Blocked | undefined> => {
    for (let i = first; i < segments.length; i++) {
      const segment = segments[i]!;
      const outcome = judge.onChunk(whole(segment));
      if (outcome instanceof Promise) {
        return outcome.then((late) => (take(segment, late) ? from(i + 1) : { blocked: late.verdict }));
      }
      if (!take(segment, outcome)) return { blocked: outcome.verdict };
    }
    return changed ? texts : undefined;
  };
  return from(0);
}

function whole(segment: Segment): Delta {
  const { channel, kind, choice, text } = segment;
  return { channel, kind, choice, start: 0, text, final: true };
}

/**
 * New values of the body's strings by JSON Pointer. Undefined when a span lies where no value can be
 * replaced (a member name, a path or query parameter): the request must then be refused.
 */
export function redactPrompt(
  prompt: Prompt,
  verdict: Verdict & { readonly act: "redact" },
  redaction: string,
): ReadonlyMap<string, string> | undefined {
  const byLeaf = new Map<number, Redactions>();
  for (const span of verdict.spans) {
    const index = Number(span.channel.slice("prompt:".length));
    const leaf = prompt.leaves[index];
    if (leaf === undefined || leaf.kind === "key" || leaf.kind === "query") return undefined;
    const redactions = byLeaf.get(index) ?? new Redactions(redaction);
    redactions.add(span, verdict.findings);
    byLeaf.set(index, redactions);
  }
  const edits = new Map<string, string>();
  for (const [index, redactions] of byLeaf) {
    const { path, text } = prompt.leaves[index]!;
    edits.set(path, redactions.apply(text, 0));
  }
  return edits;
}
