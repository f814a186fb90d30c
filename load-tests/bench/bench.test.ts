/**
 * The bench as its users see it: a tiny run gives a report of the promised shape, wrong answers end it, and
 * its arithmetic and its count of CPU time are right.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { AnswerReader } from "./answer-reader.ts";
import { drive, verify } from "./load.ts";
import {
  answerEvents,
  REQUEST_BODY_BYTES,
  requestBody,
  requestParts,
  WHOLE_ANSWER_BODY,
} from "./messages.ts";
import { cpuNanos, schedulerNanos, tickNanos } from "./processes.ts";
import { makeReport, printed } from "./report.ts";
import { median, percentile, rotated } from "./statistics.ts";
import { benchPolicy } from "./variants.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

async function bench(args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (bytes) => (stdout += bytes));
  child.stderr.on("data", (bytes) => (stderr += bytes));
  const [code] = await once(child, "close");
  return { code, stdout, stderr };
}

test("a tiny run writes a report with every figure, in both suites", { timeout: 60_000 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "bench-test-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const json = join(dir, "bench.json");
  const { code, stdout, stderr } = await bench([
    "--json",
    json,
    "--requests",
    "40",
    "--rounds",
    "3",
    "--variants",
    "direct,http-proxy-3",
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /http-proxy-3 .*\d/);
  const report = JSON.parse(readFileSync(json, "utf8"));
  assert.equal(report.rounds, 3);
  assert.equal(report.node, process.version);
  assert.ok(report.machine.cores >= 1);
  assert.deepEqual(report.skipped, []);
  assert.deepEqual(
    report.variants.map((variant: { name: string }) => variant.name),
    ["direct", "http-proxy-3"],
  );
  const [direct, proxy] = report.variants;
  assert.equal(direct.cpuMicrosPerRequest, 0, "there is no proxy to charge");
  assert.equal(direct.addedFirstByteP50Ms, 0);
  for (const figure of [
    "cpuMicrosPerRequest",
    "cpuMicrosPerEvent",
    "requestsPerSecond",
    "p50Ms",
    "p99Ms",
    "firstByteP50Ms",
    "streamFirstByteP50Ms",
    "readsPerEvent",
  ]) {
    assert.ok(proxy[figure] > 0, `${figure} is ${proxy[figure]}`);
  }
  assert.equal(typeof proxy.addedFirstByteP50Ms, "number");
  assert.equal(proxy.perRound.length, 3);
  assert.ok(report.bars.length >= 6);
  for (const bar of report.bars) assert.deepEqual([bar.measured, bar.holds], [null, null], bar.bar);
});

test("options that cannot be are refused with what is known", async () => {
  for (const [args, said] of [
    [["--rounds", "2"], /--rounds takes a whole number from 3/],
    [["--variants", "squid"], /squid is not one of direct, nginx/],
    [["--only", "everything"], /everything is not one of http, streams/],
  ] as const) {
    const { code, stderr } = await bench(args);
    assert.equal(code, 2);
    assert.match(stderr, said);
  }
});

test("SIGINT ends the bench and every process that it started", { timeout: 30_000 }, async () => {
  const child = spawn(process.execPath, [MAIN, "--variants", "direct,http-proxy-3", "--requests", "100000"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  const pids = new Promise<readonly number[]>((resolve) => {
    child.stderr.on("data", (bytes) => {
      stderr += bytes;
      if (stderr.includes("warming")) resolve(childrenOf(child.pid!));
    });
  });
  assert.equal((await pids).length, 2, "upstream and proxy");
  child.kill("SIGINT");
  const [code] = await once(child, "close");
  assert.equal(code, 1);
  assert.match(stderr, /ended by SIGINT/);
  for (const pid of await pids) assert.throws(() => process.kill(pid, 0), /ESRCH/);
});

function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
}

async function upstream(t: TestContext, status: number, body: string, type = "application/json") {
  const server = createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(status, { "content-type": type }).end(body));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return { port: (server.address() as AddressInfo).port, headers: {} };
}

test("a wrong answer ends the run", async (t) => {
  const load = { connections: 2, requests: 4, events: 0 };
  const refusing = await upstream(t, 502, WHOLE_ANSWER_BODY);
  await assert.rejects(drive(refusing, load), /a request failed: status 502/);
  const strange = await upstream(t, 200, "{}");
  await assert.rejects(drive(strange, load), /a request failed: status 200, 2 bytes/);
  const cut = await upstream(t, 200, answerEvents(20).slice(0, -1).join(""), "text/event-stream");
  await assert.rejects(drive(cut, { ...load, events: 20 }), /a request failed: status 200/);
  const changed = await upstream(t, 200, WHOLE_ANSWER_BODY.replace("quarry", "quarrel"));
  await assert.rejects(verify(changed, 0), /text was changed/);
});

test("a request has 1 KB, says whether it streams, and never repeats a turn", () => {
  for (const events of [0, 200]) {
    const parts = requestParts({ events });
    const [first, second] = [requestBody(parts, 1), requestBody(parts, 2)];
    assert.equal(Buffer.byteLength(first), REQUEST_BODY_BYTES);
    const turns = [first, second].map((body) =>
      JSON.parse(body).messages.map((m: { content: string }) => m.content),
    );
    assert.equal(JSON.parse(first).stream, events > 0 ? true : undefined);
    for (const [index, turn] of turns[0].entries()) assert.notEqual(turn, turns[1][index]);
  }
  assert.equal(answerEvents(200).length, 200);
});

test("the reader finds the same body at every split", () => {
  const answers = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nconnection: close\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n",
  ].map((answer) => Buffer.from(answer));
  for (const answer of answers) {
    for (let cut = 1; cut < answer.length; cut++) {
      const reader = new AnswerReader();
      assert.equal(reader.push(answer.subarray(0, cut)), false);
      assert.equal(reader.push(answer.subarray(cut)), true, `cut at ${cut}`);
      assert.deepEqual([reader.status, reader.body], [200, "hello"]);
      assert.equal(reader.closes, answer === answers[0]);
    }
  }
  assert.throws(
    () => new AnswerReader().push(Buffer.from("HTTP/1.1 200 OK\r\n\r\n")),
    /neither a length nor chunks/,
  );
  assert.throws(() => new AnswerReader().push(Buffer.from("SSH-2.0\r\n\r\n")), /not an HTTP\/1.1 answer/);
  assert.throws(() => new AnswerReader().push(Buffer.concat([answers[0]!, answers[0]!])), /after the end/);
});

test("medians, percentiles and the order of rounds", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.ok(Number.isNaN(median([])));
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  assert.equal(percentile(hundred, 0.5), 50);
  assert.equal(percentile(hundred, 0.99), 99);
  assert.equal(percentile(hundred, 1), 100);
  assert.equal(percentile([7], 0.01), 7);
  assert.deepEqual(
    [0, 1, 2, 3].map((round) => rotated(["a", "b", "c"], round).join("")),
    ["abc", "bca", "cab", "abc"],
  );
});

test("a report pairs each round's figures and judges the bars by them", () => {
  const cpu = (...values: readonly number[]) => values.map((value) => ({ cpuMicrosPerRequest: value }));
  const bars = [
    { bar: "twice", variant: "mine", figure: "cpuMicrosPerRequest", against: "http-proxy", limit: 2 },
    { bar: "tight", variant: "mine", figure: "cpuMicrosPerRequest", against: "http-proxy", limit: 1.9 },
    { bar: "at most", variant: "mine", figure: "cpuMicrosPerRequest", limit: 200 },
    { bar: "under", variant: "mine", figure: "cpuMicrosPerRequest", limit: 200, strict: true },
    { bar: "absent", variant: "other", figure: "cpuMicrosPerRequest", against: "portkey", limit: 1 },
    { bar: "added", variant: "mine", figure: "cpuMicrosPerRequest", addedTo: "http-proxy", limit: 100 },
    {
      bar: "own limit",
      variant: "mine",
      figure: "cpuMicrosPerRequest",
      addedTo: "http-proxy",
      limit: "tripMs",
    },
    { bar: "no limit", variant: "mine", figure: "cpuMicrosPerRequest", limit: "unknownMs" },
  ];
  const measured = new Map([
    ["http-proxy", cpu(100, 300, 50)],
    ["mine", cpu(200, 600, 110).map((round) => ({ ...round, tripMs: 99 }))],
  ]);
  const report = makeReport({ machine: {}, node: "v24", rounds: 3, skipped: [] }, measured, bars);
  assert.equal(report.ratios["http-proxy"]?.["mine"]?.["cpuMicrosPerRequest"], 2);
  assert.deepEqual(
    report.bars.map(({ measured, holds }) => [measured, holds]),
    [
      [2, true],
      [2, false],
      [200, true],
      [200, false],
      [null, null],
      // 100, 300 and 60 were added, round by round.
      [100, true],
      [100, false],
      [null, null],
    ],
  );
  assert.deepEqual(
    report.bars.slice(-2).map(({ limit }) => limit),
    [99, null],
  );
  assert.match(printed(report), /tight +1.9 +2 +falls short/);
});

test("CPU time counts a process with its children, and agrees with the kernel's ticks", async (t) => {
  const spin =
    "const end = process.cpuUsage(); while (process.cpuUsage(end).user < 300_000); console.log('spun');";
  const child = spawn(
    "sh",
    ["-c", '"$0" -e "$1 setInterval(() => {}, 1000)" & wait', process.execPath, spin],
    { stdio: ["ignore", "pipe", "inherit"], detached: true },
  );
  t.after(() => process.kill(-child.pid!, "SIGKILL"));
  await once(child.stdout, "data");
  const [node] = childrenOf(child.pid!);
  const whole = cpuNanos(child.pid!);
  assert.ok(whole > 300_000_000n && whole < 3_000_000_000n, `${whole} ns`);
  const exact = schedulerNanos(node!);
  if (exact === undefined) return t.diagnostic("this kernel keeps no schedstat");
  const difference = Number(exact - tickNanos(node!)) / 1e6;
  assert.ok(Math.abs(difference) < 50, `schedstat and ticks differ by ${difference} ms`);
});

test("the bench's policy keeps the asked seats, enforced, and lifts every limit", () => {
  const policy = [
    "version: 1",
    "routes: [openai.chat]",
    "seats:",
    "  - { id: auth, use: auth }",
    "  - { id: requests, use: rate-limit, mode: shadow, with: { whenAway: admit, limits: [" +
      "{ name: a, of: requests, per: [org], limit: 60, window: 1m }, { name: b, of: concurrency, per: [key], limit: 5 }] } }",
    "  - { id: other, use: other }",
  ].join("\n");
  assert.match(benchPolicy(policy, []), /seats: \[\]/);
  const kept = benchPolicy(policy, ["auth", "rate-limit"]);
  assert.match(kept, /whenAway: admit/);
  assert.equal(kept.match(/limit: 1000000000/g)?.length, 2);
  assert.doesNotMatch(kept, /shadow|other/);
  assert.throws(() => benchPolicy(policy, ["prompt-rules"]), /no seat that uses prompt-rules/);
});
