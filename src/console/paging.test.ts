import assert from "node:assert/strict";
import { test } from "node:test";
import { seeded } from "../../test/support/house.ts";
import { type Place, pageOf } from "./paging.ts";

test("pages put together are the sorted list, for any order, limit and ties in time", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const random = seeded(seed);
  for (let round = 0; round < 200; round++) {
    const count = Math.floor(random() * 60);
    const rows: Place[] = Array.from({ length: count }, (_, i) => ({
      at: `2026-01-0${1 + Math.floor(random() * 4)}`,
      id: `key_${i}`,
    })).sort(() => random() - 0.5);
    const limit = 1 + Math.floor(random() * 20);
    const seen: Place[] = [];
    let cursor: string | undefined;
    do {
      const page = pageOf(rows, (row) => row, { limit, cursor });
      assert.ok(page.rows.length <= limit);
      assert.ok(page.rows.length === limit || page.next === null, `seed ${seed}: a short page is the last`);
      seen.push(...page.rows);
      cursor = page.next ?? undefined;
    } while (cursor !== undefined);
    const key = ({ at, id }: Place) => `${at} ${id}`;
    assert.deepEqual(seen.map(key), rows.map(key).sort(), `seed ${seed}`);
  }
});

test("a cursor that nobody was given is refused", () => {
  for (const cursor of ["", "x", "2 a b", Buffer.from("2 a b").toString("base64url")]) {
    assert.throws(
      () => pageOf([], (row: Place) => row, { limit: 1, cursor }),
      /^RangeError: cursor: /,
      cursor,
    );
  }
});
