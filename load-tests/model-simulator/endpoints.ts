/**
 * The list of what is served: a method and path, whose wire format it speaks, and how its answer is made.
 */

import { countTokensWhole, messageErrorFrame, messageFrames, messageWhole } from "./anthropic-messages.ts";
import {
  anthropicErrorBody,
  anthropicHeaders,
  anthropicModelsWhole,
  anthropicModelWhole,
  anthropicRequestId,
} from "./anthropic-shape.ts";
import type { Frame } from "./frame.ts";
import { classifyWhole } from "./guard.ts";
import { embeddingsWhole, modelsWhole, modelWhole, moderationsWhole } from "./openai-catalog.ts";
import { chatErrorFrame, chatFrames, chatWhole } from "./openai-chat.ts";
import { completionFrames, completionWhole } from "./openai-completions.ts";
import { responseErrorFrame, responseFrames, responseWhole } from "./openai-responses.ts";
import { openaiErrorBody, openaiHeaders } from "./openai-shape.ts";
import type { Random } from "./random.ts";
import type { Call } from "./reply.ts";

export type Vendor = "openai" | "anthropic";

export interface Endpoint {
  readonly method: "GET" | "POST";
  readonly vendor: Vendor;
  /** The body of an answer that is not streamed. */
  readonly whole: (call: Call) => object;
  /** The events of a streamed one; absent where the vendor streams nothing. */
  readonly frames?: (call: Call) => readonly Frame[];
  /** The vendor's error in mid-stream, `sent` events in. */
  readonly errorFrame?: (status: number, sent: number) => Frame;
}

const ENDPOINTS: Readonly<Record<string, Endpoint>> = {
  "/v1/chat/completions": {
    method: "POST",
    vendor: "openai",
    whole: chatWhole,
    frames: chatFrames,
    errorFrame: chatErrorFrame,
  },
  "/v1/completions": {
    method: "POST",
    vendor: "openai",
    whole: completionWhole,
    frames: completionFrames,
    errorFrame: chatErrorFrame,
  },
  "/v1/responses": {
    method: "POST",
    vendor: "openai",
    whole: responseWhole,
    frames: responseFrames,
    errorFrame: responseErrorFrame,
  },
  "/v1/embeddings": { method: "POST", vendor: "openai", whole: embeddingsWhole },
  "/v1/moderations": { method: "POST", vendor: "openai", whole: moderationsWhole },
  "/v1/classify": { method: "POST", vendor: "openai", whole: classifyWhole },
  "/v1/messages": {
    method: "POST",
    vendor: "anthropic",
    whole: messageWhole,
    frames: messageFrames,
    errorFrame: messageErrorFrame,
  },
  "/v1/messages/count_tokens": { method: "POST", vendor: "anthropic", whole: countTokensWhole },
};

const OPENAI_MODELS: Endpoint = { method: "GET", vendor: "openai", whole: modelsWhole };
const OPENAI_MODEL: Endpoint = { method: "GET", vendor: "openai", whole: modelWhole };
const ANTHROPIC_MODELS: Endpoint = { method: "GET", vendor: "anthropic", whole: anthropicModelsWhole };
const ANTHROPIC_MODEL: Endpoint = { method: "GET", vendor: "anthropic", whole: anthropicModelWhole };
const MODELS_PATH = "/v1/models";

export interface Found {
  readonly vendor: Vendor;
  /** Undefined: this path is not served. */
  readonly endpoint: Endpoint | undefined;
  /** The NAME of /v1/models/NAME. */
  readonly name: string;
}

/** `anthropicVersion`: the header that Anthropic's clients send, and that tells the two lists of models apart. */
export function findEndpoint(url: string, anthropicVersion: boolean): Found {
  const query = url.indexOf("?");
  const path = query === -1 ? url : url.slice(0, query);
  const known = ENDPOINTS[path];
  if (known !== undefined) return { vendor: known.vendor, endpoint: known, name: "" };
  const vendor = anthropicVersion || path.startsWith("/v1/messages") ? "anthropic" : "openai";
  const openai = vendor === "openai";
  if (path === MODELS_PATH) return { vendor, endpoint: openai ? OPENAI_MODELS : ANTHROPIC_MODELS, name: "" };
  if (path.startsWith(`${MODELS_PATH}/`) && path.length > MODELS_PATH.length + 1) {
    const name = decoded(path.slice(MODELS_PATH.length + 1));
    return { vendor, endpoint: openai ? OPENAI_MODEL : ANTHROPIC_MODEL, name };
  }
  return { vendor, endpoint: undefined, name: "" };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function vendorHeaders(vendor: Vendor, random: Random): string[] {
  return vendor === "openai" ? openaiHeaders(random) : anthropicHeaders(random);
}

export function vendorError(
  vendor: Vendor,
  random: Random,
  status: number,
  message?: string,
  param?: string | null,
): object {
  return vendor === "openai"
    ? openaiErrorBody(status, message, param)
    : anthropicErrorBody(status, message, anthropicRequestId(random));
}
