/** Against real servers on loopback that answer, refuse, reset and vanish as each test says. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { afterEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Dispatcher } from "undici";
import { eventually } from "../../test/support/eventually.ts";
import type { Caller } from "./upstream-attempt.ts";
import { OrgKeys } from "./upstream-keys.ts";
import { UpstreamSet, type UpstreamSetOptions } from "./upstream-set.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);

type Behaviour = (response: ServerResponse, request: IncomingMessage, nth: number) => void;

interface Place {
  readonly url: string;
  readonly requests: IncomingMessage[];
  behave: Behaviour;
  close(): Promise<void>;
}

const open: { close(): Promise<void> | void }[] = [];
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

const ok: Behaviour = (response) => {
  response.writeHead(200, { "content-type": "application/json" }).end("{}");
};
const status =
  (code: number): Behaviour =>
  (response) => {
    response.writeHead(code, { "content-type": "application/json" }).end(`{"status":${code}}`);
  };
const reset: Behaviour = (_response, request) => request.socket.resetAndDestroy();
const silent: Behaviour = () => {};

async function place(behave: Behaviour = ok): Promise<Place> {
  const requests: IncomingMessage[] = [];
  const server: Server = createServer((request, response) => {
    requests.push(request);
    request.resume().on("end", () => here.behave(response, request, requests.length));
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const here: Place = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    behave,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
  open.push(here);
  return here;
}

/** Where nothing listens. */
async function nowhere(): Promise<string> {
  const gone = await place();
  await gone.close();
  return gone.url;
}

function setOf(urls: readonly string[], more: Partial<UpstreamSetOptions> = {}): UpstreamSet {
  const set = new UpstreamSet({
    dialect: "openai",
    targets: urls.map((url, i) => ({ name: `t${i}`, url, key: `key-${i}`, weight: 1 })),
    overload: { concurrencyMin: 4, concurrencyStart: 64, concurrencyMax: 128, slowdownMax: 2 },
    ejection: {
      failuresInRow: 5,
      failureShare: 0.5,
      requestsMin: 20,
      windowMs: 10_000,
      ejectMs: 5_000,
      ejectMsMax: 60_000,
    },
    retry: { attemptsMax: 2, budget: 0.1, retriesMin: 3, windowMs: 10_000, rateLimited: false },
    connectionsMax: 128,
    connectMs: 1_000,
    firstByteMs: 2_000,
    idleMs: 2_000,
    // The first of two always, unless a test says otherwise.
    random: () => 0,
    ...more,
  });
  open.push(set);
  return set;
}

interface Heard {
  starts: number;
  heads: number[];
  body: string;
  ends: number;
  error: Error | undefined;
  controller: Dispatcher.DispatchController | undefined;
}

interface Asked extends Heard {
  readonly over: Promise<void>;
  readonly refused: ReturnType<UpstreamSet["dispatch"]>;
}

interface AskOptions extends Partial<Caller> {
  readonly onHead?: (controller: Dispatcher.DispatchController) => void;
  readonly onData?: (controller: Dispatcher.DispatchController) => void;
}

/** Counts what a handler is told, and fails on anything after the end. */
function ask(set: UpstreamSet, { onHead, onData, ...caller }: AskOptions = {}): Asked {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const heard: Heard = { starts: 0, heads: [], body: "", ends: 0, error: undefined, controller: undefined };
  const alive = () => assert.equal(heard.ends, 0, "nothing after the end");
  const end = () => {
    alive();
    heard.ends += 1;
    resolve();
  };
  const refused = set.dispatch(
    { method: "POST", path: "/v1/chat/completions", headers: ["accept", "*/*"], body: Buffer.from("{}") },
    {
      onRequestStart(controller) {
        alive();
        heard.starts += 1;
        heard.controller = controller;
      },
      onResponseStart(controller, code) {
        alive();
        assert.equal(controller, heard.controller, "one controller for good");
        if (code >= 200) heard.heads.push(code);
        onHead?.(controller);
      },
      onResponseData(controller, chunk) {
        alive();
        assert.equal(controller, heard.controller);
        heard.body += chunk.toString();
        onData?.(controller);
      },
      onResponseEnd: end,
      onResponseError(_controller, error) {
        heard.error = error;
        end();
      },
    },
    { tier: "normal", org: "acme", ...caller },
  );
  return Object.assign(heard, { over, refused });
}

async function answered(set: UpstreamSet, options?: AskOptions): Promise<Asked> {
  const asked = ask(set, options);
  assert.equal(asked.refused, undefined);
  await asked.over;
  return asked;
}

const inFlight = (set: UpstreamSet) => set.stats().targets.map((target) => target.inFlight);

test("the credential: the target's, the organisation's, the caller's own", async () => {
  const here = await place();
  const orgKeys = await OrgKeys.open({ dialect: "openai", keys: { umbrella: "key-umbrella" } });
  const set = setOf([here.url], { orgKeys });
  await answered(set);
  await answered(set, { org: "umbrella" });
  await answered(set, { org: "umbrella", ownKey: "key-own" });
  const sent = here.requests.map(({ headers }) => headers.authorization);
  assert.deepEqual(sent, ["Bearer key-0", "Bearer key-umbrella", "Bearer key-own"]);
  assert.deepEqual(set.direct({ org: "umbrella" }), {
    base: here.url,
    headers: { authorization: "Bearer key-umbrella" },
  });
  assert.deepEqual(set.origins, [here.url]);
  const other = setOf([here.url], { dialect: "anthropic" });
  await answered(other, { ownKey: "key-own" });
  assert.equal(here.requests.at(-1)?.headers["x-api-key"], "key-own");
  assert.equal(here.requests.at(-1)?.headers.authorization, undefined);
  assert.deepEqual(other.direct({ org: "", ownKey: "k" }).headers, { "x-api-key": "k" });
});

test("full: shed at once, the worse standings first, with a time to come back", async () => {
  const here = await place(silent);
  const overload = { concurrencyMin: 4, concurrencyStart: 10, concurrencyMax: 10, slowdownMax: 2 };
  const set = setOf([here.url], { overload, random: Math.random });
  const fill = (tier: Caller["tier"]) => {
    for (;;) {
      const { refused, starts } = ask(set, { tier });
      if (refused === undefined) continue;
      assert.deepEqual([refused.code, starts], ["overloaded", 0]);
      assert.ok(refused.retryAfterMs >= 250 && refused.retryAfterMs <= 30_000, `${refused.retryAfterMs}`);
      return set.stats().targets[0]!.inFlight;
    }
  };
  const filled = [fill("risky"), fill("new"), fill("normal"), fill("trusted")];
  assert.deepEqual(filled, [6, 8, 10, 10]);
  assert.deepEqual(set.stats().shed, { trusted: 1, normal: 1, new: 1, risky: 1, suspended: 0 });
  const waits = new Set(Array.from({ length: 20 }, () => ask(set).refused?.retryAfterMs));
  assert.ok(waits.size > 10, "not all at the same time");
});

test("the limit stays within the connections there may be", async () => {
  const here = await place(silent);
  const set = setOf([here.url], { connectionsMax: 3 });
  while (ask(set, { tier: "trusted" }).refused === undefined);
  assert.deepEqual(inFlight(set), [3]);
});

const retried: readonly (readonly [text: string, first: Behaviour | "nowhere"])[] = [
  ["nothing listens", "nowhere"],
  ["a reset before the head", reset],
  ["502", status(502)],
  ["503", status(503)],
  ["504", status(504)],
  ["529", status(529)],
];
for (const [text, first] of retried) {
  test(`tried at another target: ${text}`, async () => {
    const good = await place();
    const bad = first === "nowhere" ? await nowhere() : (await place(first)).url;
    const set = setOf([bad, good.url]);
    const { starts, heads, ends, error } = await answered(set);
    assert.deepEqual([starts, heads, ends, error], [1, [200], 1, undefined]);
    assert.equal(good.requests[0]?.headers.authorization, "Bearer key-1", "with that target's key");
    assert.equal(good.requests[0]?.headers["content-type"], "application/json");
    assert.equal(set.stats().retries, 1);
    assert.deepEqual(inFlight(set), [0, 0]);
  });
}

const final: readonly (readonly [text: string, first: Behaviour, heads: readonly number[]])[] = [
  ["500", status(500), [500]],
  ["429", status(429), [429]],
  ["400", status(400), [400]],
  ["no head in time", silent, []],
  [
    "part of a head, then a reset",
    (response) => {
      response.socket?.write("HTTP/1.1 200 OK\r\ncontent-");
      setTimeout(() => response.socket?.resetAndDestroy(), 30);
    },
    [],
  ],
  [
    "a reset after the head",
    (response) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
      setTimeout(() => response.socket?.resetAndDestroy(), 30);
    },
    [200],
  ],
];
for (const [text, first, heads] of final) {
  test(`not tried again: ${text}`, async () => {
    const [bad, good] = [await place(first), await place()];
    const set = setOf([bad.url, good.url], { firstByteMs: 200 });
    const heard = await answered(set);
    assert.deepEqual([heard.heads, heard.ends, good.requests.length], [heads, 1, 0]);
    assert.equal(set.stats().retries, 0);
    assert.deepEqual(inFlight(set), [0, 0]);
  });
}

test("429 is tried elsewhere where that is wanted", async () => {
  const [bad, good] = [await place(status(429)), await place()];
  const retry = { attemptsMax: 2, budget: 0.1, retriesMin: 3, windowMs: 10_000, rateLimited: true };
  const { heads } = await answered(setOf([bad.url, good.url], { retry }));
  assert.deepEqual(heads, [200]);
});

test("a lone target: connections are tried again, answers and fresh resets are not", async () => {
  const busy = await place(status(503));
  const refusing = setOf([busy.url]);
  assert.deepEqual((await answered(refusing)).heads, [503]);
  assert.equal(busy.requests.length, 1);
  const resetting = await place(reset);
  const cut = await answered(setOf([resetting.url]));
  assert.ok(cut.error !== undefined && resetting.requests.length === 1);
  const away = setOf([await nowhere()]);
  assert.match(String((await answered(away)).error), /ECONNREFUSED/);
  assert.equal(away.stats().retries, 1);
});

test("a lone target: a kept-alive connection that is closed under a request is no failure", async () => {
  // The second request on each connection is answered with a reset, or with the connection's end.
  for (const close of [reset, ((_response, request) => request.socket.end()) as Behaviour]) {
    const served = new WeakMap<Socket, number>();
    const here = await place((response, request, nth) => {
      const count = (served.get(request.socket) ?? 0) + 1;
      served.set(request.socket, count);
      if (count === 2) close(response, request, nth);
      else ok(response, request, nth);
    });
    // One connection at a time, so that each request finds the one that the last was answered on.
    const set = setOf([here.url], { connectionsMax: 1 });
    for (let i = 0; i < 3; i++) {
      const { heads, error } = await answered(set);
      assert.deepEqual([heads, error], [[200], undefined]);
    }
    assert.equal(set.stats().retries, 2);
    assert.equal(here.requests.length, 5);
  }
});

test("at most as many attempts as are allowed, and retries within the budget", async () => {
  const bad = await Promise.all([1, 2, 3].map(() => place(status(503))));
  const set = setOf(bad.map(({ url }) => url));
  assert.deepEqual((await answered(set)).heads, [503]);
  assert.equal(
    bad.reduce((sum, { requests }) => sum + requests.length, 0),
    2,
  );
  for (let i = 0; i < 99; i++) await answered(set);
  assert.ok(set.stats().retries >= 3 && set.stats().retries <= 10, `${set.stats().retries} of 100`);
});

test("a caller who leaves is not tried for again", async () => {
  const good = await place();
  let leave: (() => void) | undefined;
  const bad = await place((response, request, nth) => {
    leave?.();
    setTimeout(() => status(503)(response, request, nth), 20);
  });
  const set = setOf([bad.url, good.url]);
  const asked = ask(set);
  leave = () => asked.controller?.abort(new Error("gone"));
  await asked.over;
  assert.equal(asked.error?.message, "gone");
  assert.equal(asked.controller?.aborted, true);
  assert.deepEqual([asked.heads, good.requests.length, inFlight(set)], [[], 0, [0, 0]]);
});

test("left while the connection is still being made", async () => {
  const here = await place();
  const set = setOf([here.url]);
  const asked = ask(set);
  asked.controller?.abort(new Error("gone"));
  await asked.over;
  assert.equal(asked.error?.message, "gone");
  assert.equal(here.requests.length, 0, "nothing was sent");
  assert.deepEqual(inFlight(set), [0]);
});

test("back-pressure holds through the set, also on a second attempt", async () => {
  const bad = await place(status(503));
  let written = 0;
  const good = await place((response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const chunk = Buffer.alloc(65_536, "x");
    const pump = () => {
      while (written < 64 * 1_048_576) {
        written += chunk.length;
        if (!response.write(chunk)) return response.once("drain", pump);
      }
      return response.end();
    };
    response.on("error", () => {});
    pump();
  });
  const set = setOf([bad.url, good.url]);
  const asked = ask(set, { onHead: (controller) => controller.pause() });
  await sleep(200);
  assert.equal(asked.controller?.paused, true);
  assert.equal(asked.body.length, 0);
  assert.ok(written < 32 * 1_048_576, `${written} bytes were taken`);
  const before = written;
  asked.controller?.resume();
  await eventually(() => assert.ok(asked.body.length >= 1_048_576 && written > before, `${written} bytes`));
  asked.controller?.abort(new Error("enough"));
  await asked.over;
  assert.deepEqual(inFlight(set), [0, 0]);
});

test("a target that fails is ejected, probed and taken back; the others carry on", async () => {
  const [first, second] = [await place(status(502)), await place()];
  const ejection = {
    failuresInRow: 5,
    failureShare: 0.5,
    requestsMin: 20,
    windowMs: 10_000,
    ejectMs: 150,
    ejectMsMax: 60_000,
  };
  const retry = { attemptsMax: 2, budget: 1, retriesMin: 100, windowMs: 10_000, rateLimited: false };
  const set = setOf([first.url, second.url], { ejection, retry });
  for (let i = 0; i < 20; i++) assert.deepEqual((await answered(set)).heads, [200]);
  assert.equal(first.requests.length, 5);
  assert.deepEqual(
    set.stats().targets.map(({ isEjected }) => isEjected),
    [true, false],
  );
  await sleep(160);
  assert.deepEqual((await answered(set)).heads, [200], "a probe that fails is tried elsewhere");
  assert.equal(first.requests.length, 6);
  first.behave = ok;
  await sleep(160);
  await answered(set);
  assert.equal(first.requests.length, 6, "the second time is longer");
  await sleep(160);
  for (let i = 0; i < 10; i++) await answered(set);
  assert.equal(first.requests.length, 16);
  assert.deepEqual(
    set.stats().targets.map(({ ejections }) => ejections),
    [2, 0],
  );
});

test("never more than half are ejected, and a lone one never", async () => {
  const places = await Promise.all([1, 2, 3].map(() => place(status(502))));
  const set = setOf(
    places.map(({ url }) => url),
    { random: Math.random },
  );
  for (let i = 0; i < 60; i++) await answered(set);
  assert.equal(set.stats().targets.filter(({ isEjected }) => isEjected).length, 1);
  const alone = setOf([places[0]!.url]);
  for (let i = 0; i < 30; i++) await answered(alone);
  assert.equal(alone.stats().targets[0]?.isEjected, false);
  assert.equal(alone.stats().targets[0]?.failures, 30);
});

test("requests go where fewer are under way, by weight", async () => {
  const [light, heavy] = [await place(silent), await place(silent)];
  const targets = [
    { name: "light", url: light.url, key: undefined, weight: 1 },
    { name: "heavy", url: heavy.url, key: undefined, weight: 3 },
  ];
  const set = setOf([], { targets, random: Math.random });
  for (let i = 0; i < 60; i++) ask(set);
  const [few = 0, many = 0] = inFlight(set);
  assert.ok(few >= 10 && few <= 22 && few + many === 60, `${few} and ${many}`);
});

test(`nothing is left in flight after 1,000 requests that end in every way (seed ${SEED})`, async () => {
  let state = SEED;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4294967296;
  };
  const ends: Behaviour[] = [
    ok,
    reset,
    silent,
    status(500),
    status(503),
    status(429),
    (response, request) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
      setTimeout(() => request.socket.resetAndDestroy(), random() * 20);
    },
    (response) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).write("data: 1\n\n");
      setTimeout(() => response.end(), random() * 20);
    },
  ];
  const any: Behaviour = (response, request, nth) =>
    ends[Math.floor(random() * ends.length)]!(response, request, nth);
  const places = [await place(any), await place(any)];
  const set = setOf([...places.map(({ url }) => url), await nowhere()], { random, firstByteMs: 300 });
  const asked: Asked[] = [];
  for (let i = 0; i < 1_000; i++) {
    const one = ask(set, { stream: random() < 0.5, model: `m${i % 7}` });
    if (one.refused !== undefined) {
      i -= 1;
      await sleep(5);
      continue;
    }
    asked.push(one);
    if (random() < 0.5) setTimeout(() => one.controller?.abort(new Error("gone")), random() * 40);
    if (random() < 0.3) await sleep(random() * 3);
  }
  await Promise.all(asked.map(({ over }) => over));
  assert.deepEqual(inFlight(set), [0, 0, 0]);
  assert.ok(
    asked.every(({ starts, ends: ended, heads }) => starts === 1 && ended === 1 && heads.length <= 1),
  );
  assert.ok(set.stats().retries > 0);
});
