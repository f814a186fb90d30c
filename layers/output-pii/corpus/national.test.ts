/** The bar of national numbers: F1 of at least 0.95 wherever a check digit tells them from other numbers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NUMBER_ROWS } from "../kinds.ts";
import { figures, judgeNational } from "./measurement.ts";
import { NUMBERS, nationalDocuments } from "./national.ts";

/** Known by their form alone: other numbers of that very form are taken for one. */
const BY_FORM: ReadonlySet<string> = new Set(["us-ssn", "gb-nino"]);

test("every national number has documents, the same ones from the same seed", () => {
  const ids = new Set(NUMBER_ROWS.filter(({ kind }) => kind === "national-number").map(({ id }) => id));
  assert.deepEqual([...NUMBERS].sort(), [...ids].sort());
  assert.deepEqual(nationalDocuments(1, 2), nationalDocuments(1, 2));
});

for (const seed of [1, 2, 3]) {
  test(`seed ${seed}: F1 of each country's number`, () => {
    const judged = nationalDocuments(seed, 60).map(judgeNational);
    for (const of of NUMBERS) {
      const { f1, recall } = figures(judged, of);
      if (BY_FORM.has(of)) assert.ok(recall >= 0.95, `${of}: recall ${recall}`);
      else assert.ok(f1 >= 0.95, `${of}: F1 ${f1}`);
    }
  });
}
