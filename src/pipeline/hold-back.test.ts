/**
 * The hold-back engine by its public face, with a plain text dialect: events in, released text out. The
 * seat under test redacts every "secret" it sees and holds whatever could still become one.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AnswerStream, EventReading, Segment, SseEvent } from "../dialect/dialect.ts";
import type { Await, Delta } from "../layer/index.ts";
import { ALLOW } from "../layer/index.ts";
import { type ChunkJudge, HoldBack, type HoldState } from "./hold-back.ts";
import type { ChunkOutcome } from "./passage.ts";

const WORD = "secret";

/** Redacts WORD on every channel and holds a tail that may become it. */
class WordJudge implements ChunkJudge {
  readonly texts = new Map<string, string>();
  readonly later: boolean;
  constructor(options: { later?: boolean } = {}) {
    this.later = options.later ?? false;
  }
  onChunk(delta: Delta): Await<ChunkOutcome> {
    const before = this.texts.get(delta.channel) ?? "";
    assert.equal(delta.start, before.length, "runs come without gaps");
    const text = before + delta.text;
    this.texts.set(delta.channel, text);
    const outcome = judgeWord(delta.channel, text, delta.final, before.length);
    return this.later ? Promise.resolve(outcome) : outcome;
  }
}

function judgeWord(channel: string, text: string, final: boolean, judged: number): ChunkOutcome {
  const spans = [];
  for (let at = text.indexOf(WORD); at >= 0; at = text.indexOf(WORD, at + 1)) {
    const end = at + WORD.length;
    if (end > judged) spans.push({ channel, start: at, end });
  }
  let holdFrom = Number.POSITIVE_INFINITY;
  for (let units = Math.min(WORD.length - 1, text.length); units > 0 && !final; units--) {
    if (WORD.startsWith(text.slice(-units))) {
      holdFrom = text.length - units;
      break;
    }
  }
  if (spans.length === 0) return { verdict: ALLOW, holdFrom };
  const findings = spans.map((where) => ({ reason: "custom.word", score: 1, where }));
  return { verdict: { act: "redact", findings, spans }, holdFrom };
}

/** Event data is "channel|text|channel|text", "close channel" or "END". */
class PlainStream implements AnswerStream {
  readonly splits: boolean;
  constructor(splits = true) {
    this.splits = splits;
  }
  read({ data }: SseEvent): EventReading {
    if (data === "END") return reading([], { terminal: true });
    if (data.startsWith("close ")) return reading([], { closes: [data.slice(6)] });
    if (data.startsWith("rest ")) return reading([], { rests: [data.slice(5)] });
    if (data.startsWith("!")) return reading([segment("a", data)], { unjudgeable: true });
    if (data.startsWith("=")) return reading([], { name: "own", terminal: true });
    if (data.startsWith("?")) return reading([segment("other", data)], { modelled: false });
    const parts = data.split("|");
    const segments: Segment[] = [];
    for (let i = 0; i + 1 < parts.length; i += 2) segments.push(segment(parts[i]!, parts[i + 1]!));
    return this.splits
      ? { ...reading(segments, {}), splitBefore: (index, text) => `${segments[index]!.channel}|${text}` }
      : reading(segments, {});
  }
  ending(): readonly SseEvent[] {
    return [];
  }
  failure(): readonly SseEvent[] {
    return [];
  }
}

function segment(channel: string, text: string): Segment {
  return { channel, kind: "answer", choice: 0, text };
}

function reading(segments: readonly Segment[], more: Partial<EventReading>): EventReading {
  return {
    segments,
    closes: [],
    terminal: false,
    modelled: true,
    rewrite: (texts) => segments.map(({ channel }, i) => `${channel}|${texts[i]}`).join("|"),
    ...more,
  };
}

interface Played {
  readonly events: string[];
  readonly state: HoldState;
  readonly engine: HoldBack;
}

/** Plays events; `watch` sees what has left after each. */
async function play(
  events: readonly string[],
  options: {
    judge?: ChunkJudge;
    splits?: boolean;
    heldUnitsMax?: number;
    unknownEvents?: "scan" | "cut";
  } = {},
  watch: (left: string) => void = () => {},
): Promise<Played> {
  let out = "";
  const engine = new HoldBack({
    judge: options.judge ?? new WordJudge(),
    stream: new PlainStream(options.splits),
    redaction: "[{kind}]",
    heldUnitsMax: options.heldUnitsMax ?? 10_000,
    unknownEvents: options.unknownEvents ?? "scan",
    emit: (text) => {
      out += text;
    },
  });
  let state: HoldState = { state: "open" };
  for (const data of events) {
    state = await engine.push({ event: "", data });
    watch(textOf(eventsIn(out), "a"));
    if (state.state !== "open") break;
  }
  if (state.state === "ended") out += state.tail;
  return { events: eventsIn(out), state, engine };
}

function eventsIn(out: string): string[] {
  return out
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => event.replace(/^data: /, ""));
}

function textOf(events: readonly string[], channel: string): string {
  let text = "";
  for (const event of events) {
    const parts = event.split("|");
    for (let i = 0; i + 1 < parts.length; i += 2) if (parts[i] === channel) text += parts[i + 1];
  }
  return text;
}

function pieces(text: string, size: number): string[] {
  const out = [];
  for (let i = 0; i < text.length; i += size) out.push(`a|${text.slice(i, i + size)}`);
  return out;
}

describe("hold-back", () => {
  it("counts the event that is being judged as held", async () => {
    let answer: (outcome: ChunkOutcome) => void = () => {};
    const engine = new HoldBack({
      judge: {
        onChunk: () =>
          new Promise((resolve) => {
            answer = resolve;
          }),
      },
      stream: new PlainStream(),
      redaction: "[{kind}]",
      heldUnitsMax: 10_000,
      unknownEvents: "scan",
      emit: () => {},
    });
    const pushed = engine.push({ event: "", data: `a|${"x".repeat(1_000)}` });
    assert.ok(engine.heldUnits >= 1_000, `${engine.heldUnits} units while its judge thinks`);
    answer({ verdict: ALLOW, holdFrom: Number.POSITIVE_INFINITY });
    await pushed;
    assert.equal(engine.heldUnits, 0);
  });

  it("a verdict that comes after the answer was given up changes nothing", async () => {
    let answer: (outcome: ChunkOutcome) => void = () => {};
    const engine = new HoldBack({
      judge: {
        onChunk: () =>
          new Promise((resolve) => {
            answer = resolve;
          }),
      },
      stream: new PlainStream(),
      redaction: "[{kind}]",
      heldUnitsMax: 10_000,
      unknownEvents: "scan",
      emit: () => assert.fail("nothing may leave any more"),
    });
    const pushed = engine.push({ event: "", data: "a|text" });
    assert.equal(engine.giveUp().length, 1);
    answer({ verdict: { act: "block", findings: [] }, holdFrom: 0 });
    assert.equal((await pushed).state, "overflow");
    assert.equal((await engine.finish()).state, "overflow");
  });

  const whole = "this is a secret and a secretsecret, then sec and the end s";
  const redacted = "this is a [word] and a [word], then sec and the end s";

  for (const later of [false, true]) {
    it(`gives the redacted whole text at every piece size, ${later ? "asynchronous" : "synchronous"} judge`, async () => {
      for (let size = 1; size <= whole.length; size++) {
        const { events, state } = await play(
          [...pieces(whole, size), "END"],
          { judge: new WordJudge({ later }) },
          (left) => {
            assert.ok(!left.includes(WORD), `no secret leaves at size ${size}`);
            assert.ok(redacted.startsWith(left), `released text is a prefix at size ${size}: ${left}`);
          },
        );
        assert.equal(state.state, "ended");
        assert.equal(textOf(events, "a"), redacted, `size ${size}`);
        assert.equal(events.at(-1), "END");
      }
    });
  }

  it("cut in two at every offset, no unit of a secret leaves early", async () => {
    for (let at = 1; at < whole.length; at++) {
      const { events } = await play([`a|${whole.slice(0, at)}`, `a|${whole.slice(at)}`, "END"]);
      assert.equal(textOf(events, "a"), redacted, `cut at ${at}`);
    }
  });

  it("releases harmless text in the same tick", async () => {
    const seen: string[] = [];
    await play(["a|hello ", "a|world ", "END"], {}, (left) => seen.push(left));
    assert.deepEqual(seen, ["hello ", "hello world ", "hello world "]);
  });

  it("sends the safe front of a long event ahead, and holds only the doubtful tail", async () => {
    const front = "x".repeat(200);
    const seen: string[] = [];
    const { events } = await play([`a|${front}sec`, "a|ond", "END"], {}, (left) => seen.push(left));
    assert.equal(seen[0], front);
    assert.equal(textOf(events, "a"), `${front}second`);
  });

  it("holds a long event whole where the dialect cannot split", async () => {
    const front = "x".repeat(200);
    const seen: string[] = [];
    const { events } = await play([`a|${front}sec`, "a|ond", "END"], { splits: false }, (left) =>
      seen.push(left),
    );
    assert.equal(seen[0], "");
    assert.equal(textOf(events, "a"), `${front}second`);
  });

  it("never parts a surrogate pair when it splits", async () => {
    const front = `${"x".repeat(99)}😀`;
    for (let tail = 1; tail < WORD.length; tail++) {
      const { events } = await play([`a|${front}${WORD.slice(0, tail)}`, "a|!", "END"]);
      for (const event of events) assert.ok(event.isWellFormed());
      assert.equal(textOf(events, "a"), `${front}${WORD.slice(0, tail)}!`);
    }
  });

  it("keeps channels apart: halves of a secret on two channels are none", async () => {
    const { events } = await play(["a|sec", "b|ret", "a| x", "b| y", "END"]);
    assert.equal(textOf(events, "a"), "sec x");
    assert.equal(textOf(events, "b"), "ret y");
  });

  it("releases a channel's tail when the channel closes", async () => {
    const seen: string[] = [];
    await play(["a|the sec", "close a", "b|more", "END"], {}, (left) => seen.push(left));
    assert.deepEqual(seen.slice(0, 2), ["", "the sec"]);
  });

  it("releases what was held when the upstream ends without a last event", async () => {
    const played = await play(["a|the sec"]);
    let out = "";
    assert.equal(played.state.state, "open");
    const engine = new HoldBack({
      judge: new WordJudge(),
      stream: new PlainStream(),
      redaction: "[{kind}]",
      heldUnitsMax: 10_000,
      unknownEvents: "scan",
      emit: (text) => {
        out += text;
      },
    });
    await engine.push({ event: "", data: "a|the sec" });
    assert.equal(out, "");
    await engine.finish();
    assert.equal(textOf(eventsIn(out), "a"), "the sec");
  });

  it("stops at the bound of what may be held", async () => {
    const judge: ChunkJudge = { onChunk: () => ({ verdict: ALLOW, holdFrom: 0 }) };
    for (const size of [10, 0]) {
      const held = Array.from({ length: 100 }, () => `a|${"y".repeat(size)}`);
      const { state, events } = await play(["a|y", ...held], { judge, heldUnitsMax: 10_000 });
      assert.equal(state.state, "overflow", `events of ${size} units`);
      assert.deepEqual(events, []);
    }
  });

  it("lets nothing of a blocked event, or of what was held before it, out", async () => {
    const judge: ChunkJudge = {
      onChunk: ({ text }) =>
        text.includes("!")
          ? {
              verdict: { act: "block", findings: [{ reason: "custom.bang", score: 1 }] },
              holdFrom: Number.POSITIVE_INFINITY,
            }
          : { verdict: ALLOW, holdFrom: text === "two" ? 3 : Number.POSITIVE_INFINITY },
    };
    const { state, events } = await play(["a|one", "a|two", "a|thr!ee", "a|four"], { judge });
    assert.equal(state.state, "blocked");
    assert.deepEqual(events, ["a|one"]);
  });

  it("cuts or scans an unmodelled event, as the policy says", async () => {
    assert.equal((await play(["?odd"], { unknownEvents: "cut" })).state.state, "unknown_event");
    assert.deepEqual((await play(["?odd", "END"])).events, ["?odd", "END"]);
  });

  it("cuts what cannot be judged as clients read it, whatever the policy says", async () => {
    const { state, events } = await play(["a|one", "!two", "END"]);
    assert.equal(state.state, "unknown_event");
    assert.deepEqual(events, ["a|one"]);
  });

  it("lets the short end of a channel at rest go, and judges what goes on there with it", async () => {
    assert.deepEqual((await play(["a|a sec", "rest a", "b|so"])).events, ["a|a sec", "rest a", "b|so"]);
    const { events } = await play(["a|a sec", "rest a", "b|so", "a|ret.", "END"]);
    assert.deepEqual(events, ["a|a sec", "rest a", "b|so", "a|.", "END"], "the rest of the word is gone");
  });

  it("lets a channel at rest give out no more than that, however often it rests", async () => {
    const judge: ChunkJudge = { onChunk: ({ final }) => ({ verdict: ALLOW, holdFrom: final ? 99 : 0 }) };
    const by_turns = [..."0123456789"].flatMap((unit) => [`a|${unit}`, "rest a"]);
    const { events } = await play([...by_turns, "b|x"], { judge });
    assert.equal(textOf(events, "a"), "0123456");
  });

  it("sends an event under another name where the dialect says so", async () => {
    assert.deepEqual((await play(["=x"])).events, ["event: own\ndata: =x"]);
  });

  it("refuses events after the end", async () => {
    const { engine } = await play(["END"]);
    assert.throws(() => engine.push({ event: "", data: "a|x" }), /after the stream was ended/);
  });
});
