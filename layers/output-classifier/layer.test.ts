/** The layer through its face: what leaves when, who ends an answer, and what it says when it cannot know. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { parse } from "yaml";
import {
  ALLOW,
  type Await,
  type ChannelKind,
  ConfigProblem,
  type Delta,
  type Encoded,
  type Finding,
  findingsOf,
  type Held,
  IDLE_PORTS,
  type Leaf,
  type Prompt,
  type RequestContext,
  type SoFar,
  type Watch,
} from "../../src/layer/index.ts";
import { PortionReader } from "../../src/pipeline/portions.ts";
import { openEncoder } from "../../src/ports/encoder.ts";
import { sentencesOf } from "../../src/text/sentences.ts";
import {
  DECLINES,
  DOUBTFUL,
  EVERYDAY,
  EVERYDAY_ASK,
  HARM,
  HARMFUL_ASK,
  makeResponseModel,
  type TestResponseOptions,
} from "../../test/support/response-model.ts";
import { askedIn } from "./exchange.ts";
import { outputClassifier } from "./layer.ts";

const SURE: TestResponseOptions = { doubt: [1, 1] };
const models = new Map<string, ReturnType<typeof makeResponseModel>>();
function model(options: TestResponseOptions) {
  const key = JSON.stringify(options);
  const known = models.get(key) ?? makeResponseModel(options);
  models.set(key, known);
  return known;
}

function embedding(first: number): Encoded {
  const numbers = new Float32Array(2048);
  numbers[0] = first;
  return { kind: "embedding", embedding: numbers };
}

interface Given {
  readonly model?: TestResponseOptions;
  readonly config?: object;
  readonly encode?: (text: string) => Encoded | Promise<Encoded>;
}

function seat({ model: options = SURE, config, encode }: Given = {}) {
  const { bytes, signature, signer } = model(options);
  const asked: string[] = [];
  const settings = outputClassifier.config.parse({ signers: [signer], ...config });
  const layer = outputClassifier.compile(settings, {
    ...IDLE_PORTS,
    seat: "output",
    encoder: {
      encode: async (text) => {
        asked.push(text);
        return encode?.(text) ?? { kind: "skipped", cause: "failed" };
      },
    },
    artifacts: { text: () => signature, bytes: () => bytes },
  });
  return { layer, asked, settings };
}

/** Tells a watch the portions that its kind asks for, as the runner does. */
function teller(watch: Watch, settings: object = {}): (delta: Delta) => Await<Held> {
  const reader = new PortionReader(outputClassifier.portions!(outputClassifier.config.parse(settings))!);
  return (delta) => reader.tell(delta, (portion) => watch.onChunk?.(portion) ?? ALLOW);
}

function promptOf(text: string): Prompt {
  const leaf: Leaf = { channel: "prompt:0", path: "/m", role: "user", kind: "text", turn: 0, text };
  return {
    dialect: "openai",
    operation: "chat",
    model: "m",
    stream: true,
    leaves: [leaf],
    newestTurn: 0,
    unknown: [],
    mediaCount: 0,
  };
}

const CALM: SoFar = { act: "allow", findings: [] };

interface Reading {
  readonly act: Held["act"];
  readonly findings: readonly Finding[];
  /** What the client has when the answer is over or cut; in enforce mode. */
  readonly seen: string;
  readonly heldMost: number;
}

interface ReadOptions extends Given {
  readonly text: string;
  readonly ask?: string;
  readonly cuts?: readonly number[];
  readonly soFar?: SoFar;
  readonly kind?: ChannelKind;
}

/** Reads an answer as the runner does. */
async function read({
  text,
  ask = EVERYDAY_ASK,
  cuts = [],
  soFar = CALM,
  kind = "answer",
  ...given
}: ReadOptions) {
  const { layer, asked, settings } = seat(given);
  const watch = layer.open({
    signal: new AbortController().signal,
    soFar: () => soFar,
  } as unknown as RequestContext);
  const tell = teller(watch, settings);
  assert.equal((await watch.onPrompt?.(promptOf(ask)))?.act, "allow");
  const findings: Finding[] = [];
  let [act, released, heldMost, start]: [Held["act"], number, number, number] = ["allow", 0, 0, 0];
  for (const end of [...cuts, text.length]) {
    const final = end === text.length;
    const piece = { channel: `${kind}:0`, kind, choice: 0, start, text: text.slice(start, end), final };
    const held = await tell(piece);
    findings.push(...findingsOf(held));
    if (held.act !== "allow") act = held.act;
    if (held.act === "block") break;
    const until = final ? end : Math.min(end, held.holdFrom ?? end);
    assert.ok(until >= released, `holdFrom falls back from ${released} to ${until}`);
    released = until;
    heldMost = Math.max(heldMost, end - until);
    start = end;
  }
  return { act, findings, seen: text.slice(0, released), heldMost, asked } satisfies Reading & {
    asked: unknown;
  };
}

const every = (text: string) => Array.from({ length: text.length - 1 }, (_, i) => i + 1);
const sorted = (findings: readonly Finding[]) =>
  findings.toSorted((a, b) => (a.where?.end ?? 0) - (b.where?.end ?? 0) || a.score - b.score);
const reasons = (findings: readonly Finding[]) => [...new Set(findings.map(({ reason }) => reason))];

test("a benign answer: each sentence leaves when it is over, and nothing is found", async () => {
  const text = EVERYDAY.join("");
  const { act, seen, findings, heldMost, asked } = await read({ text, cuts: every(text) });
  assert.deepEqual([act, seen, findings, asked], ["allow", text, [], []]);
  const longest = Math.max(...sentencesOf(text).map((sentence) => sentence.length));
  assert.ok(heldMost <= longest, `${heldMost} units waited`);
});

test("two harmful sentences in a row end the answer, and neither has left", async () => {
  const text = EVERYDAY.slice(0, 2).join("") + HARM.join("") + EVERYDAY[2];
  const until = EVERYDAY.slice(0, 2).join("").length;
  const config = { calm: { sentences: 1 } };
  for (const cuts of [[], every(text), [10, 100, 150]]) {
    const { act, seen, findings } = await read({ text, cuts, config });
    assert.equal(act, "block");
    assert.ok(seen.length <= until, JSON.stringify(seen));
    const where = findings.at(-1)?.where;
    assert.deepEqual([where?.start, where?.end], [until, until + HARM[0]!.length + HARM[1]!.length]);
    assert.deepEqual(reasons(findings), ["output.classifier.harmful"]);
  }
});

test("one harmful sentence between others ends nothing", async () => {
  const text = EVERYDAY.slice(0, 3).join("") + HARM[2] + EVERYDAY.slice(3).join("");
  const { act, seen } = await read({ text, cuts: every(text), config: { calm: { sentences: 1 } } });
  assert.notEqual(act, "block");
  assert.equal(seen, text);
});

test("what is found does not depend on where the events were cut", async () => {
  const piece = fc.constantFrom(
    ...HARM,
    ...DECLINES,
    ...EVERYDAY,
    DOUBTFUL,
    "\n\n",
    "好的，这是一个句子。",
    "x",
  );
  const bound = outputClassifier.holdMax?.(outputClassifier.config.parse({})) ?? 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { minLength: 1, maxLength: 12 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      async (pieces, at) => {
        const text = pieces.join("");
        const cuts = [...new Set(at.map((n) => n % text.length))].filter((n) => n > 0).sort((a, b) => a - b);
        const whole = await read({ text });
        const cut = await read({ text, cuts });
        assert.deepEqual([cut.act, sorted(cut.findings)], [whole.act, sorted(whole.findings)]);
        assert.ok(cut.heldMost <= bound);
        const first = whole.findings.find(() => whole.act === "block")?.where;
        if (whole.act !== "block") assert.equal(cut.seen, text);
        else assert.ok(first !== undefined);
      },
    ),
    { numRuns: 300 },
  );
});

test("every channel is judged by itself", async () => {
  for (const kind of ["answer", "thinking", "refusal", "tool", "transcript", "other"] as const) {
    const text = HARM.join("");
    assert.equal((await read({ text, kind, cuts: every(text) })).act, "block", kind);
  }
  const { layer } = seat({ config: { calm: { sentences: 1 } } });
  const watch = layer.open({ soFar: () => CALM } as unknown as RequestContext);
  const tell = teller(watch);
  const send = (choice: number, text: string, start: number) =>
    tell({ channel: `answer:${choice}`, kind: "answer", choice, start, text, final: false }) as Held;
  const first = HARM[0]!;
  assert.deepEqual(send(0, first, 0), { act: "allow", holdFrom: 0 });
  assert.deepEqual(send(1, EVERYDAY[0]!, 0), { act: "allow" });
  assert.deepEqual(send(1, first, EVERYDAY[0]!.length), { act: "allow", holdFrom: EVERYDAY[0]!.length });
  assert.equal(send(0, HARM[1]!, first.length).act, "block");
});

test("what there is of a sentence when its channel rests is judged: it leaves, or it waits for the next", () => {
  const piece = { channel: "a", kind: "answer", choice: 0, final: false } as const;
  for (const [sentence, holdFrom] of [
    [EVERYDAY[0]!, undefined],
    [HARM[0]!, 0],
  ] as const) {
    const { layer } = seat({ config: { calm: { sentences: 1 } } });
    const tell = teller(layer.open({ soFar: () => CALM } as unknown as RequestContext));
    const text = sentence.slice(0, -2);
    assert.deepEqual(tell({ ...piece, start: 0, text }), { act: "allow", holdFrom: 0 });
    const rested = tell({ ...piece, start: text.length, text: "", rests: true }) as Held;
    assert.deepEqual([rested.act, rested.holdFrom], ["allow", holdFrom]);
    const next = tell({ ...piece, start: text.length, text: HARM[1]! }) as Held;
    assert.equal(next.act, holdFrom === undefined ? "allow" : "block");
  }
});

test("hold: none waits for nothing and still ends what goes on", async () => {
  const text = HARM.join("");
  const config = { hold: "none", calm: { sentences: 1 } };
  const { act, seen, heldMost } = await read({ text, cuts: every(text), config });
  assert.deepEqual([act, heldMost], ["block", 0]);
  assert.equal(seen, text.slice(0, HARM[0]!.length + HARM[1]!.length - 1));
  assert.equal(outputClassifier.holdMax?.(outputClassifier.config.parse(config)), 0);
});

test("acts follow the thresholds: flag alone, block never", async () => {
  const text = HARM.join("");
  const flagged = await read({ text, config: { blockAt: 1 } });
  assert.equal(flagged.act, "flag");
  assert.equal((await read({ text, config: { flagAt: 1, blockAt: 1 } })).act, "allow");
  const config = { stageTwo: { enabled: false } };
  assert.equal((await read({ text: DECLINES.join(""), ask: HARMFUL_ASK, config })).act, "allow");
});

test("the prompt side decides: a finding or a harmful wish makes the exchange doubtful", async () => {
  const found: SoFar = { act: "flag", findings: [{ reason: "prompt.rule.x", score: 0.9 }] };
  const encode = () => embedding(-1);
  const given = { model: { doubt: [0.99, 1] } as const, encode, text: EVERYDAY.join("") };
  assert.deepEqual((await read(given)).asked, []);
  assert.ok((await read({ ...given, soFar: found })).asked.length > 0);
  assert.ok((await read({ ...given, ask: HARMFUL_ASK })).asked.length > 0);
  const other: SoFar = { act: "flag", findings: [{ reason: "rate.requests", score: 1 }] };
  assert.deepEqual((await read({ ...given, soFar: other })).asked, []);
  const config = { doubtfulReasons: ["rate.requests"], stageTwo: { enabled: false } };
  assert.deepEqual((await read({ ...given, config, soFar: other })).asked, []);
});

test("stricter where the exchange is doubtful", async () => {
  const text = `${DOUBTFUL}${DOUBTFUL}`;
  const config = { flagAt: 0.62, blockAt: 1, stageTwo: { enabled: false } };
  const acts = async (scale: number) =>
    (await read({ text, ask: HARMFUL_ASK, config: { ...config, doubtful: { scale } } })).act;
  assert.equal(await acts(0.1), "flag");
  assert.equal(await acts(2), "allow");
});

test("stage two overrules stage one, and is asked within its bounds", async () => {
  const text = HARM.join("");
  const cleared = await read({ text, model: { doubt: [0, 1] }, encode: () => embedding(-1) });
  assert.equal(cleared.act, "allow");
  assert.ok(cleared.asked.length >= 2);
  const told = await read({ text: EVERYDAY.join(""), model: { doubt: [0, 1] }, encode: () => embedding(1) });
  assert.equal(told.act, "block");
  const long = EVERYDAY.join("").repeat(40);
  const asked = (await read({ text: long, model: { doubt: [0, 1] }, encode: () => embedding(-1) })).asked;
  assert.ok(asked.length < 30, `${asked.length} texts were sent to the encoder`);
});

test("an encoder that does not answer is a finding, never an allow", async () => {
  for (const cause of ["full", "late", "failed", "gone"] as const) {
    const encode = (): Encoded => ({ kind: "skipped", cause });
    const given = { text: EVERYDAY.join(""), model: { doubt: [0, 1] } as const, encode };
    const { act, findings, seen } = await read(given);
    assert.deepEqual([act, reasons(findings)], ["flag", ["output.classifier.unsure"]]);
    assert.equal(seen, given.text);
    const strict = await read({ ...given, config: { stageTwo: { whenUnsure: "block" } } });
    assert.equal(strict.act, "block");
  }
  const few = { stageTwo: { questionsMax: 1, everyUnits: 64 } };
  const given = { model: { doubt: [0, 1] } as const, config: few, encode: () => embedding(-1) };
  const { findings } = await read({ ...given, text: EVERYDAY.join("").repeat(4) });
  assert.deepEqual(reasons(findings), ["output.classifier.unsure"]);
});

test("nothing leaves while the encoder is asked", async () => {
  let answer: (encoded: Encoded) => void = () => {};
  const encode = () =>
    new Promise<Encoded>((resolve) => {
      answer = resolve;
    });
  const { layer } = seat({ model: { doubt: [0, 1] }, encode });
  const watch = layer.open({
    signal: new AbortController().signal,
    soFar: () => CALM,
  } as unknown as RequestContext);
  const text = EVERYDAY.slice(0, 4).join("");
  const tell = teller(watch);
  const pending = tell({ channel: "a", kind: "answer", choice: 0, start: 0, text, final: false });
  assert.ok(pending instanceof Promise);
  answer(embedding(-1));
  assert.equal((await pending).act, "allow");
});

test("late findings of the seats before count when they are known; their failure is theirs", async () => {
  const { layer, asked } = seat({ model: { doubt: [0.99, 1] }, encode: () => embedding(-1) });
  const found: SoFar = { act: "flag", findings: [{ reason: "prompt.judge.x", score: 1 }] };
  for (const soFar of [Promise.resolve(found), Promise.reject(new Error("broken"))]) {
    asked.length = 0;
    const request = { signal: new AbortController().signal, soFar: () => soFar };
    const watch = layer.open(request as unknown as RequestContext);
    const verdict = watch.onPrompt?.(promptOf(EVERYDAY_ASK));
    assert.ok(!(verdict instanceof Promise), "the prompt does not wait");
    await Promise.allSettled([soFar]);
    const text = EVERYDAY.join("");
    await teller(watch)({ channel: "a", kind: "answer", choice: 0, start: 0, text, final: true });
    assert.equal(asked.length > 0, await soFar.then(() => true).catch(() => false));
  }
});

test("what was asked is the user's words since the model last spoke", () => {
  const leaf = (role: Leaf["role"], turn: number, text: string): Leaf => ({
    channel: "c",
    path: "/",
    role,
    kind: "text",
    turn,
    text,
  });
  const leaves = [
    leaf("system", 0, "be kind"),
    leaf("user", 1, "one"),
    leaf("assistant", 2, "two"),
    leaf("user", 3, "three"),
    leaf("user", 4, "four"),
  ];
  assert.equal(askedIn({ ...promptOf(""), leaves }), "three\nfour");
  assert.equal(askedIn({ ...promptOf(""), leaves: [leaf("user", 0, "x".repeat(20_000))] }).length, 8_193);
});

test("models: a wrong signature, a file that is none, and what compiles without one", () => {
  const { bytes, signature } = model(SURE);
  const other = makeResponseModel(SURE);
  const compile = (config: object, artifact: Uint8Array, sig: string) =>
    outputClassifier.compile(outputClassifier.config.parse(config), {
      ...IDLE_PORTS,
      seat: "s",
      artifacts: { bytes: () => artifact, text: () => sig },
    });
  assert.throws(() => compile({ signers: [other.signer] }, bytes, signature), ConfigProblem);
  assert.throws(
    () => compile({ unsigned: true }, new Uint8Array(64), ""),
    /cannot be used as a response model/,
  );
  assert.ok(compile({ unsigned: true }, bytes, ""));
  assert.deepEqual(
    outputClassifier.needs?.(outputClassifier.config.parse({ unsigned: true })).map(({ path }) => path),
    ["models/response.safetensors"],
  );
});

test("long and hostile answers take linear time and bounded memory", async () => {
  for (const unit of ["a", "a. ", "\n", "。", "1. ", "x".repeat(50)]) {
    const text = unit.repeat(Math.ceil(400_000 / unit.length));
    const { layer } = seat();
    const watch = layer.open({ soFar: () => CALM } as unknown as RequestContext);
    const tell = teller(watch);
    const begin = performance.now();
    for (let start = 0; start < text.length; start += 64) {
      const piece = text.slice(start, start + 64);
      const final = start + 64 >= text.length;
      await tell({ channel: "a", kind: "answer", choice: 0, start, text: piece, final });
    }
    assert.ok(performance.now() - begin < 4000, `${JSON.stringify(unit)}: ${performance.now() - begin} ms`);
  }
});

test("the shipped model: its cases", async () => {
  const cases = parse(readFileSync(new URL("./cases/answers.yaml", import.meta.url), "utf8")) as Record<
    "catch" | "spare",
    readonly { readonly ask: string; readonly answer: string; readonly why: string }[]
  >;
  const models = new URL("../../config/models/", import.meta.url);
  const encoder = openEncoder({ workers: 1, queueMax: 16, timeoutMs: 60_000 });
  const layer = outputClassifier.compile(outputClassifier.config.parse({}), {
    ...IDLE_PORTS,
    encoder,
    seat: "s",
    artifacts: {
      bytes: ({ path }) => readFileSync(new URL(path.replace("models/", ""), models)),
      text: ({ path }) => readFileSync(new URL(path.replace("models/", ""), models), "utf8"),
    },
  });
  for (const side of ["catch", "spare"] as const) {
    for (const { ask, answer, why } of cases[side]) {
      const watch = layer.open({
        signal: new AbortController().signal,
        soFar: () => CALM,
      } as unknown as RequestContext);
      await watch.onPrompt?.(promptOf(ask));
      const piece = { channel: "a", kind: "answer", choice: 0, start: 0, text: answer, final: true } as const;
      const held = await teller(watch)(piece);
      assert.equal(held.act !== "allow", side === "catch", `${why}: ${JSON.stringify(findingsOf(held))}`);
    }
  }
  await encoder.close();
});
