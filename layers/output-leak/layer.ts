/**
 * Keeps in what was meant for the model alone: its instructions and tools coming back in an answer, canary tokens,
 * data that leaves in the address of a link or an image, and what an answer hides from the eye. Three scanners read
 * each channel side by side; each holds only what it is in the middle of.
 */
import {
  ALLOW,
  ConfigProblem,
  compareActs,
  type Delta,
  defineLayer,
  type Finding,
  type Held,
  type Prompt,
  type RequestContext,
  type Span,
} from "../../src/layer/index.ts";
import { CANARY_KEY_CHARS_MIN, canaryOf } from "./canary.ts";
import { config, type LeakAct, type LeakKind, type OutputLeakConfig } from "./config.ts";
import { Echo, type EchoOptions } from "./echo.ts";
import { GRAM_SYMBOLS } from "./grams.ts";
import { HIDDEN_HELD_MAX, Hidden } from "./hidden.ts";
import { FREE, type Hit } from "./hit.ts";
import { type LinkOptions, Links, URL_UNITS_MAX } from "./links.ts";
import { conversationOf } from "./payload.ts";
import {
  KeptGrams,
  KnownToCaller,
  PROTECTED_KINDS,
  type ProtectedKind,
  protectedTexts,
} from "./protected.ts";
import { FILLER_UNITS_MAX, HELD_UNITS_MAX } from "./run.ts";

/** What an echo holds at most: up to its bound, and no more than so many units without a symbol after that. */
const ECHO_HELD_MAX = HELD_UNITS_MAX + 2 * FILLER_UNITS_MAX;

type Acts = ReadonlyMap<LeakKind, LeakAct>;

function actsOf(config: OutputLeakConfig): Acts {
  const acts = new Map<LeakKind, LeakAct>();
  for (const [kind, act] of Object.entries(config.acts)) if (act !== "off") acts.set(kind as LeakKind, act);
  return acts;
}

const echoes = (acts: Acts) => PROTECTED_KINDS.some((kind) => acts.has(kind));
const links = (acts: Acts) => acts.has("image") || acts.has("link");
const hides = (acts: Acts) => acts.has("hidden") || acts.has("bidi") || acts.has("terminal");

export const outputLeak = defineLayer<OutputLeakConfig>({
  kind: "output-leak",
  summary:
    "The system prompt, tool schemas or a canary coming back, data leaving in addresses, hidden text; also while they stream.",
  config,
  phases: ["onPrompt", "onChunk"],
  holdMax(config) {
    const acts = actsOf(config);
    return Math.max(
      echoes(acts) ? ECHO_HELD_MAX : 0,
      links(acts) ? URL_UNITS_MAX : 0,
      hides(acts) ? HIDDEN_HELD_MAX : 0,
    );
  },
  needs: ({ canaryKey }) => (canaryKey === undefined ? [] : [{ path: canaryKey }]),
  compile(config, { artifacts }) {
    const acts = actsOf(config);
    if (acts.size === 0) throw new ConfigProblem("every kind is off; turn the seat off instead", ["acts"]);
    const key =
      config.canaryKey === undefined ? undefined : artifacts.text({ path: config.canaryKey }).trim();
    if (key !== undefined && key.length < CANARY_KEY_CHARS_MIN)
      throw new ConfigProblem(`a canary key has at least ${CANARY_KEY_CHARS_MIN} characters`, ["canaryKey"]);
    const kept = new KeptGrams();
    const marks = new Map<ProtectedKind, number>();
    for (const kind of PROTECTED_KINDS)
      if (acts.has(kind)) marks.set(kind, kind === "canary" ? 1 : config.runLetters - GRAM_SYMBOLS + 1);
    const kinds: ReadonlySet<string> = new Set(marks.keys());

    const echoOf = (request: RequestContext, prompt: Prompt | undefined): EchoOptions | undefined => {
      const org = request.identity?.org;
      const canaries =
        key === undefined || org === undefined ? config.canaries : [...config.canaries, canaryOf(key, org)];
      const texts = protectedTexts(prompt, { canaries, kinds, publicMarks: config.publicMarks });
      const grams = kept.of(texts);
      if (grams === undefined || grams.plain.isEmpty) return undefined;
      return { grams: grams.plain, coded: () => grams.coded(texts), known: new KnownToCaller(prompt), marks };
    };

    return {
      open: (request) => {
        let prompt: Prompt | undefined;
        let reader: Reader | undefined;
        return {
          onPrompt(asked) {
            prompt = asked;
            return ALLOW;
          },
          onChunk(delta) {
            reader ??= new Reader(acts, {
              echo: echoes(acts) ? echoOf(request, prompt) : undefined,
              links: links(acts) ? { hosts: config.hosts, conversation: conversationOf(prompt) } : undefined,
            });
            return reader.read(delta);
          },
        };
      },
    };
  },
});

interface Channel {
  readonly echo: Echo | undefined;
  readonly links: Links | undefined;
  readonly hidden: Hidden | undefined;
}

interface ReaderOptions {
  readonly echo: EchoOptions | undefined;
  readonly links: LinkOptions | undefined;
}

/** One answer, by channel. */
class Reader {
  readonly #acts: Acts;
  readonly #options: ReaderOptions;
  readonly #channels = new Map<string, Channel>();
  readonly #hits: Hit[] = [];
  /** The channel of the piece before, which is nearly always the channel of this one. */
  #name = "";
  #channel: Channel | undefined;

  constructor(acts: Acts, options: ReaderOptions) {
    this.#acts = acts;
    this.#options = options;
  }

  read(delta: Delta): Held {
    const hits = this.#hits;
    if (hits.length > 0) hits.length = 0;
    const { echo, links, hidden } =
      delta.channel === this.#name && this.#channel !== undefined ? this.#channel : this.#open(delta);
    let holdFrom = FREE;
    if (echo !== undefined) holdFrom = echo.read(delta, hits);
    if (links !== undefined) holdFrom = Math.min(holdFrom, links.read(delta, hits));
    if (hidden !== undefined) holdFrom = Math.min(holdFrom, hidden.read(delta, hits));
    if (delta.final) {
      this.#channels.delete(delta.channel);
      this.#channel = undefined;
      holdFrom = FREE;
    }
    if (hits.length > 0) return verdict(hits, this.#acts, holdFrom);
    return holdFrom === FREE ? ALLOW : { act: "allow", holdFrom };
  }

  #open(delta: Delta): Channel {
    let channel = this.#channels.get(delta.channel);
    if (channel === undefined) {
      const { echo, links } = this.#options;
      channel = {
        echo: echo && new Echo(echo, delta),
        links: links && new Links(links, delta),
        hidden: hides(this.#acts) ? new Hidden(delta) : undefined,
      };
      this.#channels.set(delta.channel, channel);
    }
    this.#name = delta.channel;
    this.#channel = channel;
    return channel;
  }
}

function verdict(hits: readonly Hit[], acts: Acts, holdFrom: number): Held {
  let act: LeakAct = "flag";
  const findings: Finding[] = [];
  const spans: Span[] = [];
  for (const { kind, score, where, via } of hits) {
    const own = acts.get(kind as LeakKind);
    if (own === undefined) continue;
    if (compareActs(own, act) > 0) act = own;
    const reason = `output.leak.${kind}`;
    findings.push(via === undefined ? { reason, score, where } : { reason, score, where, via });
    if (own !== "flag") spans.push(where);
  }
  const held = holdFrom === FREE ? {} : { holdFrom };
  if (findings.length === 0) return holdFrom === FREE ? ALLOW : { act: "allow", holdFrom };
  return act === "redact" ? { act, findings, spans, ...held } : { act, findings, ...held };
}
