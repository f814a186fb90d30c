/**
 * What each fault does to an answer. Pure: it takes the pieces that a healthy answer would have and gives
 * those that are sent, and how the connection ends. Delivery carries that out and decides nothing.
 *
 * `afterEvents` counts events of a stream. Where it is absent, `reset`, `silence` and `half_close` strike
 * before the head; on an answer that is not streamed, any `afterEvents` means after half of the body.
 */
import { gzipSync } from "node:zlib";
import type { Endpoint } from "./endpoints.ts";
import type { Fault } from "./script.ts";

export interface Chunk {
  readonly bytes: Buffer;
  readonly tokens: number;
}

/** - `clean` by HTTP's rules · `reset` RST · `silence` open, but nothing more · `half_close` FIN, still reading */
export type Ending = "clean" | "reset" | "silence" | "half_close";
export type Head = "now" | "withheld" | "slow";

export interface Damaged {
  readonly chunks: readonly Chunk[];
  readonly ending: Ending;
  readonly head: Head;
  /** Undefined: as it would be. */
  readonly contentType?: string;
  readonly contentEncoding?: string;
  /** Announce the length of the whole body, though it is not all sent. */
  readonly lengthOf?: readonly Chunk[];
}

const OVERSIZE_BYTES_DEFAULT = 8 * 1024 * 1024;
const ERROR_STATUS_DEFAULT = 500;
const INVALID_UTF8 = Buffer.from([0xc3, 0x28, 0xff]);

export function undamaged(chunks: readonly Chunk[]): Damaged {
  return { chunks, ending: "clean", head: "now" };
}

/** `streamed` chunks are one event each; otherwise there is one chunk, the whole body. */
export function damage(
  fault: Fault,
  chunks: readonly Chunk[],
  streamed: boolean,
  endpoint: Endpoint,
): Damaged {
  const healthy = undamaged(chunks);
  const first = (n: number): readonly Chunk[] => (streamed ? chunks.slice(0, n) : halved(chunks));
  const replaceAt = (n: number, change: (bytes: Buffer) => Buffer): Damaged => {
    const at = Math.min(n, chunks.length - 1);
    return {
      ...healthy,
      chunks: chunks.map((one, i) => (i === at ? { ...one, bytes: change(one.bytes) } : one)),
    };
  };
  switch (fault.kind) {
    case "reset":
    case "silence":
    case "half_close": {
      if (fault.afterEvents === undefined) return { chunks: [], ending: fault.kind, head: "withheld" };
      return { ...healthy, chunks: first(fault.afterEvents), ending: fault.kind, lengthOf: chunks };
    }
    case "malformed_event":
      return streamed
        ? inserted(healthy, fault.afterEvents ?? 1, Buffer.from('data: {"broken": \n\n'))
        : replaceAt(0, (bytes) => Buffer.concat([Buffer.from("{"), bytes]));
    case "oversize_event":
      return replaceAt(fault.afterEvents ?? 1, (bytes) =>
        padded(bytes, fault.bytes ?? OVERSIZE_BYTES_DEFAULT),
      );
    case "wrong_content_type":
      return { ...healthy, contentType: streamed ? "text/plain; charset=utf-8" : "text/html; charset=utf-8" };
    case "error_event": {
      if (!streamed || endpoint.errorFrame === undefined) return healthy;
      const sent = first(fault.afterEvents ?? 1);
      const { sse } = endpoint.errorFrame(fault.status ?? ERROR_STATUS_DEFAULT, sent.length);
      return { ...healthy, chunks: [...sent, { bytes: Buffer.from(sse), tokens: 0 }] };
    }
    case "truncate": {
      if (!streamed) return { ...healthy, chunks: first(0) };
      const at = Math.min(fault.afterEvents ?? Math.floor(chunks.length / 2), chunks.length - 1);
      return { ...healthy, chunks: [...chunks.slice(0, at), ...halved(chunks.slice(at, at + 1))] };
    }
    case "no_terminal":
      return streamed ? { ...healthy, chunks: first(fault.afterEvents ?? chunks.length - 1) } : healthy;
    case "slow_headers":
      return { ...healthy, head: "slow" };
    case "bad_encoding": {
      const bytes = gzipSync(Buffer.concat(chunks.map((one) => one.bytes)));
      return { ...healthy, chunks: [{ bytes, tokens: 0 }], contentEncoding: "gzip" };
    }
    case "bad_utf8":
      return replaceAt(fault.afterEvents ?? 1, withInvalidBytes);
    case "status":
    case "json_for_stream":
      // These choose another answer; transcript.ts has done so before it comes here.
      return healthy;
    default:
      return fault.kind satisfies never;
  }
}

function halved(chunks: readonly Chunk[]): readonly Chunk[] {
  return chunks
    .slice(0, 1)
    .map(({ bytes, tokens }) => ({ bytes: bytes.subarray(0, bytes.length >> 1), tokens }));
}

function inserted(healthy: Damaged, n: number, bytes: Buffer): Damaged {
  const { chunks } = healthy;
  return { ...healthy, chunks: [...chunks.slice(0, n), { bytes, tokens: 0 }, ...chunks.slice(n)] };
}

/** A field of `bytes` letters in front of the others; what is no JSON object gets an event of its own. */
function padded(original: Buffer, bytes: number): Buffer {
  const brace = original.indexOf("{");
  const filler = Buffer.alloc(bytes, "x");
  if (brace === -1)
    return Buffer.concat([Buffer.from('data: {"padding":"'), filler, Buffer.from('"}\n\n'), original]);
  return Buffer.concat([
    original.subarray(0, brace + 1),
    Buffer.from('"padding":"'),
    filler,
    Buffer.from('",'),
    original.subarray(brace + 1),
  ]);
}

const TEXT_FIELD = /"(?:content|text|delta|thinking|refusal|arguments|partial_json)": ?"/;

/** Inside the first text that the event carries, else inside its last string. */
function withInvalidBytes(original: Buffer): Buffer {
  const text = original.toString("latin1");
  const field = TEXT_FIELD.exec(text);
  const at = field === null ? Math.max(0, text.lastIndexOf('"')) : field.index + field[0].length;
  return Buffer.concat([original.subarray(0, at), INVALID_UTF8, original.subarray(at)]);
}
