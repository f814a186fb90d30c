/**
 * The layer behind the runner's own hold-back: on every channel of both dialects, cut at every place, what the client
 * has read is at all times a front of the redacted whole text, in the end all of it, and tool arguments stay JSON.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { anthropic } from "../../src/dialect/anthropic/index.ts";
import type { Dialect } from "../../src/dialect/dialect.ts";
import { openai } from "../../src/dialect/openai/index.ts";
import { type ChannelKind, IDLE_PORTS, type Operation, type Prompt } from "../../src/layer/index.ts";
import { HoldBack } from "../../src/pipeline/hold-back.ts";
import { Passage } from "../../src/pipeline/passage.ts";
import { VerdictCache } from "../../src/pipeline/verdict-cache.ts";
import { redactPrompt } from "../../src/pipeline/whole-text.ts";
import type { Snapshot } from "../../src/policy/snapshot.ts";
import { encodeSse, SseDecoder } from "../../src/wire/sse.ts";
import { KINDS } from "./kinds.ts";
import { outputPii } from "./layer.ts";

const artifacts = { text: () => "", bytes: () => new Uint8Array() };

function snapshotOf(settings: unknown): Snapshot {
  const config = outputPii.config.parse(settings);
  return {
    revision: "test",
    seats: [
      {
        id: "pii",
        use: outputPii.kind,
        mode: "enforce",
        rollout: 100,
        sample: 1,
        onError: "block",
        timeoutMs: 5000,
        when: undefined,
        layer: outputPii.compile(config, { seat: "pii", ...IDLE_PORTS, artifacts }),
        config: {},
        phases: outputPii.phasesOf?.(config) ?? outputPii.phases,
        holdMax: outputPii.holdMax?.(config) ?? 0,
        fingerprint: "f",
      },
    ],
    routes: new Set(),
    passThrough: [],
    unknownFields: "scan",
    unknownEvents: "scan",
    redaction: "[redacted:{kind}]",
  };
}

const REDACTING = snapshotOf({ kinds: Object.fromEntries(KINDS.map((kind) => [kind, "redact"])) });

function passageOf(wire: Wire, snapshot: Snapshot): Passage {
  const facts = {
    id: "req_1",
    dialect: wire.dialect.name,
    operation: wire.operation,
    route: "r",
    address: "::1",
  };
  return new Passage(snapshot, facts, new VerdictCache({ entriesMax: 0 }));
}

/** One channel: how a piece of its text comes over the wire. */
interface Wire {
  readonly name: string;
  readonly kind: ChannelKind;
  readonly dialect: Dialect;
  readonly operation: Operation;
  readonly isJson?: boolean;
  data(piece: string): object;
}

const chat = (delta: object) => ({
  id: "c",
  object: "chat.completion.chunk",
  choices: [{ index: 0, delta }],
});
const block = (delta: object) => ({ type: "content_block_delta", index: 0, delta });
const WIRES: readonly Wire[] = [
  {
    name: "answer",
    kind: "answer",
    dialect: openai,
    operation: "chat",
    data: (piece) => chat({ content: piece }),
  },
  {
    name: "refusal",
    kind: "refusal",
    dialect: openai,
    operation: "chat",
    data: (piece) => chat({ refusal: piece }),
  },
  {
    name: "thinking",
    kind: "thinking",
    dialect: openai,
    operation: "chat",
    data: (piece) => chat({ reasoning_content: piece }),
  },
  {
    name: "tool arguments",
    kind: "tool",
    dialect: openai,
    operation: "chat",
    isJson: true,
    data: (piece) => chat({ tool_calls: [{ index: 0, function: { arguments: piece } }] }),
  },
  {
    name: "Anthropic's text",
    kind: "answer",
    dialect: anthropic,
    operation: "messages",
    data: (piece) => block({ type: "text_delta", text: piece }),
  },
  {
    name: "Anthropic's tool arguments",
    kind: "tool",
    dialect: anthropic,
    operation: "messages",
    isJson: true,
    data: (piece) => block({ type: "input_json_delta", partial_json: piece }),
  },
];

/** A text, and what the client may see of it. */
const TEXTS: readonly (readonly [string, string])[] = [
  ["Write to ana@mail.example.pt.", "Write to [redacted:email]."],
  ["😀 call +44 20 7946 0958, or not", "😀 call [redacted:phone], or not"],
  ["4948 6607 9945 9084 and 517-42-8836", "[redacted:card] and [redacted:us-ssn]"],
  ["pay GB82 WEST 1234 5698 7654 32 now", "pay [redacted:iban] now"],
  ["from 2001:db8:85a3::8a2e:370:7334 (00:1B:44:11:3A:B7)", "from [redacted:ip] ([redacted:mac])"],
  ["IMEI 499137180853366: Dr. Zoltán Kovács\n", "IMEI [redacted:imei]: Dr. [redacted:person]\n"],
  ["at 12 Main Street, Springfield, IL 62704", "at [redacted:address]"],
];

function relay(
  wire: Wire,
  pieces: readonly string[],
  watch: (text: string) => void,
  judge = passageOf(wire, REDACTING),
): string {
  const reader = wire.dialect.openAnswerStream(wire.operation);
  const decoder = new SseDecoder({ eventBytesMax: 1_000_000 });
  let seen = "";
  const emit = (bytes: string) => {
    decoder.push(Buffer.from(bytes), (event) => {
      for (const { kind, text } of reader.read(event).segments) if (kind === wire.kind) seen += text;
    });
    watch(seen);
  };
  const engine = new HoldBack({
    judge,
    stream: wire.dialect.openAnswerStream(wire.operation),
    redaction: REDACTING.redaction,
    heldUnitsMax: 1_000_000,
    unknownEvents: "scan",
    emit,
  });
  const incoming = new SseDecoder({ eventBytesMax: 1_000_000 });
  for (const piece of pieces) {
    const bytes = Buffer.from(encodeSse({ event: "", data: JSON.stringify(wire.data(piece)) }));
    incoming.push(bytes, (event) => assert.equal((engine.push(event) as { state: string }).state, "open"));
  }
  engine.finish();
  return seen;
}

for (const wire of WIRES) {
  test(`${wire.name}: the client reads the redacted text, however it is cut`, () => {
    for (const [inner, redacted] of TEXTS) {
      const wrap = (text: string) => (wire.isJson ? JSON.stringify({ note: `a\n${text}` }) : text);
      const [text, expected] = [wrap(inner), wrap(redacted)];
      const units = [...text];
      const cuts = units.map((_, at) => [units.slice(0, at).join(""), units.slice(at).join("")]);
      for (const pieces of [[text], units, ...cuts]) {
        const seen = relay(wire, pieces, (front) => {
          const isFront = expected.startsWith(front);
          assert.ok(
            isFront,
            `${JSON.stringify(front)} of ${JSON.stringify(expected)} left, cut as ${pieces}`,
          );
        });
        assert.equal(seen, expected);
        if (wire.isJson) assert.deepEqual(JSON.parse(seen), { note: `a\n${redacted}` });
      }
    }
  });
}

const PLACEHOLDERS = {
  kinds: { email: "allow" },
  placeholders: { kinds: ["email", "phone", "person"], orgs: ["acme"] },
};

function promptOf(...contents: readonly string[]): Prompt {
  const messages = contents.map((content) => ({ role: "user", content }));
  return openai.readPrompt({ operation: "chat", body: { model: "m", messages }, parameters: [] });
}

async function asked(wire: Wire, org: string, prompt: Prompt): Promise<{ passage: Passage; sent: string[] }> {
  const passage = passageOf(wire, snapshotOf(PLACEHOLDERS));
  passage.identify({ org, project: "p", keyId: "k" });
  const verdict = await passage.onPrompt(prompt);
  const edits =
    verdict.act === "redact" ? redactPrompt(prompt, verdict, REDACTING.redaction) : new Map<string, string>();
  const texts = prompt.leaves.filter((leaf) => leaf.kind === "text");
  return { passage, sent: texts.map(({ path, text }) => edits?.get(path) ?? text) };
}

test("placeholders: the upstream sees marks, equal texts have equal marks, other organisations are left alone", async () => {
  const prompt = promptOf(
    "Mail ana@mail.example.pt",
    "or bob@b.io, or ana@mail.example.pt: [EMAIL_1]+44 20 7946 0958",
  );
  const { sent } = await asked(WIRES[0]!, "acme", prompt);
  assert.deepEqual(sent, ["Mail [EMAIL_2]", "or [EMAIL_3], or [EMAIL_2]: [EMAIL_1][PHONE_1]"]);
  const { sent: plain } = await asked(WIRES[0]!, "other", prompt);
  assert.deepEqual(
    plain,
    prompt.leaves.filter((leaf) => leaf.kind === "text").map((leaf) => leaf.text),
  );
});

for (const wire of WIRES) {
  test(`placeholders: ${wire.name} has the texts back, however it is cut`, async () => {
    const prompt = promptOf('my name is Mary O\'Brien, ana@mail.example.pt, call "+44 20 7946 0958"');
    const wrap = (text: string) => (wire.isJson ? JSON.stringify({ note: text }) : text);
    const text = wrap("Hi [PERSON_1]: [EMAIL_1][PHONE_1] [EMAIL_9] [x");
    const expected = wrap("Hi Mary O'Brien: ana@mail.example.pt+44 20 7946 0958 [EMAIL_9] [x");
    for (let cut = 0; cut <= text.length; cut++) {
      const { passage, sent } = await asked(wire, "acme", prompt);
      assert.deepEqual(sent, ['my name is [PERSON_1], [EMAIL_1], call "[PHONE_1]"']);
      const pieces = cut === 0 ? [...text] : [text.slice(0, cut), text.slice(cut)];
      const seen = relay(wire, pieces, (front) => assert.ok(expected.startsWith(front), front), passage);
      assert.equal(seen, expected);
    }
  });
}
