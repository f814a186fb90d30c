/**
 * What of an answer a guard gets to see: the text of one channel in windows, each with some of what stood before it, so
 * that a thought which was cut in two is still one. Counts the questions that an answer may lead to. Pure but for what
 * it keeps.
 */
import type { Channel, ChannelKind, Span } from "../../src/layer/index.ts";

export interface WindowRules {
  readonly units: number;
  readonly context: number;
  readonly max: number;
}

export interface Window {
  readonly text: string;
  readonly where: Span;
}

/** One channel's text that has no verdict yet, and what stood before it. */
export interface Lane {
  readonly channel: Channel;
  readonly kind: ChannelKind;
  before: string;
  pending: string;
  /** Offset of `pending` in the channel. */
  from: number;
}

/** Of `other`, which also holds ids and names: what reads like sentences, or is written without spaces. Linear: a match
 * begins where a word does. */
const SENTENCE =
  /(?<!\p{L})(?:\p{L}{2,}[\s,;:.]{1,4}){3}\p{L}{2,}|[^\p{Script=Latin}\p{P}\p{N}\p{S}\p{Z}\p{C}]{8}/u;
const WORDS = /\S/;

export function laneOf(channel: Channel, kind: ChannelKind, from: number): Lane {
  return { channel, kind, before: "", pending: "", from };
}

/** Text that needs no verdict: it has left, or is given up. */
export function pass(lane: Lane, text: string, { context }: WindowRules): void {
  lane.from += text.length;
  lane.before += text;
  // Cut now and then: a slice for each token would copy the context each time.
  if (lane.before.length > 2 * context + 1_024) lane.before = lane.before.slice(lane.before.length - context);
}

/** What waits, as windows; the lane goes on behind it. Empty where nothing in it is worth a question. */
export function take(lane: Lane, rules: WindowRules): readonly Window[] {
  const { pending, from, channel, kind } = lane;
  const isWorth = (kind === "other" ? SENTENCE : WORDS).test(pending);
  const whole = lane.before.slice(Math.max(0, lane.before.length - rules.context));
  const all = whole + pending;
  lane.pending = "";
  pass(lane, pending, rules);
  if (!isWorth) return [];
  const windows: Window[] = [];
  // Parts of one length, less than twice `units`: the end of an event is no question of its own.
  const count = Math.max(1, Math.floor(pending.length / rules.units));
  const size = Math.ceil(pending.length / count);
  for (let start = 0; start < pending.length; start += size) {
    const end = Math.min(pending.length, start + size);
    const shownFrom = Math.max(0, whole.length + start - rules.context);
    windows.push({
      text: all.slice(shownFrom, whole.length + end).toWellFormed(),
      where: { channel, start: from + start, end: from + end },
    });
  }
  return windows;
}
