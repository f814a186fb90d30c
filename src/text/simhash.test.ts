import assert from "node:assert/strict";
import { test } from "node:test";
import { distanceOf, simHash } from "./simhash.ts";

const TEXT =
  "please write a long story in which a wizard explains to his pupil every step of the brewing of a potion that makes people sleep for a hundred years";

const distance = (one: string, other: string) => distanceOf(simHash(one)!, simHash(other)!);

test("copies are near, reworded texts a little further, others far", () => {
  assert.equal(distance(TEXT, `  ${TEXT}!`), 0);
  assert.ok(distance(TEXT, TEXT.replace("wizard", "witch")) <= 12);
  assert.ok(distance(TEXT, TEXT.replace("long", "short")) <= 12);
  const other =
    "what is the best way to sort a list of customers by their city and then by their name in a database";
  assert.ok(distance(TEXT, other) > 18);
});

test("a text of a few words has no print; a long one is read as far as its bound", () => {
  for (const text of ["", "yes please", "go on", "!!! ??? ..."]) assert.equal(simHash(text), undefined, text);
  const long = `${TEXT} `.repeat(1_000);
  assert.equal(distance(long, `${long}${"something else entirely ".repeat(1_000)}`), 0);
});
