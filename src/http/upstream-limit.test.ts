/**
 * The limit against model APIs that are simulated to the event, on a clock of their own: what it settles at, how
 * much of the capacity is used under overload, and what must not move it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Tier } from "../layer/index.ts";
import { AdaptiveLimit, type LimitSettings } from "./upstream-limit.ts";

const SETTINGS: LimitSettings = {
  concurrencyMin: 4,
  concurrencyStart: 256,
  concurrencyMax: 512,
  slowdownMax: 2,
};
const SEEDS = [1, 2, 3, 4, 5];

interface Model {
  /** Answers at once. */
  readonly capacity: number;
  readonly queueMax?: number;
  readonly answerMs: (random: () => number, second: number) => number;
  /** Part of an answer's time after which its head goes out; 1: a whole answer. */
  readonly headPart?: number;
}

interface Load {
  readonly seconds: number;
  readonly perSecond: (second: number) => number;
  readonly tier?: Tier;
  /** Callers give up after this, and leave. */
  readonly deadlineMs?: number;
  readonly seed?: number;
}

/** A small seeded generator (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Runs what is due in order of time. */
class Clock {
  nowMs = 1_000;
  readonly #heap: { readonly at: number; readonly order: number; readonly run: () => void }[] = [];
  #order = 0;

  after(ms: number, run: () => void): void {
    const heap = this.#heap;
    const event = { at: this.nowMs + ms, order: this.#order++, run };
    let i = heap.push(event) - 1;
    for (let up = (i - 1) >> 1; i > 0 && before(event, heap[up]!); up = (i - 1) >> 1) {
      heap[i] = heap[up]!;
      i = up;
    }
    heap[i] = event;
  }

  runUntil(ms: number): void {
    const heap = this.#heap;
    for (let next = heap[0]; next !== undefined && next.at <= ms; next = heap[0]) {
      const last = heap.pop()!;
      if (heap.length > 0) {
        let i = 0;
        for (let down = 1; down < heap.length; down = 2 * i + 1) {
          if (down + 1 < heap.length && before(heap[down + 1]!, heap[down]!)) down += 1;
          if (before(last, heap[down]!)) break;
          heap[i] = heap[down]!;
          i = down;
        }
        heap[i] = last;
      }
      this.nowMs = next.at;
      next.run();
    }
  }
}

function before(a: { at: number; order: number }, b: { at: number; order: number }): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function simulate(model: Model, load: Load, settings: Partial<LimitSettings> = {}) {
  const { capacity, queueMax = Number.POSITIVE_INFINITY, answerMs, headPart = 1 } = model;
  const { tier = "trusted", deadlineMs = Number.POSITIVE_INFINITY } = load;
  const random = seeded(load.seed ?? 1);
  const limit = new AdaptiveLimit({ ...SETTINGS, ...settings });
  const clock = new Clock();
  const startedMs = clock.nowMs;
  const second = () => Math.floor((clock.nowMs - startedMs) / 1000);
  const good = new Array<number>(load.seconds).fill(0);
  const limits: number[] = [];
  const queue: (() => void)[] = [];
  let busy = 0;
  let shed = 0;

  const send = () => {
    const sent = {
      model: "m",
      stream: headPart < 1,
      sentMs: clock.nowMs,
      alongside: limit.began(),
    };
    let isGone = false;
    let isHeadOut = false;
    const free = () => {
      busy -= 1;
      queue.shift()?.();
    };
    const begin = () => {
      if (isGone) return queue.shift()?.();
      busy += 1;
      const takesMs = answerMs(random, second());
      clock.after(takesMs * headPart, () => {
        if (isGone) return;
        isHeadOut = true;
        limit.headOver();
        limit.answered(sent, clock.nowMs);
      });
      clock.after(takesMs, () => {
        free();
        if (isGone) return;
        limit.ended();
        good[second()]! += 1;
      });
      return undefined;
    };
    if (Number.isFinite(deadlineMs)) {
      clock.after(deadlineMs, () => {
        if (isHeadOut) return;
        isGone = true;
        limit.left(sent, clock.nowMs);
        limit.headOver();
        limit.ended();
      });
    }
    if (busy < capacity) begin();
    else if (queue.length < queueMax) queue.push(begin);
    else {
      isGone = true;
      isHeadOut = true;
      clock.after(1, () => {
        limit.headOver();
        limit.refused(sent, clock.nowMs);
        limit.ended();
      });
    }
  };
  const arrive = () => {
    if (limit.hasRoom(tier)) send();
    else shed += 1;
    clock.after((-Math.log(1 - random()) * 1000) / load.perSecond(second()), arrive);
  };
  const watch = () => {
    limits.push(limit.limit);
    clock.after(1000, watch);
  };
  clock.after(0, arrive);
  clock.after(999, watch);
  clock.runUntil(startedMs + load.seconds * 1000 - 1);
  const rate = (from: number, to = load.seconds) =>
    good.slice(from, to).reduce((sum, count) => sum + count, 0) / (to - from);
  return { limits, shed, rate, inFlight: limit.inFlight };
}

const steady = (ms: number) => (random: () => number) => ms * (0.95 + 0.1 * random());
const spread = (ms: number, sigma: number) => (random: () => number) =>
  ms * Math.exp(sigma * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));
const mean = (ms: number, sigma: number) => ms * Math.exp(sigma ** 2 / 2);
const always = (perSecond: number) => () => perSecond;

for (const seed of SEEDS) {
  test(`10 times the capacity, answers of one length: all of it is used, and little waits (seed ${seed})`, () => {
    const load = { seconds: 60, perSecond: always(1000), seed };
    const { rate, limits } = simulate({ capacity: 8, answerMs: steady(80) }, load, { concurrencyStart: 64 });
    assert.ok(rate(5) > 95, `${rate(5)} of 100 a second`);
    assert.ok(
      limits.slice(20).every((limit) => limit >= 7 && limit <= 28),
      limits.join(" "),
    );
  });

  test(`10 times the capacity, answers that differ widely (seed ${seed})`, () => {
    const load = { seconds: 60, perSecond: always(3_880), seed };
    const { rate, limits } = simulate({ capacity: 32, answerMs: spread(50, 1) }, load);
    const capacity = (32 / mean(50, 1)) * 1000;
    assert.ok(rate(5) > 0.88 * capacity, `${rate(5)} of ${capacity} a second`);
    assert.ok(
      limits.slice(20).every((limit) => limit <= 160),
      limits.join(" "),
    );
  });

  test(`an upstream that refuses what it cannot take (seed ${seed})`, () => {
    const load = { seconds: 60, perSecond: always(6_400), seed };
    const { rate, limits } = simulate({ capacity: 32, queueMax: 0, answerMs: steady(50) }, load);
    assert.ok(rate(5) > 0.9 * 640, `${rate(5)} of 640 a second`);
    assert.ok(
      limits.slice(5).every((limit) => limit <= 40),
      limits.join(" "),
    );
  });

  test(`nothing to limit: the limit grows to what is wanted, and no further (seed ${seed})`, () => {
    const load = { seconds: 90, perSecond: always(500), seed };
    const start = { concurrencyStart: 64, concurrencyMax: 5_000 };
    const { rate, limits } = simulate({ capacity: 1e9, answerMs: spread(500, 0.5) }, load, start);
    assert.ok(rate(30) > 0.95 * 500, `${rate(30)} of 500 a second`);
    // About 280 are under way at once; a step beyond what is reached is half of it.
    assert.ok(
      limits.every((limit) => limit <= 800),
      limits.join(" "),
    );
  });

  test(`answers that take four times as long from one moment on are no queue (seed ${seed})`, () => {
    const answerMs = (random: () => number, second: number) => steady(second < 20 ? 100 : 400)(random);
    const load = { seconds: 60, perSecond: always(500), seed };
    const { rate } = simulate({ capacity: 1e9, answerMs }, load);
    assert.ok(rate(40) > 0.9 * 500, `${rate(40)} of 500 a second, 20 s later`);
  });

  test(`streams that hold their place long after their head (seed ${seed})`, () => {
    const load = { seconds: 120, perSecond: always(100), seed };
    const { rate, limits } = simulate({ capacity: 32, answerMs: spread(3_000, 0.3), headPart: 0.1 }, load);
    const capacity = (32 / mean(3_000, 0.3)) * 1000;
    assert.ok(rate(40) > 0.8 * capacity, `${rate(40)} of ${capacity} a second`);
    assert.ok(
      limits.slice(40).every((limit) => limit < 100),
      limits.join(" "),
    );
  });

  test(`callers who all give up before their answer are seen, too (seed ${seed})`, () => {
    const load = { seconds: 60, perSecond: always(1000), deadlineMs: 400, seed };
    const { rate, limits } = simulate({ capacity: 8, answerMs: steady(80) }, load);
    assert.ok(rate(10) > 80, `${rate(10)} of 100 a second within 400 ms`);
    assert.ok(
      limits.slice(20).every((limit) => limit <= 40),
      limits.join(" "),
    );
  });
}

test("an overload that ends leaves nothing behind", () => {
  const perSecond = (second: number) => (second >= 10 && second < 20 ? 1000 : 60);
  const { rate, shed } = simulate({ capacity: 8, answerMs: steady(80) }, { seconds: 40, perSecond });
  assert.ok(rate(25) > 55, `${rate(25)} of 60 a second`);
  assert.ok(shed > 5_000);
});

test("the limit rests while it is not reached", () => {
  const { limits } = simulate(
    { capacity: 1e9, answerMs: spread(100, 0.5) },
    { seconds: 60, perSecond: always(200) },
  );
  assert.deepEqual(new Set(limits), new Set([256]));
});

const SENT = { model: "m", stream: false, alongside: 1 };

function answer(limit: AdaptiveLimit, count: number, fromMs: number, headMs: number): number {
  let nowMs = fromMs;
  for (let i = 0; i < count; i++) {
    nowMs += 5;
    const alongside = limit.began();
    limit.headOver();
    limit.answered({ ...SENT, sentMs: nowMs - headMs, alongside }, nowMs);
    limit.ended();
  }
  return nowMs;
}

test("slow answers now and then do not move it, nor do single refusals", () => {
  const limit = new AdaptiveLimit({ ...SETTINGS, concurrencyStart: 8 });
  let nowMs = answer(limit, 200, 1_000, 50);
  for (let i = 0; i < 50; i++) {
    limit.refused({ ...SENT, sentMs: nowMs }, nowMs + 1);
    nowMs = answer(limit, 1, nowMs, 60_000);
    nowMs = answer(limit, 100, nowMs, 50);
  }
  assert.ok(limit.limit >= 8, `${limit.limit}`);
});

test("an outage while little is asked leaves the limit for when it is over", () => {
  const limit = new AdaptiveLimit(SETTINGS);
  const nowMs = answer(limit, 200, 1_000, 50);
  for (let i = 0; i < 1_000; i++) {
    const alongside = limit.began();
    limit.headOver();
    limit.refused({ ...SENT, sentMs: nowMs + i * 10, alongside }, nowMs + i * 10 + 1);
    limit.ended();
  }
  assert.ok(limit.limit > 200, `${limit.limit}`);
});

test("a model that is slow by nature does not make the others look slow, or itself", () => {
  const limit = new AdaptiveLimit({ ...SETTINGS, concurrencyStart: 16 });
  for (let i = 0; i < 16; i++) limit.began();
  let nowMs = 1_000;
  for (let i = 0; i < 400; i++) {
    nowMs += 5;
    limit.answered(
      { ...SENT, model: i % 2 === 0 ? "quick" : "slow", sentMs: nowMs - (i % 2 === 0 ? 50 : 4_000) },
      nowMs,
    );
  }
  const before = limit.limit;
  for (let i = 0; i < 4_000; i++) {
    nowMs += 5;
    limit.answered({ ...SENT, model: "slow", sentMs: nowMs - 4_000 }, nowMs);
  }
  assert.ok(limit.limit >= before, `${before} -> ${limit.limit}`);
});

test("worse standings stop earlier, and one of each always gets through an empty gate", () => {
  const limit = new AdaptiveLimit({ ...SETTINGS, concurrencyStart: 100, concurrencyMin: 1 });
  const fill = (tier: Tier) => {
    while (limit.hasRoom(tier)) limit.began();
    return limit.inFlight;
  };
  assert.deepEqual([fill("risky"), fill("new"), fill("normal"), fill("trusted")], [60, 80, 95, 100]);
  const least = new AdaptiveLimit({ ...SETTINGS, concurrencyStart: 1, concurrencyMin: 1 });
  assert.ok(least.hasRoom("risky") && least.hasRoom("suspended"));
  least.began();
  assert.ok(!least.hasRoom("trusted"));
});
