/**
 * What the prompt side says of an exchange: what was asked, how the response model reads it, and what the seats before
 * found. It decides how far back an answer is judged, and how strictly.
 */
import type { Await, Prompt, SoFar } from "../../src/layer/index.ts";
import type { ResponseModel } from "../../src/text/model/response-model.ts";
import { type PromptEvidence, promptEvidence } from "../../src/text/model/response-scoring.ts";
import type { OutputClassifierConfig } from "./config.ts";

/** The user's newest words that are read; of longer ones the front and the end, half each. */
const ASKED_UNITS_MAX = 8_192;

export type Level = "calm" | "doubtful";

export class Exchange {
  readonly #model: ResponseModel;
  readonly #isDoubtful: (reason: string) => boolean;
  #asked = "";
  #evidence: PromptEvidence | undefined;
  #isRead = false;
  #isFound = false;

  constructor(model: ResponseModel, isDoubtful: (reason: string) => boolean) {
    this.#model = model;
    this.#isDoubtful = isDoubtful;
  }

  /** Nothing waits for what the seats before are still working on: it counts from when it is known. */
  ask(prompt: Prompt, soFar: Await<SoFar>): void {
    this.#asked = askedIn(prompt);
    if (soFar instanceof Promise) {
      soFar.then(
        (late) => this.#hear(late),
        // Their failure is theirs, and recorded with them.
        () => {},
      );
    } else this.#hear(soFar);
  }

  #hear({ findings }: SoFar): void {
    this.#isFound ||= findings.some(({ reason }) => this.#isDoubtful(reason));
  }

  /** Undefined where nothing was asked in words. Read when the first sentence of an answer is. */
  get evidence(): PromptEvidence | undefined {
    if (!this.#isRead) {
      this.#isRead = true;
      if (this.#asked !== "") this.#evidence = promptEvidence(this.#model, this.#asked);
    }
    return this.#evidence;
  }

  get level(): Level {
    if (this.#isFound) return "doubtful";
    return this.evidence?.isDoubtful === true ? "doubtful" : "calm";
  }
}

/** What the user wrote since the model last spoke. */
export function askedIn({ leaves }: Prompt): string {
  let since = Number.NEGATIVE_INFINITY;
  for (const { role, turn } of leaves) if (role === "assistant" && turn > since) since = turn;
  const asked = leaves
    .filter(({ role, kind, turn }) => kind === "text" && (role === "user" || role === "none") && turn > since)
    .map(({ text }) => text)
    .join("\n");
  if (asked.length <= ASKED_UNITS_MAX) return asked;
  return `${asked.slice(0, ASKED_UNITS_MAX / 2)}\n${asked.slice(-ASKED_UNITS_MAX / 2)}`;
}

/** Exact reasons, and families written with ".*". */
export function reasonsIn(patterns: OutputClassifierConfig["doubtfulReasons"]): (reason: string) => boolean {
  const exact = new Set(patterns);
  const families = patterns.filter((one) => one.endsWith(".*")).map((one) => one.slice(0, -1));
  return (reason) => exact.has(reason) || families.some((family) => reason.startsWith(family));
}
