/**
 * Verdicts on leaves of earlier turns, so that a long conversation costs only its new turn. Keyed by the
 * seat's fingerprint and a hash of the text: no prompt is kept. A verdict may be reused because `onLeaf`
 * promises to follow from the leaf alone.
 */
import { hash } from "node:crypto";
import type { Leaf, Verdict } from "../layer/index.ts";

/** Below this many UTF-16 units a scan costs no more than the hash that would save it. */
const CACHED_UNITS_MIN = 512;

export class VerdictCache {
  readonly #entriesMax: number;
  /** Insertion order is age: a hit moves its entry to the young end. */
  readonly #verdicts = new Map<string, CachedVerdict>();
  hits = 0;
  misses = 0;

  constructor(options: { readonly entriesMax: number }) {
    this.#entriesMax = options.entriesMax;
  }

  /** The verdict of `judge` on this leaf; channel-bound spans are rebased to the leaf at hand. */
  verdict(fingerprint: string, leaf: Leaf, judge: (leaf: Leaf) => Verdict): Verdict {
    if (leaf.text.length < CACHED_UNITS_MIN || this.#entriesMax === 0) return judge(leaf);
    const key = `${fingerprint}:${leaf.kind}:${leaf.role}:${hash("sha256", leaf.text, "base64")}`;
    const known = this.#verdicts.get(key);
    if (known !== undefined) {
      this.hits += 1;
      this.#verdicts.delete(key);
      this.#verdicts.set(key, known);
      return rebase(known, leaf.channel);
    }
    this.misses += 1;
    const verdict = judge(leaf);
    this.#verdicts.set(key, { verdict, channel: leaf.channel });
    if (this.#verdicts.size > this.#entriesMax) {
      for (const oldest of this.#verdicts.keys()) {
        this.#verdicts.delete(oldest);
        break;
      }
    }
    return verdict;
  }
}

interface CachedVerdict {
  readonly verdict: Verdict;
  readonly channel: string;
}

function rebase({ verdict, channel }: CachedVerdict, to: string): Verdict {
  if (verdict.act === "allow" || channel === to) return verdict;
  const findings = verdict.findings.map((finding) =>
    finding.where?.channel === channel ? { ...finding, where: { ...finding.where, channel: to } } : finding,
  );
  if (verdict.act !== "redact") return { ...verdict, findings };
  const spans = verdict.spans.map((span) => (span.channel === channel ? { ...span, channel: to } : span));
  return { ...verdict, findings, spans };
}
