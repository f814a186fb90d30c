/** Answers that no vendor sends: where they are made, and the cases of the rows that list them. */
import { type AnswerCase, answerCase, type BypassCase, type ClassName } from "../case.ts";
import { ROUTES } from "./channels.ts";
import { KINDS } from "./kinds.ts";
import { LINES } from "./lines.ts";
import type { Row } from "./streams.ts";
import { UNMODELLED } from "./unmodelled.ts";
import { WINDOWS } from "./windows.ts";

export function malformedCases(): BypassCase[] {
  const all = (cls: ClassName, rows: readonly Row[], more: Partial<AnswerCase> = {}) =>
    rows.flatMap((row) =>
      ROUTES.map((route) =>
        answerCase({
          malformed: true,
          stream: true,
          ...more,
          ...row.more,
          id: `${route}, ${row.id}`,
          cls,
          route,
          answer: (secret) => row.answer(secret, route),
        }),
      ),
    );
  return [
    ...all("answer-unmodelled", UNMODELLED),
    ...all("answer-malformed", [...LINES, ...KINDS]),
    ...all("answer-window", WINDOWS),
  ];
}
