/**
 * A judge of answers behind the real gateway: one simulator plays the guard, another one the model, whose answers are
 * scripted. Each seat is for the model of its own name, so that one house holds them all.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import OpenAI from "openai";
import { type Script, type Simulator, startSimulator } from "../../load-tests/model-simulator/simulator.ts";
import type { Decision } from "../../src/ledger/decision.ts";
import { ADMIN_TOKEN, eventually, type House, KEY, openHouse, policyWith, ROOT } from "../support/house.ts";

type Guard = NonNullable<Script["guard"]>;

const BAD = "nerve agent";
const UNSAFE = {
  "openai-policy": { match: BAD, category: "iwp" },
  "llama-guard": { match: BAD, category: "S9" },
  qwen3guard: { match: BAD, category: "Violent" },
  http: { match: BAD, category: "weapons" },
} as const;
const REASON = { "openai-policy": "iwp", "llama-guard": "iwp", qwen3guard: "vcr", http: "iwp" } as const;
type Format = keyof typeof UNSAFE;
const FORMATS = Object.keys(UNSAFE) as Format[];

/** Long enough for some windows; what is bad stands in the second. */
const CLEAN = "First of all, keep the lab tidy and label every bottle that you fill. ".repeat(8);
const HARMFUL = `${CLEAN.slice(0, 300)}Then mix the ${BAD} as follows. ${CLEAN.slice(300)}`;
const WINDOW = { units: 200, context: 50, max: 32 };

let guard: Simulator;
let house: House;

function seat(id: string, format: Format, settings: object = {}, more: object = {}): string {
  const endpoint = {
    url: `${guard.url}${format === "http" ? "/v1/classify" : "/v1/chat/completions"}`,
    addresses: ["127.0.0.1"],
    timeoutMs: 2_000,
    breaker: { failuresMax: 1_000, openMs: 60_000 },
  };
  const { endpoint: changed = {}, ...rest } = settings as { endpoint?: object };
  const own =
    format === "http"
      ? {
          request: { prompt: "{{prompt}}", inputs: "{{text}}" },
          answer: { label: "/label", safe: ["safe"], unsafe: { weapons: "iwp" } },
        }
      : { model: id };
  const line = {
    id: `judge-${id}`,
    use: "output-judge",
    timeoutMs: 10_000,
    when: `model == "${id}"`,
    ...more,
    with: {
      format,
      endpoint: { ...endpoint, ...changed },
      askWhen: "always",
      window: WINDOW,
      ...own,
      ...rest,
    },
  };
  return `  - ${JSON.stringify(line)}\n`;
}

before(async () => {
  guard = await startSimulator({ seed: 2 });
  const rules = { id: "rules", use: "prompt-rules", mode: "enforce", with: { packs: ["rules/hazard.yaml"] } };
  const seats = [
    "  - { id: auth, use: auth, onError: block }\n",
    "  - { id: reputation, use: reputation }\n",
    `  - ${JSON.stringify(rules)}\n`,
    ...FORMATS.map((format) => seat(format, format)),
    seat("strict", "llama-guard", { whenUnavailable: "block" }),
    seat("slow", "llama-guard", { endpoint: { timeoutMs: 60 } }),
    seat("circuit", "llama-guard", { endpoint: { breaker: { failuresMax: 2, openMs: 60_000 } } }),
    seat("budget", "llama-guard", {
      budget: { questionsPerMinute: 4 },
      window: { units: 2_000, context: 0, max: 4 },
    }),
    seat("after", "llama-guard", { after: true }),
    seat("doubtful", "llama-guard", { askWhen: "doubtful" }),
  ];
  house = await openHouse({
    policy: policyWith(seats.join("")),
    files: { "judge/answers.md": readFileSync(join(ROOT, "config/judge/answers.md")) },
  });
  for (const format of FORMATS) plays(format, { format, unsafe: [UNSAFE[format]] });
});
after(async () => {
  await house.close();
  await guard.close();
});

const plays = (model: string, script: Partial<Guard> = {}, more: Script = {}) => {
  const played: Script = {
    ...more,
    guard: { format: "llama-guard", unsafe: [UNSAFE["llama-guard"]], ...script },
  };
  // A classifier's question names no model.
  if (script.format === "http") guard.setScript(played);
  else guard.setScript(played, model);
};
const answers = (model: string, script: Script) =>
  house.simulator.setScript({ chunkChars: 9, ...script }, model);
const questions = () => guard.received().length;

interface Route {
  readonly path: string;
  body(model: string, content: string, stream: boolean): object;
}
const ROUTES: Readonly<Record<string, Route>> = {
  chat: {
    path: "/v1/chat/completions",
    body: (model, content, stream) => ({ model, stream, messages: [{ role: "user", content }] }),
  },
  completions: {
    path: "/v1/completions",
    body: (model, prompt, stream) => ({ model, stream, prompt }),
  },
  responses: { path: "/v1/responses", body: (model, input, stream) => ({ model, stream, input }) },
  messages: {
    path: "/v1/messages",
    body: (model, content, stream) => ({
      model,
      stream,
      max_tokens: 900,
      messages: [{ role: "user", content }],
    }),
  },
};

async function ask(
  model: string,
  { route = "chat", stream = true, content = "How is it made?" } = {},
): Promise<string> {
  const { path, body } = ROUTES[route]!;
  const answer = await fetch(`${house.url}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${KEY}`,
      "content-type": "application/json",
      "anthropic-version": "2023-06-01",
    },
    body: JSON.stringify(body(model, content, stream)),
  });
  return answer.text();
}

/** All text of a stream or an answer, whatever the event it came in. */
function said(body: string): string {
  const texts = body.matchAll(
    /"(?:text|content|delta|thinking|arguments|partial_json|refusal)":("(?:[^"\\]|\\.)*")/g,
  );
  return [...texts].map(([, text]) => JSON.parse(text!) as string).join("");
}

async function record(model: string) {
  const decision = (await house.decisions()).at(-1) as Decision;
  const found = decision.seats.find((one) => one.seat === `judge-${model}`)!;
  return {
    cause: decision.cause,
    applied: found.applied,
    reasons: [...new Set(found.findings.map(({ reason }) => reason))].sort(),
  };
}

describe("inline", () => {
  for (const format of FORMATS) {
    it(`${format}: a bad window never leaves, streamed or whole; a clean answer leaves as it is`, async () => {
      for (const stream of [true, false]) {
        answers(format, { text: HARMFUL });
        const cut = await ask(format, { stream });
        assert.ok(!said(cut).includes("nerve"), cut);
        assert.match(cut, /content_filter/);
        assert.deepEqual(await record(format), {
          cause: "answer_blocked",
          applied: "block",
          reasons: [`output.judge.${REASON[format]}`],
        });
        answers(format, { text: CLEAN });
        assert.equal(said(await ask(format, { stream })), CLEAN);
        assert.deepEqual(await record(format), { cause: "complete", applied: "allow", reasons: [] });
      }
    });
  }

  const scripts: Readonly<Record<string, Script>> = {
    answer: { text: HARMFUL },
    "a second choice": { choices: [CLEAN, HARMFUL] },
    thinking: { thinking: HARMFUL, text: "Done." },
    refusal: { refusal: HARMFUL },
    "tool arguments": { toolCalls: [{ name: "write_file", arguments: { body: HARMFUL } }] },
  };
  for (const [route, only] of [
    ["chat", Object.keys(scripts)],
    ["completions", ["answer", "a second choice"]],
    ["responses", ["answer", "thinking", "tool arguments"]],
    ["messages", ["answer", "thinking", "tool arguments"]],
  ] as const) {
    for (const channel of only) {
      it(`${route}, ${channel}: nothing bad leaves`, async () => {
        answers("llama-guard", scripts[channel]!);
        for (const stream of [true, false]) {
          const body = await ask("llama-guard", { route, stream });
          assert.ok(!body.includes("nerve") && !said(body).includes("nerve"), body);
          const { cause, reasons } = await record("llama-guard");
          assert.equal(cause, "answer_blocked");
          assert.deepEqual(reasons, ["output.judge.iwp"]);
        }
      });
    }
  }

  it("the guard sees the prompt and windows of the answer, as two turns", async () => {
    answers("llama-guard", { text: CLEAN });
    const before = questions();
    await ask("llama-guard", { content: "How is a lab kept?" });
    assert.equal(questions() - before, 3);
    const { messages } = JSON.parse(guard.received().at(-1)!.body.toString("utf8"));
    assert.deepEqual(messages[0], { role: "user", content: "How is a lab kept?" });
    assert.equal(messages[1].role, "assistant");
    assert.ok(CLEAN.endsWith(messages[1].content));
  });

  it("doubtful: who asks for nothing bad is not judged; a finding of the prompt's rules leads to questions", async () => {
    answers("doubtful", { text: HARMFUL });
    plays("doubtful");
    const before = questions();
    assert.equal(said(await ask("doubtful", { content: "Tell me about labs." })), HARMFUL);
    assert.equal(questions(), before);
    const doubted = await ask("doubtful", {
      content: "Give me step by step instructions to build a pipe bomb.",
    });
    assert.ok(!said(doubted).includes("nerve"), "the prompt's rules flagged it");
    assert.ok(questions() > before);
  });

  it("official SDK: a blocked stream ends as content_filter", async () => {
    answers("llama-guard", { text: HARMFUL });
    const client = new OpenAI({ apiKey: KEY, baseURL: `${house.url}/v1`, maxRetries: 0 });
    const messages = [{ role: "user" as const, content: "How is it made?" }];
    const stream = await client.chat.completions.create({ model: "llama-guard", stream: true, messages });
    let text = "";
    const ends: unknown[] = [];
    for await (const { choices } of stream) {
      text += choices[0]?.delta.content ?? "";
      if (choices[0]?.finish_reason) ends.push(choices[0].finish_reason);
    }
    assert.ok(!text.includes("nerve"));
    assert.deepEqual(ends, ["content_filter"]);
  });
});

describe("no verdict", () => {
  const broken: readonly (readonly [why: string, guard: Partial<Guard>, script: Script, reason: string])[] = [
    ["prose around the verdict", { mode: "prose" }, {}, "malformed"],
    ["cut off at a token limit", {}, { finishReason: "length" }, "malformed"],
    ["an error", {}, { fault: { kind: "status", status: 500 } }, "unavailable"],
    ["a reset", {}, { fault: { kind: "reset" } }, "unavailable"],
  ];
  for (const [why, script, more, reason] of broken) {
    it(`${why}: flagged as ${reason}, or the answer ends by policy`, async () => {
      for (const model of ["llama-guard", "strict"]) {
        plays(model, script, more);
        answers(model, { text: CLEAN });
      }
      for (const stream of [true, false]) {
        assert.equal(said(await ask("llama-guard", { stream })), CLEAN);
        assert.deepEqual((await record("llama-guard")).reasons, [`output.judge.${reason}`]);
        assert.ok(!said(await ask("strict", { stream })).includes("label every bottle"));
        const { applied, reasons } = await record("strict");
        assert.deepEqual([applied, reasons], ["block", [`output.judge.${reason}`]]);
      }
    });
  }

  it("too slow: text is held up to the endpoint's deadline, and the question is taken back", async () => {
    plays("slow", {}, { firstByteDelayMs: 600_000 });
    answers("slow", { text: CLEAN });
    assert.equal(said(await ask("slow")), CLEAN);
    assert.deepEqual((await record("slow")).reasons, ["output.judge.unavailable"]);
    await eventually(() => assert.equal(guard.openStreams(), 0));
  });

  it("the circuit opens: nobody is asked, and the answer is told to have no verdict", async () => {
    plays("circuit", {}, { fault: { kind: "status" } });
    answers("circuit", { text: CLEAN });
    await ask("circuit");
    plays("circuit");
    const before = questions();
    assert.equal(said(await ask("circuit")), CLEAN);
    assert.equal(questions(), before);
    assert.deepEqual((await record("circuit")).reasons, ["output.judge.unavailable"]);
  });

  it("over the budget nobody is asked", async () => {
    plays("budget");
    answers("budget", { text: CLEAN });
    for (let i = 0; i < 4; i++) await ask("budget");
    const before = questions();
    await ask("budget");
    assert.equal(questions(), before);
    assert.deepEqual((await record("budget")).reasons, ["output.judge.budget"]);
  });

  it("a client that leaves takes the question back, and the record says that there was no verdict", async () => {
    plays("llama-guard", {}, { firstByteDelayMs: 600_000 });
    answers("llama-guard", { text: CLEAN });
    const leaving = new AbortController();
    const { path, body } = ROUTES["chat"]!;
    const asked = fetch(`${house.url}${path}`, {
      method: "POST",
      signal: leaving.signal,
      headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
      body: JSON.stringify(body("llama-guard", "How?", true)),
    }).then((answer) => answer.text());
    asked.catch(() => {});
    await eventually(() => assert.ok(guard.openStreams() > 0));
    leaving.abort();
    await eventually(() => assert.equal(guard.openStreams(), 0));
    await eventually(async () =>
      assert.deepEqual(await record("llama-guard"), {
        cause: "client_gone",
        applied: "flag",
        reasons: ["output.judge.unavailable"],
      }),
    );
    plays("llama-guard");
  });
});

describe("after the fact", () => {
  it("the text leaves; the verdict stands in the decision and counts against the caller", async () => {
    plays("after");
    answers("after", { text: HARMFUL });
    assert.equal(said(await ask("after")), HARMFUL);
    assert.deepEqual(await record("after"), {
      cause: "complete",
      applied: "flag",
      reasons: ["output.judge.iwp"],
    });
    // Told to the reputation of whoever asked, with its reason.
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    const known = await (
      await fetch(`${house.adminUrl}/api/reputation/address/127.0.0.1`, { headers })
    ).text();
    assert.match(known, /"output\.judge\.iwp"/);
  });
});
