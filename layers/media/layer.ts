/**
 * Counts what a request brings besides text and decides by policy what may pass. Nobody here looks into an image or
 * listens to a recording; so every one that passes is a finding in the record, and what a seat behind can judge is
 * handed on by name.
 */
import {
  ALLOW,
  defineLayer,
  type Finding,
  type Leaf,
  type Prompt,
  type Verdict,
} from "../../src/layer/index.ts";
import { addressFault, hostMatcher } from "./address.ts";
import { config, type Kind, type MediaAct, type MediaConfig } from "./config.ts";
import { type Bytes, type Item, itemsOf } from "./items.ts";

/** Findings of one request; what is decided does not depend on it. */
const FINDINGS_MAX = 64;
const NOTED = 0;
const FLAGGED = 0.5;
const CERTAIN = 1;

/** Settings, ready to judge by. */
interface Rules {
  readonly config: MediaConfig;
  readonly mayBeHost: (host: string) => boolean;
  readonly mayBeType: Readonly<Record<Bytes["kind"], (type: string) => boolean>>;
}

export const media = defineLayer<MediaConfig>({
  kind: "media",
  summary:
    "Counts and limits images, audio, files and remote addresses in requests; records each that passes.",
  config,
  phases: ["onPrompt"],
  compile(given) {
    const { types, hosts } = given;
    const rules: Rules = {
      config: given,
      mayBeHost: hostMatcher(hosts),
      mayBeType: {
        image: typeMatcher(types.image),
        audio: typeMatcher(types.audio),
        video: typeMatcher(types.video),
        file: typeMatcher(types.file),
      },
    };
    return { open: () => ({ onPrompt: (prompt: Prompt) => verdictOn(prompt, rules) }) };
  },
});

function verdictOn(prompt: Prompt, rules: Rules): Verdict {
  const items = itemsOf(prompt);
  if (items.length === 0) return ALLOW;
  const { breach, countMax } = rules.config;
  const tally = new Tally();
  if (items.length > countMax) tally.add("media.count", breach, CERTAIN);
  for (const item of items) {
    const act = actOn(item, rules);
    tally.add(`media.${kindOf(item)}`, act, act === "allow" ? NOTED : FLAGGED, item.leaf);
    if (act === "judge") tally.wantsJudge = true;
    for (const reason of faultsOf(item, rules)) tally.add(reason, breach, CERTAIN, item.leaf);
  }
  return tally.verdict();
}

/** Findings as they come, the weightiest kept. */
class Tally {
  readonly #breaches: Finding[] = [];
  readonly #notes: Finding[] = [];
  #isBlock = false;
  wantsJudge = false;

  add(reason: string, act: MediaAct, score: number, leaf?: Leaf): void {
    if (act === "block") this.#isBlock = true;
    const list = act === "block" || score === CERTAIN ? this.#breaches : this.#notes;
    if (list.length >= FINDINGS_MAX) return;
    const where = leaf && { channel: leaf.channel, start: 0, end: leaf.text.length };
    list.push({ reason, score: act === "block" ? CERTAIN : score, ...(where && { where }) });
  }

  verdict(): Verdict {
    const judge: Finding[] = this.wantsJudge ? [{ reason: "media.judge", score: CERTAIN }] : [];
    const findings = [...judge, ...this.#breaches, ...this.#notes];
    return this.#isBlock ? { act: "block", findings } : { act: "flag", findings };
  }
}

function kindOf(item: Item): Kind {
  switch (item.form) {
    case "bytes":
      return item.bytes.kind;
    case "url":
      return "remote-url";
    case "id":
      return "file-id";
    case "malformed":
      return "file";
    default:
      return item satisfies never;
  }
}

function actOn(item: Item, { config: { acts, untyped } }: Rules): MediaAct {
  const own = acts[kindOf(item)];
  if (item.form !== "bytes" || item.bytes.type !== undefined) return own;
  return stricter(own, untyped);
}

const STRICTNESS: Readonly<Record<MediaAct, number>> = { allow: 0, flag: 1, judge: 2, block: 3 };

function stricter(a: MediaAct, b: MediaAct): MediaAct {
  return STRICTNESS[a] >= STRICTNESS[b] ? a : b;
}

function faultsOf(item: Item, { config: given, mayBeHost, mayBeType }: Rules): readonly string[] {
  switch (item.form) {
    case "bytes": {
      const { kind, type, isMismatch, bytesMax } = item.bytes;
      const faults: string[] = [];
      if (isMismatch) faults.push("media.type-mismatch");
      if (type !== undefined && !mayBeType[kind](type)) faults.push("media.type");
      if (bytesMax > given.bytesMax[kind]) faults.push("media.size");
      return faults;
    }
    case "url": {
      const fault = addressFault(item.leaf.text, { mayBeHost, plainHttp: given.plainHttp });
      return fault === undefined ? [] : [fault];
    }
    case "malformed":
      return ["media.malformed"];
    case "id":
      return [];
    default:
      return item satisfies never;
  }
}

function typeMatcher(types: readonly string[]): (type: string) => boolean {
  const exact = new Set(types);
  const families = types.filter((type) => type.endsWith("*")).map((type) => type.slice(0, -1));
  return (type) => exact.has(type) || families.some((family) => type.startsWith(family));
}
