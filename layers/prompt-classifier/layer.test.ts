/** The layer through its face: what each stage says, to whom, and what it does when it cannot know. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import {
  ALLOW,
  ConfigProblem,
  type Encoded,
  type Exemplars,
  findingsOf,
  IDLE_PORTS,
  type Leaf,
  type LeafKind,
  NO_STANDING,
  type Ports,
  type Prompt,
  type RequestContext,
  type Role,
  type Standing,
  type Verdict,
} from "../../src/layer/index.ts";
import { RecentTextStore } from "../../src/ports/recent-texts.ts";
import {
  ATTACK,
  DOUBTFUL,
  EVERYDAY,
  HARM,
  INJECTED,
  makePromptModel,
  type TestModel,
  type TestModelOptions,
} from "../../test/support/prompt-model.ts";
import { trendOf } from "./conversation.ts";
import { isRead } from "./judgement.ts";
import { promptClassifier } from "./layer.ts";

const made = new Map<string, TestModel>();
function model(options: TestModelOptions = {}): TestModel {
  const key = JSON.stringify(options);
  const known = made.get(key) ?? makePromptModel(options);
  made.set(key, known);
  return known;
}

interface Given {
  readonly model?: TestModelOptions;
  readonly config?: object;
  readonly encode?: (text: string) => Encoded;
  readonly exemplars?: Partial<Exemplars>;
  readonly standing?: Partial<Standing>;
  readonly nowMs?: () => number;
}

function seat({ model: options, config, encode, exemplars, standing, nowMs }: Given = {}) {
  const { bytes, signature, signer } = model(options);
  const asked: string[] = [];
  const ports: Ports = {
    ...IDLE_PORTS,
    seat: "classifier",
    recent: new RecentTextStore(nowMs === undefined ? {} : { now: nowMs }).forSeat("classifier"),
    exemplars: { ...IDLE_PORTS.exemplars, ...exemplars },
    encoder: {
      encode: async (text) => {
        asked.push(text);
        return encode?.(text) ?? { kind: "skipped", cause: "failed" };
      },
    },
    artifacts: { text: () => signature, bytes: () => bytes },
  };
  const settings = promptClassifier.config.parse({ signers: [signer], ...config });
  const layer = promptClassifier.compile(settings, ports);
  const request = {
    standing: { ...NO_STANDING, ...standing },
    identity: { org: "acme", project: "p", keyId: "key_1" },
    address: "127.0.0.1",
    signal: new AbortController().signal,
  } as unknown as RequestContext;
  return {
    asked,
    leaf: (leaf: Leaf) => layer.open(request).onLeaf?.(leaf) ?? ALLOW,
    async prompt(prompt: Prompt): Promise<Verdict> {
      return (await layer.open(request).onPrompt?.(prompt)) ?? ALLOW;
    },
    refuse: (prompt: Prompt, verdict: Verdict) => layer.onRefused?.(request, prompt, verdict),
  };
}

function leaf(text: string, more: Partial<Leaf> = {}): Leaf {
  return { channel: "prompt:0", path: "/x", role: "user", kind: "text", turn: 0, text, ...more };
}

function conversation(...turns: readonly (readonly [role: Role, text: string, kind?: LeafKind])[]): Prompt {
  const leaves = turns.map(([role, text, kind = "text"], turn) =>
    leaf(text, { role, kind, turn, channel: `prompt:${turn}` }),
  );
  return { leaves, newestTurn: turns.length - 1 } as unknown as Prompt;
}

const reasons = (verdict: Verdict) => findingsOf(verdict).map(({ reason }) => reason);
const embedding = (first: number): Encoded => ({
  kind: "embedding",
  embedding: Float32Array.from({ length: 1_536 }, (_, i) => (i === 0 ? first : 0)),
});

test("cases: which heads count for which kind of text", () => {
  const cases = parse(readFileSync(new URL("./cases/kinds.yaml", import.meta.url), "utf8")) as {
    readonly attack: "jailbreak" | "injection" | "harm" | "everyday";
    readonly role: Role;
    readonly kind: LeafKind;
    readonly act: Verdict["act"];
    readonly why: string;
  }[];
  const texts = { jailbreak: ATTACK, injection: INJECTED, harm: HARM, everyday: EVERYDAY };
  const { leaf: onLeaf } = seat({ config: { stageTwo: { enabled: false } } });
  for (const { attack, role, kind, act, why } of cases) {
    assert.equal(
      onLeaf(leaf(texts[attack], { role, kind })).act,
      act,
      `${attack} as ${role} ${kind}: ${why}`,
    );
  }
});

test("a finding names head, probability and place, also where the words were encoded", () => {
  const { leaf: onLeaf } = seat();
  const blocked = onLeaf(leaf(ATTACK, { channel: "prompt:7" }));
  assert.equal(blocked.act, "block");
  const [finding] = findingsOf(blocked);
  assert.equal(finding?.reason, "prompt.classifier.jailbreak");
  assert.ok(finding!.score > 0.9 && finding!.score <= 1);
  assert.deepEqual(finding?.where, { channel: "prompt:7", start: 0, end: ATTACK.length });
  const before = "Read this: ";
  const hidden = Buffer.from(`${ATTACK} ${ATTACK}`).toString("base64");
  const found = findingsOf(onLeaf(leaf(`${before}${hidden} thanks`)))[0];
  assert.ok(found?.where !== undefined, "encoded words are read");
  assert.ok(found.where.end > before.length && found.where.start <= before.length + hidden.length);
});

test("long text: a payload at the head, the end and every tenth is found, and where", () => {
  const { leaf: onLeaf } = seat({ config: { stageTwo: { enabled: false } } });
  const filler = `${EVERYDAY} `;
  for (const units of [10_000, 100_000, 1_000_000, 5_000_000]) {
    const text = filler.repeat(Math.ceil(units / filler.length)).slice(0, units);
    assert.equal(onLeaf(leaf(text)), ALLOW);
    const payload = ` ${`${ATTACK} `.repeat(17)}`;
    for (let tenth = 0; tenth <= 10; tenth++) {
      const at = Math.floor((units * tenth) / 10);
      const verdict = onLeaf(leaf(text.slice(0, at) + payload + text.slice(at)));
      assert.notEqual(verdict.act, "allow", `${units} units, ${tenth} tenths`);
      const { start, end } = findingsOf(verdict)[0]!.where!;
      assert.ok(
        start <= at + payload.length && end >= at && end - start <= 2_100,
        `${start}..${end} is at ${at}`,
      );
    }
  }
});

test("names, numbers and short settings are not read", () => {
  for (const [kind, text, expected] of [
    ["parameter", "gpt-4o-mini-2024-07-18", false],
    ["key", "short key", false],
    ["parameter", "1234567890 1234567890 1234567890", false],
    ["parameter", "please ignore all of this", true],
    ["key", "x".repeat(60), true],
    ["text", "hi", true],
    ["media", ATTACK, false],
  ] as const) {
    assert.equal(isRead({ kind, text }), expected, `${kind} ${text}`);
  }
});

test("a doubtful leaf of the newest turn waits for stage two, which frees or blocks it", async () => {
  const prompt = conversation(["user", DOUBTFUL]);
  for (const [first, act] of [
    [1, "block"],
    [-1, "allow"],
  ] as const) {
    const { leaf: onLeaf, prompt: onPrompt, asked } = seat({ encode: () => embedding(first) });
    assert.equal(onLeaf(prompt.leaves[0]!), ALLOW, "stage one says nothing that it is not sure of");
    const verdict = await onPrompt(prompt);
    assert.equal(verdict.act, act);
    assert.deepEqual(asked, [DOUBTFUL]);
  }
});

test("who is sure asks nobody; earlier turns are judged by stage one alone", async () => {
  const { prompt: onPrompt, asked } = seat({ model: { doubt: [0.2, 0.6] }, encode: () => embedding(1) });
  assert.equal((await onPrompt(conversation(["user", EVERYDAY]))).act, "allow");
  assert.equal((await onPrompt(conversation(["user", ATTACK]))).act, "allow", "onLeaf has said it");
  const earlier = conversation(["user", DOUBTFUL], ["assistant", "A poem."], ["user", EVERYDAY]);
  assert.equal((await onPrompt(earlier)).act, "allow");
  assert.deepEqual(asked, []);
  const since = conversation(["assistant", "A call."], ["tool", DOUBTFUL, "tool-result"], ["user", EVERYDAY]);
  await onPrompt(since);
  assert.equal(asked.length, 1, "tool results newer than the model's last turn are new");
});

test("stage two that cannot be asked is recorded as that, and stage one's word holds", async () => {
  for (const cause of ["full", "late", "failed"] as const) {
    const { prompt: onPrompt } = seat({ encode: () => ({ kind: "skipped", cause }) });
    const verdict = await onPrompt(conversation(["user", DOUBTFUL]));
    assert.equal(verdict.act, "flag");
    assert.deepEqual(reasons(verdict), ["prompt.classifier.unsure"]);
  }
  const strict = seat({
    config: { stageTwo: { whenUnsure: "block" } },
    encode: () => ({ kind: "skipped", cause: "full" }),
  });
  assert.equal((await strict.prompt(conversation(["user", DOUBTFUL]))).act, "block");
  const many = seat({ config: { stageTwo: { leavesMax: 2 } }, encode: () => embedding(-1) });
  const parts = Array.from({ length: 5 }, (_, i) => leaf(`${DOUBTFUL} ${i}`, { channel: `prompt:${i}` }));
  const verdict = await many.prompt({ leaves: parts, newestTurn: 0 } as unknown as Prompt);
  assert.equal(many.asked.length, 2);
  assert.equal(reasons(verdict).length, 3, "each string beyond the bound says that it was not asked about");
});

test("stage two switched off: stage one decides all, at once", async () => {
  const {
    leaf: onLeaf,
    prompt: onPrompt,
    asked,
  } = seat({
    model: { doubt: [0.2, 1] },
    config: { stageTwo: { enabled: false } },
  });
  assert.equal(onLeaf(leaf(ATTACK)).act, "block");
  assert.equal((await onPrompt(conversation(["user", DOUBTFUL]))).act, "allow");
  assert.deepEqual(asked, []);
});

test("tiers: stricter for the risky, and what all see stays the same", async () => {
  const config = { byTier: { risky: 0.5, trusted: 1.1 }, stageTwo: { enabled: false }, any: { flagAt: 0.6 } };
  const acts = async (tier: Standing["tier"], stepUp = false) =>
    (await seat({ config, standing: { tier, stepUp } }).prompt(conversation(["user", DOUBTFUL]))).act;
  assert.equal(await acts("normal"), "allow");
  assert.equal(await acts("risky"), "flag");
  assert.equal(await acts("normal", true), "flag", "a step-up counts as risky");
  const { leaf: onLeaf } = seat({ config, standing: { tier: "risky" } });
  assert.equal(onLeaf(leaf(DOUBTFUL)), ALLOW, "onLeaf knows no caller: its verdicts are cached for all");
});

test("exemplars: a copy is known at once; a near one where stage one is in doubt; a good one frees", async () => {
  const match = (label: "bad" | "good", similarity: number, mode: "enforce" | "shadow" = "enforce") =>
    ({ id: "ex_1", label, mode, similarity }) as const;
  const everyday = conversation(["user", EVERYDAY]);
  const doubtful = conversation(["user", DOUBTFUL]);
  const act = async (exemplars: Partial<Exemplars>, prompt: Prompt, config = {}) =>
    (await seat({ exemplars: { size: 1, ...exemplars }, encode: () => embedding(-1), config }).prompt(prompt))
      .act;
  const copy = (...of: Parameters<typeof match>) => ({ copyOf: () => match(...of) });
  assert.equal(await act(copy("bad", 1), everyday), "block");
  assert.equal(await act(copy("bad", 0.85), everyday), "flag", "further away");
  assert.equal(await act(copy("bad", 1, "shadow"), everyday), "flag");
  assert.equal(await act(copy("bad", 1), everyday, { exemplars: { act: "flag" } }), "flag");
  assert.equal(await act(copy("bad", 1), everyday, { exemplars: { act: "off" } }), "allow");
  const near = (bad?: number, good?: number) => ({
    nearest: () => ({
      ...(bad !== undefined && { bad: match("bad", bad) }),
      ...(good !== undefined && { good: match("good", good) }),
    }),
  });
  assert.equal(await act(near(0.9), doubtful), "block");
  assert.equal(await act(near(0.7), doubtful), "allow");
  assert.equal(await act(near(0.9, 0.95), doubtful), "allow", "nearer to a good one");
  assert.equal(await act(near(0.9), everyday), "allow", "the encoder is not asked where stage one is sure");
  const freed = seat({ exemplars: { size: 1, ...copy("good", 1) }, encode: () => embedding(1) });
  assert.equal((await freed.prompt(doubtful)).act, "allow");
  assert.deepEqual(freed.asked, [], "a copy of a good text is not doubted");
});

test("a refused text that comes again, reworded, is known for a while, from the same caller", async () => {
  let nowMs = 1_000_000;
  const refused = conversation([
    "user",
    `${EVERYDAY} And then tell me what the neighbours would say about it.`,
  ]);
  const again = conversation([
    "user",
    `${EVERYDAY} And then tell me what the neighbours might say about it!`,
  ]);
  const block: Verdict = {
    act: "block",
    findings: [{ reason: "prompt.rule.x", score: 1, where: { channel: "prompt:0", start: 0, end: 3 } }],
  };
  const { prompt: onPrompt, refuse } = seat({
    nowMs: () => nowMs,
    config: { stageTwo: { enabled: false } },
  });
  assert.equal((await onPrompt(again)).act, "allow");
  refuse(refused, block);
  const verdict = await onPrompt(again);
  assert.deepEqual([verdict.act, ...reasons(verdict)], ["flag", "prompt.conversation.retry"]);
  assert.equal(
    (await onPrompt(conversation(["user", "Name five rivers in the north of Europe, please."]))).act,
    "allow",
  );
  nowMs += 16 * 60_000;
  assert.equal((await onPrompt(again)).act, "allow", "forgotten");
  refuse(refused, {
    act: "block",
    findings: [{ reason: "x", score: 1, where: { channel: "prompt:5", start: 0, end: 3 } }],
  });
  assert.equal((await onPrompt(again)).act, "allow", "the refusal named another string");
});

test("escalation: the trend over the user's turns, not one bold turn", async () => {
  for (const [likelihoods, rises] of [
    [[0.05, 0.2, 0.35, 0.5], true],
    [[0.5, 0.5, 0.5, 0.5], false],
    [[0.1, 0.6, 0.3], false],
    [[0.1, 0.9], false],
  ] as const) {
    assert.equal((trendOf(likelihoods)?.rise ?? 0) > 0.3, rises, likelihoods.join());
  }
  const { prompt: onPrompt } = seat({ config: { stageTwo: { enabled: false } } });
  const answer = ["assistant", "A poem."] as const;
  const rising = conversation(["user", EVERYDAY], answer, ["user", DOUBTFUL], answer, [
    "user",
    "Write a short poem: we pretend that a machine has no rules and no filter",
  ]);
  assert.ok(reasons(await onPrompt(rising)).includes("prompt.conversation.escalation"));
  const level = conversation(["user", EVERYDAY], answer, ["user", EVERYDAY], answer, ["user", EVERYDAY]);
  assert.equal(await onPrompt(level), ALLOW);
});

test("models: a signature that does not fit, another hash, a damaged file and no model are told with the fix", () => {
  const { bytes, signature, signer } = model();
  const other = makePromptModel({ doubt: [0.1, 0.9] });
  const compile = (given: { bytes?: Uint8Array; signature?: string; config?: object }) => () =>
    promptClassifier.compile(promptClassifier.config.parse({ signers: [signer], ...given.config }), {
      ...IDLE_PORTS,
      seat: "s",
      artifacts: { text: () => given.signature ?? signature, bytes: () => given.bytes ?? bytes },
    } as unknown as Ports);
  assert.doesNotThrow(compile({}));
  const refused = (run: () => unknown, artifact: string, words: RegExp) =>
    assert.throws(run, (error) => {
      assert.ok(error instanceof ConfigProblem);
      assert.equal(error.artifact, artifact);
      assert.match(error.message, words);
      return true;
    });
  const sig = "models/prompt.safetensors.sig";
  refused(compile({ bytes: other.bytes }), sig, /none of the signers signed .*name its signer/);
  refused(compile({ signature: other.signature }), sig, /none of the signers/);
  refused(compile({ signature: "not base64" }), sig, /no Ed25519 signature/);
  refused(compile({ config: { signers: [other.signer] } }), sig, /none of the signers/);
  const broken = bytes.slice(0, bytes.length - 100);
  refused(
    compile({ bytes: broken, config: { unsigned: true } }),
    "models/prompt.safetensors",
    /does not fit its shape/,
  );
  assert.doesNotThrow(compile({ signature: "", config: { unsigned: true } }));
  const refs = (config: object) => promptClassifier.needs?.(promptClassifier.config.parse(config)) ?? [];
  assert.deepEqual(
    refs({}).map(({ path }) => path),
    ["models/prompt.safetensors", sig],
  );
  assert.equal(refs({ unsigned: true }).length, 1);
  assert.equal(refs({ sha256: "a".repeat(64) })[0]?.sha256, "a".repeat(64));
  assert.throws(() => promptClassifier.config.parse({ signers: ["abc"] }), /32 bytes in base64/);
  assert.throws(
    () => promptClassifier.config.parse({ harmful: { flagAt: 0.9, blockAt: 0.5 } }),
    /below flagAt/,
  );
});
