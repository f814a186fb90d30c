/**
 * What a layer may answer, and how several answers become one. The acts form a chain, so `join` is a
 * lattice join: commutative, associative, idempotent, with `ALLOW` as its identity (property-tested in
 * verdict.test.ts). Nothing here knows modes, seats or time.
 */

/** Acts from mildest to strictest. The order is the contract. */
export const ACTS = ["allow", "flag", "redact", "throttle", "block"] as const;
export type Act = (typeof ACTS)[number];

/** Where text lies: a leaf of a request ("prompt:3") or one channel of an answer ("answer:0"). */
export type Channel = string;

/** Offsets in UTF-16 code units of the channel's whole text; `end` is exclusive. */
export interface Span {
  readonly channel: Channel;
  readonly start: number;
  readonly end: number;
  /** In the spans of a redaction: what stands in its place, instead of the policy's mark. */
  readonly by?: string;
}

/** One thing found: a reason code from the table in reasons.ts, a score in 0..1, and where. */
export interface Finding {
  readonly reason: string;
  readonly score: number;
  readonly where?: Span;
  /** How the text had to be read to see it: decoding steps from the outermost, such as "base64>rot13", or "joined". */
  readonly via?: string;
  /** Method family of an attack, such as "persona". */
  readonly method?: string;
  /** AILuminate hazard code. */
  readonly hazard?: string;
}

export type Verdict =
  | { readonly act: "allow" }
  | { readonly act: "flag"; readonly findings: readonly Finding[] }
  | { readonly act: "redact"; readonly findings: readonly Finding[]; readonly spans: readonly Span[] }
  | { readonly act: "throttle"; readonly findings: readonly Finding[]; readonly retryAfterMs: number }
  | { readonly act: "block"; readonly findings: readonly Finding[] };

/** A verdict on streamed text: nothing at or past `holdFrom` (offset in the channel) may leave yet. */
export type Held = Verdict & { readonly holdFrom?: number };

/** The one allow. Return it instead of a fresh object: the runner compares by reference on its fast path. */
export const ALLOW: Verdict & { readonly act: "allow" } = Object.freeze({ act: "allow" });

const RANK: Readonly<Record<Act, number>> = { allow: 0, flag: 1, redact: 2, throttle: 3, block: 4 };

/** Negative when `a` is milder than `b`, 0 when equal, positive when stricter. */
export function compareActs(a: Act, b: Act): number {
  return RANK[a] - RANK[b];
}

export function findingsOf(verdict: Verdict): readonly Finding[] {
  return verdict.act === "allow" ? [] : verdict.findings;
}

export function spansOf(verdict: Verdict): readonly Span[] {
  return verdict.act === "redact" ? verdict.spans : [];
}

/**
 * The stricter act, the union of findings (one per reason and span, highest score kept), the union of
 * spans while the act is `redact`, the longest retry. Findings and spans come out sorted, so that the
 * result does not depend on the order of the layers.
 */
export function join(a: Verdict, b: Verdict): Verdict {
  if (a === b || b.act === "allow") return a;
  if (a.act === "allow") return b;
  const act = compareActs(a.act, b.act) >= 0 ? a.act : b.act;
  const findings = unionFindings(a.findings, b.findings);
  switch (act) {
    case "flag":
    case "block":
      return { act, findings };
    case "redact":
      return { act, findings, spans: unionSpans(spansOf(a), spansOf(b)) };
    case "throttle":
      return { act, findings, retryAfterMs: Math.max(retryOf(a), retryOf(b)) };
    default:
      return act satisfies never;
  }
}

function retryOf(verdict: Verdict): number {
  return verdict.act === "throttle" ? verdict.retryAfterMs : 0;
}

function spanKey(span: Span | undefined): string {
  return span === undefined ? "" : `${span.channel}\u0000${span.start}\u0000${span.end}`;
}

function unionFindings(a: readonly Finding[], b: readonly Finding[]): readonly Finding[] {
  const byKey = new Map<string, Finding>();
  for (const finding of [...a, ...b]) {
    const key = `${finding.reason}\u0001${spanKey(finding.where)}`;
    const known = byKey.get(key);
    if (known === undefined || known.score < finding.score) byKey.set(key, finding);
  }
  return [...byKey.entries()].sort(([x], [y]) => (x < y ? -1 : x > y ? 1 : 0)).map(([, finding]) => finding);
}

function unionSpans(a: readonly Span[], b: readonly Span[]): readonly Span[] {
  const byKey = new Map<string, Span>();
  for (const span of [...a, ...b]) byKey.set(spanKey(span), span);
  return [...byKey.values()].sort(
    (x, y) =>
      (x.channel < y.channel ? -1 : x.channel > y.channel ? 1 : 0) || x.start - y.start || x.end - y.end,
  );
}
