/** What is cut off must end well, and nobody may go on paying for what nobody reads. */
import {
  answerCase,
  type BypassCase,
  broken,
  eventually,
  type Outcome,
  optionsFor,
  plainAsk,
} from "../case.ts";
import { call } from "../client.ts";
import { EVENTS, LEAD, STREAM_HEADERS, streamOf, TAIL } from "../templates/answers.ts";
import { CHANNELS, channelAnswer, ROUTES } from "./channels.ts";

/** The answer is ended within every channel, and after each event of the fullest stream. */
function endings(): BypassCase[] {
  const within = CHANNELS.filter(({ name }) => !/bytes|logprobs/.test(name)).map((channel) =>
    answerCase({
      id: `${channel.name}, the upstream goes on`,
      cls: "ending",
      route: channel.route,
      stream: true,
      marker: "ending",
      // A target that redacts reads on to the upstream's own end.
      answer: (secret) => ({
        ...channelAnswer(channel, [LEAD, secret, ...Array.from({ length: 30 }, () => TAIL)]),
        gapMs: 5,
      }),
    }),
  );
  const after = ROUTES.flatMap((route) =>
    EVENTS[route].slice(0, -1).map((_, at) =>
      answerCase({
        id: `${route}, after ${at + 1} events`,
        cls: "ending",
        route,
        stream: true,
        marker: "ending",
        answer: (secret) => {
          const channel = CHANNELS.find((one) => one.route === route)!;
          const { chunks } = streamOf(route, EVENTS[route]);
          const index = route === "messages" ? 9 : 0;
          const said =
            route === "messages"
              ? [
                  {
                    type: "content_block_start",
                    index: 20 + index,
                    content_block: { type: "text", text: "" },
                  },
                  {
                    type: "content_block_delta",
                    index: 20 + index,
                    delta: { type: "text_delta", text: `${LEAD}${secret}${TAIL}` },
                  },
                  { type: "content_block_stop", index: 20 + index },
                ]
              : [channel.piece(`${LEAD}${secret}${TAIL}`)];
          const inserted = streamOf("responses", said).chunks;
          return {
            headers: STREAM_HEADERS,
            chunks: [...chunks.slice(0, at + 1), ...inserted, ...chunks.slice(at + 1)],
          };
        },
      }),
    ),
  );
  const whole = ROUTES.map((route) =>
    answerCase({
      id: `${route}, whole`,
      cls: "ending",
      route,
      stream: false,
      marker: "ending",
      answer: (secret) => ({ chunks: [JSON.stringify(wholeWith(route, secret))] }),
    }),
  );
  return [...within, ...after, ...whole, ...cancelled()];
}

function wholeWith(route: (typeof ROUTES)[number], secret: string): unknown {
  const text = `${LEAD}${secret}${TAIL}`;
  const usage = { prompt_tokens: 3, completion_tokens: 7, total_tokens: 10 };
  switch (route) {
    case "chat":
      return {
        id: "c",
        object: "chat.completion",
        created: 1,
        model: "m",
        usage,
        choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: text } }],
      };
    case "completions":
      return {
        id: "c",
        object: "text_completion",
        created: 1,
        model: "m",
        usage,
        choices: [{ index: 0, finish_reason: "stop", text, logprobs: null }],
      };
    case "responses":
      return {
        id: "r",
        object: "response",
        created_at: 1,
        status: "completed",
        model: "m",
        output: [
          {
            id: "m1",
            type: "message",
            role: "assistant",
            status: "completed",
            content: [{ type: "output_text", text, annotations: [] }],
          },
        ],
      };
    case "messages":
      return {
        id: "msg",
        type: "message",
        role: "assistant",
        model: "m",
        content: [{ type: "text", text }],
        stop_reason: "end_turn",
        stop_sequence: null,
        usage: { input_tokens: 3, output_tokens: 7 },
      };
    default:
      return route satisfies never;
  }
}

/** Once the client was told that the answer is over, the upstream's call must be. */
function cancelled(): BypassCase[] {
  return ROUTES.map((route) =>
    answerCase({
      id: `${route}, the upstream never ends`,
      cls: "ending",
      route,
      stream: true,
      marker: "ending",
      malformed: true,
      cancels: true,
      answer: (secret) => {
        const channel = CHANNELS.find((one) => one.route === route)!;
        const { chunks } = channelAnswer(channel, [LEAD, secret, TAIL]);
        return { headers: STREAM_HEADERS, chunks: chunks.slice(0, channel.before.length + 3), end: "hang" };
      },
    }),
  );
}

const LEFT_MS = 2_000;

/** Callers who leave at bad moments: the upstream's call must end soon after. */
function disconnects(): BypassCase[] {
  const moments = [
    { id: "amid a stream", stream: true, leave: { leaveAfterMs: 40 } },
    { id: "at a stream's head", stream: true, leave: { leaveAfterMs: 0 } },
    { id: "before a whole answer", stream: false, leave: "once the upstream was called" },
    { id: "before a stream's first byte", stream: true, leave: "once the upstream was called" },
  ];
  return ROUTES.flatMap((route) =>
    moments.map(({ id, stream, leave }) => ({
      id: `disconnect/${route}, ${id}`,
      cls: "disconnect" as const,
      async run(world, tag): Promise<Outcome> {
        if (!world.isObserved) return { result: "skipped", why: "the upstream is not ours" };
        const ask = plainAsk(route, tag, stream ? { stream } : {});
        if (!world.serves(ask.path)) return { result: "skipped", why: `${ask.path} is not served` };
        const channel = CHANNELS.find((one) => one.route === route)!;
        const words = channelAnswer(
          channel,
          Array.from({ length: 2_000 }, () => "word "),
        ).chunks;
        world.upstream.script(
          tag,
          typeof leave === "object"
            ? { headers: STREAM_HEADERS, chunks: words, gapMs: 2 }
            : { chunks: [], gapMs: 1, end: "hang" },
        );
        // Headers of a hanging answer are held back by node until its first byte.
        const calls = () => world.upstream.received(tag);
        const called = eventually(() => calls().length > 0, LEFT_MS);
        const leaves = typeof leave === "object" ? leave : { leaveOn: called };
        await call(ask, { ...optionsFor(world, ask.path), ...leaves });
        if (!(await called)) return broken("the upstream was never called");
        const ended = await eventually(() => calls().every(({ aborted }) => aborted), LEFT_MS);
        return ended
          ? { result: "passed", how: "cancelled" }
          : broken(`the upstream's call went on for ${LEFT_MS} ms after the caller had left`);
      },
    })),
  );
}

export function endingCases(): BypassCase[] {
  return [...endings(), ...disconnects()];
}
