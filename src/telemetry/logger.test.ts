import assert from "node:assert/strict";
import { test } from "node:test";
import { openLogger } from "./logger.ts";

const PROMPT = "how do I tell Grandma about the surprise party";
const KEY = "sk-proj-abcdefghijklmnopqrstuvwx";
const OURS = "sp-0123456789abcdefABCDEF0123456789";
const JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl";
const SECRETS = [PROMPT, "Grandma", KEY, OURS, JWT, "hunter2", "ZGVtbzpkZW1v"];

function logged(): { log: ReturnType<typeof openLogger>; lines: string[] } {
  const lines: string[] = [];
  const log = openLogger({ level: "debug", destination: { write: (line) => void lines.push(line) } });
  return { log, lines };
}

function thrownBy(run: () => unknown): Error {
  try {
    run();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}

const CAUGHT = thrownBy(() => JSON.parse(`${PROMPT} {`));
assert.ok(CAUGHT.message.includes("how do I"), "the premise: JSON.parse quotes its input");
const NESTED = Object.assign(new Error(PROMPT, { cause: new TypeError(`bad ${KEY}`) }), { body: PROMPT });

const PLANTED: readonly [string, (log: ReturnType<typeof openLogger>) => void][] = [
  [
    "an object with a body",
    (log) => log.info({ id: "req_1", body: { messages: [{ content: PROMPT }] } }, "m"),
  ],
  ["headers", (log) => log.warn({ headers: { authorization: `Bearer ${KEY}`, cookie: "hunter2" } }, "m")],
  [
    "a request object",
    (log) => log.info({ req: { headers: { "x-api-key": OURS } }, res: { body: PROMPT } }, "m"),
  ],
  [
    "fields below a listed one",
    (log) => log.info({ problem: { code: "x", detail: PROMPT, param: KEY } }, "m"),
  ],
  [
    "free words under their usual names",
    (log) => log.info({ detail: PROMPT, message: PROMPT, text: PROMPT }, "m"),
  ],
  ["an error that quotes its input", (log) => log.error({ err: CAUGHT }, "m")],
  ["an error as the first argument", (log) => log.error(CAUGHT)],
  ["an error with a cause and properties", (log) => log.error({ err: NESTED, error: NESTED }, "m")],
  ["a thrown string", (log) => log.error({ err: PROMPT }, "m")],
  ["values to be formatted into the message", (log) => log.info("got %s and %o", PROMPT, { body: PROMPT })],
  ["a key in the message", (log) => log.info(`refused ${KEY}, ${OURS} and ${JWT}`)],
  [
    "an authorization header in the message",
    (log) => log.info("sent Basic ZGVtbzpkZW1v and Bearer hunter2hunter2"),
  ],
  ["a password in an address", (log) => log.info({ url: "https://demo:hunter2@127.0.0.1/v1" }, "m")],
  ["a key at the end of what is kept", (log) => log.info(`${"x".repeat(493)} ${KEY}`)],
  ["names of members", (log) => log.info({ [PROMPT]: 1, seats: { [KEY]: 1 } }, "m")],
  ["arrays", (log) => log.info({ reasons: [KEY, { body: PROMPT }, [[[[PROMPT]]]]] }, "m")],
];

for (const [what, plant] of PLANTED) {
  test(`never logged: ${what}`, () => {
    const { log, lines } = logged();
    plant(log);
    assert.equal(lines.length, 1);
    for (const secret of SECRETS) assert.ok(!lines[0]?.includes(secret), `${secret} in ${lines[0]}`);
    assert.ok(!/sk-proj|sp-0123/.test(lines[0] ?? ""));
  });
}

test("what is on the list is logged, and what is not is named", () => {
  const { log, lines } = logged();
  const denied = thrownBy(() => process.chdir("/nonexistent-folder"));
  log.error(
    { id: "req_1", status: 502, seats: [{ seat: "rules", state: "failed" }], body: "x", err: denied },
    "ended",
  );
  const line = JSON.parse(lines[0]!) as Record<string, unknown> & {
    err: { message: string; stack: string[] };
  };
  assert.equal(line["level"], "error");
  assert.equal(line["msg"], "ended");
  assert.equal(line["id"], "req_1");
  assert.deepEqual(line["seats"], [{ seat: "rules", state: "failed" }]);
  assert.deepEqual(line["leftOut"], ["body"]);
  assert.match(line.err.message, /ENOENT/, "the system's own words are kept");
  assert.match(line.err.stack[0]!, /^at .*:\d+:\d+/);
  assert.match(String(line["time"]), /^\d{4}-.*Z$/);
});
