/** What a relay tells the budget of all streams, at the end of a stream and under pressure. */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { openai } from "../dialect/openai/index.ts";
import { ALLOW } from "../layer/index.ts";
import { HeldBudget } from "../pipeline/held-budget.ts";
import { type ChunkJudge, HoldBack } from "../pipeline/hold-back.ts";
import { type StreamOutcome, StreamRelay } from "./stream-relay.ts";

const RELEASED = { verdict: ALLOW, holdFrom: Number.POSITIVE_INFINITY };
const VALVE = { pause() {}, resume() {} };

/** A client that takes nothing: what is written waits. */
class SlowResponse extends EventEmitter {
  writableLength = 0;
  destroyed = false;
  write(text: string): boolean {
    this.writableLength += text.length;
    return false;
  }
}

function relayOf(judge: ChunkJudge, bytesMax: number) {
  const budget = new HeldBudget({ bytesMax });
  const response = new SlowResponse();
  const outcomes: StreamOutcome[] = [];
  const relay = new StreamRelay({
    response: response as unknown as ServerResponse,
    eventBytesMax: 65_536,
    bytesMax: 1_048_576,
    depthMax: 64,
    account: budget.open(),
    onOutcome: (outcome) => outcomes.push(outcome),
    onFirstByte: () => {},
  });
  relay.bind(
    new HoldBack({
      judge,
      stream: openai.openAnswerStream("chat"),
      redaction: "[{kind}]",
      heldUnitsMax: 65_536,
      unknownEvents: "scan",
      emit: relay.emit,
    }),
  );
  return { relay, budget, response, outcomes };
}

function chunkOf(content: string): Buffer {
  const choices = [{ index: 0, delta: { content }, finish_reason: null }];
  return Buffer.from(`data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", choices })}\n\n`);
}

test("what a slow client has not taken is counted until the response closes", () => {
  const { relay, budget, response } = relayOf({ onChunk: () => RELEASED }, 1_048_576);
  relay.data(chunkOf("x".repeat(5_000)), VALVE);
  assert.ok(budget.bytes >= 5_000, `${budget.bytes} while it runs`);
  relay.stop();
  assert.equal(budget.bytes, response.writableLength);
  response.emit("close");
  assert.equal(budget.bytes, 0);
});

test("a client that has gone keeps nothing", () => {
  const { relay, budget, response } = relayOf({ onChunk: () => RELEASED }, 1_048_576);
  relay.data(chunkOf("x".repeat(5_000)), VALVE);
  response.destroyed = true;
  relay.stop();
  assert.equal(budget.bytes, 0);
});

test("what waits for shadows counts, and goes before an answer has to end for it", () => {
  let backlogUnits = 6_000;
  const judge: ChunkJudge = {
    onChunk: () => RELEASED,
    get backlogUnits() {
      return backlogUnits;
    },
    dropBacklogs() {
      backlogUnits = 0;
    },
  };
  const { relay, budget, outcomes } = relayOf(judge, 10_000);
  relay.data(chunkOf("one"), VALVE);
  assert.ok(budget.bytes > 6_000, `${budget.bytes}`);
  relay.data(chunkOf("x".repeat(5_000)), VALVE);
  assert.equal(backlogUnits, 0, "there was no room for both");
  assert.deepEqual(outcomes, []);
});
