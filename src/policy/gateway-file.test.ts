import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import {
  type GatewayConfig,
  loadGateway,
  parseGatewayConfig,
  parseListen,
  readGateway,
} from "./gateway-file.ts";
import { formatProblems } from "./problems.ts";

const SHIPPED = resolve(import.meta.dirname, "../../config/gateway.yaml");

function configOf(text: string, env: Readonly<Record<string, string>> = {}): GatewayConfig {
  const result = readGateway("gateway.yaml", text, env);
  assert.ok(result.ok, result.ok ? "" : formatProblems(result.problems));
  return result.config;
}

test("no file, no folder, an empty mapping and the shipped file are the same defaults", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-gateway-"));
  try {
    const none = await loadGateway(join(dir, "nowhere"), {});
    assert.ok(none.ok);
    assert.deepEqual(await loadGateway(dir, {}), none);
    assert.deepEqual(configOf("{}"), none.config);
    assert.deepEqual(configOf(readFileSync(SHIPPED, "utf8")), none.config);
    assert.deepEqual(none.config.listen, { host: "127.0.0.1", port: 8080 });
    assert.deepEqual(none.config.admin, {
      listen: { host: "127.0.0.1", port: 8081 },
      metrics: "open",
      sessionIdleMs: 1_800_000,
      sessionMaxMs: 43_200_000,
    });
    assert.deepEqual(none.config.upstreams, {});
    assert.equal(none.config.limits.headerBytesMax, 32_768);
    assert.equal(none.config.limits.bodyBytesMax, 33_554_432);
    assert.equal(none.config.timeouts.totalMs, 900_000);
    assert.equal(none.config.policyPollMs, 2_000);
    mkdirSync(join(dir, "gateway.yaml"));
    const folder = await loadGateway(dir, {});
    assert.ok(!folder.ok && /cannot be read/.test(formatProblems(folder.problems)));
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("the shipped file's comments tell the truth: uncommented, they are the defaults", () => {
  const text = readFileSync(SHIPPED, "utf8");
  const uncommented = text
    .slice(text.indexOf("# limits:"))
    .replace(/^# /gm, "")
    .replace(/^ {2}otlpUrl:.*$/m, "");
  assert.equal(uncommented.match(/^\w+:/gm)?.length, 5);
  assert.deepEqual(configOf(uncommented), configOf("{}"));
  assert.equal(uncommented.match(/^ {2}\w+:/gm)?.length, 26, "a new setting is written down here, too");
});

const only = (name: string, url: string, key?: string) => ({
  targets: [{ name, url, key, weight: 1 }],
  orgKeys: [],
  orgKeysFile: undefined,
});

test("the environment names upstreams and keys", () => {
  const file = "upstreams: { openai: { url: 'https://models.example/v1', keyEnv: TEAM_KEY } }";
  assert.deepEqual(configOf(file).upstreams, {
    openai: only("openai", "https://models.example/v1"),
  });
  assert.equal(
    configOf(file, { TEAM_KEY: "k1\n" }).upstreams.openai?.targets[0]?.key,
    "k1",
    "a file's line break is no key",
  );
  assert.equal(
    configOf(file, { OPENAI_API_KEY: "k0" }).upstreams.openai?.targets[0]?.key,
    undefined,
    "keyEnv names another",
  );
  const both = { TEAM_KEY: "k1", SALLYPORT_OPENAI_KEY: "k2" };
  assert.equal(configOf(file, both).upstreams.openai?.targets[0]?.key, "k2");
  assert.deepEqual(
    configOf(file, {
      SALLYPORT_OPENAI_URL: "http://127.0.0.1:9",
      SALLYPORT_ANTHROPIC_URL: "http://127.0.0.1:8",
    }).upstreams,
    {
      openai: only("openai", "http://127.0.0.1:9"),
      anthropic: only("anthropic", "http://127.0.0.1:8"),
    },
  );
  const alone = {
    SALLYPORT_ANTHROPIC_URL: "http://127.0.0.1:8",
    ANTHROPIC_API_KEY: "k3",
    OPENAI_API_KEY: "k4",
  };
  assert.deepEqual(configOf("{}", alone).upstreams, {
    anthropic: only("anthropic", "http://127.0.0.1:8", "k3"),
  });
  assert.deepEqual(
    configOf("{}", { OPENAI_API_KEY: "k4", SALLYPORT_OPENAI_KEY: "k5" }).upstreams,
    {},
    "a key alone names no upstream, so none goes to the simulator",
  );
  assert.equal(
    configOf("{}", { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318" }).telemetry.otlpUrl,
    "http://127.0.0.1:4318",
  );
});

const bad: readonly (readonly [text: string, report: RegExp, env?: Readonly<Record<string, string>>])[] = [
  ["", /the file is empty/],
  ["listen: 8080", /^gateway\.yaml:1:9: listen: expected text, found 8080/],
  ["listen: localhost", /listen: expected HOST:PORT/],
  ["listen: '127.0.0.1:70000'", /listen: expected HOST:PORT/],
  [
    "limits: { bodyBytesMx: 1 }",
    /1:11: limits\.bodyBytesMx: unknown field "bodyBytesMx"; did you mean "bodyBytesMax"\?/,
  ],
  ["limits: { bodyBytesMax: 0 }", /expected at least 1, found 0/],
  ["limits: { bodyBytesMax: 1.5 }", /expected a whole number, found 1.5/],
  ["timeouts: { totalMs: 3000000000 }", /expected at most 2147483647/],
  ["timeouts: { idleMs: .inf }", /timeouts\.idleMs: expected a number, found Infinity/],
  ["timeouts: { idleMs: .nan }", /timeouts\.idleMs: expected/],
  ["spool: { segmentBytes: 10, totalBytesMax: 15 }", /1:43: spool\.totalBytesMax: .*two segments/],
  ["upstreams: { openai: { url: 'ftp://x' } }", /upstreams\.openai\.url: expected an http or https URL/],
  ["upstreams: { openai: { url: 'https://u:p@x' } }", /without a query or password/],
  ["upstreams: { openai: {} }", /1:14: upstreams\.openai\.url: missing field "url"/],
  ["telemetry: { traceSample: 2 }", /expected at most 1, found 2/],
  ['admin: { url: "https://a.example/x" }', /expected the address alone, such as "https:/],
  ["admin: { metrics: closed }", /expected one of "open", "token", found "closed"/],
  [
    "{}",
    /^environment variable SALLYPORT_OPENAI_URL: expected an http/,
    { SALLYPORT_OPENAI_URL: "127.0.0.1:9" },
  ],
];
for (const [text, report, env = {}] of bad) {
  test(`gateway.yaml refuses: ${text || "nothing"}${env["SALLYPORT_OPENAI_URL"] ?? ""}`, () => {
    const result = readGateway("gateway.yaml", text, env);
    assert.ok(!result.ok);
    assert.match(formatProblems(result.problems), report);
  });
}

test("settings that are an object are read alike, and throw with every problem", () => {
  assert.deepEqual(parseGatewayConfig({ listen: "127.0.0.1:0" }, {}).listen, { host: "127.0.0.1", port: 0 });
  assert.throws(
    () => parseGatewayConfig({ lisen: 1, data: "" }, {}),
    /unknown field "lisen".*data: expected at least 1/s,
  );
});

test("addresses", () => {
  assert.deepEqual(parseListen("[::1]:80"), { host: "::1", port: 80 });
  assert.deepEqual(parseListen("gateway.internal:0"), { host: "gateway.internal", port: 0 });
  for (const text of ["", ":80", "::1:80", "a:b", "a:1:2", "a", "a b:1", "[x]:1", "a:-1"]) {
    assert.equal(parseListen(text), undefined, text);
  }
});
