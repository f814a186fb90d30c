/**
 * The official SDK and the `ai` SDK as judges: endings after every prefix of a stream, failures, error bodies
 * and withheld answers reach them over real sockets and must come out as their own objects and error classes.
 */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { streamText } from "ai";
import OpenAI from "openai";
import type { Operation } from "../../layer/index.ts";
import type { EventReading, JsonObject, PublicProblem, SseEvent, StopCause } from "../dialect.ts";
import { openai } from "./index.ts";
import { CHAT_CHUNKS, RESPONSE_EVENTS } from "./transcripts.ts";

let server: Server;
let client: OpenAI;
let baseURL = "";
/** What the server answers next. */
let reply: { readonly status: number; readonly type: string; readonly body: string } = {
  status: 500,
  type: "",
  body: "",
};

before(async () => {
  server = createServer((request, response) => {
    request.resume();
    response.writeHead(reply.status, { "content-type": reply.type });
    response.end(reply.body);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  client = new OpenAI({ apiKey: "test", baseURL, maxRetries: 0 });
});
after(() => server.close());

function sse(events: readonly SseEvent[]): void {
  const body = events
    .map(({ event, data }) => `${event === "" ? "" : `event: ${event}\n`}data: ${data}\n\n`)
    .join("");
  reply = { status: 200, type: "text/event-stream", body };
}

function json(status: number, body: string): void {
  reply = { status, type: "application/json", body };
}

const eventsOf: Readonly<Record<"chat" | "responses", readonly SseEvent[]>> = {
  chat: CHAT_CHUNKS.map((chunk) => ({ event: "", data: JSON.stringify(chunk) })),
  responses: RESPONSE_EVENTS.map((event) => ({ event: String(event["type"]), data: JSON.stringify(event) })),
};

/** `sent` events left, `held` more were read, then the gateway ends the stream. */
function cut(operation: "chat" | "responses", sent: number, held: number, why?: StopCause): void {
  const stream = openai.openAnswerStream(operation);
  const all = eventsOf[operation];
  const readings: EventReading[] = all.slice(0, sent + held).map((event) => stream.read(event));
  const unsent = held === 0 ? undefined : readings.slice(sent);
  sse([...all.slice(0, sent), ...stream.ending(unsent, why)]);
}

const CAUSES: readonly [StopCause, finish: string, incomplete: string][] = [
  ["filter", "content_filter", "content_filter"],
  ["length", "length", "max_output_tokens"],
];

const problem: PublicProblem = {
  code: "upstream_reset",
  status: 502,
  message: "The model API closed the connection.",
  requestId: "req_1",
};

test("chat: the SDK accepts the ending after every prefix, with and without events held", async () => {
  const full = eventsOf.chat.length;
  for (const [why, finish] of CAUSES) {
    for (let sent = 0; sent < full - 1; sent++) {
      for (const held of [0, 3]) {
        cut("chat", sent, Math.min(held, full - sent), why);
        const runner = client.chat.completions.stream({ model: "m", messages: [] });
        const completion = await runner.finalChatCompletion();
        const expected = sent > 8 ? 1 : 0;
        assert.equal(
          completion.choices[expected]?.finish_reason,
          sent > 9 ? "stop" : finish,
          `${why} ${sent}+${held}`,
        );
        assert.equal(completion.usage, undefined);
      }
    }
  }
});

test("responses: the SDK accepts the ending after every prefix, with and without events held", async () => {
  const full = eventsOf.responses.length;
  for (const [why, , reason] of CAUSES) {
    for (let sent = 0; sent < full - 1; sent++) {
      for (const held of [0, 2, 9]) {
        cut("responses", sent, Math.min(held, full - sent), why);
        const response = await client.responses.stream({ model: "m", input: "x" }).finalResponse();
        assert.equal(response.status, "incomplete", `${why} ${sent}+${held}`);
        assert.equal(response.incomplete_details?.reason, reason);
        assert.equal(response.output_text, "");
        const numbers: number[] = [];
        for await (const event of await client.responses.create({ model: "m", input: "x", stream: true }))
          numbers.push(event.sequence_number);
        assert.deepEqual(
          numbers,
          numbers.toSorted((a, b) => a - b),
        );
      }
    }
  }
});

test("completions: a cut at a limit is the SDK's finish reason for it", async () => {
  const stream = openai.openAnswerStream("completions");
  const first: SseEvent = {
    event: "",
    data: JSON.stringify({
      id: "cmpl_1",
      object: "text_completion",
      created: 1,
      model: "m",
      choices: [{ index: 0, text: "One", logprobs: null, finish_reason: null }],
    }),
  };
  stream.read(first);
  sse([first, ...stream.ending(undefined, "length")]);
  let text = "";
  const finishes: unknown[] = [];
  for await (const chunk of await client.completions.create({ model: "m", prompt: "x", stream: true })) {
    text += chunk.choices[0]?.text ?? "";
    finishes.push(chunk.choices[0]?.finish_reason);
  }
  assert.deepEqual([text, finishes], ["One", [null, "length"]]);
});

test("the ai SDK finishes with content-filter and without an error", async () => {
  const provider = createOpenAI({ apiKey: "test", baseURL });
  for (const operation of ["chat", "responses"] as const) {
    for (let sent = 0; sent < eventsOf[operation].length - 3; sent += 2) {
      cut(operation, sent, 0);
      const errors: unknown[] = [];
      const model = operation === "chat" ? provider.chat("m") : provider.responses("m");
      const result = streamText({
        model,
        prompt: "x",
        maxRetries: 0,
        onError: ({ error }) => void errors.push(error),
      });
      let finish = "";
      for await (const part of result.fullStream) {
        if (part.type === "finish") finish = part.finishReason;
        if (part.type === "error") errors.push(part.error);
      }
      assert.deepEqual(errors, [], `${operation} ${sent}`);
      // The ai SDK reports the last finish reason of any choice; a finished first choice is not undone.
      if (operation === "responses" || sent <= 8)
        assert.equal(finish, "content-filter", `${operation} ${sent}`);
    }
  }
});

test("a failure mid-stream is the SDK's APIError with the gateway's code", async () => {
  for (const operation of ["chat", "responses", "completions"] as const) {
    const events = operation === "completions" ? [] : eventsOf[operation].slice(0, 3);
    const stream = openai.openAnswerStream(operation);
    for (const event of events) stream.read(event);
    sse([...events, ...stream.failure(problem)]);
    const calls = {
      chat: () => client.chat.completions.create({ model: "m", messages: [], stream: true }),
      completions: () => client.completions.create({ model: "m", prompt: "x", stream: true }),
      responses: () => client.responses.create({ model: "m", input: "x", stream: true }),
    };
    await assert.rejects(
      async () => {
        for await (const _ of (await calls[operation]()) as AsyncIterable<unknown>);
      },
      (error) =>
        error instanceof OpenAI.APIError &&
        error.code === "upstream_reset" &&
        error.message === problem.message,
      operation,
    );
    if (operation === "responses")
      await assert.rejects(
        client.responses.stream({ model: "m", input: "x" }).finalResponse(),
        OpenAI.APIError,
      );
  }
});

test("error bodies come out as the SDK's typed classes", async () => {
  const classes = [
    [400, OpenAI.BadRequestError, "invalid_request_error"],
    [401, OpenAI.AuthenticationError, "authentication_error"],
    [403, OpenAI.PermissionDeniedError, "permission_error"],
    [404, OpenAI.NotFoundError, "invalid_request_error"],
    [413, OpenAI.APIError, "invalid_request_error"],
    [429, OpenAI.RateLimitError, "rate_limit_error"],
    [502, OpenAI.InternalServerError, "server_error"],
    [503, OpenAI.InternalServerError, "server_error"],
  ] as const;
  for (const [status, errorClass, type] of classes) {
    json(status, openai.errorBody({ ...problem, status, param: "/messages/0" }));
    await assert.rejects(client.models.list(), (error) => {
      assert.ok(error instanceof errorClass, `${status}`);
      assert.equal(error.status, status);
      assert.equal(error.code, "upstream_reset");
      assert.equal(error.type, type);
      assert.equal(error.param, "/messages/0");
      return true;
    });
  }
});

test("withheld answers are whole objects to the SDK", async () => {
  const withheld = (operation: Operation, body: unknown) =>
    json(200, openai.readAnswer(operation, body as JsonObject).withheld() ?? "");
  const head = { id: "x", object: "o", created: 1, model: "m" };
  withheld("chat", {
    ...head,
    choices: [{ index: 0, message: { role: "assistant", content: "secret" }, finish_reason: "stop" }],
  });
  const chat = await client.chat.completions.create({ model: "m", messages: [] });
  assert.equal(chat.choices[0]?.finish_reason, "content_filter");
  assert.equal(chat.choices[0]?.message.content, null);
  withheld("completions", { ...head, choices: [{ index: 0, text: "secret", finish_reason: "stop" }] });
  assert.equal((await client.completions.create({ model: "m", prompt: "x" })).choices[0]?.text, "");
  withheld("responses", RESPONSE_EVENTS.at(-1)?.["response"]);
  const response = await client.responses.create({ model: "m", input: "x" });
  assert.equal(response.incomplete_details?.reason, "content_filter");
  assert.equal(response.output_text, "");
});
