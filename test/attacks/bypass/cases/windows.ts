import { LEAD, streamOf, TAIL, wire } from "../templates/answers.ts";
import { channelAnswer } from "./channels.ts";
import { amid, cut, MAIN, type Row, said } from "./streams.ts";

const PROSE = "The boats lie at the quay and the gulls are loud. ";
const prose = (units: number) => PROSE.repeat(Math.ceil(units / PROSE.length)).slice(0, units);

export const WINDOWS: readonly Row[] = [
  ...[700, 4_096, 65_536, 300_000].map(
    (units): Row => ({
      id: `behind ${units} units in one event`,
      answer: (secret, route) => channelAnswer(MAIN.get(route)!, [`${prose(units)} ${secret}`, TAIL]),
    }),
  ),
  {
    id: "behind 300 events",
    answer: (secret, route) =>
      channelAnswer(MAIN.get(route)!, [
        ...Array.from({ length: 300 }, (_, i) => `word${i} `),
        ...secret,
        TAIL,
      ]),
  },
  {
    id: "across 64 KiB",
    answer: (secret, route) =>
      channelAnswer(MAIN.get(route)!, [prose(65_526) + secret.slice(0, 10), secret.slice(10) + TAIL]),
  },
  {
    id: "with 200 other events between its halves",
    answer: (secret, route) => {
      const { before, piece, after } = MAIN.get(route)!;
      return streamOf(route, [
        ...before,
        piece(secret.slice(0, 10)),
        ...Array.from({ length: 200 }, (_, i) => ({ type: "novelty", words: `w${i}` })),
        piece(secret.slice(10)),
        ...after,
      ]);
    },
  },
  {
    id: "after 3,000 kinds that nobody knows",
    answer: (secret, route) =>
      amid(route, [
        ...Array.from({ length: 3_000 }, (_, i) => wire(route, { type: "novelty", [`m${i}`]: "x" })),
        ...cut(secret, 5).map((words) => wire(route, { type: "novelty", unheard: words })),
      ]),
  },
  {
    id: "a list of 2,000 strings, then cut",
    answer: (secret, route) =>
      amid(route, [
        wire(route, { type: "novelty", list: Array.from({ length: 2_000 }, () => "x") }),
        ...cut(secret, 3).map((words) =>
          wire(route, { type: "novelty", list: [...Array.from({ length: 1_999 }, () => "y"), words] }),
        ),
      ]),
  },
  {
    id: "an event of 2 MB",
    answer: (secret, route) =>
      amid(route, [wire(route, MAIN.get(route)!.piece(`${prose(2_000_000)} ${secret}`))]),
  },
  {
    id: "a line of 3 MB without an end",
    answer: (secret, route) => amid(route, [`data: ${"x".repeat(3_000_000)}`, ` ${secret}`]),
  },
  {
    id: "a whole answer of 3 MB",
    more: { stream: false },
    answer: (secret, route) => ({
      chunks: [said(route, secret).replace(LEAD, `${prose(3_000_000)}${LEAD}`)],
    }),
  },
  {
    id: "behind what may begin a secret, many times",
    answer: (secret, route) =>
      channelAnswer(MAIN.get(route)!, [`${"AKIA sk- ghp_ eyJ ".repeat(500)}`, secret, TAIL]),
  },
  {
    id: "a secret in a secret's beginning",
    answer: (secret, route) => channelAnswer(MAIN.get(route)!, [`AKIA AKIA-${secret}`, TAIL]),
  },
];
