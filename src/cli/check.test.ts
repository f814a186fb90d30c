import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { runCheck } from "./check.ts";

const CONFIG = resolve(import.meta.dirname, "../../config");

async function check(...args: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runCheck(args, { log: (text) => out.push(text), error: (text) => err.push(text) });
  return { code, out: out.join("\n"), err: err.join("\n") };
}

test("the shipped configuration can be served", async () => {
  const { code, out, err } = await check(CONFIG);
  assert.equal(code, 0, err);
  assert.match(out, /^ok: revision [0-9a-f]{12}, 10 seats, 10 routes$/);
  const json = await check(CONFIG, "--json");
  assert.equal(json.code, 0);
  const report = JSON.parse(json.out);
  assert.deepEqual(
    { ...report, revision: "" },
    { ok: true, revision: "", seats: 10, seatsOff: 0, routes: 10 },
  );
  assert.ok(out.includes(report.revision));
});

test("every example in the shipped policy's comments can be used", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-check-"));
  try {
    cpSync(CONFIG, dir, { recursive: true });
    const text = readFileSync(join(CONFIG, "policy.yaml"), "utf8")
      .replace("passThrough: []\n#  - path:", "passThrough:\n#  - path:")
      .replace(/^# {2}( {2}|- )(?=\w)/gm, "  $1")
      .replace(/^ {2}# - id: (?:prompt|output)-judge\n(?: {2}# {3}.*\n)+/gm, (seat) =>
        seat.replaceAll(/^ {2}# /gm, "  "),
      )
      .replace(/^ {4}# (?=(when|rollout|mode|onError):)/gm, "    ");
    const once = text.replace(/^ {4}mode: enforce.*\n(?= {4}# )/gm, "");
    assert.equal(once.match(/^ {4}(when|rollout|mode|onError):/gm)?.length, 14, "the examples were found");
    writeFileSync(join(dir, "policy.yaml"), once);
    const { code, err } = await check(dir);
    assert.equal(code, 0, err);
    assert.match(once, /^ {2}- id: prompt-judge$/m);
    assert.match(once, /^ {2}- id: output-judge$/m);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("a bad folder exits 1 with every problem, in words or as JSON", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-check-"));
  try {
    cpSync(CONFIG, dir, { recursive: true });
    const text = readFileSync(join(dir, "policy.yaml"), "utf8");
    writeFileSync(
      join(dir, "policy.yaml"),
      text.replace("use: auth", "use: aut").replace("window: 1m", "windw: 1m"),
    );
    const { code, out, err } = await check(dir);
    assert.equal(code, 1);
    assert.equal(out, "");
    assert.match(
      err,
      /policy\.yaml:\d+:10: seats\[0\]\.use: there is no layer "aut"; did you mean "auth"\?\n.*\n.*\^/,
    );
    assert.match(err, /seats\[2\]\.with\.limits\[0\]\.windw: unknown field "windw"; did you mean "window"\?/);
    assert.match(err, /2 problems in /);
    const json = JSON.parse((await check(dir, "--json")).out);
    assert.equal(json.ok, false);
    assert.deepEqual(
      json.problems.map(({ path }: { path: string }) => path),
      ["seats[0].use", "seats[2].with.limits[0].windw"],
    );
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("wrong usage exits 2, help 0, a folder that is not there 1", async () => {
  assert.equal((await check("--jsn")).code, 2);
  assert.equal((await check("a", "b")).code, 2);
  assert.equal((await check("--help")).code, 0);
  const missing = await check(join(tmpdir(), "there-is-no-such-folder"));
  assert.equal(missing.code, 1);
  assert.match(missing.err, /policy\.yaml: the policy cannot be read: there is no such file/);
});
