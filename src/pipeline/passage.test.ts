/** The runner by its public face: modes, rollout, sample, `when`, failures, deadlines, the verdict cache. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type {
  Decided,
  Delta,
  Leaf,
  Phase,
  Prompt,
  Quota,
  RequestContext,
  RequestHead,
  Standing,
  Verdict,
  Watch,
} from "../layer/index.ts";
import { ALLOW, NO_STANDING } from "../layer/index.ts";
import { inRollout } from "../policy/in-rollout.ts";
import type { Seat, Snapshot } from "../policy/snapshot.ts";
import { Passage } from "./passage.ts";
import { VerdictCache } from "./verdict-cache.ts";

const BLOCK: Verdict = { act: "block", findings: [{ reason: "custom.test", score: 0.9 }] };
const HEAD: RequestHead = { method: "POST", path: "/v1/chat/completions", headers: {}, address: "127.0.0.1" };

function seatOf(watch: Watch | (() => Watch), more: Partial<Seat> = {}): Seat {
  const open = typeof watch === "function" ? watch : () => watch;
  return {
    id: "seat",
    use: "test",
    mode: "enforce",
    rollout: 100,
    sample: 1,
    onError: "block",
    timeoutMs: 50,
    when: undefined,
    layer: { open },
    config: {},
    phases: ["onRequest", "onLeaf", "onPrompt", "onResponseHead", "onChunk", "onEnd"] satisfies Phase[],
    holdMax: 0,
    fingerprint: "f",
    ...more,
  };
}

function passageOf(seats: readonly Seat[], cache = new VerdictCache({ entriesMax: 100 })): Passage {
  const snapshot: Snapshot = {
    revision: "test",
    seats,
    routes: new Set(),
    passThrough: [],
    unknownFields: "scan",
    unknownEvents: "scan",
    redaction: "[{kind}]",
  };
  const facts = {
    id: "req_1",
    dialect: "openai",
    operation: "chat",
    route: "openai.chat",
    address: "127.0.0.1",
  } as const;
  return new Passage(snapshot, facts, cache);
}

function promptOf(turns: readonly string[]): Prompt {
  const leaves: Leaf[] = turns.map((text, turn) => ({
    channel: `prompt:${turn}`,
    path: `/messages/${turn}/content`,
    role: "user",
    kind: "text",
    turn,
    text,
  }));
  const newestTurn = turns.length - 1;
  return {
    dialect: "openai",
    operation: "chat",
    model: "m",
    stream: false,
    leaves,
    newestTurn,
    unknown: [],
    mediaCount: 0,
  };
}

function delta(text: string, start = 0, final = false): Delta {
  return { channel: "answer:0", kind: "answer", choice: 0, start, text, final };
}

describe("passage", () => {
  it("applies what an enforcing seat wants, and stops at a block", async () => {
    let reached = 0;
    const second = seatOf(
      {
        onRequest: () => {
          reached += 1;
          return ALLOW;
        },
      },
      { id: "second" },
    );
    const passage = passageOf([seatOf({ onRequest: () => BLOCK }), second]);
    assert.equal((await passage.onRequest(HEAD)).act, "block");
    assert.equal(reached, 0);
    const [first, other] = passage.records();
    assert.deepEqual([first!.state, first!.would, first!.applied], ["ran", "block", "block"]);
    assert.equal(other!.state, "not_reached");
  });

  it("records what a shadow seat would do, and does nothing", async () => {
    const passage = passageOf([
      seatOf({ onRequest: () => BLOCK, onChunk: () => ({ ...ALLOW, holdFrom: 0 }) }, { mode: "shadow" }),
    ]);
    assert.equal(await passage.onRequest(HEAD), ALLOW);
    const [record] = passage.records();
    assert.deepEqual([record!.would, record!.applied], ["block", "allow"]);
    assert.deepEqual(record!.findings, [{ reason: "custom.test", score: 0.9 }]);
    const chunk = await passage.onChunk(delta("x"));
    assert.equal(chunk.holdFrom, Number.POSITIVE_INFINITY, "a shadow holds nothing back");
  });

  for (const onError of ["allow", "block"] as const) {
    const applied = onError === "block" ? "block" : "flag";
    it(`a throw is layer.error and onError ${onError}, never allow`, async () => {
      const boom = () => {
        throw new Error("boom");
      };
      for (const watch of [{ onRequest: boom }, boom as () => Watch]) {
        const passage = passageOf([seatOf(watch, { onError })]);
        assert.equal((await passage.onRequest(HEAD)).act, applied);
        const [record] = passage.records();
        assert.deepEqual(
          [record!.state, record!.applied, record!.findings[0]!.reason],
          ["failed", applied, "layer.error"],
        );
      }
    });

    it(`a seat that is late is layer.timeout and onError ${onError}`, async () => {
      const passage = passageOf([
        seatOf({ onPrompt: () => new Promise(() => {}) }, { onError, timeoutMs: 5 }),
      ]);
      assert.equal((await passage.onPrompt(promptOf(["hi"]))).act, applied);
      assert.equal(passage.records()[0]!.state, "timed_out");
    });
  }

  it("a `when` that throws is the seat's failure; one that is false is a skip", async () => {
    const failing = passageOf([
      seatOf(
        { onRequest: () => ALLOW },
        {
          when: () => {
            throw new Error("no");
          },
        },
      ),
    ]);
    assert.equal((await failing.onRequest(HEAD)).act, "block");
    assert.equal(failing.records()[0]!.state, "failed");
    const skipped = passageOf([seatOf({ onRequest: () => BLOCK }, { when: () => false })]);
    assert.equal(await skipped.onRequest(HEAD), ALLOW);
    assert.equal(skipped.records()[0]!.state, "skipped_when");
  });

  it("a seat outside its sample is recorded as skipped, in every phase", async () => {
    const passage = passageOf([seatOf({ onRequest: () => BLOCK, onChunk: () => BLOCK }, { sample: 0 })]);
    await passage.onRequest(HEAD);
    await passage.onChunk(delta("x"));
    assert.deepEqual([passage.records()[0]!.state, passage.records()[0]!.would], ["skipped_sample", "allow"]);
  });

  it("rollout is sticky by account, grows monotonically, and takes about its share", () => {
    const accounts = Array.from({ length: 4000 }, (_, i) => `org-${i}`);
    let before = new Set<string>();
    for (const rollout of [0, 1, 10, 50, 90, 100]) {
      const inside = new Set(accounts.filter((account) => inRollout({ id: "s", rollout }, account)));
      for (const account of before) assert.ok(inside.has(account), "who was in stays in");
      assert.ok(
        Math.abs(inside.size / accounts.length - rollout / 100) < 0.03,
        `${inside.size} at ${rollout}%`,
      );
      before = inside;
    }
    const passage = passageOf([seatOf({ onRequest: () => BLOCK }, { rollout: 0 })]);
    assert.equal(passage.onRequest(HEAD), ALLOW);
    assert.deepEqual([passage.records()[0]!.would, passage.records()[0]!.applied], ["block", "allow"]);
  });

  it("earlier turns are answered from the cache; the newest turn is always judged", () => {
    const judged: string[] = [];
    const long = (name: string) => name.repeat(600);
    const watch: Watch = {
      onLeaf(leaf) {
        judged.push(leaf.text[0]!);
        if (leaf.text[0] !== "b") return ALLOW;
        const where = { channel: leaf.channel, start: 0, end: 1 };
        return { act: "flag", findings: [{ reason: "custom.b", score: 1, where }] };
      },
    };
    const cache = new VerdictCache({ entriesMax: 10 });
    passageOf([seatOf(watch)], cache).onPrompt(promptOf([long("a"), long("b"), long("c")]));
    const second = passageOf([seatOf(watch)], cache);
    second.onPrompt(promptOf([long("x"), long("a"), long("b"), long("c")]));
    assert.deepEqual(judged, ["a", "b", "c", "x", "c"]);
    assert.equal(
      second.records()[0]!.findings[0]!.path,
      "/messages/2/content",
      "a cached finding points at its new place",
    );
    passageOf([seatOf(watch, { fingerprint: "other" })], cache).onPrompt(promptOf([long("a"), "z"]));
    assert.deepEqual(judged.slice(5), ["a", "z"], "another revision of the seat judges for itself");
  });

  it("the cache is bounded", () => {
    const cache = new VerdictCache({ entriesMax: 3 });
    let calls = 0;
    const leaf = (n: number) => ({ ...promptOf([`${n}`.repeat(600)]).leaves[0]! });
    const judge = () => {
      calls += 1;
      return ALLOW;
    };
    for (let n = 1; n <= 5; n++) cache.verdict("f", leaf(n), judge);
    for (const n of [5, 4, 3]) cache.verdict("f", leaf(n), judge);
    assert.equal(calls, 5);
    cache.verdict("f", leaf(1), judge);
    assert.equal(calls, 6);
  });

  it("every opened watch hears of the end once, failed ones too", async () => {
    const ends: string[] = [];
    const watch = (name: string, more: Watch): Watch => ({
      ...more,
      onEnd: ({ cause }) => {
        ends.push(`${name} ${cause}`);
        return ALLOW;
      },
    });
    const passage = passageOf([
      seatOf(watch("good", { onRequest: () => ALLOW })),
      seatOf(
        watch("bad", {
          onRequest: () => {
            throw new Error("boom");
          },
        }),
        { id: "bad", onError: "allow" },
      ),
      seatOf(watch("skipped", {}), { id: "skipped", when: () => false }),
    ]);
    await passage.onRequest(HEAD);
    await passage.onEnd({ cause: "client_gone", usage: {}, upstreamCalled: true });
    await passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true });
    assert.deepEqual(ends, ["good client_gone", "bad client_gone"]);
    assert.equal(passage.openWatches, 0);
  });

  it("tells standing and quotas from seats that enforce, never from a shadow", async () => {
    const standing: Standing = { ...NO_STANDING, tier: "risky", risk: 0.8 };
    const quota: Quota = {
      name: "key",
      unit: "requests",
      limit: 5,
      remaining: 4,
      resetMs: 1,
      windowSec: 60,
    };
    for (const mode of ["shadow", "enforce"] as const) {
      const told: string[] = [];
      const layer = {
        open: (request: RequestContext): Watch => ({
          onRequest() {
            request.stand(standing);
            return ALLOW;
          },
          quotas: () => [quota],
        }),
      };
      const passage = passageOf([
        { ...seatOf({}), layer, mode },
        seatOf({}, { id: "after", when: ({ tier }) => told.push(tier) > 0 }),
      ]);
      await passage.onRequest(HEAD);
      assert.deepEqual(told, [mode === "enforce" ? "risky" : "normal"]);
      assert.equal(passage.attributes().risk, mode === "enforce" ? 0.8 : 0);
      assert.deepEqual(passage.quotas(), mode === "enforce" ? [quota] : []);
      await passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true });
      assert.deepEqual(passage.quotas(), [], "the watches are gone");
    }
  });

  it("tells what all seats came to, once every seat has heard of the end", async () => {
    const order: string[] = [];
    const heard: Decided[] = [];
    const listener: Watch = {
      onEnd: () => {
        order.push("first onEnd");
        return ALLOW;
      },
      onDecided: (decided) => {
        order.push("onDecided");
        heard.push(decided);
      },
    };
    const finding = (reason: string): Verdict => ({ act: "flag", findings: [{ reason, score: 0.5 }] });
    const passage = passageOf([
      seatOf(listener),
      seatOf({ onRequest: () => finding("custom.shadow") }, { id: "shadow", mode: "shadow" }),
      seatOf(
        {
          onEnd: async () => {
            order.push("last onEnd");
            return finding("custom.late");
          },
        },
        { id: "late" },
      ),
      seatOf({ onDecided: () => assert.fail("thrown here, it must hurt nobody") }, { id: "throws" }),
    ]);
    await passage.onRequest(HEAD);
    await passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true });
    assert.deepEqual(order, ["first onEnd", "last onEnd", "onDecided"]);
    assert.deepEqual(heard, [
      { id: "req_1", cause: "complete", act: "flag", findings: [{ reason: "custom.late", score: 0.5 }] },
    ]);
  });

  it("tells a seat what those before it made of the request, once they have; shadows to shadows alone", async () => {
    const heard: Record<string, unknown> = {};
    const listening = (id: string, more: Partial<Seat> = {}): Seat => {
      let passage: RequestContext;
      const onPrompt = async (): Promise<Verdict> => {
        const { act, findings } = await passage.soFar();
        heard[id] = [act, findings.map(({ reason }) => reason)];
        return ALLOW;
      };
      const open = (request: RequestContext): Watch => {
        passage = request;
        return { onPrompt };
      };
      return seatOf({}, { id, layer: { open }, ...more });
    };
    const flag = (reason: string): Verdict => ({ act: "flag", findings: [{ reason, score: 0.5 }] });
    const passage = passageOf([
      listening("first"),
      seatOf({ onRequest: () => flag("custom.early"), onLeaf: () => flag("custom.leaf") }, { id: "a" }),
      seatOf({ onPrompt: () => BLOCK }, { id: "shadow", mode: "shadow" }),
      seatOf(
        {
          onPrompt: async () => {
            await new Promise(setImmediate);
            return flag("custom.late");
          },
        },
        { id: "slow" },
      ),
      listening("live"),
      listening("shadowed", { mode: "shadow" }),
      seatOf({ onPrompt: () => flag("custom.behind") }, { id: "behind" }),
    ]);
    await passage.onRequest(HEAD);
    await passage.onPrompt(promptOf(["one"]));
    assert.deepEqual(heard, {
      first: ["allow", []],
      live: ["flag", ["custom.early", "custom.leaf", "custom.late"]],
      shadowed: ["block", ["custom.early", "custom.leaf", "custom.test", "custom.late"]],
    });
    assert.throws(() => passage.soFar(), /before a watch's first await/);
  });

  it("waits for no shadow, and records what it says all the same", async () => {
    let speak: (verdict: Verdict) => void = () => {};
    const slow = () =>
      new Promise<Verdict>((resolve) => {
        speak = resolve;
      });
    const passage = passageOf([
      seatOf({ onPrompt: slow }, { id: "shadow", mode: "shadow", timeoutMs: 5_000 }),
      seatOf({ onPrompt: async () => ALLOW }, { id: "live" }),
    ]);
    assert.equal((await passage.onPrompt(promptOf(["one"]))).act, "allow");
    let isOver = false;
    const ended = Promise.resolve(passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true })).then(
      () => {
        isOver = true;
      },
    );
    await new Promise(setImmediate);
    assert.equal(isOver, false, "the record waits");
    speak(BLOCK);
    await ended;
    assert.deepEqual(
      passage.records().map(({ seat, state, would, applied }) => [seat, state, would, applied]),
      [
        ["shadow", "ran", "block", "allow"],
        ["live", "ran", "allow", "allow"],
      ],
    );
  });

  it("lets an answer pass a shadow that thinks; it hears the rest in order, and its record waits", async () => {
    const heard: string[] = [];
    const answers: ((verdict: Verdict) => void)[] = [];
    const slow: Watch = {
      onChunk({ text }) {
        heard.push(text);
        return new Promise((resolve) => answers.push(resolve));
      },
      onEnd() {
        heard.push("end");
        return ALLOW;
      },
    };
    const passage = passageOf([
      seatOf(slow, { id: "shadow", mode: "shadow", timeoutMs: 5_000 }),
      seatOf({ onChunk: () => ALLOW }, { id: "live" }),
    ]);
    for (const [i, text] of ["one", "two", "three"].entries()) {
      const outcome = passage.onChunk(delta(text, i));
      assert.ok(!(outcome instanceof Promise), text);
      assert.equal(outcome.holdFrom, Number.POSITIVE_INFINITY);
    }
    assert.deepEqual(heard, ["one"]);
    const ended = passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true });
    for (const verdict of [ALLOW, BLOCK, ALLOW]) {
      answers.shift()!(verdict);
      await new Promise(setImmediate);
    }
    await ended;
    assert.deepEqual(heard, ["one", "two", "three", "end"]);
    assert.deepEqual(
      passage.records().map(({ seat, state, would, applied }) => [seat, state, would, applied]),
      [
        ["shadow", "ran", "block", "allow"],
        ["live", "ran", "allow", "allow"],
      ],
    );
  });

  it("a shadow that falls further behind than may wait has timed out", async () => {
    let answer: (verdict: Verdict) => void = () => {};
    const passage = passageOf([
      seatOf(
        {
          onChunk: () =>
            new Promise((resolve) => {
              answer = resolve;
            }),
        },
        { id: "shadow", mode: "shadow", timeoutMs: 5_000 },
      ),
    ]);
    for (let i = 0; i < 300; i++) passage.onChunk(delta("x".repeat(1_024), i * 1_024));
    answer(ALLOW);
    await passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true });
    const [shadow] = passage.records();
    assert.equal(shadow!.state, "timed_out");
    assert.deepEqual(
      shadow!.findings.map(({ reason }) => reason),
      ["layer.timeout"],
    );
  });

  it("what waits for a shadow is counted, and is given up where there is no room for it", async () => {
    const slow: Watch = { onChunk: () => new Promise(() => {}) };
    const passage = passageOf([
      seatOf(slow, { id: "shadow", mode: "shadow", onError: "block", timeoutMs: 5_000 }),
    ]);
    passage.onChunk(delta("first", 0));
    passage.onChunk(delta("x".repeat(1_000), 5));
    assert.ok(passage.backlogUnits >= 1_000, `${passage.backlogUnits} units`);
    passage.dropBacklogs();
    assert.equal(passage.backlogUnits, 0);
    assert.deepEqual(passage.acts(), { act: "allow", would: "block" });
    assert.equal(passage.records()[0]!.state, "timed_out");
  });

  it("an ending waits for a shadow that is behind as long as for one question, not for each", async () => {
    let heard = 0;
    const slow: Watch = {
      onChunk() {
        heard += 1;
        return new Promise((resolve) => setTimeout(resolve, 40, BLOCK));
      },
    };
    const passage = passageOf([seatOf(slow, { id: "shadow", mode: "shadow", timeoutMs: 100 })]);
    for (let i = 0; i < 50; i++) passage.onChunk(delta("x", i));
    await passage.onEnd({ cause: "complete", usage: {}, upstreamCalled: true });
    assert.ok(heard < 10, `${heard} questions before the ending`);
    const noted = passage.records();
    assert.equal(noted[0]!.state, "timed_out");
    assert.ok(noted[0]!.findings.some(({ reason }) => reason === "layer.timeout"));
    await new Promise((resolve) => setTimeout(resolve, 60));
    assert.deepEqual(passage.records()[0]!.findings, noted[0]!.findings, "what comes later is not noted");
  });

  it("parts of an answer that wait for a shadow take memory beside their text", () => {
    const slow: Watch = { onChunk: () => new Promise(() => {}) };
    const passage = passageOf([seatOf(slow, { id: "shadow", mode: "shadow", timeoutMs: 50 })]);
    for (let i = 0; i < 20_000; i++)
      passage.onChunk({ ...delta("", 0), channel: `answer:${i}`, final: true });
    assert.equal(passage.records()[0]!.state, "timed_out");
  });

  it("tells the layers that ask when a prompt is refused, also those that were not reached", async () => {
    for (const [watch, mode, heard] of [
      [{ onLeaf: () => BLOCK }, "enforce", 1],
      [{ onPrompt: async () => BLOCK }, "enforce", 1],
      [{ onPrompt: () => BLOCK }, "shadow", 0],
      [{ onPrompt: () => ALLOW }, "enforce", 0],
    ] as const) {
      const told: Verdict[] = [];
      const remembers: Seat["layer"] = {
        open: () => ({}),
        onRefused: (_request, _prompt, verdict) => void told.push(verdict),
      };
      const throws: Seat["layer"] = {
        open: () => ({}),
        onRefused() {
          throw new Error("a bug");
        },
      };
      const passage = passageOf([
        seatOf(watch, { mode }),
        seatOf({}, { id: "throws", layer: throws }),
        seatOf({}, { id: "remembers", layer: remembers }),
      ]);
      await passage.onPrompt(promptOf(["one"]));
      assert.equal(told.length, heard);
      assert.ok(told.every(({ act }) => act === "block"));
    }
  });

  it("joins the chunk verdicts of several seats and takes the smallest hold", async () => {
    const hold = (holdFrom: number, later: boolean): Watch => ({
      onChunk: () => (later ? Promise.resolve({ ...ALLOW, holdFrom }) : { ...ALLOW, holdFrom }),
    });
    for (const later of [false, true]) {
      const passage = passageOf([
        seatOf(hold(7, later)),
        seatOf(hold(3, false), { id: "b" }),
        seatOf(hold(9, later), { id: "c" }),
      ]);
      assert.equal((await passage.onChunk(delta("0123456789"))).holdFrom, 3);
      assert.equal((await passage.onChunk(delta("", 10, true))).holdFrom, Number.POSITIVE_INFINITY);
    }
  });
});
