/**
 * Keeps personal data out of answers, also while they stream: text waits only where it may be the front of something,
 * until it is or is not. By kind it is redacted, flagged or let through, or ends the answer.
 */
import { z } from "zod";
import {
  ALLOW,
  ConfigProblem,
  compareActs,
  type Delta,
  defineLayer,
  type Finding,
  type Held,
  type Prompt,
  type Span,
  type Verdict,
} from "../../src/layer/index.ts";
import { CodeReader, codesHoldMax } from "./codes.ts";
import { anyWord, CODE_KINDS, KINDS, type Kind, type Sight, WORD_KINDS, WORDS } from "./kinds.ts";
import { isRegion } from "./phone.ts";
import { MARK_UNITS_MAX, MarkReader, Placeholders } from "./placeholders.ts";
import { Reading } from "./reader.ts";
import { WordReader, wordsHoldMax } from "./words.ts";

const Act = z.enum(["allow", "flag", "redact", "block"]);
type PiiAct = z.infer<typeof Act>;

/** What has a form of its own is taken out; what may as well be somebody public or somewhere public is recorded. */
const DEFAULTS: Readonly<Record<Kind, PiiAct>> = {
  email: "redact",
  phone: "redact",
  card: "redact",
  iban: "redact",
  "national-number": "redact",
  ip: "flag",
  mac: "flag",
  imei: "redact",
  person: "flag",
  address: "flag",
};

/** Addresses of this very host and of none, and the number that every payment tutorial shows. */
const DOCUMENTED = ["127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "4242424242424242", "4111111111111111"];

const Config = z.strictObject({
  kinds: z
    .partialRecord(z.enum(KINDS), Act)
    .default({})
    .describe(
      `What each kind leads to; allow: it is not looked for. Absent: ${KINDS.map((kind) => `${kind} ${DEFAULTS[kind]}`).join(", ")}.`,
    ),
  regions: z
    .array(z.string().regex(/^[A-Z]{2}$/))
    .max(20)
    .default(["US", "GB"])
    .describe("Countries (ISO 3166-1) whose phone numbers are known without their country code."),
  allow: z
    .array(z.string().min(2).max(254))
    .max(200)
    .default(DOCUMENTED)
    .describe(
      "Texts that may pass although they are of a kind: your own addresses. Compared whole, without regard to case.",
    ),
  placeholders: z
    .strictObject({
      kinds: z.array(z.enum(KINDS)).min(1).describe("Kinds that are replaced in the prompt."),
      orgs: z
        .array(z.string().min(1))
        .max(1000)
        .optional()
        .describe("Organisations that asked for it; absent: all whom the seat sees."),
    })
    .optional()
    .describe(
      "What a prompt holds of these kinds goes to the upstream as marks such as [EMAIL_1], which become it again in the answer; absent: nothing does.",
    ),
});
type OutputPiiConfig = z.infer<typeof Config>;

function actOf(config: OutputPiiConfig, kind: Kind): PiiAct {
  return config.kinds[kind] ?? DEFAULTS[kind];
}

/** The kinds among these that are looked for. */
function lookedFor(config: OutputPiiConfig, kinds: readonly Kind[]): readonly Kind[] {
  return kinds.filter((kind) => actOf(config, kind) !== "allow");
}

/** A flag changes nothing, so nothing waits where all that is looked for is flagged. */
function holds(config: OutputPiiConfig, kinds: readonly Kind[]): boolean {
  return kinds.some((kind) => ["redact", "block"].includes(actOf(config, kind)));
}

const NONE_ALLOWED: ReadonlySet<string> = new Set();

export const outputPii = defineLayer<OutputPiiConfig>({
  kind: "output-pii",
  summary:
    "Personal data in answers: e-mail, phone, cards, IBANs, national numbers, addresses, names; also while they stream.",
  config: Config,
  phases: ["onPrompt", "onChunk"],
  phasesOf: (config) => (config.placeholders === undefined ? ["onChunk"] : ["onPrompt", "onChunk"]),
  holdMax: (config) =>
    Math.max(
      holds(config, CODE_KINDS) ? codesHoldMax(lookedFor(config, CODE_KINDS)) : 0,
      holds(config, WORD_KINDS) ? wordsHoldMax(lookedFor(config, WORD_KINDS)) : 0,
      config.placeholders === undefined ? 0 : MARK_UNITS_MAX,
    ),
  compile(config) {
    config.regions.forEach((region, index) => {
      if (!isRegion(region))
        throw new ConfigProblem(`no phone numbers are known of "${region}"`, ["regions", index]);
    });
    const phone = {
      regions: config.regions.filter(isRegion),
      near: anyWord(WORDS.phoneNear),
      after: new RegExp(`^${WORDS.phoneAfter}(?![a-z])`, "i"),
    };
    const readersOf = (kinds: readonly Kind[]) => {
      const codes = kinds.filter((kind) => CODE_KINDS.some((code) => code === kind));
      const words = kinds.filter((kind) => WORD_KINDS.some((word) => word === kind));
      return [
        ...(codes.length > 0 ? [new CodeReader({ kinds: new Set(codes), phone })] : []),
        ...(words.length > 0 ? [new WordReader(new Set(words))] : []),
      ];
    };
    const readers = [CODE_KINDS, WORD_KINDS].flatMap((kinds) =>
      readersOf(lookedFor(config, kinds)).map((reader) => ({ reader, mayHold: holds(config, kinds) })),
    );
    const { placeholders } = config;
    const replacing = placeholders === undefined ? [] : readersOf(placeholders.kinds);
    const orgs = placeholders?.orgs && new Set(placeholders.orgs);
    if (readers.length === 0 && placeholders === undefined)
      throw new ConfigProblem("every kind is allowed; turn the seat off instead", ["kinds"]);
    const allowed = new Set(config.allow.map((text) => text.toLowerCase()));
    const acts = new Map(KINDS.map((kind) => [kind, actOf(config, kind)]));
    return {
      open(request) {
        const readings = readers.map(({ reader, mayHold }) => ({
          reading: new Reading(reader, allowed),
          mayHold,
        }));
        return {
          async onPrompt(prompt: Prompt): Promise<Verdict> {
            if (orgs !== undefined && !orgs.has(request.identity?.org ?? "")) return ALLOW;
            const table = new Placeholders();
            const verdict = await table.replace(prompt, replacing, allowed);
            if (table.any)
              readings.push({ reading: new Reading(new MarkReader(table), NONE_ALLOWED), mayHold: true });
            return verdict;
          },
          onChunk(delta: Delta): Held {
            let holdFrom = -1;
            let sights: Sight[] | undefined;
            for (const { reading, mayHold } of readings) {
              const found = reading.read(delta);
              if (found.length > 0) sights = sights === undefined ? [...found] : [...sights, ...found];
              if (mayHold && reading.holdFrom >= 0) {
                holdFrom = holdFrom < 0 ? reading.holdFrom : Math.min(holdFrom, reading.holdFrom);
              }
            }
            if (sights !== undefined) return verdict(sights, acts, delta, holdFrom);
            return holdFrom < 0 ? ALLOW : { act: "allow", holdFrom };
          },
        };
      },
    };
  },
});

function verdict(
  sights: readonly Sight[],
  acts: ReadonlyMap<Kind, PiiAct>,
  { channel, kind: channelKind }: Delta,
  holdFrom: number,
): Held {
  let act: PiiAct = "flag";
  const findings: Finding[] = [];
  const spans: Span[] = [];
  for (const { kind, id, score, start, end, by } of sights) {
    const own = by !== undefined ? "redact" : (acts.get(kind) ?? "flag");
    if (compareActs(own, act) > 0) act = own;
    const where = { channel, start, end };
    findings.push({ reason: `output.pii.${id}`, score, where });
    if (by !== undefined) spans.push({ ...where, by: channelKind === "tool" ? escaped(by) : by });
    else if (own !== "flag") spans.push(where);
  }
  const held = holdFrom < 0 ? {} : { holdFrom };
  return act === "redact"
    ? { act, findings, spans, ...held }
    : { act: act === "block" ? act : "flag", findings, ...held };
}

/** As it stands inside a string of JSON. */
function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
