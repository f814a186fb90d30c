import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { z } from "zod";
import { FAKE_KINDS, type FakeLayer } from "../../test/support/fake-layers.ts";
import { ROUTES } from "../http/routes.ts";
import { defineLayer, IDLE_PORTS } from "../layer/index.ts";
import { type CompileOptions, compilePolicy } from "./compile.ts";
import { ROUTE_IDS, ROUTE_PATHS } from "./policy-file.ts";
import { formatProblems } from "./problems.ts";

const GOLDEN = resolve(import.meta.dirname, "../../test/golden/policy");
const SHIPPED = resolve(import.meta.dirname, "../../config/policy.yaml");

const PACKS: Readonly<Record<string, string>> = {
  "packs/one.yaml": "rules: [one]\n",
  "packs/two.yaml": "rules: [two]\n",
  "packs/broken.yaml": "rules:\n  - fine\n  - broken\n",
};

function compile(content: string | Uint8Array, more: Partial<CompileOptions> = {}) {
  return compilePolicy({
    file: { path: "policy.yaml", content },
    artifact: async (path) => {
      const text = PACKS[path];
      if (text === undefined) throw new Error("there is no such file");
      return Buffer.from(text);
    },
    kinds: FAKE_KINDS,
    portsFor: () => IDLE_PORTS,
    ...more,
  });
}

const GOOD = `version: 1
routes: [openai.chat, anthropic.messages]
passThrough:
  - { path: "/v1/responses/*", upstream: openai }
seats:
  - id: one
    use: probe
    mode: shadow
    rollout: 12.5
    sample: 0.25
    onError: allow
    timeoutMs: 40
    when: model == "gpt-4" && stream
    with:
      words: [a, b]
      packs: [packs/two.yaml, packs/one.yaml]
  - { id: two, use: early, when: 'route.startsWith("openai.") && org in ["a", "b"]' }
  - { id: three, use: probe, mode: "off" }
`;

async function snapshotOf(content: string) {
  const result = await compile(content);
  assert.ok(result.ok, result.ok ? "" : formatProblems(result.problems));
  return result;
}

test("a good policy becomes a snapshot with every default", async () => {
  const { snapshot, seatsOff, bundle } = await snapshotOf(GOOD);
  assert.match(snapshot.revision, /^[0-9a-f]{12}$/);
  assert.equal(bundle.hash.slice(0, 12), snapshot.revision);
  assert.deepEqual([...bundle.artifacts.keys()].sort(), ["packs/one.yaml", "packs/two.yaml"]);
  assert.deepEqual([...snapshot.routes], ["openai.chat", "anthropic.messages"]);
  assert.deepEqual(snapshot.passThrough, [
    { path: "/v1/responses/*", methods: ["GET", "POST"], upstream: "openai" },
  ]);
  assert.equal(snapshot.unknownFields, "scan");
  assert.equal(snapshot.unknownEvents, "scan");
  assert.equal(snapshot.redaction, "[redacted:{kind}]");
  assert.equal(seatsOff, 1);
  const [one, two] = snapshot.seats;
  assert.equal(snapshot.seats.length, 2);
  assert.deepEqual(
    { ...one, layer: undefined, when: undefined, fingerprint: undefined },
    {
      id: "one",
      use: "probe",
      mode: "shadow",
      rollout: 12.5,
      sample: 0.25,
      onError: "allow",
      timeoutMs: 40,
      config: { act: "flag", packs: ["packs/two.yaml", "packs/one.yaml"], words: ["a", "b"] },
      phases: ["onPrompt"],
      holdMax: 0,
      portions: undefined,
      layer: undefined,
      when: undefined,
      whenText: 'model == "gpt-4" && stream',
      fingerprint: undefined,
    },
  );
  assert.deepEqual((one!.layer as FakeLayer).packs, ["rules: [two]\n", "rules: [one]\n"]);
  assert.equal(two!.mode, "enforce");
  assert.equal(two!.timeoutMs, 250);
  const attributes = {
    route: "openai.chat",
    dialect: "openai",
    operation: "chat",
    address: "127.0.0.1",
    org: "b",
    project: "",
    key: "",
    model: "gpt-4",
    stream: true,
    endUser: "",
    proof: "key",
    tier: "risky",
    risk: 0.7,
    stepUp: false,
    country: "DE",
    asn: "AS64500",
  };
  assert.equal(one!.when?.(attributes), true);
  assert.equal(one!.when?.({ ...attributes, stream: false }), false);
  assert.equal(two!.when?.(attributes), true);
  assert.equal(two!.when?.({ ...attributes, org: "c" }), false);
});

test("revision and fingerprint follow what they should, and nothing else", async () => {
  const base = await snapshotOf(GOOD);
  const same = await snapshotOf(GOOD);
  assert.equal(same.snapshot.revision, base.snapshot.revision);
  const commented = await snapshotOf(
    `# a word\n${GOOD.replace("words: [a, b]", "words:\n        - a\n        - b")}`,
  );
  assert.notEqual(commented.snapshot.revision, base.snapshot.revision, "the revision is that of the text");
  assert.equal(commented.snapshot.seats[0]!.fingerprint, base.snapshot.seats[0]!.fingerprint);
  const shadowed = await snapshotOf(GOOD.replace("rollout: 12.5", "rollout: 13"));
  assert.equal(
    shadowed.snapshot.seats[0]!.fingerprint,
    base.snapshot.seats[0]!.fingerprint,
    "rollout judges alike",
  );
  const changed = await snapshotOf(GOOD.replace("words: [a, b]", "words: [a, c]"));
  assert.notEqual(changed.snapshot.seats[0]!.fingerprint, base.snapshot.seats[0]!.fingerprint);
  const otherPack = await compile(GOOD, { artifact: async () => Buffer.from("rules: [three]\n") });
  assert.ok(otherPack.ok);
  assert.notEqual(otherPack.snapshot.revision, base.snapshot.revision);
  assert.notEqual(otherPack.snapshot.seats[0]!.fingerprint, base.snapshot.seats[0]!.fingerprint);
});

test("a layer is taken over when its seat is the same, and fresh ones are disposed when another seat fails", async () => {
  const first = await snapshotOf(GOOD);
  const layer = first.snapshot.seats[0]!.layer as FakeLayer;
  const again = await compile(GOOD, { reuse: (id) => (id === "one" ? layer : undefined) });
  assert.ok(again.ok);
  assert.equal(again.snapshot.seats[0]!.layer, layer);

  const made: FakeLayer[] = [];
  const kinds = FAKE_KINDS.map((kind) => ({
    ...kind,
    compile: (...args: Parameters<typeof kind.compile>) => {
      const fresh = kind.compile(...args) as FakeLayer;
      made.push(fresh);
      return fresh;
    },
  }));
  const failed = await compile(`${GOOD}  - { id: four, use: probe, with: { words: [bad-word] } }\n`, {
    kinds,
    reuse: () => undefined,
  });
  assert.equal(failed.ok, false);
  assert.equal(made[0]!.disposed, 1);
});

test("artifacts: hash, size, count and place are checked", async () => {
  const { kind, ...rest } = FAKE_KINDS[0]!;
  const pinned = (sha256: string) => [{ kind, ...rest, needs: () => [{ path: "packs/one.yaml", sha256 }] }];
  const policy = "version: 1\nroutes: []\nseats:\n  - { id: one, use: probe }\n";
  const wrong = await compile(policy, { kinds: pinned("00".repeat(32)) });
  assert.ok(!wrong.ok);
  assert.match(wrong.problems[0]!.message, /has the SHA-256 [0-9a-f]{64}, not the one that is asked for/);
  const hash = /SHA-256 ([0-9a-f]+)/.exec(wrong.problems[0]!.message)![1]!;
  assert.ok((await compile(policy, { kinds: pinned(hash) })).ok);

  const withPack = GOOD;
  const large = await compile(withPack, { artifact: async () => new Uint8Array(16_777_217) });
  assert.ok(!large.ok);
  assert.match(formatProblems(large.problems), /has 16777217 bytes; at most 16777216/);
  const binary = await compile(withPack, { artifact: async () => Uint8Array.of(0xff) });
  assert.ok(!binary.ok);
  assert.match(formatProblems(binary.problems), /"packs\/one\.yaml" is not valid UTF-8/);
  const names = Array.from({ length: 501 }, (_, i) => `p${i}`).join(", ");
  const many = await compile(GOOD.replace("packs/two.yaml, packs/one.yaml", names), {
    artifact: async () => Buffer.from("x"),
  });
  assert.ok(!many.ok);
  assert.match(formatProblems(many.problems), /at most 500 artifacts/);
});

// Golden reports. Rewrite them with UPDATE_GOLDEN=1 and read the difference.
for (const name of readdirSync(GOLDEN).filter((file) => file.endsWith(".yaml"))) {
  test(`golden report: ${name}`, async () => {
    const result = await compile(readFileSync(join(GOLDEN, name)), {
      file: { path: name, content: readFileSync(join(GOLDEN, name)) },
    });
    assert.ok(!result.ok);
    const text = `${formatProblems(result.problems)}\n`;
    const expected = join(GOLDEN, name.replace(/\.yaml$/, ".txt"));
    if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(expected, text);
    assert.equal(text, readFileSync(expected, "utf8"));
    for (const { line, column, excerpt } of result.problems) {
      if (line === 0) continue;
      assert.ok(column >= 1 && excerpt !== undefined, "every spot has its line");
    }
  });
}

test("bytes that are no text are a problem at their line", async () => {
  const rows: readonly (readonly [string, Uint8Array | string, RegExp])[] = [
    [
      "not UTF-8",
      Buffer.from("version: 1\nroutes: []\nredaction: \xe9\n", "latin1"),
      /^policy\.yaml:3:1: .*UTF-8/,
    ],
    ["a NUL", "version: 1\nroutes: [\0]\nseats: []\n", /^policy\.yaml:2:10: the file has a NUL byte/],
    ["nothing", "", /the file is empty/],
    ["white space", " \n\n", /the file is empty/],
    ["null", "null\n", /expected a mapping/],
    ["too large", "#".repeat(1_048_577), /1048577 bytes; at most 1048576/],
    ["UTF-16", Buffer.from("\ufeffversion: 1\n", "utf16le"), /UTF-8/],
    ["deep", `version: ${"[".repeat(100)}${"]".repeat(100)}\n`, /nested more than 64 deep/],
    ["very deep", "[".repeat(100_000), /./],
    ["a cycle", "version: &a { b: *a }\n", /contains itself/],
  ];
  for (const [reason, content, expected] of rows) {
    const result = await compile(content);
    assert.ok(!result.ok, reason);
    assert.match(formatProblems(result.problems), expected, reason);
  }
});

test("a byte order mark at the start is read over", async () => {
  assert.ok((await compile(`\ufeff${GOOD}`)).ok);
});

test("aliases are expanded up to a bound", async () => {
  let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (const [from, to] of ["ab", "bc", "cd", "de", "ef", "fg"].map((pair) => [pair[0], pair[1]])) {
    bomb += `${to}: &${to} [${Array(10).fill(`*${from}`).join(", ")}]\n`;
  }
  const started = performance.now();
  const result = await compile(`version: 1\nroutes: []\nseats: []\n${bomb}`);
  assert.ok(!result.ok);
  assert.match(formatProblems(result.problems), /more than 200000 values/);
  assert.ok(performance.now() - started < 2_000);
});

test("a mapping of 60,000 names is read in time that grows with its size", async () => {
  const names = Array.from({ length: 60_000 }, (_, i) => `k${i}: v`).join("\n");
  const started = performance.now();
  const result = await compile(`version: 1\nroutes: []\nseats: []\n${names}\n`);
  const spentMs = performance.now() - started;
  assert.ok(!result.ok);
  assert.equal(result.problems.length, 101);
  assert.match(result.problems[100]!.message, /^and more problems/);
  assert.ok(spentMs < 10_000, `${spentMs} ms`);
});

test("more seats than the bound are refused", async () => {
  const seats = Array.from({ length: 201 }, (_, i) => `  - { id: s${i}, use: probe }\n`).join("");
  const result = await compile(`version: 1\nroutes: []\nseats:\n${seats}`);
  assert.ok(!result.ok);
  assert.match(formatProblems(result.problems), /seats: expected at most 200 entries/);
});

test("the shipped policy cut at every byte is a snapshot or a problem, never a throw", async () => {
  const whole = readFileSync(SHIPPED);
  let served = 0;
  for (let end = 0; end <= whole.length; end++) {
    const result = await compile(whole.subarray(0, end));
    if (result.ok) served += 1;
    else assert.ok(result.problems.length > 0, `cut at ${end}`);
  }
  // The fake registry knows none of the shipped layers, so only a cut before the first seat could be served.
  assert.equal(served, 0);
});

test("every field missing, null, empty or of the wrong type is a snapshot or a problem, never a throw", async () => {
  const full = {
    version: 1,
    routes: ["openai.chat"],
    passThrough: [{ path: "/v1/files", methods: ["GET"], upstream: "openai" }],
    unknownFields: "scan",
    unknownEvents: "scan",
    redaction: "x",
    seats: [
      {
        id: "one",
        use: "probe",
        mode: "shadow",
        rollout: 1,
        sample: 1,
        onError: "allow",
        timeoutMs: 1,
        when: "stream",
        with: { words: ["a"], packs: ["packs/one.yaml"], limit: 1, act: { score: 1 } },
      },
    ],
  };
  const odd: readonly unknown[] = [
    undefined,
    null,
    "",
    "x".repeat(100_000),
    0,
    -1,
    1e308,
    0.1,
    true,
    [],
    [[]],
    [null],
    {},
    { "": {} },
    { constructor: 1, toString: 2 },
  ];
  let refused = 0;
  let tried = 0;
  for (const path of pathsOf(full)) {
    for (const value of odd) {
      const copy = structuredClone(full);
      replace(copy, path, value);
      const text = JSON.stringify(copy);
      const result = await compile(text);
      tried += 1;
      if (result.ok) continue;
      refused += 1;
      assert.ok(result.problems.length > 0);
      for (const problem of result.problems) assert.ok(problem.message !== "" && problem.line >= 0, text);
    }
  }
  assert.ok(refused > tried / 2, `${refused} of ${tried} were refused`);
});

test("the policy's table of routes is the listener's", () => {
  const fromHttp: Record<string, string[]> = {};
  for (const { id, path } of ROUTES) {
    fromHttp[id] ??= [];
    fromHttp[id].push(path.replace(/:\w+/, "*"));
  }
  assert.deepEqual(fromHttp, Object.fromEntries(ROUTE_IDS.map((id) => [id, [...ROUTE_PATHS[id]]])));
});

function pathsOf(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== "object" || value === null) return [path];
  const below = Object.entries(value).flatMap(([name, one]) =>
    pathsOf(one, [...path, Array.isArray(value) ? Number(name) : name]),
  );
  return path.length === 0 ? below : [path, ...below];
}

function replace(root: unknown, path: readonly (string | number)[], value: unknown): void {
  let at = root as Record<string | number, unknown>;
  for (const part of path.slice(0, -1)) at = at[part] as Record<string | number, unknown>;
  at[path.at(-1)!] = value;
}

test("an artifact that is binary is given as bytes, and one that cannot be read comes with its hint", async () => {
  const bytes = Uint8Array.of(0, 0xff, 0xfe);
  const seen: unknown[] = [];
  const model = defineLayer({
    kind: "model",
    summary: "Reads a model.",
    config: z.strictObject({ file: z.string().describe("A file.") }),
    phases: ["onPrompt"],
    needs: ({ file }) => [
      { path: file, isBinary: true, hint: "train one first" },
      { path: "packs/one.yaml" },
    ],
    compile({ file }, { artifacts }) {
      seen.push(artifacts.bytes({ path: file }), artifacts.bytes({ path: "packs/one.yaml" }).length > 0);
      assert.throws(() => artifacts.text({ path: file }), /is named as binary/);
      assert.throws(() => artifacts.bytes({ path: "other" }), /not named by the layer's needs/);
      return { open: () => ({}) };
    },
  });
  const policy = `version: 1
routes: []
seats: [{ id: a, use: model, with: { file: a.bin } }]
`;
  const artifact = async (path: string) => {
    if (path === "a.bin") return bytes;
    return Buffer.from("rules: [one]\n");
  };
  const good = await compile(policy, { kinds: [model], artifact });
  assert.ok(good.ok, good.ok ? "" : formatProblems(good.problems));
  assert.deepEqual(seen, [bytes, true]);
  const missing = await compile(policy, { kinds: [model] });
  assert.ok(!missing.ok);
  assert.match(
    formatProblems(missing.problems),
    /"a\.bin" cannot be read: there is no such file; train one first/,
  );
});
