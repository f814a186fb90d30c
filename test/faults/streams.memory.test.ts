/**
 * Readers that take 1 KB a second of an answer of 50 MB: what one of them makes the gateway keep, what 200 of them add
 * to its memory, and that the upstream is held up rather than its answer kept. The gateway is a process of its own; what
 * it keeps is asked of its metrics, its memory of the kernel. A socket takes some 8 MB before anybody is held up, so by
 * itself the test has 40 readers and a fifth of the bar; SALLYPORT_TEST_READERS=200 has it whole.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { KEY } from "../support/house.ts";
import { startGateway } from "../support/own-process.ts";
import { chatEvent, openUpstream, type RawUpstream } from "../support/raw-upstream.ts";

const MIB = 1_048_576;
const ANSWER_BYTES = 50_000_000;
const READERS = Number(process.env["SALLYPORT_TEST_READERS"] ?? 40);
const READER_BYTES_MAX = MIB;
const READERS_ADD_BYTES_MAX = (250_000_000 / 200) * READERS;
/** Held up: nothing was taken from the upstream for so long. */
const STILL_MS = 1_000;
const FILLED_WITHIN_MS = 120_000;

const EVENT = Buffer.from(
  chatEvent({ content: "The plan for the week is simple, and nothing in it is new. ".repeat(40) }),
);

/** Bytes that the upstream got rid of, by call. */
const sent: number[] = [];
let upstream: RawUpstream;
let gateway: Awaited<ReturnType<typeof startGateway>> | undefined;
const sockets: Socket[] = [];

before(async () => {
  upstream = await openUpstream((response) => pour(response, sent.push(0) - 1));
  gateway = await startGateway(upstream.url, ["auth", "output-secrets"]);
});
after(async () => {
  for (const socket of sockets) socket.destroy();
  await gateway?.close();
  await upstream.close();
});

/** Writes the answer as fast as it is taken. */
function pour(response: ServerResponse, call: number): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const go = () => {
    while (sent[call]! < ANSWER_BYTES && !response.destroyed) {
      sent[call]! += EVENT.length;
      if (!response.write(EVENT)) return void response.once("drain", go);
    }
    response.end(`${chatEvent({}, "stop")}data: [DONE]\n\n`);
  };
  go();
}

/** Asks for the answer and takes 1 KB of it a second. */
function readSlowly(): void {
  const body = JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "Go on." }] });
  const socket = connect({ port: gateway!.port, host: "127.0.0.1", readableHighWaterMark: 1_024 } as never);
  sockets.push(socket);
  socket.on("error", () => {});
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n` +
      `authorization: Bearer ${KEY}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  socket.pause();
  const timer = setInterval(() => socket.read(1_024), 1_000);
  socket.on("readable", () => {});
  socket.on("close", () => clearInterval(timer));
}

function residentBytes(): number {
  const status = readFileSync(`/proc/${gateway!.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1_024;
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${gateway!.adminUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
}

/** Waits until no more is taken from the upstream; the most memory that the gateway had until then. */
async function untilHeldUp(): Promise<number> {
  let most = 0;
  let taken = -1;
  let since = Date.now();
  for (const until = since + FILLED_WITHIN_MS; Date.now() < until; await sleep(50)) {
    most = Math.max(most, residentBytes());
    const now = sent.reduce((sum, bytes) => sum + bytes, 0);
    if (now > taken) [taken, since] = [now, Date.now()];
    else if (Date.now() - since > STILL_MS) return most;
  }
  throw new Error("the upstream is never held up");
}

test("a reader at 1 KB/s of 50 MB has at most 1 MiB kept for it, and the upstream waits", async (t) => {
  readSlowly();
  await untilHeldUp();
  const kept = await metric("sallyport_held_bytes_peak");
  t.diagnostic(
    `${(kept / 1_024).toFixed(0)} KiB kept, ${(sent[0]! / 1e6).toFixed(1)} MB taken from the upstream`,
  );
  assert.ok(kept > 0 && kept <= READER_BYTES_MAX, `${kept} bytes`);
  assert.ok(sent[0]! < ANSWER_BYTES / 2, `${sent[0]} bytes were taken from the upstream`);
});

test(`${READERS} of them add at most ${READERS_ADD_BYTES_MAX / 1e6} MB`, async (t) => {
  const before = residentBytes();
  for (let i = 0; i < READERS; i++) readSlowly();
  const added = (await untilHeldUp()) - before;
  const kept = await metric("sallyport_held_bytes");
  t.diagnostic(
    `${(added / 1e6).toFixed(0)} MB added to ${(before / 1e6).toFixed(0)} MB; ${(kept / READERS / 1_024).toFixed(0)} KiB kept for each`,
  );
  assert.equal(sent.length, READERS + 1, "all of them are served");
  assert.ok(added <= READERS_ADD_BYTES_MAX, `${added} bytes were added`);
  assert.ok(kept / READERS <= READER_BYTES_MAX);
});
