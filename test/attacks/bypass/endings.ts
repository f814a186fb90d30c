/**
 * Whether a client can read an answer to its end: by the official SDKs, fed with the bytes as they came, and
 * by the dialect's own last event. An SDK may end in its typed error; any other throw is a broken answer.
 */
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { readEvents } from "./reading.ts";

export type Route = "chat" | "completions" | "responses" | "messages";

export interface Heard {
  readonly status: number;
  readonly contentType: string;
  readonly body: Buffer;
}

/** Undefined when the answer can be read to its end; else what is wrong with it. */
export async function brokenness(route: Route, heard: Heard, stream: boolean): Promise<string | undefined> {
  const isEvents = heard.contentType.startsWith("text/event-stream");
  if (isEvents) {
    const why = endless(route, heard.body.toString("utf8"));
    if (why !== undefined) return why;
  } else {
    try {
      JSON.parse(heard.body.toString("utf8"));
    } catch {
      return "the body is neither an event stream nor JSON";
    }
  }
  // An SDK that asked for a stream cannot read JSON, and no gateway can change what it asked for.
  if (stream && !isEvents && heard.status < 300) return undefined;
  try {
    await readBySdk(route, heard, stream);
    return undefined;
  } catch (error) {
    if (error instanceof OpenAI.APIError || error instanceof Anthropic.APIError) return undefined;
    return `the SDK throws ${error instanceof Error ? `${error.name}: ${error.message}` : error}`;
  }
}

/** Undefined when the stream has its dialect's last event, or an error in its place. */
function endless(route: Route, body: string): string | undefined {
  const events = readEvents(body);
  const ends = events.some(({ event, data }) => {
    if (route !== "messages" && data === "[DONE]") return true;
    const value = objectOf(data);
    const type = value?.["type"] ?? event;
    if (event === "error" || type === "error" || (value?.["error"] !== undefined && value["error"] !== null))
      return true;
    if (route === "messages") return type === "message_stop";
    return route === "responses" && /^response\.(completed|incomplete|failed)$/.test(String(type));
  });
  return ends ? undefined : "the stream has no last event";
}

/** True when the stream or answer says of itself that it was stopped for its content, or failed. */
export function isStopped(heard: Heard): boolean {
  return (
    heard.status >= 300 ||
    /"(?:finish_reason|stop_reason|reason)"\s*:\s*"(?:content_filter|refusal|length|max_tokens|max_output_tokens)"|"(?:type|code|status)"\s*:\s*"(?:error|failed|incomplete|response\.failed|response\.incomplete)"|event: error|"error"\s*:\s*\{/.test(
      heard.body.toString("utf8"),
    )
  );
}

async function readBySdk(route: Route, heard: Heard, stream: boolean): Promise<void> {
  const fetch = async () =>
    new Response(new Uint8Array(heard.body), {
      status: heard.status,
      headers: { "content-type": heard.contentType },
    });
  const options = {
    apiKey: "none",
    baseURL: "http://127.0.0.1/v1",
    maxRetries: 0,
    logLevel: "off" as const,
    fetch,
  };
  if (route === "messages") {
    const client = new Anthropic({ ...options, baseURL: "http://127.0.0.1" });
    const asked = { model: "m", max_tokens: 9, messages: [{ role: "user" as const, content: "x" }] };
    if (stream) await client.messages.stream(asked).finalMessage();
    else await client.messages.create(asked);
    return;
  }
  const client = new OpenAI(options);
  if (route === "responses") {
    if (stream) await drain(await client.responses.create({ model: "m", input: "x", stream: true }));
    else await client.responses.create({ model: "m", input: "x" });
  } else if (route === "completions") {
    if (stream) await drain(await client.completions.create({ model: "m", prompt: "x", stream: true }));
    else await client.completions.create({ model: "m", prompt: "x" });
  } else {
    const messages = [{ role: "user" as const, content: "x" }];
    if (stream) await drain(await client.chat.completions.create({ model: "m", messages, stream: true }));
    else await client.chat.completions.create({ model: "m", messages });
  }
}

async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _event of events);
}

function objectOf(data: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
