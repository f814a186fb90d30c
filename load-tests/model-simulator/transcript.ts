/**
 * One answer, finished to the byte before anything is sent: status, headers, and the pieces that each go
 * out in a write of their own. Making it is pure, so that an answer to a request seen before can be kept.
 *
 *   script + request --endpoint--> JSON or events --fault--> chunks --byteChunks, coalesce--> pieces
 */
import type { Endpoint } from "./endpoints.ts";
import { type Vendor, vendorError, vendorHeaders } from "./endpoints.ts";
import { type Chunk, type Damaged, damage, type Ending, type Head, undamaged } from "./faults.ts";
import { frameOf } from "./frame.ts";
import type { Random } from "./random.ts";
import type { Call } from "./reply.ts";
import type { Script } from "./script.ts";

export interface Piece {
  /** The bytes, wrapped as one chunk of HTTP's chunked coding where the length is not announced. */
  readonly wire: Buffer;
  readonly payload: Buffer;
  readonly tokens: number;
}

export interface Transcript {
  readonly status: number;
  /** Names and values in turns. */
  readonly headers: readonly string[];
  readonly pieces: readonly Piece[];
  /** The length is not announced: pieces go out as HTTP chunks. */
  readonly chunked: boolean;
  readonly ending: Ending;
  readonly head: Head;
  /** Bytes of a slow head per write. */
  readonly headBytes: number;
  readonly bytes: number;
}

const SLOW_HEAD_BYTES = 16;
const STATUS_FAULT_DEFAULT = 500;

export function makeTranscript(endpoint: Endpoint, call: Call): Transcript {
  const { script, random } = call;
  const { fault } = script;
  if (fault?.kind === "status") {
    const status = fault.status ?? STATUS_FAULT_DEFAULT;
    const more = fault.retryAfter === undefined ? [] : ["retry-after", String(fault.retryAfter)];
    return errorTranscript(endpoint.vendor, random, status, undefined, null, more);
  }
  const { chunks, streamed, contentType } = say(endpoint, call);
  const result = fault === undefined ? undamaged(chunks) : damage(fault, chunks, streamed, endpoint);
  // A clean answer that is not streamed announces its length; a broken one announces what it will not send.
  const announced = streamed ? undefined : totalBytes(result.lengthOf ?? result.chunks);
  const headers = [
    ...vendorHeaders(endpoint.vendor, random),
    "content-type",
    script.contentType ?? result.contentType ?? contentType,
    ...(streamed ? ["cache-control", "no-cache"] : []),
    ...(announced === undefined ? [] : ["content-length", String(announced)]),
    ...(result.contentEncoding === undefined ? [] : ["content-encoding", result.contentEncoding]),
  ];
  return {
    status: script.rawBody === undefined ? 200 : (script.status ?? 200),
    headers,
    pieces: piecesOf(script, result, announced === undefined),
    chunked: announced === undefined,
    ending: result.ending,
    head: result.head,
    headBytes: fault?.bytes ?? SLOW_HEAD_BYTES,
    bytes: totalBytes(result.chunks),
  };
}

function say(endpoint: Endpoint, call: Call) {
  const { script } = call;
  const chunk = (text: string, tokens = 0): Chunk => ({ bytes: Buffer.from(text), tokens });
  if (script.rawBody !== undefined) {
    return { chunks: [chunk(script.rawBody)], streamed: false, contentType: "application/json" };
  }
  const sse = "text/event-stream; charset=utf-8";
  if (script.events !== undefined) {
    const chunks = script.events.map(({ data, event }) =>
      chunk(frameOf(typeof data === "string" ? data : JSON.stringify(data), event).sse, 1),
    );
    return { chunks, streamed: true, contentType: sse };
  }
  const wanted = call.body["stream"] === true && script.fault?.kind !== "json_for_stream";
  if (wanted && endpoint.frames !== undefined) {
    const chunks = endpoint.frames(call).map((frame) => chunk(frame.sse, frame.tokens));
    return { chunks, streamed: true, contentType: sse };
  }
  return {
    chunks: [chunk(JSON.stringify(endpoint.whole(call)))],
    streamed: false,
    contentType: "application/json",
  };
}

function piecesOf(script: Script, { chunks }: Damaged, chunked: boolean): Piece[] {
  if (script.coalesce !== true && script.byteChunks === undefined) {
    return chunks.map(({ bytes, tokens }) => pieceOf(bytes, tokens, chunked));
  }
  const all = Buffer.concat(chunks.map((one) => one.bytes));
  const size = script.byteChunks ?? all.length;
  const pieces: Piece[] = [];
  for (let at = 0; at < all.length; at += size) {
    pieces.push(pieceOf(all.subarray(at, at + size), 0, chunked));
  }
  return pieces;
}

function pieceOf(payload: Buffer, tokens: number, chunked: boolean): Piece {
  if (!chunked) return { wire: payload, payload, tokens };
  const wire = Buffer.concat([
    Buffer.from(`${payload.length.toString(16)}\r\n`),
    payload,
    Buffer.from("\r\n"),
  ]);
  return { wire, payload: wire.subarray(wire.length - payload.length - 2, wire.length - 2), tokens };
}

function totalBytes(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, one) => sum + one.bytes.length, 0);
}

/** An error answer in the vendor's shape. */
export function errorTranscript(
  vendor: Vendor,
  random: Random,
  status: number,
  message: string | undefined,
  param: string | null = null,
  moreHeaders: readonly string[] = [],
): Transcript {
  const payload = Buffer.from(JSON.stringify(vendorError(vendor, random, status, message, param)));
  const headers = [
    ...vendorHeaders(vendor, random),
    "content-type",
    "application/json",
    "content-length",
    String(payload.length),
    ...moreHeaders,
  ];
  const pieces = [{ wire: payload, payload, tokens: 0 }];
  return {
    status,
    headers,
    pieces,
    chunked: false,
    ending: "clean",
    head: "now",
    headBytes: SLOW_HEAD_BYTES,
    bytes: payload.length,
  };
}
