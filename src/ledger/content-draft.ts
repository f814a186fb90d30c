/**
 * The content of one request while it runs: gathered within a bound, put on record at its end. A request that grows
 * past the bound is not recorded at all, since half a prompt cannot be replayed.
 */
import type { Delta } from "../layer/index.ts";
import type { ContentLog } from "./content.ts";
import type { AnswerText } from "./content-format.ts";

/** Never kept: what proves who somebody is. */
const SECRET =
  /^(authorization|proxy-authorization|x-api-key|api-key|cookie|sec-websocket-protocol)$|token|secret|credential|password|signature/;

export interface DraftFacts {
  readonly id: string;
  readonly at: string;
  readonly org: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

export class ContentDraft {
  readonly #log: ContentLog;
  readonly #facts: DraftFacts;
  readonly #texts = new Map<string, { readonly first: Omit<AnswerText, "text">; readonly parts: string[] }>();
  #body: Buffer = Buffer.alloc(0);
  #left: number;

  constructor(log: ContentLog, facts: DraftFacts) {
    this.#log = log;
    this.#facts = facts;
    this.#left = log.requestBytesMax;
  }

  body(bytes: Buffer): void {
    this.#left -= bytes.length;
    if (this.#left >= 0) this.#body = bytes;
  }

  /** A run of the answer's text, as the upstream sent it. */
  text({ channel, kind, choice, text }: Pick<Delta, "channel" | "kind" | "choice" | "text">): void {
    if (text === "" || this.#left < 0) return;
    this.#left -= text.length;
    const known = this.#texts.get(channel);
    if (known !== undefined) known.parts.push(text);
    else this.#texts.set(channel, { first: { channel, kind, choice }, parts: [text] });
  }

  keep(end: {
    readonly endUser: string;
    readonly answerStatus: number | null;
    readonly isWhole: boolean;
  }): void {
    if (this.#left < 0) return this.#log.tooLarge();
    const { id, at, org, method, url, headers } = this.#facts;
    const texts = [...this.#texts.values()].map(({ first, parts }) => ({ ...first, text: parts.join("") }));
    const answer =
      end.answerStatus === null ? null : { status: end.answerStatus, isWhole: end.isWhole, texts };
    const shown = Object.fromEntries(Object.entries(headers).filter(([name]) => !SECRET.test(name)));
    // The id first: the reader finds it without parsing the rest.
    this.#log.put({
      id,
      at,
      org,
      endUser: end.endUser,
      method,
      url,
      headers: shown,
      body: this.#body,
      answer,
    });
  }
}
