import assert from "node:assert/strict";
import * as fs from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { z } from "zod";
import {
  type RedisServer,
  startRedis,
  startRedisCluster,
  startRedisWithReplica,
} from "../../test/support/redis.ts";
import { openRedis, type SharedRedis } from "./redis.ts";
import { openTable, type Table, type TableOptions } from "./table.ts";

interface Context {
  readonly name: string;
  diagnostic(message: string): void;
  after(cleanup: () => void | Promise<void>): void;
}

const row = z.strictObject({ id: z.string(), n: z.int(), note: z.string().optional() });
type Row = Readonly<z.infer<typeof row>>;

let server: RedisServer;
before(async () => {
  server = await startRedis();
});
after(() => server.stop());
beforeEach(() => server.command("FLUSHALL"));

function folder(context: Context): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-table-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function shared(context: Context, url = server.url, nodes: readonly string[] = []) {
  const redis = await openRedis({
    url: nodes.length > 0 ? undefined : url,
    nodes,
    prefix: "sp",
    timeoutMs: 25,
  });
  context.after(() => redis.close());
  return redis;
}

type Opening = Partial<TableOptions<Row>> & { readonly dir?: string };

/** One replica: its own connections, its own folder. */
async function replica(context: Context, more: Opening = {}): Promise<Table<Row>> {
  const { dir = folder(context), ...options } = more;
  const redis = "redis" in options ? options.redis : await shared(context);
  const path = join(dir, "things.json");
  const table = await openTable<Row>({ name: "things", row, rowsMax: 1_000, path, ...options, redis });
  context.after(() => table.close());
  return table;
}

/** A way to Redis that can be cut while others still have theirs. */
async function cuttable(context: Context) {
  const sockets = new Set<Socket>();
  let isCut = false;
  const relay = createServer((client) => {
    if (isCut) {
      client.destroy();
      return;
    }
    const upstream = connect(server.port, "127.0.0.1");
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    relay.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = relay.address();
  assert.ok(typeof address === "object" && address !== null);
  return {
    redis: await shared(context, `redis://127.0.0.1:${address.port}`),
    cut() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend() {
      isCut = false;
    },
  };
}

/** Never hears a message: what it sees, it sees by looking. */
function deaf(redis: SharedRedis): SharedRedis {
  return new Proxy(redis, {
    get: (target, name) => {
      if (name === "subscribe") return async () => {};
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

async function within(ms: number, what: string, check: () => boolean): Promise<number> {
  const start = performance.now();
  while (!check()) {
    assert.ok(performance.now() < start + ms, `${what} within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return performance.now() - start;
}

const add = (table: Table<Row>, id: string, by = 1) =>
  table.change(id, (now) => ({ id, n: (now?.n ?? 0) + by }));
const total = (table: Table<Row>) => [...table.rows.values()].reduce((sum, { n }) => sum + n, 0);
const sorted = (table: Table<Row>) => [...table.rows.values()].sort((a, b) => (a.id < b.id ? -1 : 1));

test("a change is on every replica within a second; each is told which rows differ", async (context) => {
  const [one, two, three] = [await replica(context), await replica(context), await replica(context)];
  const seen: unknown[] = [];
  three.onChange((changes) => seen.push(...changes));
  assert.deepEqual(await one.change("r1", () => ({ id: "r1", n: 1, note: "ü… \n" })), one.get("r1"));
  await within(1_000, "seen", () => two.get("r1")?.n === 1 && three.get("r1")?.note === "ü… \n");
  assert.equal((await add(two, "r1", 5))?.n, 6, "no matter what this replica had read");
  await within(1_000, "seen", () => one.get("r1")?.n === 6 && three.get("r1")?.n === 6);
  assert.equal(await three.change("r1", () => null), undefined);
  await within(1_000, "removed", () => one.size === 0 && two.size === 0);
  assert.deepEqual(
    seen.map((change) => (change as { after?: Row }).after?.n),
    [1, 6, undefined],
  );
  assert.equal(one.problem, undefined);
});

test("changes of three replicas lose nothing", async (context) => {
  const tables = [await replica(context), await replica(context), await replica(context)];
  await Promise.all(Array.from({ length: 300 }, (_, i) => add(tables[i % 3]!, `r${i % 2}`)));
  for (const table of tables) await within(1_000, "all are seen", () => total(table) === 300);
  assert.equal((await tables[0]!.change("r9", () => undefined)) ?? "none", "none");
});

test("changes arrive within a second although subscriptions are killed all the time", async (context) => {
  const [one, two, three] = [
    await replica(context),
    await replica(context),
    await replica(context, { redis: deaf(await shared(context)) }),
  ];
  let slowest = 0;
  for (let i = 1; i <= 8; i++) {
    await server.command("CLIENT", "KILL", "TYPE", "pubsub");
    await add(one, "r1");
    slowest = Math.max(
      slowest,
      await within(1_000, "seen", () => two.get("r1")?.n === i && three.get("r1")?.n === i),
    );
  }
  context.diagnostic(`slowest ${slowest.toFixed(0)} ms`);
});

test("who is cut off keeps the last good rows, cannot change them, and catches up", async (context) => {
  const way = await cuttable(context);
  const problems: (string | undefined)[] = [];
  const one = await replica(context);
  const two = await replica(context, { redis: way.redis, onProblem: (problem) => problems.push(problem) });
  for (let i = 0; i < 5; i++) await add(one, `r${i}`);
  await within(1_000, "all rows", () => two.size === 5);
  way.cut();
  await within(2_000, "the outage is said", () => two.problem !== undefined);
  assert.equal(two.size, 5);
  await assert.rejects(add(two, "r1"), /the table "things" cannot be changed now.*nothing was changed/);
  await assert.rejects(
    two.change("r1", () => undefined),
    /cannot be changed now/,
  );
  await add(one, "r1", 10);
  await one.change("r2", () => null);
  way.mend();
  await within(3_000, "caught up", () => two.get("r1")?.n === 11 && two.size === 4);
  await within(1_000, "all well", () => two.problem === undefined);
  assert.deepEqual(two.rows, one.rows);
  // More than the log holds.
  way.cut();
  await within(2_000, "the outage is said", () => two.problem !== undefined);
  for (let i = 0; i < 300; i++) await add(one, `r${i % 7}`);
  await one.change("r0", () => null);
  way.mend();
  await within(3_000, "caught up", () => two.problem === undefined && total(two) === total(one));
  assert.deepEqual(sorted(two), sorted(one));
  const said = problems.map((problem) => problem?.replace(/read: .*/, "read"));
  const outage = 'the table "things": the last good rows stay in force, Redis cannot be read';
  assert.deepEqual(said, [outage, undefined, outage, undefined]);
});

test("a replica starts without Redis from its own copy, and catches up", async (context) => {
  const dir = folder(context);
  const one = await replica(context, { dir });
  for (let i = 0; i < 3; i++) await add(one, `r${i}`);
  const path = join(dir, "things.json");
  await within(3_000, "the copy is written", () => fs.existsSync(path));
  assert.equal(fs.statSync(path).mode & 0o777, 0o600);
  await add(one, "r0");
  await one.close();
  const way = await cuttable(context);
  way.cut();
  await within(2_000, "cut", () => !way.redis.isUp);
  const two = await replica(context, { dir, redis: way.redis });
  assert.deepEqual(two.rows, one.rows);
  assert.match(two.problem ?? "", /Redis cannot be read/);
  await add(await replica(context), "r1");
  way.mend();
  await within(3_000, "caught up", () => two.get("r1")?.n === 2);
});

test("without Redis and without a copy it opens empty and says so", async (context) => {
  const way = await cuttable(context);
  way.cut();
  await within(2_000, "cut", () => !way.redis.isUp);
  for (const content of [undefined, "{"]) {
    const dir = folder(context);
    if (content !== undefined) fs.writeFileSync(join(dir, "things.json"), content);
    const problems: (string | undefined)[] = [];
    const table = await replica(context, { dir, redis: way.redis, onProblem: (said) => problems.push(said) });
    assert.equal(table.size, 0);
    assert.match(problems.at(-1) ?? "", /Redis cannot be read/);
  }
});

test("the rows of a single box go up to an empty Redis once", async (context) => {
  const dir = folder(context);
  const single = await replica(context, { dir, redis: undefined });
  await Promise.all(Array.from({ length: 700 }, (_, i) => add(single, `r${i}`, i)));
  await single.close();
  const one = await replica(context, { dir });
  const two = await replica(context);
  assert.deepEqual(sorted(one), sorted(single));
  assert.deepEqual(sorted(two), sorted(single));
  await one.change("r5", () => null);
  await one.close();
  const [again, stranger] = [await replica(context, { dir }), folder(context)];
  assert.equal(again.get("r5"), undefined, "what was removed since does not come back");
  const other = await replica(context, { dir: stranger, redis: undefined });
  await add(other, "r999");
  await other.close();
  const late = await replica(context, { dir: stranger });
  assert.equal(late.get("r999"), undefined, "Redis was in use already");
  assert.equal(late.size, 699);
});

test("a Redis that lost everything gets it back, whoever comes first", async (context) => {
  const lost = {
    emptied: () => server.command("FLUSHALL"),
    restarted: () => server.restart(),
    "rows evicted": () => server.command("DEL", "sp:{things}:rows"),
    "meta evicted": () => server.command("DEL", "sp:{things}:meta"),
  };
  for (const [how, lose] of Object.entries(lost)) {
    await server.command("FLUSHALL");
    const dir = folder(context);
    const [one, two] = [await replica(context, { dir }), await replica(context)];
    await Promise.all(Array.from({ length: 600 }, (_, i) => add(one, `r${i}`, i)));
    await within(1_000, "all rows", () => two.size === 600);
    await lose();
    // One that knows nothing founds the new generation; it must not pass for the truth.
    const three = await replica(context);
    for (const table of [one, two, three])
      await within(4_000, `${how}: all is back`, () => table.size === 600 && table.problem === undefined);
    await add(three, "r599");
    await within(1_000, "goes on", () => one.get("r599")?.n === 600 && two.get("r599")?.n === 600);
    for (const table of [one, two, three]) await table.close();
    await lose();
    const four = await replica(context, { dir });
    assert.equal(four.get("r599")?.n, 600, `${how}: from the copy of one that was restarted`);
    await four.close();
  }
});

test("a change right after Redis lost everything meets the row as it was", async (context) => {
  const one = await replica(context);
  await add(one, "r1", 41);
  await server.command("FLUSHALL");
  assert.equal((await add(one, "r1"))?.n, 42);
  assert.deepEqual((await replica(context)).get("r1"), { id: "r1", n: 42 });
});

test("a row that cannot be read stays as it was, and the others go on", async (context) => {
  const [one, two] = [await replica(context), await replica(context)];
  await add(one, "r1");
  await add(one, "r2");
  const newer = row.extend({ more: z.string().optional() });
  const other = await openTable({
    ...{ name: "things", row: newer, rowsMax: 1_000, path: join(folder(context), "t.json") },
    redis: await shared(context),
  });
  context.after(() => other.close());
  await other.change("r1", () => ({ id: "r1", n: 2, more: "of a newer version" }));
  await add(two, "r2");
  await within(1_000, "the problem is said", () =>
    /table "things": row "r1" of 1 that cannot be read/.test(one.problem ?? ""),
  );
  await within(1_000, "the others go on", () => one.get("r2")?.n === 2);
  assert.equal(one.get("r1")?.n, 1);
  await assert.rejects(add(one, "r1"), /more/i);
  const third = await replica(context);
  assert.deepEqual([third.size, third.problem === undefined], [1, false]);
  await other.change("r1", () => ({ id: "r1", n: 3 }));
  for (const table of [one, two, third])
    await within(1_000, "repaired", () => table.problem === undefined && table.get("r1")?.n === 3);
});

test("another stamp is an error, at the start and later", async (context) => {
  const stampProblem = "was written with another pepper";
  await add(await replica(context, { stamp: "a" }), "r1");
  await assert.rejects(
    replica(context, { stamp: "b", stampProblem }),
    /the table "things" in Redis was written with another pepper/,
  );
  const dir = folder(context);
  const way = await cuttable(context);
  await add(await replica(context, { dir, stamp: "b", redis: undefined }), "r2");
  way.cut();
  await within(2_000, "cut", () => !way.redis.isUp);
  const late = await replica(context, { dir, stamp: "b", stampProblem, redis: way.redis });
  way.mend();
  await within(3_000, "up", () => way.redis.isUp);
  await assert.rejects(add(late, "r2"), /./);
  assert.deepEqual([...late.rows.keys()], ["r2"]);
  assert.notEqual(late.problem, undefined);
  assert.equal(await server.command("HLEN", "sp:{things}:rows"), 1);
});

test("the bound holds over all replicas", async (context) => {
  const [one, two] = [await replica(context, { rowsMax: 3 }), await replica(context, { rowsMax: 3 })];
  const results = await Promise.allSettled(
    Array.from({ length: 10 }, (_, i) => add(i % 2 ? one : two, `r${i}`)),
  );
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 3);
  for (const result of results)
    if (result.status === "rejected") assert.match(result.reason.message, /already holds 3 rows/);
  await within(1_000, "seen", () => one.size === 3 && two.size === 3);
});

test("a frozen Redis fails a change in time, and what came of it is seen after", async (context) => {
  const [one, two] = [await replica(context), await replica(context)];
  await add(one, "r1");
  server.freeze();
  try {
    const started = performance.now();
    await assert.rejects(add(one, "r1"), /cannot be changed now/);
    assert.ok(performance.now() - started < 2_500);
    assert.equal(one.get("r1")?.n, 1);
  } finally {
    server.thaw();
  }
  await within(5_000, "up again", () => one.problem === undefined && two.problem === undefined);
  await add(two, "r1", 10);
  await within(2_000, "alike", () => one.get("r1")?.n === two.get("r1")?.n && one.get("r1")!.n >= 11);
});

test("a filling of an empty Redis that was broken off is finished by who comes next", async (context) => {
  const dir = folder(context);
  const single = await replica(context, { dir, redis: undefined });
  for (let i = 0; i < 3; i++) await add(single, `r${i}`);
  await single.close();
  const meta = ["head", "1-a", "generation", "g", "stamp", "", "filling", "1", "count", "1"];
  await server.command("HSET", "sp:{things}:meta", ...meta);
  await server.command("HSET", "sp:{things}:rows", "r0", JSON.stringify({ id: "r0", n: 1 }));
  const one = await replica(context, { dir });
  assert.deepEqual(sorted(one), sorted(single));
  assert.equal(await server.command("HGET", "sp:{things}:meta", "filling"), null);
});

test("the master changes: the table goes on", async (context) => {
  const pair = await startRedisWithReplica();
  context.after(() => pair.stop());
  const opened = async () => replica(context, { redis: await shared(context, pair.url) });
  const [one, two] = [await opened(), await opened()];
  await add(one, "r1");
  await within(1_000, "seen", () => two.get("r1")?.n === 1);
  for (const how of ["demote", "kill"] as const) {
    await pair.promote(how);
    const before = one.get("r1")?.n ?? 0;
    let isDone = false;
    // A change that fails says whether it was made; with the master gone it was not.
    for (let tries = 0; !isDone && tries < 200; tries++) {
      isDone = await add(two, "r1").then(
        () => true,
        () => new Promise((resolve) => setTimeout(() => resolve(false), 25)),
      );
    }
    assert.ok(isDone, how);
    await within(3_000, `${how}: seen`, () => one.get("r1")?.n === before + 1 && one.problem === undefined);
    await within(3_000, "settled", () => two.problem === undefined);
  }
});

test("in a cluster", async (context) => {
  const cluster = await startRedisCluster();
  context.after(() => cluster.stop());
  const opened = async () => replica(context, { redis: await shared(context, undefined, cluster.addresses) });
  const [one, two, three] = [await opened(), await opened(), await opened()];
  await Promise.all(Array.from({ length: 90 }, (_, i) => add([one, two, three][i % 3]!, `r${i % 4}`)));
  for (const table of [one, two, three]) await within(1_000, "seen", () => total(table) === 90);
  const slot = await cluster.slotOf("sp:{things}:rows");
  await cluster.moveSlot(slot, ((await cluster.ownerOf(slot)) + 1) % 3);
  await add(one, "r1");
  for (const table of [one, two, three]) await within(1_000, "seen", () => total(table) === 91);
});

test("100,000 rows are read without holding the event loop up, and a change of one is there soon", async (context) => {
  const one = await replica(context, { rowsMax: 100_000 });
  for (let from = 0; from < 100_000; from += 5_000) {
    const rows = Array.from({ length: 5_000 }, (_, i) => {
      const id = `r${from + i}`;
      return [id, JSON.stringify({ id, n: 1, note: "x".repeat(150) })];
    });
    await server.command("HSET", "sp:{things}:rows", ...rows.flat());
  }
  await server.command("DEL", "sp:{things}:meta");
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1_000;
  };
  const stalls: number[] = [];
  let last = cpuMs();
  let isMeasuring = true;
  const tick = () => {
    const now = cpuMs();
    stalls.push(now - last);
    last = now;
    if (isMeasuring) setImmediate(tick);
  };
  tick();
  const started = performance.now();
  const two = await replica(context, { rowsMax: 100_000 });
  const readMs = performance.now() - started;
  assert.equal(two.size, 100_000);
  await within(10_000, "read anew", () => one.size === 100_000);
  const changeMs = await (async () => {
    await add(one, "r7");
    return within(1_000, "seen", () => two.get("r7")?.n === 2);
  })();
  isMeasuring = false;
  stalls.sort((a, b) => b - a);
  const longest = stalls.slice(0, 3).map((ms) => ms.toFixed(1));
  assert.ok(stalls[1]! < 50, `stalls of ${longest} ms`);
  context.diagnostic(
    `read in ${readMs.toFixed(0)} ms; stalls ${longest}; a change ${changeMs.toFixed(0)} ms`,
  );
});
