/** Kinds of events and members that no dialect knows. */

import { EVENTS, LEAD, wire } from "../templates/answers.ts";
import { amid, changed, cut, MAIN, type Row } from "./streams.ts";

export const UNMODELLED: readonly Row[] = [
  {
    id: "an unknown kind",
    answer: (secret, route) => amid(route, [wire(route, { type: "novelty", words: secret })]),
  },
  {
    id: "an unknown kind without a name",
    answer: (secret, route) =>
      amid(route, [`data: ${JSON.stringify({ type: "novelty", words: secret })}\n\n`]),
  },
  {
    id: "an object without any known member",
    answer: (secret, route) =>
      amid(route, [`data: ${JSON.stringify({ deep: [{ deeper: { words: [secret] } }] })}\n\n`]),
  },
  {
    id: "an unknown kind, cut over two",
    answer: (secret, route) =>
      amid(
        route,
        cut(secret, 2).map((words) => wire(route, { type: "novelty", words })),
      ),
  },
  {
    id: "an unknown kind, one unit an event",
    answer: (secret, route) =>
      amid(
        route,
        [...secret].map((words) => wire(route, { type: "novelty", words })),
      ),
  },
  {
    id: "an unknown kind, cut, with text between",
    answer: (secret, route) =>
      amid(
        route,
        cut(secret, 4).flatMap((words) => [
          wire(route, { type: "novelty", words }),
          wire(route, MAIN.get(route)!.piece("so ")),
        ]),
      ),
  },
  {
    id: "unknown kinds that take turns",
    answer: (secret, route) =>
      amid(
        route,
        [...secret].map((words, i) => wire(route, { type: i % 2 === 0 ? "novelty" : "oddity", words })),
      ),
  },
  {
    id: "the name of an unknown kind",
    answer: (secret, route) => amid(route, [`event: ${secret}\ndata: {"type":"novelty"}\n\n`]),
  },
  {
    id: "the name of a known kind",
    answer: (secret, route) =>
      amid(route, [`event: ${secret}\ndata: ${JSON.stringify(MAIN.get(route)!.piece("so "))}\n\n`]),
  },
  {
    id: "the name of the last event",
    answer: (secret, route) => changed(route, "none", (bytes) => renameLast(bytes, secret)),
  },
  {
    id: "the name of an event without data",
    answer: (secret, route) => amid(route, [`event: ${secret}\n\n`]),
  },
  {
    id: "the type of an unknown kind",
    answer: (secret, route) => amid(route, [`data: ${JSON.stringify({ type: secret })}\n\n`]),
  },
  {
    id: "a member's name of an unknown kind",
    answer: (secret, route) => amid(route, [wire(route, { type: "novelty", [secret]: 1 })]),
  },
  {
    id: "a bare JSON string",
    answer: (secret, route) => amid(route, [`data: ${JSON.stringify(secret)}\n\n`]),
  },
  {
    id: "bare JSON strings, cut",
    answer: (secret, route) =>
      amid(
        route,
        cut(secret, 5).map((part) => `data: ${JSON.stringify(part)}\n\n`),
      ),
  },
  { id: "a JSON list", answer: (secret, route) => amid(route, [`data: ${JSON.stringify([secret])}\n\n`]) },
  {
    id: "a list of halves",
    answer: (secret, route) =>
      amid(route, [`data: ${JSON.stringify([{ t: secret.slice(0, 9) }, { t: secret.slice(9) }])}\n\n`]),
  },
  {
    id: "character codes in a list of numbers",
    answer: (secret, route) =>
      amid(route, [`data: ${JSON.stringify({ type: "novelty", bytes: [...Buffer.from(secret)] })}\n\n`]),
  },
  {
    id: "late usage with words",
    answer: (secret, route) =>
      amid(route, [wire(route, { type: "usage", usage: { note: secret, total_tokens: 3 } })]),
  },
  {
    id: "an error in the stream",
    answer: (secret, route) =>
      amid(route, [wire(route, { type: "error", error: { type: "x", message: `${LEAD}${secret}` } })]),
  },
  {
    id: "an error in the stream, by name",
    answer: (secret, route) =>
      amid(route, [`event: error\ndata: ${JSON.stringify({ error: { code: secret, message: "x" } })}\n\n`]),
  },
  {
    id: "an error that is text",
    answer: (secret, route) => amid(route, [`event: error\ndata: ${secret}\n\n`]),
  },
  {
    id: "an error that is a string member",
    answer: (secret, route) => amid(route, [`data: ${JSON.stringify({ error: secret })}\n\n`]),
  },
  {
    id: "an event of the other dialect",
    answer: (secret, route) =>
      amid(route, [
        wire("chat", EVENTS[route === "chat" ? "messages" : "chat"][3]),
        route === "messages"
          ? wire("chat", { choices: [{ index: 0, delta: { content: secret } }] })
          : wire("messages", {
              type: "content_block_delta",
              index: 0,
              delta: { type: "text_delta", text: secret },
            }),
      ]),
  },
  {
    id: "events of the other dialect, cut",
    answer: (secret, route) =>
      amid(
        route,
        [...secret].map((unit) =>
          route === "messages"
            ? wire("chat", { choices: [{ index: 0, delta: { content: unit } }] })
            : wire("messages", {
                type: "content_block_delta",
                index: 0,
                delta: { type: "text_delta", text: unit },
              }),
        ),
      ),
  },
];

function renameLast(bytes: string, name: string): string {
  const at = bytes.trimEnd().lastIndexOf("\n\n") + 2;
  const last = bytes.slice(at).replace(/^event: .*\n/, "");
  return `${bytes.slice(0, at)}event: ${name}\n${last}`;
}
