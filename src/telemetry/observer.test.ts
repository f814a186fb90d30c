import assert from "node:assert/strict";
import { test } from "node:test";
import type { Decision } from "../ledger/decision.ts";
import { openLogger } from "./logger.ts";
import { openMetrics } from "./metrics.ts";
import { openObserver } from "./observer.ts";

const DECISION: Decision = {
  v: 1,
  id: "req_1",
  at: "2026-11-20T10:00:00.000Z",
  revision: "abcdef012345",
  route: "openai.chat",
  dialect: "openai",
  operation: "chat",
  model: "gpt-4o-mini",
  stream: false,
  scanned: true,
  org: "acme",
  project: "chat",
  keyId: "key_1",
  endUser: "end-user-7",
  address: "192.0.2.7",
  proof: "key",
  tier: "normal",
  risk: 0,
  country: "",
  asn: "",
  act: "allow",
  would: "allow",
  status: 200,
  cause: "complete",
  seats: [],
  inputTokens: null,
  outputTokens: null,
  bytesIn: 1,
  bytesOut: 2,
  totalMs: 5,
  firstByteMs: 4,
  upstreamMs: null,
  upstreamCalled: false,
};

test("an end is counted, traced, and logged where an operator must know, in codes and places alone", async () => {
  const lines: string[] = [];
  const log = openLogger({ level: "info", destination: { write: (line) => void lines.push(line) } });
  const metrics = openMetrics();
  const finished: string[] = [];
  const trace = {
    traceId: "a".repeat(32),
    traceparent: "",
    finish: ({ id }: Decision) => void finished.push(id),
  };
  const observer = openObserver({ metrics, log, tracing: { start: () => trace, close: async () => {} } });
  const figures = { seatTimings: [] };
  assert.equal(observer.began({}), trace);

  observer.ended(DECISION, figures, trace);
  observer.ended({ ...DECISION, cause: "prompt_blocked", act: "block", status: 400 }, figures, undefined);
  observer.ended({ ...DECISION, cause: "client_gone", status: 0 }, figures, undefined);
  assert.deepEqual(finished, ["req_1"]);
  assert.equal(lines.length, 0, "callers' own doing is not logged");

  const words = "the user's own words";
  observer.ended(
    { ...DECISION, cause: "upstream_connect", status: 502 },
    { ...figures, detail: `connect ECONNREFUSED 127.0.0.1:9 EXAMPLE ${words}` },
    undefined,
  );
  observer.ended(
    { ...DECISION, cause: "internal", status: 500 },
    { ...figures, detail: new TypeError(words).stack ?? "" },
    undefined,
  );
  const failed = {
    seat: "judge",
    mode: "enforce",
    state: "timed_out",
    would: "allow",
    applied: "allow",
  } as const;
  observer.ended({ ...DECISION, seats: [{ ...failed, findings: [], micros: 9 }] }, figures, undefined);
  const [refused, internal, late] = lines.map((line) => JSON.parse(line));
  assert.equal(lines.length, 3);
  assert.deepEqual(
    [refused.level, refused.cause, refused.code],
    ["warn", "upstream_connect", "ECONNREFUSED"],
  );
  assert.equal(internal.level, "error");
  assert.match(internal.stack[0], /observer\.test\.ts:\d+:\d+/);
  assert.deepEqual(late.seats, [{ seat: "judge", state: "timed_out", mode: "enforce" }]);
  for (const secret of [words, "end-user-7", "192.0.2.7"]) assert.ok(!lines.join().includes(secret));
  assert.match(await metrics.expose(), /sallyport_requests_total\{[^}]*cause="internal"[^}]*\} 1/);
});
