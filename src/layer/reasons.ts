/**
 * The one table of reason codes. Dashboards, models and cases depend on them, so a code is never renamed.
 * A code with a trailing "*" stands for a family whose members come from rule packs. `problem` says how a
 * block for that reason is answered.
 */
import type { ProblemCode } from "./problems.ts";

export interface ReasonEntry {
  /** What was seen, in words that a caller may read. */
  readonly text: string;
  /** How a block for this reason is answered. */
  readonly problem: ProblemCode;
}

export const REASONS: Readonly<Record<string, ReasonEntry>> = {
  "auth.missing": { text: "No API key was sent.", problem: "unauthenticated" },
  "auth.unknown": { text: "The API key is not known.", problem: "unauthenticated" },
  "auth.revoked": { text: "The API key was revoked.", problem: "unauthenticated" },
  "auth.expired": { text: "The API key has expired.", problem: "unauthenticated" },
  "auth.token": { text: "The token is not valid.", problem: "unauthenticated" },
  "auth.unchecked": { text: "The token cannot be checked now; retry later.", problem: "layer_failed" },
  "auth.canary": { text: "The API key is not known.", problem: "unauthenticated" },
  "auth.attempts": { text: "Too many failed attempts from this network.", problem: "rate_limited" },
  "auth.scope.route": { text: "This API key may not use this route.", problem: "forbidden" },
  "auth.scope.model": { text: "This API key may not use this model.", problem: "forbidden" },
  "auth.scope.network": { text: "This API key may not be used from this network.", problem: "forbidden" },
  "rate.requests": { text: "The limit on requests is used up.", problem: "rate_limited" },
  "rate.input_tokens": { text: "The limit on input tokens is used up.", problem: "rate_limited" },
  "rate.output_tokens": { text: "The limit on output tokens is used up.", problem: "rate_limited" },
  "rate.tokens": { text: "The limit on tokens is used up.", problem: "rate_limited" },
  "rate.spend": { text: "The limit on spend is used up.", problem: "rate_limited" },
  "rate.concurrency": { text: "Too many requests are under way at once.", problem: "rate_limited" },
  "rate.cut": { text: "A usage limit was reached while the answer streamed.", problem: "answer_cut" },
  "rate.away": { text: "The limits cannot be counted now; retry later.", problem: "rate_limited" },
  "rate.insured": { text: "Counted against this replica's own share.", problem: "rate_limited" },
  "rate.uncounted": { text: "Let through without being counted.", problem: "rate_limited" },
  "reputation.tier.*": { text: "The caller's standing is low.", problem: "account_suspended" },
  "reputation.network.new": { text: "The key is used from a new network.", problem: "forbidden" },
  "sanction.notice": { text: "The account is under notice.", problem: "account_suspended" },
  "sanction.step-up": { text: "The account is under closer scrutiny.", problem: "account_suspended" },
  "sanction.throttle": { text: "The account's limits are lowered.", problem: "rate_limited" },
  "sanction.suspend": { text: "The account is suspended.", problem: "account_suspended" },
  "sanction.ban": { text: "The account is banned.", problem: "account_suspended" },
  "prompt.rule.budget": {
    text: "The prompt is too costly to be checked in full.",
    problem: "prompt_blocked",
  },
  "prompt.rule.rested": { text: "A rule that overran its budget was left out.", problem: "prompt_blocked" },
  "prompt.unseen": { text: "The prompt hides more text than is read.", problem: "prompt_blocked" },
  "prompt.rule.*": { text: "The prompt matches a rule of the usage policy.", problem: "prompt_blocked" },
  "prompt.classifier.jailbreak": {
    text: "The prompt looks like an attempt to free the model of its rules.",
    problem: "prompt_blocked",
  },
  "prompt.classifier.injection": {
    text: "The prompt looks like orders hidden in what it brings along.",
    problem: "prompt_blocked",
  },
  "prompt.classifier.harmful": {
    text: "The prompt looks like a request for harm.",
    problem: "prompt_blocked",
  },
  "prompt.classifier.unsure": {
    text: "The prompt could not be judged for certain now; retry later.",
    problem: "layer_failed",
  },
  "prompt.exemplar.bad": {
    text: "The prompt is near a text that is known as abuse.",
    problem: "prompt_blocked",
  },
  "prompt.conversation.retry": {
    text: "The prompt repeats one that was refused shortly before.",
    problem: "prompt_blocked",
  },
  "prompt.conversation.escalation": {
    text: "The conversation leads step by step to what is refused.",
    problem: "prompt_blocked",
  },
  "prompt.judge.*": {
    text: "A judge found that the prompt breaks the usage policy.",
    problem: "prompt_blocked",
  },
  "prompt.judge.malformed": {
    text: "The judge gave no verdict that could be read.",
    problem: "layer_failed",
  },
  "prompt.judge.unavailable": { text: "The judge could not be asked; retry later.", problem: "layer_failed" },
  "prompt.judge.budget": {
    text: "The judge may not be asked more for now; retry later.",
    problem: "layer_failed",
  },
  "prompt.judge.partial": { text: "The judge saw only a part of the prompt.", problem: "layer_failed" },
  "media.image": { text: "The request brings images.", problem: "prompt_blocked" },
  "media.audio": { text: "The request brings audio.", problem: "prompt_blocked" },
  "media.video": { text: "The request brings video.", problem: "prompt_blocked" },
  "media.file": { text: "The request brings files.", problem: "prompt_blocked" },
  "media.file-id": { text: "The request names files that were uploaded before.", problem: "prompt_blocked" },
  "media.remote-url": {
    text: "The request has something fetched from an address.",
    problem: "prompt_blocked",
  },
  "media.judge": { text: "The request brings media for the judge.", problem: "prompt_blocked" },
  "media.count": { text: "The request brings too many images, audio or files.", problem: "prompt_blocked" },
  "media.size": {
    text: "The request brings an image, audio or file that is too large.",
    problem: "prompt_blocked",
  },
  "media.type": { text: "The request brings media of a type that is not taken.", problem: "prompt_blocked" },
  "media.type-mismatch": {
    text: "The request brings media of another type than it says.",
    problem: "prompt_blocked",
  },
  "media.host": {
    text: "The request names an address that media may not come from.",
    problem: "prompt_blocked",
  },
  "media.private-address": {
    text: "The request names an address inside a private network.",
    problem: "prompt_blocked",
  },
  "media.malformed": { text: "The request has media that cannot be read.", problem: "prompt_blocked" },
  "output.classifier.harmful": { text: "The answer looks harmful.", problem: "answer_blocked" },
  "output.classifier.unsure": {
    text: "The answer could not be judged for certain now; retry later.",
    problem: "layer_failed",
  },
  "output.secret.*": { text: "The answer holds a credential.", problem: "answer_blocked" },
  "output.leak.system-prompt": { text: "The answer repeats its instructions.", problem: "answer_blocked" },
  "output.leak.tool-schema": {
    text: "The answer repeats the description of its tools.",
    problem: "answer_blocked",
  },
  "output.leak.canary": { text: "The answer repeats its instructions.", problem: "answer_blocked" },
  "output.leak.image": {
    text: "The answer has data fetched away by an address in it.",
    problem: "answer_blocked",
  },
  "output.leak.link": { text: "The answer has a link that carries data.", problem: "answer_blocked" },
  "output.leak.terminal": {
    text: "The answer holds control characters of terminals.",
    problem: "answer_blocked",
  },
  "output.leak.hidden": { text: "The answer holds text that cannot be seen.", problem: "answer_blocked" },
  "output.leak.bidi": {
    text: "The answer holds characters that show it in another order.",
    problem: "answer_blocked",
  },
  "prompt.pii.*": { text: "The prompt holds personal data.", problem: "prompt_blocked" },
  "output.pii.restored": { text: "Placeholders became what they stand for.", problem: "answer_blocked" },
  "output.pii.*": { text: "The answer holds personal data.", problem: "answer_blocked" },
  "output.judge.*": {
    text: "A judge found that the answer breaks the usage policy.",
    problem: "answer_blocked",
  },
  "output.judge.malformed": {
    text: "The judge gave no verdict that could be read.",
    problem: "layer_failed",
  },
  "output.judge.unavailable": { text: "The judge could not be asked; retry later.", problem: "layer_failed" },
  "output.judge.budget": {
    text: "The judge may not be asked more for now; retry later.",
    problem: "layer_failed",
  },
  "output.judge.partial": { text: "The judge saw only a part of the answer.", problem: "layer_failed" },
  "layer.error": { text: "A check failed.", problem: "layer_failed" },
  "layer.timeout": { text: "A check did not finish in time.", problem: "layer_failed" },
  "custom.*": { text: "A layer of the operator's own found this.", problem: "prompt_blocked" },
};

/** The entry for a code, through its family where it has no row of its own; undefined for an unregistered code. */
export function reasonEntry(reason: string): ReasonEntry | undefined {
  const own = REASONS[reason];
  if (own !== undefined) return own;
  for (let dot = reason.lastIndexOf("."); dot > 0; dot = reason.lastIndexOf(".", dot - 1)) {
    const family = REASONS[`${reason.slice(0, dot)}.*`];
    if (family !== undefined) return family;
  }
  return undefined;
}
