/** Sound streams with something put into them or changed in them: what the rows of odd answers are made of. */
import type { AnswerCase } from "../case.ts";
import type { Route } from "../endings.ts";
import { LEAD, STREAM_HEADERS, streamOf, TAIL, WHOLES } from "../templates/answers.ts";
import type { Answer } from "../upstream.ts";
import { CHANNELS, channelAnswer } from "./channels.ts";

export const MAIN = new Map(
  CHANNELS.filter(({ name }) =>
    ["chat content", "completions text", "responses output_text", "messages text"].includes(name),
  ).map((channel) => [channel.route, channel]),
);

export interface Row {
  readonly id: string;
  readonly more?: Partial<AnswerCase>;
  readonly answer: (secret: string, route: Route) => Answer;
}

/** A sound stream with `inserted` put before its text. */
export function amid(route: Route, inserted: readonly string[]): Answer {
  const { before, piece, after } = MAIN.get(route)!;
  const { chunks: first } = streamOf(route, [...before, piece(LEAD)]);
  const { chunks: rest } = streamOf(route, [piece(TAIL), ...after]);
  const isDone = (chunk: string) => chunk === "data: [DONE]\n\n";
  return {
    headers: STREAM_HEADERS,
    chunks: [...first.filter((chunk) => !isDone(chunk)), ...inserted, ...rest],
  };
}

/** A sound stream whose bytes say the secret, changed by `change`. */
export function changed(route: Route, secret: string, change: (bytes: string) => string): Answer {
  const { chunks } = channelAnswer(MAIN.get(route)!, [`${LEAD}${secret}${TAIL}`]);
  return { headers: STREAM_HEADERS, chunks: [change(chunks.join(""))] };
}

export const cut = (secret: string, count: number) =>
  secret.match(new RegExp(`.{1,${Math.ceil(secret.length / count)}}`, "g")) ?? [];
export const escaped = (text: string) =>
  [...text].map((unit) => `\\u00${unit.charCodeAt(0).toString(16)}`).join("");

export const said = (route: Route, secret: string) =>
  JSON.stringify(WHOLES[route]).replaceAll("Fine weather", `${LEAD}${secret}${TAIL}`);
