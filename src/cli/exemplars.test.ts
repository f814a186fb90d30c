/** The command over a socket to a real admin listener. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openConsole, TOKEN } from "../console/stand-ins.ts";
import { runExemplars } from "./exemplars.ts";

test("add from a text and from a file, list, remove; what is wrongly asked is told", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const dir = mkdtempSync(join(tmpdir(), "sallyport-exemplars-"));
  context.after(() => rmSync(dir, { recursive: true, force: true }));
  const [out, err]: [string[], string[]] = [[], []];
  const io = {
    log: (text: string) => void out.push(text),
    error: (text: string) => void err.push(text),
    env: { SALLYPORT_ADMIN_URL: admin.url, SALLYPORT_ADMIN_TOKEN: TOKEN },
  };
  const run = (...args: string[]) => runExemplars(args, io);
  assert.equal(await run("list"), 0);
  assert.equal(out.pop(), "no exemplars");
  assert.equal(await run("add", "bad", "--text", "Some secret words.", "--reason", "case 7"), 0, err.at(-1));
  const [id = ""] = /^ex_[0-9a-f]{20}/.exec(out.pop() ?? "") ?? [];
  const file = join(dir, "good.txt");
  writeFileSync(file, "Other words,\nin two lines.");
  assert.equal(
    await run("add", "good", "--file", file, "--reason", "an appeal", "--note", "n 1", "--shadow"),
    0,
  );
  assert.match(out.pop() ?? "", /^ex_\w+ {2}good \(shadow\) {2}\d+ characters .*: an appeal \(n 1\)$/);
  assert.equal(await run("list", "--label", "bad"), 0);
  assert.match(out.pop() ?? "", new RegExp(`^${id}  bad  18 characters`));
  assert.equal(await run("list", "--json"), 0);
  const listed = out.pop() ?? "";
  assert.equal(JSON.parse(listed).length, 2);
  assert.ok(!listed.includes("secret"));
  assert.equal(await run("remove", id), 0);
  assert.equal(out.pop(), `removed ${id}`);
  assert.equal(await run("remove", id), 1);
  for (const [args, message] of [
    [[], /say list, add or remove/],
    [["burn"], /there is no action "burn"/],
    [["add"], /bad or good/],
    [["add", "bad", "--reason", "x"], /give --text TEXT or --file FILE/],
    [["add", "bad", "--text", "x"], /--reason WORDS is missing/],
    [["add", "ugly", "--text", "x", "--reason", "x"], /LABEL: must be bad or good/],
    [["add", "bad", "--file", join(dir, "none"), "--reason", "x"], /--file: cannot be read/],
    [["remove"], /give the id/],
  ] as const) {
    assert.equal(await run(...args), 2, args.join(" "));
    assert.match(err.at(-1) ?? "", message);
  }
});
