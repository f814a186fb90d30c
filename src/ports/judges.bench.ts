/** What a question costs, judge and gateway in one process: `node src/ports/judges.bench.ts`. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { openJudges } from "./judges.ts";

const QUESTIONS = 3_000;

const server = createServer((request, response) => request.resume().once("end", () => response.end("safe")));
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const judges = openJudges({ env: {} });
const judge = judges.forSeat("judge").open({
  url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
  addresses: ["127.0.0.1"],
  allowPrivate: false,
  timeoutMs: 10_000,
  answerBytesMax: 1_000,
  concurrencyMax: 16,
  queueMax: 64,
  breaker: { failuresMax: 5, openMs: 1_000, successesMin: 2 },
});
const body = JSON.stringify({ messages: [{ role: "user", content: "some words ".repeat(100) }] });

for (const counted of [false, true]) {
  const before = process.cpuUsage();
  for (let i = 0; i < QUESTIONS; i++) await judge.ask({ body, read: (text) => text });
  const { user, system } = process.cpuUsage(before);
  if (counted)
    console.log(`a question: ${((user + system) / QUESTIONS).toFixed(0)} µs, the judge's part included`);
}
await judges.close();
server.close();
