/** A forbidden answer, wherever an answer can carry one and however it is cut. */
import { type AnswerCase, answerCase, type BypassCase } from "../case.ts";
import { plants } from "../planting.ts";
import { EVENTS, LEAD, STREAM_HEADERS, streamOf, TAIL, WHOLES } from "../templates/answers.ts";
import { type Body, CHANNELS, channelAnswer, ROUTES } from "./channels.ts";

/** The secret in each string, member name and unknown member of each route's fullest answer. */
function fields(): BypassCase[] {
  return ROUTES.flatMap((route) => [
    ...plants(WHOLES[route]).map(({ place, put }) =>
      answerCase({
        id: `${route}${place}`,
        cls: "answer-field",
        route,
        stream: false,
        malformed: true,
        answer: (secret) => ({ chunks: [JSON.stringify(put(`${LEAD}${secret}${TAIL}`))] }),
      }),
    ),
    ...EVENTS[route].flatMap((event, at) =>
      plants(event).map(({ place, put }) =>
        answerCase({
          id: `${route}, event ${at}${place}`,
          cls: "answer-field",
          route,
          stream: true,
          malformed: true,
          answer: (secret) => streamOf(route, EVENTS[route].with(at, put(`${LEAD}${secret}${TAIL}`) as Body)),
        }),
      ),
    ),
  ]);
}

/** Channels of tools carry JSON: what is planted there stands inside a string of it. */
const isTool = (name: string) => /tool|arguments|input/.test(name);

function around(name: string): [lead: string, tail: string] {
  return isTool(name) ? ['{"note":"', '"}'] : [LEAD, TAIL];
}

type Spec = Omit<AnswerCase, "cls" | "route" | "stream"> & { readonly cls?: AnswerCase["cls"] };

function splits(): BypassCase[] {
  return CHANNELS.flatMap((channel) => {
    const [lead, tail] = around(channel.name);
    // Token bytes are no text that a redaction could keep the rest of.
    const keeps = /logprobs|bytes|unknown/.test(channel.name)
      ? []
      : [lead.trim().slice(0, 8), tail.trim().slice(0, 4)].map((text) => JSON.stringify(text).slice(1, -1));
    const one = (id: string, pieces: (secret: string) => readonly string[], more: Partial<Spec> = {}) =>
      answerCase({
        keeps,
        ...more,
        id: `${channel.name}, ${id}`,
        cls: "answer-split",
        route: channel.route,
        stream: true,
        answer: (secret) => channelAnswer(channel, pieces(secret)),
      });
    return [
      one("whole", (secret) => [lead, secret, tail]),
      one("with its neighbours in one event", (secret) => [`${lead}${secret}${tail}`]),
      one("one unit an event", (secret) => [lead, ...secret, tail], { keeps: keeps.slice(0, 1) }),
      one("two units an event", (secret) => [lead, ...(secret.match(/.{1,2}/g) ?? []), tail]),
      one("everything one unit an event", (secret) => [...`${lead}${secret}${tail}`], { keeps: [] }),
      one("the last of the channel", (secret) => [lead, secret], { keeps: keeps.slice(0, 1) }),
      one("the last of the channel, one unit an event", (secret) => [lead, ...secret], {
        keeps: keeps.slice(0, 1),
      }),
      one("twice", (secret) => [lead, secret, " and ", secret, tail]),
      one("empty events within", (secret) => [lead, secret.slice(0, 9), "", "", secret.slice(9), tail]),
      one("whole, to be ended", (secret) => [lead, secret, tail], { marker: "ending", keeps: [] }),
      one("one unit an event, to be ended", (secret) => [lead, ...secret, tail], {
        marker: "ending",
        keeps: [],
      }),
      ...Array.from({ length: 19 }, (_, i) =>
        one(`cut at ${i + 1}`, (secret) => [lead + secret.slice(0, i + 1), secret.slice(i + 1) + tail]),
      ),
    ];
  });
}

/** One channel of each route whose bytes are cut; events as short as they come. */
const CUT = ["chat content", "completions text", "responses output_text", "messages text"];

function bytes(): BypassCase[] {
  return CHANNELS.filter(({ name }) => CUT.includes(name)).flatMap((channel) => {
    const event = (secret: string) =>
      Buffer.from(channelAnswer(channel, [`${LEAD}${secret}${TAIL}`]).chunks.join(""));
    const one = (
      id: string,
      chunks: (bytes: Buffer, secret: string) => readonly Buffer[],
      marker: "secret" | "ending" = "secret",
    ) =>
      answerCase({
        id: `${channel.name}, ${id}`,
        cls: "answer-bytes",
        route: channel.route,
        stream: true,
        marker,
        answer: (secret) => ({ headers: STREAM_HEADERS, chunks: chunks(event(secret), secret) }),
      });
    const near = Array.from({ length: 120 }, (_, i) => i - 60);
    return [
      one("each byte by itself", (all) => [...all].map((byte) => Buffer.from([byte]))),
      one("each byte by itself, to be ended", (all) => [...all].map((byte) => Buffer.from([byte])), "ending"),
      one("in sevens", (all) =>
        Array.from({ length: Math.ceil(all.length / 7) }, (_, i) => all.subarray(7 * i, 7 * i + 7)),
      ),
      one("all at once", (all) => [all]),
      ...near.map((offset) =>
        one(`cut ${offset} bytes from the secret`, (all, secret) => {
          const at = Math.max(1, all.indexOf(secret) + offset);
          return [all.subarray(0, at), all.subarray(at)];
        }),
      ),
    ];
  });
}

export function answerCases(): BypassCase[] {
  return [...fields(), ...splits(), ...bytes()];
}
