/**
 * What a case is, and the two kinds that nearly all are: a forbidden prompt that must not reach the upstream,
 * and a forbidden answer that must not reach the client. A case says what is sent; judging is done here, the
 * same for all.
 */
import type { Ask, CallOptions, Reply } from "./client.ts";
import { call } from "./client.ts";
import { brokenness, isStopped, type Route } from "./endings.ts";
import { carries, leakOf, PART_UNITS } from "./reading.ts";
import type { Answer, ScriptedUpstream } from "./upstream.ts";

export type ClassName =
  | "prompt-field"
  | "prompt-shape"
  | "prompt-encoding"
  | "prompt-window"
  | "prompt-surface"
  | "answer-field"
  | "answer-split"
  | "answer-bytes"
  | "answer-choice"
  | "answer-unmodelled"
  | "answer-malformed"
  | "answer-window"
  | "ending"
  | "disconnect";

export const CLASSES: Readonly<Record<ClassName, string>> = {
  "prompt-field": "a forbidden prompt in any field, role, turn and member name",
  "prompt-shape": "bodies that two readers read differently, split parts, token ids",
  "prompt-encoding": "a forbidden prompt in disguise, codes, escapes and compressed bodies",
  "prompt-window": "a forbidden prompt far behind, among many, in the newest turn",
  "prompt-surface": "other routes, spellings of a path, the query, headers that choose the guard",
  "answer-field": "a forbidden answer in any field and member name, whole and streamed",
  "answer-split": "a forbidden answer cut over events, at every place, on every channel",
  "answer-bytes": "a forbidden answer whose bytes are cut at every place",
  "answer-choice": "second choices, interleaved choices and blocks, indices out of order",
  "answer-unmodelled": "kinds of events, blocks and members that no dialect knows",
  "answer-malformed": "data that is not JSON, wrong types, odd line ends, unended events",
  "answer-window": "a forbidden answer behind much text, in huge events, past every table",
  ending: "what is cut off ends as the SDKs parse it, and the upstream is left at once",
  disconnect: "a caller who leaves takes the upstream's call along",
};

/** The texts that must not pass, and what the gateway is expected to do about them. */
export interface Markers {
  /** In a prompt: the request is refused. */
  readonly prompt: string;
  /** In an answer: it is redacted or the answer ends. */
  readonly secret: string;
  /** In an answer: the answer ends (where the target can; a redaction passes too). */
  readonly ending: string;
}

export interface World {
  readonly base: string;
  readonly markers: Markers;
  /** False: the target's upstream is not ours; answers cannot be scripted, and calls not be seen. */
  readonly isObserved: boolean;
  readonly upstream: ScriptedUpstream;
  /** What the target wants to see of a caller, by route. */
  headers(dialect: "openai" | "anthropic"): Readonly<Record<string, string>>;
  /** What of an answer counts as the answer: some peers quote what they refused in a report of their own. */
  heard(reply: Reply): Reply;
  /** Whether the plain form of a call of this path comes through at all. */
  serves(path: string): boolean;
}

export type Outcome =
  /** `refused`, `redacted`, `unseen` (the route is not served) ...: how it passed. */
  | { readonly result: "passed"; readonly how: string }
  | { readonly result: "leaked"; readonly why: string }
  | { readonly result: "broken"; readonly why: string }
  | { readonly result: "skipped"; readonly why: string };

export interface BypassCase {
  readonly id: string;
  readonly cls: ClassName;
  run(world: World, tag: string): Promise<Outcome>;
}

const passed = (how: string): Outcome => ({ result: "passed", how });
const leaked = (why: string): Outcome => ({ result: "leaked", why });
export const broken = (why: string): Outcome => ({ result: "broken", why });

/** Statuses that speak of the caller more than of what was said. */
const CALLER_REFUSED = new Set([401, 403, 429]);

export function dialectOf(path: string): "openai" | "anthropic" {
  return path.startsWith("/v1/messages") ? "anthropic" : "openai";
}

export function optionsFor(world: World, path: string): CallOptions {
  return { base: world.base, headers: world.headers(dialectOf(path)) };
}

/** `text` as it stands in the request; other spellings that the upstream must not see either. */
export interface PromptCase {
  readonly id: string;
  readonly cls: ClassName;
  /** The path whose plain form must come through, or the case says nothing; undefined: no such route is expected. */
  readonly control?: string;
  readonly carried?: (text: string) => readonly string[];
  ask(text: string, tag: string): Ask;
}

/** Blocked, and the upstream never called; a redaction passes when nothing of the text arrived. */
export function promptCase({ id, cls, control, carried, ask }: PromptCase): BypassCase {
  return {
    id: `${cls}/${id}`,
    cls,
    async run(world, tag) {
      const asked = ask(world.markers.prompt, tag);
      if (control !== undefined && !world.serves(control))
        return { result: "skipped", why: `${control} is not served` };
      const reply = await call(asked, optionsFor(world, asked.path));
      if (!world.isObserved) {
        if (reply.status === 0) return broken(reply.fault ?? "no answer");
        return reply.status < 400
          ? leaked(`answered with ${reply.status}`)
          : passed(`status ${reply.status}`);
      }
      const calls = world.upstream.received(tag);
      const texts = carried?.(world.markers.prompt) ?? [world.markers.prompt];
      const carrying = calls.some(({ body, path }) => texts.some((text) => carries(body, path, text)));
      if (carrying) {
        return leaked(
          reply.status < 400
            ? "it reached the upstream"
            : `answered with ${reply.status}, but the upstream was called`,
        );
      }
      if (reply.status === 0) return broken(reply.fault ?? "no answer");
      if (reply.status >= 500) return broken(`answered with ${reply.status}: ${excerpt(reply)}`);
      if (calls.length > 0) return passed("redacted");
      // A caller who is refused whatever it says proves nothing.
      if (CALLER_REFUSED.has(reply.status)) {
        const plain = ask("The boats lie at the quay.", tag);
        const control = await call(plain, optionsFor(world, plain.path));
        if (control.status === reply.status) return broken(`the caller is refused: ${excerpt(reply)}`);
      }
      return passed(`refused with ${reply.status} ${codeOf(reply)}`.trim());
    },
  };
}

export interface AnswerCase {
  readonly id: string;
  readonly cls: ClassName;
  readonly route: Route;
  readonly stream: boolean;
  /** More members of the request, such as `n`. */
  readonly more?: object;
  /** The marker that is planted: the one that is redacted, or the one that ends the answer. */
  readonly marker?: "secret" | "ending";
  /** What the upstream sends is itself malformed: an error in place of the answer is right. */
  readonly malformed?: boolean;
  /** Texts around the secret that must arrive unless the answer was stopped. */
  readonly keeps?: readonly string[];
  /** So many units of the secret in a row count as leaked; where its beginning stands at the end of a closed text, more. */
  readonly partUnits?: number;
  /** The upstream's call must be over once the client has its answer. */
  readonly cancels?: boolean;
  answer(secret: string): Answer;
}

const PATHS: Readonly<Record<Route, string>> = {
  chat: "/v1/chat/completions",
  completions: "/v1/completions",
  responses: "/v1/responses",
  messages: "/v1/messages",
};

/** A call in its plainest form. */
export function plainAsk(route: Route, tag: string, more: object = {}): Ask {
  const words = "Say something, please.";
  const body = {
    chat: { messages: [{ role: "user", content: words }] },
    completions: { prompt: words },
    responses: { input: words },
    messages: { max_tokens: 64, messages: [{ role: "user", content: words }] },
  }[route];
  return { path: PATHS[route], body: { model: tag, ...body, ...more } };
}

export function answerCase(spec: AnswerCase): BypassCase {
  const {
    id,
    cls,
    route,
    stream,
    more = {},
    marker = "secret",
    malformed = false,
    keeps = [],
    cancels,
  } = spec;
  return {
    id: `${cls}/${id}`,
    cls,
    async run(world, tag) {
      const ask = plainAsk(route, tag, { ...(stream && { stream }), ...more });
      if (!world.isObserved) return { result: "skipped", why: "the upstream is not ours" };
      if (!world.serves(ask.path)) return { result: "skipped", why: `${ask.path} is not served` };
      const secret = world.markers[marker];
      const answer = spec.answer(secret);
      world.upstream.script(tag, answer);
      const reply = world.heard(await call(ask, optionsFor(world, ask.path)));
      const leak = leakOf(reply, secret, spec.partUnits ?? PART_UNITS);
      if (leak !== undefined) return leaked(leak);
      const calls = world.upstream.received(tag);
      if (calls.length === 0) return broken(`refused with ${reply.status} before the upstream was called`);
      if (reply.fault !== undefined) return broken(reply.fault);
      const heard = heardFrom(reply);
      const sent = sentBy(answer);
      const isSound = !malformed && (await brokenness(route, sent, stream)) === undefined;
      if (isSound && sent.status < 300 && reply.status >= 500) {
        // Content that cannot leave may cost the whole answer, as long as that is said.
        if (!/answer_(?:refused|blocked)|content_filter/.test(heard.body.toString("utf8")))
          return broken(`answered with ${reply.status}: ${excerpt(reply)}`);
      }
      const why = await brokenness(route, heard, stream);
      // A client that could not have read the upstream's own answer is no worse off.
      if (why !== undefined && (isSound || why.startsWith("the stream has no last event")))
        return broken(why);
      if (
        cancels === true &&
        !(await eventually(() => calls.every(({ aborted, done }) => aborted || done), 1_500))
      )
        return broken("the upstream's call went on after the answer was cut");
      if (isSound && !isStopped(heard)) {
        const lost = keeps.find((text) => !heard.body.includes(text));
        if (lost !== undefined) return broken(`the text ${JSON.stringify(lost)} was lost`);
      }
      return passed(isStopped(heard) ? "stopped" : "redacted");
    },
  };
}

function heardFrom({ status, headers, body }: Reply) {
  return { status, contentType: String(headers["content-type"] ?? ""), body };
}

function sentBy({ status = 200, headers, chunks }: Answer) {
  const contentType = String(headers?.["content-type"] ?? "application/json");
  return { status, contentType, body: Buffer.concat(chunks.map((chunk) => Buffer.from(chunk))) };
}

/** The error's own code, where it has one. */
function codeOf({ body }: Reply): string {
  return /"code"\s*:\s*"([\w.-]+)"/.exec(body.toString("utf8"))?.[1] ?? "";
}

function excerpt({ body }: Reply): string {
  return body.toString("utf8").slice(0, 200);
}

export async function eventually(isTrue: () => boolean, withinMs: number): Promise<boolean> {
  for (const end = performance.now() + withinMs; performance.now() < end; ) {
    if (isTrue()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return isTrue();
}
