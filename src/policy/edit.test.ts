/** A patch changes what it names and no other character; a diff rebuilds the newer text from the older. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import { seeded } from "../../test/support/eventually.ts";
import { unifiedDiff } from "./diff.ts";
import { patchSeat } from "./edit.ts";
import { diffPolicies } from "./seat-diff.ts";

const SHIPPED = readFileSync(join(import.meta.dirname, "../../config/policy.yaml"), "utf8");

function changedLines(before: string, after: string): string[] {
  return unifiedDiff(before, after, { before: "a", after: "b" })
    .split("\n")
    .filter((line) => /^[-+](?![-+])/.test(line));
}

test("a value is replaced where it stands, comments and all", () => {
  const edited = patchSeat(SHIPPED, "prompt-rules", { mode: "shadow", timeoutMs: 900 });
  assert.deepEqual(changedLines(SHIPPED, edited), [
    "-    mode: enforce",
    "-    timeoutMs: 5000               # a body of 32 MiB is read by turns; a short one takes microseconds",
    "+    mode: shadow",
    "+    timeoutMs: 900               # a body of 32 MiB is read by turns; a short one takes microseconds",
  ]);
});

test("a field that is not there is written beside use, in block and in flow", () => {
  const block = patchSeat(SHIPPED, "media", { when: 'org == "acme"' });
  assert.deepEqual(changedLines(SHIPPED, block), ['+    when: "org == \\"acme\\""']);
  const flow = "seats:\n  - { id: one, use: probe } # kept\n";
  assert.equal(
    patchSeat(flow, "one", { rollout: 5 }),
    "seats:\n  - { id: one, use: probe, rollout: 5 } # kept\n",
  );
});

test("thresholds by pointer: replaced, made, taken out; what cannot be is refused by its name", () => {
  const text = "seats:\n  - id: one # first\n    use: probe\n    with:\n      any: { blockAt: 0.5 } # kept\n";
  assert.match(patchSeat(text, "one", { with: { "/any/blockAt": 0.9 } }), /any: \{ blockAt: 0.9 \} # kept/);
  const made = patchSeat(text, "one", { with: { "/byTier/risky": 0.7, "/any/blockAt": null } });
  assert.deepEqual(parse(made).seats[0].with, { any: {}, byTier: { risky: 0.7 } });
  assert.match(made, /# first/);
  assert.throws(
    () => patchSeat(text, "two", { mode: "off" }),
    /^RangeError: id: .* no seat "two"; it has one/,
  );
  assert.throws(() => patchSeat(text, "one", { with: { "/any": 1 } }), /with: "\/any" is a group/);
  assert.throws(() => patchSeat(text, "one", { with: { any: 1 } }), /must be a JSON Pointer/);
  assert.throws(() => patchSeat(text, "one", { with: { "/any/blockAt/x": 1 } }), /no members/);
});

test("an alias shared by two seats is never changed for both", () => {
  const text =
    "seats:\n  - { id: one, use: probe, with: &w { a: 1 } }\n  - { id: two, use: probe, with: *w }\n";
  assert.throws(() => patchSeat(text, "one", { with: { "/a": 2 } }), /edit it whole/);
});

test("seat by seat: added, removed, moved, changed", () => {
  const seat = (id: string, more = "") => `  - { id: ${id}, use: probe${more} }\n`;
  const before = `version: 1\nseats:\n${seat("a")}${seat("b")}${seat("c")}${seat("d")}`;
  const after = `version: 2\nseats:\n${seat("d")}${seat("a")}${seat("b", ", rollout: 5")}${seat("e")}`;
  assert.deepEqual(diffPolicies(before, after), {
    added: ["e"],
    removed: ["c"],
    moved: ["d"],
    changed: [{ seat: "b", fields: [{ path: "rollout", after: 5 }] }],
    fields: [{ path: "version", before: 1, after: 2 }],
  });
});

test("a diff leads from the one text to the other", () => {
  const seed = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
  console.log(`seed ${seed}`);
  const random = seeded(seed);
  for (let round = 0; round < 500; round++) {
    const lines = (count: number) => Array.from({ length: count }, () => `l${Math.floor(random() * 6)}`);
    const text = () =>
      lines(Math.floor(random() * 25))
        .map((line) => `${line}\n`)
        .join("");
    const [before, after] = [text(), text()];
    assert.equal(
      patched(before, unifiedDiff(before, after, { before: "a", after: "b" })),
      after,
      `round ${round}`,
    );
  }
});

/** Follows the hunks. */
function patched(text: string, diff: string): string {
  const old = text.split("\n").slice(0, -1);
  const made: string[] = [];
  let at = 0;
  for (const line of diff.split("\n").slice(2)) {
    const hunk = /^@@ -(\d+),(\d+) /.exec(line);
    if (hunk !== null) {
      const start = Number(hunk[1]) - (hunk[2] === "0" ? 0 : 1);
      made.push(...old.slice(at, start));
      at = start;
    } else if (line.startsWith("+")) made.push(line.slice(1));
    else if (line !== "") {
      assert.equal(old[at], line.slice(1));
      if (line.startsWith(" ")) made.push(line.slice(1));
      at += 1;
    }
  }
  return [...made, ...old.slice(at)].map((line) => `${line}\n`).join("");
}
