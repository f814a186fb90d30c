/** Second choices, choices and blocks by turns, and indices that nobody sends. */
import { type AnswerCase, answerCase, type BypassCase } from "../case.ts";
import type { Route } from "../endings.ts";
import {
  blockDelta,
  chatChunk,
  completionChunk,
  LEAD,
  MESSAGE_BEGIN,
  MESSAGE_END,
  responseEvent,
  streamOf,
} from "../templates/answers.ts";
import { RESPONSE } from "./channels.ts";

export function choiceCases(): BypassCase[] {
  const mixed = (
    id: string,
    route: Route,
    more: object,
    events: (secret: string) => readonly unknown[],
    rest: Partial<AnswerCase> = {},
  ) =>
    answerCase({
      id: `${route}, ${id}`,
      cls: "answer-choice",
      route,
      stream: true,
      more,
      ...rest,
      answer: (secret) => streamOf(route, events(secret)),
    });
  const stop = (index: number) => chatChunk({}, { finish_reason: "stop" }, index);
  const content = (text: string, index: number) => chatChunk({ content: text }, {}, index);
  const odd = (index: unknown) => (text: string) => ({
    ...chatChunk({}),
    choices: [{ index, delta: { content: text }, finish_reason: null }],
  });
  const oddIndices: readonly (readonly [string, unknown])[] = [
    ["300", 300],
    ["-1", -1],
    ["1.5", 1.5],
    ['"0"', "0"],
    ["null", null],
    ["missing", undefined],
    ["huge", 1e300],
  ];
  const text = (value: string, index: number) => blockDelta(index, { type: "text_delta", text: value });
  const open = (index: number) => ({
    type: "content_block_start",
    index,
    content_block: { type: "text", text: "" },
  });
  const close = (index: number) => ({ type: "content_block_stop", index });
  const output = (delta: string, output_index: number, content_index = 0) =>
    responseEvent("output_text.delta", { output_index, content_index, item_id: `i_${output_index}`, delta });
  const done = responseEvent("completed", { response: { ...RESPONSE, status: "completed" } });
  return [
    mixed("in the second choice", "chat", { n: 2 }, (secret) => [
      content("Hello.", 0),
      content(secret, 1),
      stop(0),
      stop(1),
    ]),
    mixed("in the 128th choice", "chat", { n: 128 }, (secret) => [
      content("Hello.", 0),
      content(secret, 127),
      stop(0),
      stop(127),
    ]),
    mixed("a unit each by turns", "chat", { n: 2 }, (secret) => [
      ...[...secret].flatMap((unit) => [content(unit, 0), content(unit.toLowerCase(), 1)]),
      stop(0),
      stop(1),
    ]),
    mixed("a unit each in one event", "chat", { n: 2 }, (secret) => [
      ...[...secret].map((unit) => ({
        ...chatChunk({}),
        choices: [0, 1].map((index) => ({
          index,
          delta: { content: index === 0 ? "x" : unit },
          finish_reason: null,
        })),
      })),
      stop(0),
      stop(1),
    ]),
    mixed("the second by turns, out of order", "chat", { n: 2 }, (secret) => [
      ...[...secret].flatMap((unit) => [content(unit, 1), content("y", 0)]),
      stop(1),
      stop(0),
    ]),
    mixed("text and arguments by turns", "chat", {}, (secret) => [
      ...[...secret].flatMap((unit) => [
        chatChunk({ tool_calls: [{ index: 0, function: { arguments: unit } }] }),
        content("z", 0),
      ]),
      stop(0),
    ]),
    mixed("two tools by turns", "chat", {}, (secret) => [
      ...[...secret].flatMap((unit) =>
        [0, 1].map((index) =>
          chatChunk({ tool_calls: [{ index, function: { arguments: index === 1 ? unit : "{" } }] }),
        ),
      ),
      stop(0),
    ]),
    mixed("two tools in one event", "chat", {}, (secret) => [
      ...[...secret].map((unit) =>
        chatChunk({
          tool_calls: [0, 1].map((index) => ({ index, function: { arguments: index === 1 ? unit : "{" } })),
        }),
      ),
      stop(0),
    ]),
    mixed(
      "one choice twice in an event",
      "chat",
      {},
      (secret) => [
        {
          ...chatChunk({}),
          choices: [secret.slice(0, 10), secret.slice(10)].map((half) => ({
            index: 0,
            delta: { content: half },
            finish_reason: null,
          })),
        },
        stop(0),
      ],
      { malformed: true },
    ),
    mixed(
      "after its finish",
      "chat",
      {},
      (secret) => [content("Hello.", 0), stop(0), content(secret, 0), stop(0)],
      { malformed: true },
    ),
    mixed(
      "cut by its finish",
      "chat",
      {},
      (secret) => [content(secret.slice(0, 10), 0), stop(0), content(secret.slice(10), 0), stop(0)],
      { malformed: true },
    ),
    mixed("finish_reason is blank in every chunk", "chat", {}, (secret) => [
      ...[...secret].map((unit) => chatChunk({ content: unit }, { finish_reason: "" })),
      stop(0),
    ]),
    mixed("finish_reason stop in every chunk", "chat", {}, (secret) => [
      ...[...secret].map((unit) => chatChunk({ content: unit }, { finish_reason: "stop" })),
    ]),
    mixed("finish_reason stop in every chunk of two", "chat", { n: 2 }, (secret) => [
      content("Hello.", 1),
      ...[...secret].map((unit) => chatChunk({ content: unit }, { finish_reason: "stop" })),
      stop(1),
    ]),
    mixed("thinking cut by text", "chat", {}, (secret) => [
      chatChunk({ reasoning_content: `${LEAD}${secret.slice(0, 10)}` }),
      content("Hello.", 0),
      chatChunk({ reasoning_content: secret.slice(10) }),
      content("Hello.", 0),
      stop(0),
    ]),
    mixed("thinking and text by turns", "chat", {}, (secret) => [
      ...[...secret].flatMap((unit) => [chatChunk({ reasoning_content: unit }), content("a", 0)]),
      stop(0),
    ]),
    mixed("finish_reason stop in every chunk", "completions", {}, (secret) => [
      ...[...secret].map((unit) => completionChunk(unit, { finish_reason: "stop" })),
    ]),
    mixed("a word before it in another event", "messages", {}, (secret) => [
      MESSAGE_BEGIN,
      { type: "novelty", words: "Fine" },
      { type: "novelty", words: secret },
      ...MESSAGE_END,
    ]),
    mixed("a word before it in another event", "chat", {}, (secret) => [
      { type: "novelty", words: "Fine" },
      { type: "novelty", words: secret },
      stop(0),
    ]),
    mixed(
      "cut by its done",
      "responses",
      {},
      (secret) => [
        responseEvent("created", { response: RESPONSE }),
        output(secret.slice(0, 10), 0),
        responseEvent("output_text.done", {
          output_index: 0,
          content_index: 0,
          item_id: "i_0",
          text: "Hello.",
        }),
        output(secret.slice(10), 0),
        done,
      ],
      { malformed: true, partUnits: 11 },
    ),
    mixed(
      "cut by its item's done",
      "responses",
      {},
      (secret) => [
        responseEvent("created", { response: RESPONSE }),
        output(secret.slice(0, 10), 0),
        responseEvent("output_item.done", {
          output_index: 0,
          item: { id: "i_0", type: "message", role: "assistant", status: "completed", content: [] },
        }),
        output(secret.slice(10), 0),
        done,
      ],
      { malformed: true, partUnits: 11 },
    ),
    mixed("with the finish", "chat", {}, (secret) => [
      content("Hello.", 0),
      chatChunk({ content: secret }, { finish_reason: "stop" }),
    ]),
    ...oddIndices.map(([name, index]) =>
      mixed(`index ${name}`, "chat", {}, (secret) => [content("Hello.", 0), odd(index)(secret), stop(0)], {
        malformed: true,
      }),
    ),
    ...oddIndices.map(([name, index]) =>
      mixed(
        `index ${name}, a unit an event`,
        "chat",
        {},
        (secret) => [content("Hello.", 0), ...[...secret].map(odd(index)), stop(0)],
        { malformed: true },
      ),
    ),
    mixed("a unit each by turns", "completions", { n: 2 }, (secret) => [
      ...[...secret].flatMap((unit) => [completionChunk(unit, {}, 0), completionChunk("q", {}, 1)]),
      completionChunk("", { finish_reason: "stop" }, 0),
      completionChunk("", { finish_reason: "stop" }, 1),
    ]),
    mixed("in the second choice", "completions", { n: 2 }, (secret) => [
      completionChunk("Hello.", {}, 0),
      completionChunk(secret, {}, 1),
      completionChunk("", { finish_reason: "stop" }, 0),
      completionChunk("", { finish_reason: "stop" }, 1),
    ]),
    mixed("two blocks by turns", "messages", {}, (secret) => [
      MESSAGE_BEGIN,
      open(0),
      open(1),
      ...[...secret].flatMap((unit) => [text("a", 0), text(unit, 1)]),
      close(0),
      close(1),
      ...MESSAGE_END,
    ]),
    mixed(
      "a block that was never opened",
      "messages",
      {},
      (secret) => [MESSAGE_BEGIN, ...[...secret].map((unit) => text(unit, 4)), ...MESSAGE_END],
      { malformed: true },
    ),
    mixed(
      "a block that was closed",
      "messages",
      {},
      (secret) => [
        MESSAGE_BEGIN,
        open(0),
        text(secret.slice(0, 9), 0),
        close(0),
        text(secret.slice(9), 0),
        ...MESSAGE_END,
      ],
      { malformed: true, partUnits: 11 },
    ),
    mixed(
      "a block opened twice",
      "messages",
      {},
      (secret) => [
        MESSAGE_BEGIN,
        open(0),
        text(secret.slice(0, 9), 0),
        open(0),
        text(secret.slice(9), 0),
        close(0),
        ...MESSAGE_END,
      ],
      { malformed: true },
    ),
    mixed("begun in the block's start", "messages", {}, (secret) => [
      MESSAGE_BEGIN,
      { type: "content_block_start", index: 0, content_block: { type: "text", text: secret.slice(0, 9) } },
      text(secret.slice(9), 0),
      close(0),
      ...MESSAGE_END,
    ]),
    mixed(
      "an index that is text",
      "messages",
      {},
      (secret) => [
        MESSAGE_BEGIN,
        open(0),
        ...[...secret].map((unit, i) => ({
          type: "content_block_delta",
          index: i % 2 === 0 ? 0 : "0",
          delta: { type: "text_delta", text: unit },
        })),
        close(0),
        ...MESSAGE_END,
      ],
      { malformed: true },
    ),
    mixed(
      "no index",
      "messages",
      {},
      (secret) => [
        MESSAGE_BEGIN,
        open(0),
        ...[...secret].map((unit) => ({
          type: "content_block_delta",
          delta: { type: "text_delta", text: unit },
        })),
        close(0),
        ...MESSAGE_END,
      ],
      { malformed: true },
    ),
    mixed("two items by turns", "responses", {}, (secret) => [
      responseEvent("created", { response: RESPONSE }),
      ...[...secret].flatMap((unit) => [output("b", 0), output(unit, 1)]),
      done,
    ]),
    mixed("two parts by turns", "responses", {}, (secret) => [
      responseEvent("created", { response: RESPONSE }),
      ...[...secret].flatMap((unit) => [output("c", 0, 0), output(unit, 0, 1)]),
      done,
    ]),
    mixed(
      "no index",
      "responses",
      {},
      (secret) => [
        responseEvent("created", { response: RESPONSE }),
        ...[...secret].map((delta) => responseEvent("output_text.delta", { delta })),
        done,
      ],
      { malformed: true },
    ),
    mixed("told only when done", "responses", {}, (secret) => [
      responseEvent("created", { response: RESPONSE }),
      output("Hello.", 0),
      responseEvent("output_text.done", { output_index: 0, content_index: 0, item_id: "i_0", text: secret }),
      done,
    ]),
    mixed("told only in the last event", "responses", {}, (secret) => [
      responseEvent("created", { response: RESPONSE }),
      output("Hello.", 0),
      responseEvent("completed", {
        response: {
          ...RESPONSE,
          status: "completed",
          output: [
            {
              id: "i_0",
              type: "message",
              role: "assistant",
              status: "completed",
              content: [{ type: "output_text", text: secret, annotations: [] }],
            },
          ],
        },
      }),
    ]),
  ];
}
