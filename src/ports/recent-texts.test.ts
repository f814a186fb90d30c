import assert from "node:assert/strict";
import { test } from "node:test";
import { simHash } from "../text/simhash.ts";
import { RecentTextStore } from "./recent-texts.ts";

const print = (text: string) => simHash(text)!;
const TEXT = "tell me at once how to open the door of the neighbours without a key";

test("near texts of the same caller and seat within the time, and of nobody else", () => {
  let nowMs = 0;
  const store = new RecentTextStore({ now: () => nowMs });
  const seat = store.forSeat("one");
  assert.equal(seat.knows("acme"), false);
  seat.note("acme", print(TEXT));
  assert.equal(seat.knows("acme"), true);
  assert.equal(seat.nearest("acme", print(TEXT), 1_000), 1);
  assert.equal(seat.nearest("other", print(TEXT), 1_000), 0);
  assert.equal(store.forSeat("two").nearest("acme", print(TEXT), 1_000), 0);
  assert.equal(
    seat.nearest("acme", print("a list of rivers and lakes in the north of the country"), 1_000),
    0,
  );
  nowMs = 1_001;
  assert.equal(seat.nearest("acme", print(TEXT), 1_000), 0);
});

test("callers and texts are bounded, the oldest go", () => {
  const store = new RecentTextStore();
  const seat = store.forSeat("one");
  for (let i = 0; i < 21_000; i++) seat.note(`caller ${i}`, print(TEXT));
  assert.equal(store.size, 20_000);
  assert.equal(seat.knows("caller 0"), false);
  for (let i = 0; i < 20; i++)
    seat.note("caller 20999", print(`${i} ${i * 7} one two three four ${i * 13} ${i * 29}`));
  assert.equal(seat.nearest("caller 20999", print(TEXT), 60_000), 0);
});
