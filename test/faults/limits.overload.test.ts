/**
 * Ten times as many requests as the model API can answer: two gateways learn what it can bear, refuse the rest at
 * once, and keep it as busy as it was at its best. The simulator stands for a model API whose scheduler lets
 * requests wait: without a limit in front of it all would wait, and hardly anybody would be answered in time.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { after, before, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { percentile } from "../../load-tests/bench/statistics.ts";
import { type Fleet, openFleet } from "../support/fleet.ts";
import { eventually, policyWith, ROOT } from "../support/house.ts";
import { chat, hammer, headerOf, openLines, SteadyLoad, statuses, type Told } from "../support/lines.ts";

const OVERLOAD_SEC = Number(process.env["SALLYPORT_OVERLOAD_SEC"] ?? 60);
const GATEWAYS = 2;
/** What the model API works on at once, and for how long: 100 requests a second at best. */
const PLACES = 10;
const SERVICE_MS = 100;
const TIMES = 10;
const WARM_MS = 5_000;
const PEAK_MS = 5_000;
const AFTER_MS = 8_000;
/** An answer that takes longer is of no use to its caller, and is not counted as good. */
const IN_TIME_MS = 10 * SERVICE_MS;
const GOODPUT_MIN = 0.8;
const SHED_MS_MAX = 10;
const RECOVERY_MS_MAX = 5_000;

let model: ChildProcess;
let fleet: Fleet;
before(async () => {
  // A process of its own: beside the generator of the load it would be late for reasons that are not its own.
  const script = { text: "Well.", capacity: { concurrency: PLACES, serviceMs: SERVICE_MS } };
  model = spawn(
    process.execPath,
    [
      ...["load-tests/model-simulator/main.ts", "--listen", "127.0.0.1:0", "--no-record"],
      ...["--script", JSON.stringify(script)],
    ],
    { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] },
  );
  let printed = "";
  model.stdout!.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const modelUrl = await eventually(() => {
    const url = /listening on (http:\S+)/.exec(printed)?.[1];
    assert.ok(url !== undefined, `the simulator has not started: ${printed}`);
    return url;
  }, 30_000);
  fleet = await openFleet({
    replicas: GATEWAYS,
    policy: policyWith("  - { id: auth, use: auth }\n"),
    modelUrl,
  });
});
after(async () => {
  await fleet?.close();
  model.kill("SIGKILL");
});

it(`${TIMES} times what the model API can answer, for ${OVERLOAD_SEC} s`, async (t) => {
  const ports = fleet.replicas.map(({ port }) => port);
  // As it is at its best: as many callers as it has places, each asking again once answered.
  const lines = await openLines(ports, PLACES);
  await hammer(lines, WARM_MS, () => chat());
  const peakTold = await hammer(lines, PEAK_MS, () => chat());
  for (const line of lines) line.close();
  assert.deepEqual(Object.keys(statuses(peakTold)), ["200"], "nothing is shed at the peak");
  const peak = goodIn(peakTold) / (PEAK_MS / 1_000);

  const load = new SteadyLoad({ ports, perSecond: Math.round(TIMES * peak), request: () => chat() });
  const startedMs = performance.now();
  const startedAt = Date.now();
  await sleep(OVERLOAD_SEC * 1_000);
  const endedMs = performance.now();
  const endedAt = Date.now();
  // Half of what it can bear, begun before the last of the overload has been answered.
  const easy = new SteadyLoad({ ports, perSecond: Math.round(peak / 2), request: () => chat() });
  await load.stop();
  await sleep(AFTER_MS - (performance.now() - endedMs));
  await easy.stop();

  const during = load.told.filter(({ gotMs }) => gotMs < endedMs);
  const goodput = goodIn(during) / ((endedMs - startedMs) / 1_000);
  const times = load.told.length / ((endedMs - startedMs) / 1_000) / peak;
  const shed = load.told.filter(({ status }) => status === 503);
  assert.deepEqual(
    Object.keys(statuses(load.told)).filter((status) => status !== "200" && status !== "503"),
    [],
    "answered or shed, and nothing else",
  );
  for (const answer of shed.slice(0, 100)) {
    assert.match(answer.body, /"code":"overloaded"/);
    assert.ok(Number(headerOf(answer, "retry-after")) >= 1, answer.head);
  }

  // On the gateways' own clocks: how long the generator takes to read an answer is no part of it.
  const decisions = (await Promise.all(fleet.replicas.map((replica) => replica.decisions()))).flat();
  const shedMs = decisions
    .filter(({ at }) => Date.parse(at) >= startedAt && Date.parse(at) < endedAt)
    .filter(({ cause }) => cause === "overloaded")
    .map(({ totalMs }) => totalMs);
  assert.ok(shedMs.length > 0.5 * load.told.length, "most were shed");
  assert.ok(
    decisions.every(({ cause, upstreamCalled }) => cause !== "overloaded" || !upstreamCalled),
    "and the model API heard nothing of those",
  );
  const [shedP50, shedP99] = [percentile(shedMs, 0.5), percentile(shedMs, 0.99)];
  const callersP99 = percentile(
    shed.map(({ sentMs, gotMs }) => gotMs - sentMs),
    0.99,
  );

  const bad = easy.told.filter((answer) => !isGood(answer) || answer.gotMs - answer.sentMs > 3 * SERVICE_MS);
  const recoveredMs = Math.max(0, ...bad.map(({ sentMs }) => sentMs - endedMs));
  t.diagnostic(
    `peak ${peak.toFixed(0)}/s; under ${times.toFixed(1)} times that ${goodput.toFixed(0)}/s were good: ` +
      `${((100 * goodput) / peak).toFixed(0)} %`,
  );
  t.diagnostic(
    `${shed.length} shed in ${shedP50.toFixed(2)} ms, ${shedP99.toFixed(2)} ms at p99 ` +
      `(${callersP99.toFixed(1)} ms as the callers saw it); recovered after ${recoveredMs.toFixed(0)} ms`,
  );
  assert.ok(times > 0.9 * TIMES, `only ${times.toFixed(1)} times the peak was asked for`);
  assert.ok(goodput >= GOODPUT_MIN * peak, `${goodput.toFixed(0)}/s of ${peak.toFixed(0)}/s`);
  assert.ok(shedP99 < SHED_MS_MAX, `shed in ${shedP99.toFixed(1)} ms at p99`);
  assert.ok(recoveredMs <= RECOVERY_MS_MAX, `the last bad answer ${recoveredMs.toFixed(0)} ms after the end`);
});

function isGood({ status, sentMs, gotMs }: Told): boolean {
  return status === 200 && gotMs - sentMs <= IN_TIME_MS;
}

function goodIn(told: readonly Told[]): number {
  return told.filter(isGood).length;
}
