/**
 * The model API that stands behind every variant of the bench. It shares the machine's cores with what is
 * measured, so it is as cheap as an upstream can be: answers are made once, and a stream is one write per
 * event with a timer's tick between them, which keeps events from melting into one packet.
 *
 *   node upstream.ts PORT
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { answerEvents, WHOLE_ANSWER_BODY } from "./messages.ts";

const EVENT_GAP_MS = 1;
const EVENTS_MAX = 10_000;
/** Longer than any run: a proxy that reuses an idle connection must never meet one that is just closing. */
const KEEP_ALIVE_MS = 3_600_000;

const port = Number(process.argv[2]);
if (!(port > 0)) {
  console.error("usage: node upstream.ts PORT");
  process.exit(2);
}

const wholeAnswer = Buffer.from(WHOLE_ANSWER_BODY);
const streams = new Map<number, readonly Buffer[]>();

function eventsFor(count: number): readonly Buffer[] {
  let events = streams.get(count);
  if (events === undefined) {
    events = answerEvents(Math.min(count, EVENTS_MAX)).map((event) => Buffer.from(event));
    streams.set(count, events);
  }
  return events;
}

function stream(response: ServerResponse, events: readonly Buffer[]): void {
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
  });
  // The role and the first word come together, as two writes: a reader waits for the word, not for a timer.
  response.write(events[0]);
  let next = 1;
  const send = () => {
    if (response.destroyed) return;
    const event = events[next++];
    if (event === undefined) {
      response.end();
      return;
    }
    response.write(event);
    setTimeout(send, EVENT_GAP_MS);
  };
  send();
}

function answer(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
  if (request.method !== "POST" || request.url !== "/v1/chat/completions") {
    response
      .writeHead(404, { "content-type": "application/json" })
      .end('{"error":{"message":"no such route"}}');
    return;
  }
  const asked = JSON.parse(body.toString());
  if (asked.stream === true) {
    stream(response, eventsFor(Number(asked.max_completion_tokens)));
    return;
  }
  response.writeHead(200, { "content-type": "application/json", "content-length": wholeAnswer.length });
  response.end(wholeAnswer);
}

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => answer(request, response, Buffer.concat(chunks)));
});
server.keepAliveTimeout = KEEP_ALIVE_MS;
server.listen(port, "127.0.0.1");
