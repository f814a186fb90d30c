/** Data that is not JSON, odd lines and line ends, streams without an end. */

import type { Route } from "../endings.ts";
import { LEAD, STREAM_HEADERS, TAIL, wire } from "../templates/answers.ts";
import { channelAnswer } from "./channels.ts";
import { amid, changed, cut, escaped, MAIN, type Row } from "./streams.ts";

export const LINES: readonly Row[] = [
  { id: "data that is not JSON", answer: (secret, route) => amid(route, [`data: ${secret}\n\n`]) },
  {
    id: "data that is not JSON, cut over two",
    answer: (secret, route) =>
      amid(
        route,
        cut(secret, 2).map((part) => `data: ${part}\n\n`),
      ),
  },
  {
    id: "data that is not JSON, one unit an event",
    answer: (secret, route) =>
      amid(
        route,
        [...secret].map((part) => `data: ${part}\n\n`),
      ),
  },
  {
    id: "JSON that breaks off",
    answer: (secret, route) => amid(route, [`data: {"choices":[{"delta":{"content":"${secret}\n\n`]),
  },
  {
    id: "JSON with a comma too many",
    answer: (secret, route) =>
      amid(route, [`data: {"choices":[{"index":0,"delta":{"content":"${secret}",}}]}\n\n`]),
  },
  {
    id: "two JSON values in one event",
    answer: (secret, route) => amid(route, [`data: {}{"content":"${secret}"}\n\n`]),
  },
  {
    id: "two JSON values on two data lines",
    answer: (secret, route) => amid(route, [`data: {}\ndata: ${JSON.stringify({ content: secret })}\n\n`]),
  },
  {
    id: "NaN and Infinity",
    answer: (secret, route) => amid(route, [`data: {"p":NaN,"content":"${secret}"}\n\n`]),
  },
  {
    id: "several data lines, one value",
    answer: (secret, route) =>
      changed(route, secret, (bytes) =>
        bytes.replaceAll(/data: (\{.*)/g, (_, json: string) =>
          json
            .split(/(?<=[,{])(?=")/)
            .map((line) => `data: ${line}`)
            .join("\n"),
        ),
      ),
  },
  {
    id: "several data lines, each with a part",
    answer: (secret, route) =>
      amid(route, [
        `${cut(secret, 4)
          .map((part) => `data: ${part}`)
          .join("\n")}\n\n`,
      ]),
  },
  {
    id: "no blank after the colon",
    answer: (secret, route) => changed(route, secret, (bytes) => bytes.replaceAll("data: ", "data:")),
  },
  {
    id: "two blanks after the colon",
    answer: (secret, route) => changed(route, secret, (bytes) => bytes.replaceAll("data: ", "data:  ")),
  },
  {
    id: "a tab after the colon",
    answer: (secret, route) => changed(route, secret, (bytes) => bytes.replaceAll("data: ", "data:\t")),
  },
  {
    id: "a hard blank after the colon",
    answer: (secret, route) => amid(route, [`data:\u00a0${JSON.stringify({ content: secret })}\n\n`]),
  },
  { id: "a blank before data", answer: (secret, route) => amid(route, [` data: ${secret}\n\n`]) },
  { id: "DATA in capitals", answer: (secret, route) => amid(route, [`DATA: ${secret}\n\n`]) },
  {
    id: "CRLF",
    answer: (secret, route) => changed(route, secret, (bytes) => bytes.replaceAll("\n", "\r\n")),
  },
  { id: "CR", answer: (secret, route) => changed(route, secret, (bytes) => bytes.replaceAll("\n", "\r")) },
  { id: "a CR within data", answer: (secret, route) => amid(route, [`data: {"a":"\rdata: ${secret}"}\n\n`]) },
  {
    id: "line separators within data",
    answer: (secret, route) => amid(route, [`data: x\u2028data: ${secret}\u2029\n\n`]),
  },
  {
    id: "a form feed and NUL within",
    answer: (secret, route) => amid(route, [`data: \f\u0000${secret}\n\n`]),
  },
  { id: "a byte-order mark", answer: (secret, route) => changed(route, secret, (bytes) => `\ufeff${bytes}`) },
  {
    id: "a byte-order mark before each event",
    answer: (secret, route) => amid(route, [`\ufeffdata: ${secret}\n\n`]),
  },
  { id: "a comment", answer: (secret, route) => amid(route, [`: ${secret}\n\n`]) },
  {
    id: "comments, cut",
    answer: (secret, route) =>
      amid(
        route,
        cut(secret, 3).map((part) => `:${part}\n`),
      ),
  },
  { id: "an id line", answer: (secret, route) => amid(route, [`id: ${secret}\ndata: {}\n\n`]) },
  { id: "a retry line", answer: (secret, route) => amid(route, [`retry: ${secret}\n\n`]) },
  {
    id: "a line of no known field",
    answer: (secret, route) => amid(route, [`${secret}\n`, `note: ${secret}\n\n`]),
  },
  {
    id: "JSON escapes",
    answer: (secret, route) => changed(route, secret, (bytes) => bytes.replace(secret, escaped(secret))),
  },
  {
    id: "a member named twice, first",
    answer: (secret, route) =>
      changed(route, secret, (bytes) =>
        bytes.replace(
          JSON.stringify(`${LEAD}${secret}${TAIL}`),
          (text) => `${text},"${memberOf(route)}":"Hello."`,
        ),
      ),
  },
  {
    id: "a member named twice, last",
    answer: (secret, route) =>
      changed(route, secret, (bytes) =>
        bytes.replace(
          `"${memberOf(route)}":${JSON.stringify(`${LEAD}${secret}${TAIL}`)}`,
          (text) => `"${memberOf(route)}":"Hello.",${text}`,
        ),
      ),
  },
  {
    id: "bytes that are not UTF-8",
    answer: (secret, route) => {
      const { chunks } = amid(route, ["X"]);
      return {
        headers: STREAM_HEADERS,
        chunks: chunks.map((chunk) =>
          chunk === "X"
            ? Buffer.concat([Buffer.from("data: "), Buffer.from([0xff, 0xfe]), Buffer.from(`${secret}\n\n`)])
            : chunk,
        ),
      };
    },
  },
  {
    id: "nested 5,000 deep",
    answer: (secret, route) =>
      amid(route, [`data: ${'{"a":'.repeat(5_000)}"${secret}"${"}".repeat(5_000)}\n\n`]),
  },
  {
    id: "the last event unended",
    answer: (secret, route) =>
      changed(
        route,
        "none",
        (bytes) =>
          `${bytes.slice(0, endOfText(bytes))}data: ${JSON.stringify(MAIN.get(route)!.piece(secret))}`,
      ),
  },
  {
    id: "the last event ended by one line end",
    answer: (secret, route) =>
      changed(
        route,
        "none",
        (bytes) =>
          `${bytes.slice(0, endOfText(bytes))}data: ${JSON.stringify(MAIN.get(route)!.piece(secret))}\n`,
      ),
  },
  {
    id: "the last event cut within the secret",
    answer: (secret, route) => changed(route, secret, (bytes) => bytes.slice(0, bytes.indexOf(secret) + 15)),
  },
  {
    id: "no last event, the secret at the end",
    answer: (secret, route) => ({
      headers: STREAM_HEADERS,
      chunks: channelAnswer(MAIN.get(route)!, [LEAD, secret]).chunks.slice(
        0,
        MAIN.get(route)!.before.length + 2,
      ),
    }),
  },
  {
    id: "after the last event",
    answer: (secret, route) =>
      changed(route, "none", (bytes) => `${bytes}${wire(route, MAIN.get(route)!.piece(secret))}`),
  },
  {
    id: "after the last event, not JSON",
    answer: (secret, route) => changed(route, "none", (bytes) => `${bytes}data: ${secret}\n\n`),
  },
  {
    id: "a reset after the secret",
    answer: (secret, route) => ({
      ...channelAnswer(MAIN.get(route)!, [LEAD, ...secret]),
      end: "reset",
      gapMs: 1,
    }),
  },
  { id: "a [DONE] with words", answer: (secret, route) => amid(route, [`data: [DONE] ${secret}\n\n`]) },
  {
    id: "a second stream in a data line",
    answer: (secret, route) => amid(route, [`data: data: ${secret}\n\n`]),
  },
];

function memberOf(route: Route): string {
  return { chat: "content", completions: "text", responses: "delta", messages: "text" }[route];
}
/** Where the events that follow the text begin. */
function endOfText(bytes: string): number {
  return bytes.indexOf("\n\n", bytes.indexOf("that was all")) + 2;
}
