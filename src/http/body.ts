/**
 * Reads a request body under bounds of size and time, and inflates it under the same bound, off the event
 * loop. The caller gets plain bytes; what the client compressed is never forwarded compressed.
 */
import type { IncomingMessage } from "node:http";
import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate } from "node:zlib";
import { type Problem, problem } from "../layer/index.ts";

export interface BodyLimits {
  /** Of the bytes sent and of the bytes after inflation. */
  readonly bodyBytesMax: number;
  readonly bodyMs: number;
}

export type BodyRead =
  | { readonly ok: true; readonly bytes: Buffer; readonly wireBytes: number }
  | { readonly ok: false; readonly problem: Problem };

type Inflate = (bytes: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>;

const INFLATERS: Readonly<Record<string, Inflate>> = {
  gzip: promisify(gunzip) as Inflate,
  "x-gzip": promisify(gunzip) as Inflate,
  deflate: promisify(inflate) as Inflate,
  br: promisify(brotliDecompress) as Inflate,
};

export async function readBody(
  request: IncomingMessage,
  headers: Readonly<Record<string, string>>,
  limits: BodyLimits,
): Promise<BodyRead> {
  const encoding = (headers["content-encoding"] ?? "identity").trim().toLowerCase();
  const inflater = INFLATERS[encoding];
  if (inflater === undefined && encoding !== "identity" && encoding !== "") {
    return refuse(
      "body_encoding",
      `content-encoding ${JSON.stringify(encoding.slice(0, 40))} is not supported; use gzip, deflate, br or none.`,
    );
  }
  const announced = Number(headers["content-length"] ?? 0);
  if (announced > limits.bodyBytesMax) return tooLarge(limits);
  const wire = await collect(request, limits);
  if (!Buffer.isBuffer(wire)) return { ok: false, problem: wire };
  if (inflater === undefined || wire.length === 0) return { ok: true, bytes: wire, wireBytes: wire.length };
  try {
    const bytes = await inflater(wire, { maxOutputLength: limits.bodyBytesMax });
    return { ok: true, bytes, wireBytes: wire.length };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ERR_BUFFER_TOO_LARGE") return tooLarge(limits);
    return refuse("body_inflate", `The body is not valid ${encoding}.`);
  }
}

function collect(request: IncomingMessage, limits: BodyLimits): Promise<Buffer | Problem> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const timer = setTimeout(() => done(problem("body_timeout")), limits.bodyMs);
    const done = (outcome: Buffer | Problem) => {
      clearTimeout(timer);
      request.off("data", onData);
      resolve(outcome);
    };
    const onData = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > limits.bodyBytesMax) {
        done(tooLarge(limits).problem);
        return;
      }
      chunks.push(chunk);
    };
    request.on("data", onData);
    request.once("end", () => done(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, bytes)));
    request.once("error", () => done(problem("body_incomplete")));
    request.once("close", () => done(problem("body_incomplete")));
  });
}

function tooLarge(limits: BodyLimits): { ok: false; problem: Problem } {
  return refuse("body_too_large", `The body is larger than ${limits.bodyBytesMax} bytes.`);
}

function refuse(
  code: "body_encoding" | "body_too_large" | "body_inflate",
  message: string,
): { ok: false; problem: Problem } {
  return { ok: false, problem: problem(code, { message }) };
}
