/**
 * What is said in the bench: a chat request of 1 KB, and the answer to it, whole and as events. Every turn
 * of a request carries a number that changes with each request, so that no gateway can answer from a cache
 * of texts that it judged before.
 */

/** First word of every answer; its arrival is the first byte that a reader sees. */
export const FIRST_WORD = "Sandstone";
export const STREAM_END = "data: [DONE]\n\n";
export const REQUEST_BODY_BYTES = 1024;

/** Stands in a request's text where its number goes; the digits keep its length. */
const NUMBER_SLOT = "@NUMBER@";

const FILLER =
  "The masons cut each block to the width of two hands and laid it dry, course upon course, so that the " +
  "rain would run through the joints and never freeze behind the face of the wall. ";

/** Bodies are cut at the slots: `parts.join(number)` is a body, and costs a copy and no parsing. */
export function requestParts(options: {
  readonly events: number;
  readonly bodyBytes?: number | undefined;
}): readonly string[] {
  const stream = options.events > 0;
  const body = (filler: number) =>
    JSON.stringify({
      model: "bench-1",
      ...(stream ? { stream: true } : {}),
      // The bench's upstream answers with as many events as tokens are asked for.
      max_completion_tokens: stream ? options.events : 256,
      temperature: 0.2,
      messages: [
        { role: "system", content: `You help the keeper of a fortress. Visit ${NUMBER_SLOT}.` },
        { role: "user", content: `Question ${NUMBER_SLOT}: how was the outer wall of the fortress built?` },
        { role: "assistant", content: `Answer ${NUMBER_SLOT}: of local stone, without mortar.` },
        { role: "user", content: `Note ${NUMBER_SLOT}. ${filling(filler)} Why so?` },
      ],
    });
  return body((options.bodyBytes ?? REQUEST_BODY_BYTES) - body(0).length).split(NUMBER_SLOT);
}

function filling(length: number): string {
  return FILLER.repeat(Math.ceil(Math.max(0, length) / FILLER.length)).slice(0, Math.max(0, length));
}

export function requestBody(parts: readonly string[], number: number): string {
  return parts.join(String(number % 100_000_000).padStart(NUMBER_SLOT.length, "0"));
}

const COMMON = { id: "chatcmpl-bench0000000000000000000001", created: 1_790_000_000, model: "bench-1" };

/** The text of an answer without events, which makes a body of about 1 KB. */
export const WHOLE_ANSWER = `${FIRST_WORD} from the quarry below the hill. ${FILLER.repeat(4).slice(0, 640)}`;

export const WHOLE_ANSWER_BODY = JSON.stringify({
  ...COMMON,
  object: "chat.completion",
  choices: [
    {
      index: 0,
      message: { role: "assistant", content: WHOLE_ANSWER, refusal: null },
      logprobs: null,
      finish_reason: "stop",
    },
  ],
  usage: { prompt_tokens: 211, completion_tokens: 138, total_tokens: 349 },
  service_tier: "default",
});

/** The pieces of text in a streamed answer of `events` events: role, text ..., finish, [DONE]. */
function pieces(events: number): readonly string[] {
  const words = FILLER.trim().split(" ");
  return Array.from({ length: Math.max(1, events - 3) }, (_, index) =>
    index === 0 ? FIRST_WORD : ` ${words[index % words.length]}`,
  );
}

export function streamedAnswer(events: number): string {
  return pieces(events).join("");
}

/** A streamed answer as the events that go over the wire, one string each. */
export function answerEvents(events: number): readonly string[] {
  const chunk = (delta: object, finish: string | null) =>
    `data: ${JSON.stringify({
      ...COMMON,
      object: "chat.completion.chunk",
      service_tier: "default",
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
    })}\n\n`;
  return [
    chunk({ role: "assistant", content: "", refusal: null }, null),
    ...pieces(events).map((content) => chunk({ content }, null)),
    chunk({}, "stop"),
    STREAM_END,
  ];
}

/** The text that an answer's body gives its reader; throws when the body is not an answer. */
export function textOf(body: string, streamed: boolean): string {
  if (!streamed) return JSON.parse(body).choices[0].message.content;
  let text = "";
  for (const event of body.split("\n\n")) {
    if (!event.startsWith("data: {")) continue;
    text += JSON.parse(event.slice("data: ".length)).choices[0]?.delta?.content ?? "";
  }
  return text;
}
