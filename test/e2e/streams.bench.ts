/**
 * What guarding a stream costs and how long its text waits: a benign answer of 2,000 tokens, a token an event,
 * through decoder, dialect, seats and hold-back. Run it alone: `node test/e2e/streams.bench.ts`.
 */
import { outputLeak } from "../../layers/output-leak/layer.ts";
import { outputPii } from "../../layers/output-pii/layer.ts";
import { outputSecrets } from "../../layers/output-secrets/layer.ts";
import { benignStream, openRelay, seatOf } from "../support/relayed.ts";

const ROUNDS = 9;
const TIMES = 10;

const variants = [
  ["no seats", []],
  ["output-secrets", [seatOf(outputSecrets)]],
  ["output-secrets, -pii and -leak", [seatOf(outputSecrets), seatOf(outputPii), seatOf(outputLeak)]],
] as const;

const events = benignStream(2_000);
for (const [name, seats] of variants) {
  let best = Number.POSITIVE_INFINITY;
  let next = 0;
  let units = 0;
  let most = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const started = process.hrtime.bigint();
    for (let time = 0; time < TIMES; time++) {
      const relay = openRelay(seats);
      for (const event of events) relay.push(event.bytes);
    }
    best = Math.min(best, Number(process.hrtime.bigint() - started) / (TIMES * events.length));
  }
  const relay = openRelay(seats);
  let sent = 0;
  const due: number[] = [];
  for (const { bytes, text } of events) {
    relay.push(bytes);
    sent += text.length;
    due.push(sent);
    const waiting = sent - relay.released;
    most = Math.max(most, waiting);
    units += text.length;
    if (relay.released >= (due.at(-2) ?? 0)) next += text.length;
  }
  const share = ((100 * next) / units).toFixed(2);
  console.log(
    `${name}: ${(best / 1000).toFixed(2)} µs an event; ${share}% of the text out within 1 event, at most ${most} units wait`,
  );
}
