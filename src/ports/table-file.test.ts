import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { z } from "zod";
import { openTable, type Table, type TableOptions } from "./table.ts";

interface Context {
  diagnostic(message: string): void;
  after(cleanup: () => void | Promise<void>): void;
}

const row = z.strictObject({
  id: z.string().regex(/^r\d+$/, { error: 'must look like "r1"' }),
  n: z.int({ error: "must be a whole number" }),
  note: z.string().optional(),
});
type Row = Readonly<z.infer<typeof row>>;

function folder(context: Context): string {
  const dir = fs.mkdtempSync(join(tmpdir(), "sallyport-table-"));
  context.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  return join(dir, "data");
}

async function opened(context: Context, dir: string, more: Partial<TableOptions<Row>> = {}) {
  const path = join(dir, "things.json");
  const table = await openTable({ name: "things", row, rowsMax: 1_000, path, redis: undefined, ...more });
  context.after(() => table.close());
  return table;
}

async function within(ms: number, what: string, check: () => boolean): Promise<void> {
  const until = performance.now() + ms;
  while (!check()) {
    assert.ok(performance.now() < until, `${what} within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const add = (table: Table<Row>, id: string, by = 1) =>
  table.change(id, (now) => ({ id, n: (now?.n ?? 0) + by }));

test("a row is written, changed, left alone and removed", async (context) => {
  const dir = folder(context);
  const table = await opened(context, dir);
  assert.equal(table.rows.size, 0);
  assert.equal(fs.existsSync(join(dir, "things.json")), false, "opening writes nothing");
  const before = table.rows;
  assert.deepEqual(await table.change("r1", () => ({ id: "r1", n: 1, note: "ü…\n" })), {
    id: "r1",
    n: 1,
    note: "ü…\n",
  });
  assert.notEqual(table.rows, before);
  assert.deepEqual([before.size, table.rows.size, table.size], [0, 1, 1]);
  assert.equal((await add(table, "r1", 5))?.n, 6);
  assert.equal((await table.change("r1", () => undefined))?.n, 6);
  assert.equal(await table.change("r9", () => undefined), undefined);
  const stamp = fs.statSync(join(dir, "things.json")).mtimeMs;
  await table.change("r1", (now) => now);
  await table.change("r9", () => null);
  assert.equal(fs.statSync(join(dir, "things.json")).mtimeMs, stamp, "nothing to write");
  await add(table, "r2");
  assert.equal(await table.change("r1", () => null), undefined);
  assert.deepEqual([...table.rows.keys()], ["r2"]);
  const other = await opened(context, dir);
  assert.deepEqual(other.rows, table.rows);
  assert.equal(fs.statSync(join(dir, "things.json")).mode & 0o777, 0o600);
  assert.equal(fs.statSync(dir).mode & 0o777, 0o700);
  assert.equal(JSON.parse(fs.readFileSync(join(dir, "things.json"), "utf8")).rows.length, 1);
});

test("listeners are told which rows differ, by whomever", async (context) => {
  const dir = folder(context);
  const [one, two] = [await opened(context, dir), await opened(context, dir)];
  const seen: unknown[] = [];
  two.onChange((changes) => seen.push(...changes));
  await add(one, "r1");
  await within(1_000, "seen", () => seen.length === 1);
  await add(two, "r1", 2);
  await add(two, "r2");
  await one.change("r2", () => null);
  await within(1_000, "seen", () => seen.length === 4);
  const r1 = { id: "r1", n: 1 };
  assert.deepEqual(seen, [
    { id: "r1", before: undefined, after: r1 },
    { id: "r1", before: r1, after: { id: "r1", n: 3 } },
    { id: "r2", before: undefined, after: { id: "r2", n: 1 } },
    { id: "r2", before: { id: "r2", n: 1 }, after: undefined },
  ]);
});

test("changes of two tables on one file lose nothing", async (context) => {
  const dir = folder(context);
  const tables = [await opened(context, dir), await opened(context, dir, { watch: false })];
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, i % 20));
      await add(tables[i % 2]!, `r${i % 3}`);
    }),
  );
  const total = (table: Table<Row>) => [...table.rows.values()].reduce((sum, { n }) => sum + n, 0);
  const fresh = await opened(context, dir);
  assert.equal(total(fresh), 200);
  await within(2_000, "seen by the one that follows", () => total(tables[0]!) === 200);
});

const WRITER = `
  const { openTable } = await import(${JSON.stringify(join(import.meta.dirname, "table.ts"))});
  const { z } = await import("zod");
  const [path, count] = process.argv.slice(1);
  const row = z.object({ id: z.string(), n: z.int() });
  const table = await openTable({ name: "things", row, rowsMax: 1000, path, redis: undefined });
  for (let i = 0; i < Number(count); i++) {
    await table.change("r1", (now) => ({ id: "r1", n: (now?.n ?? 0) + 1 }));
    process.stdout.write(".");
  }
  await table.close();
`;

function writer(path: string, count: number) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", WRITER, path, String(count)], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: join(import.meta.dirname, "../.."),
  });
  const wrote = { count: 0 };
  child.stdout.on("data", (data: Buffer) => {
    wrote.count += data.length;
  });
  return { child, wrote };
}

test("two processes lose nothing", async (context) => {
  const dir = folder(context);
  const table = await opened(context, dir);
  const path = join(dir, "things.json");
  const writers = [writer(path, 60), writer(path, 60)];
  const own = (async () => {
    for (let i = 0; i < 60; i++) await add(table, "r1");
  })();
  await Promise.all([own, ...writers.map(({ child }) => once(child, "close"))]);
  await within(1_000, "all are seen", () => table.get("r1")?.n === 180);
});

test("a writer that is killed loses nothing that it was told is written, and holds nobody up", async (context) => {
  const dir = folder(context);
  const path = join(dir, "things.json");
  const table = await opened(context, dir);
  let least = 0;
  for (let round = 0; round < 4; round++) {
    const { child, wrote } = writer(path, 100_000);
    await within(10_000, "first writes", () => wrote.count > 5 + round);
    child.kill("SIGKILL");
    await once(child, "close");
    least += wrote.count;
    const { n } = (await table.change("r1", (now) => now)) ?? { n: 0 };
    // One more may be written of which the word did not get out any more.
    assert.ok(n >= least && n <= least + round + 1, `${n} written, ${least} confirmed`);
  }
});

test("a file that is damaged, cut short or gone leaves the last good rows and is said, once", async (context) => {
  const dir = folder(context);
  const problems: (string | undefined)[] = [];
  const table = await opened(context, dir, { onProblem: (problem) => problems.push(problem) });
  const path = join(dir, "things.json");
  for (let i = 0; i < 3; i++) await add(table, `r${i}`);
  const good = fs.readFileSync(path, "utf8");
  for (const [bad, message] of [
    ["", /not valid JSON/],
    ["{", /not valid JSON/],
    [good.slice(0, good.length / 2), /not valid JSON/],
    [good.replace('"n":1', '"n":1.5'), /things\.json: rows\.0\.n: must be a whole number/],
    [good.replace('"n":1', '"n":'), /not valid JSON/],
    [good.replace('"r1"', '"r0"'), /rows\.1\.id: "r0" is there twice/],
    [good.replace('"things"', '"other"'), /name: holds "other", not "things"/],
    [good.replace('"version":1', '"version":7'), /version/],
    [JSON.stringify([]), /./],
  ] as const) {
    fs.writeFileSync(path, bad);
    await within(1_500, `said of ${bad.slice(0, 60)}`, () => message.test(table.problem ?? ""));
    assert.equal(table.rows.size, 3);
    await assert.rejects(add(table, "r1"), message);
    assert.equal(fs.readFileSync(path, "utf8"), bad, "what might be repaired is not overwritten");
  }
  fs.writeFileSync(path, good);
  await within(1_500, "good again", () => table.problem === undefined);
  fs.rmSync(path);
  await within(1_500, "loss said", () => /is gone/.test(table.problem ?? ""));
  await assert.rejects(add(table, "r1"), /is gone/);
  assert.equal(table.rows.size, 3);
  fs.writeFileSync(path, JSON.stringify(JSON.parse(good), null, 2));
  await within(1_500, "another layout", () => table.problem === undefined);
  assert.equal((await add(table, "r1"))?.n, 2);
  assert.equal(problems.filter((problem) => /is gone/.test(problem ?? "")).length, 1);
  assert.equal(problems.at(-1), undefined);
});

test("a damaged file, another stamp and another table are errors at the start", async (context) => {
  const dir = folder(context);
  const path = join(dir, "things.json");
  await add(await opened(context, dir, { stamp: "a" }), "r1");
  await assert.rejects(
    opened(context, dir, { stamp: "b", stampProblem: "was written with another pepper" }),
    /things\.json was written with another pepper/,
  );
  await assert.rejects(opened(context, dir), /another stamp/);
  fs.writeFileSync(path, "{}");
  await assert.rejects(opened(context, dir), /things\.json: version/);
});

test("a file of before is read and written in the new form", async (context) => {
  const dir = folder(context);
  const path = join(dir, "things.json");
  fs.mkdirSync(dir, { recursive: true });
  fs.writeFileSync(path, JSON.stringify({ version: 1, pepper: "p", things: [{ n: 4, id: "r4" }] }, null, 1));
  const old = z.object({ pepper: z.string(), things: z.array(z.unknown()) });
  const legacy = (json: unknown) => {
    const parsed = old.safeParse(json);
    return parsed.success ? { stamp: parsed.data.pepper, rows: parsed.data.things } : undefined;
  };
  await assert.rejects(opened(context, dir, { legacy, stamp: "q" }), /another stamp/);
  const table = await opened(context, dir, { legacy, stamp: "p" });
  assert.deepEqual(table.get("r4"), { id: "r4", n: 4 });
  await add(table, "r4");
  assert.equal((await opened(context, dir, { legacy, stamp: "p" })).get("r4")?.n, 5);
  assert.equal((await opened(context, dir, { stamp: "p" })).get("r4")?.n, 5);
});

test("what cannot be a row is refused and the others are written", async (context) => {
  const dir = folder(context);
  const table = await opened(context, dir, { rowsMax: 2 });
  const results = await Promise.allSettled([
    add(table, "r1"),
    table.change("r2", () => ({ id: "r2", n: 0.5 })),
    table.change("r2", () => ({ id: "r3", n: 1 })),
    table.change("r2", () => {
      throw new Error("own reason");
    }),
    table.change("r2", () => ({ id: "r2", n: 1, note: "x".repeat(20_000) })),
    add(table, "r2"),
    add(table, "r3"),
    add(table, "r2"),
    table.change("r1", () => null),
    add(table, "r4"),
  ]);
  const said = results.map((result) => (result.status === "rejected" ? String(result.reason.message) : "ok"));
  const expected = [/ok/, /^n: must be/, /^id: .*keep/, /own reason/, /longer than/];
  for (const [i, pattern] of [...expected, /ok/, /already holds 2 rows/, /ok/, /ok/, /ok/].entries()) {
    assert.match(said[i]!, pattern);
  }
  assert.deepEqual(
    [...table.rows.values()],
    [
      { id: "r2", n: 2 },
      { id: "r4", n: 1 },
    ],
  );
});

test("100,000 rows are read and written without holding the event loop up", async (context) => {
  const dir = folder(context);
  const [one, two] = [
    await opened(context, dir, { rowsMax: 100_000 }),
    await opened(context, dir, { rowsMax: 100_000 }),
  ];
  for (let from = 0; from < 100_000; from += 10_000) {
    await Promise.all(
      Array.from({ length: 10_000 }, (_, i) =>
        one.change(`r${from + i}`, () => ({ id: `r${from + i}`, n: i, note: "…".repeat(60) })),
      ),
    );
  }
  await within(10_000, "all rows", () => two.size === 100_000);
  // In CPU time of this thread: what else the machine does is not the table's doing.
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
  for (let round = 0; round < 5; round++) {
    await add(one, "r7", 1_000);
    const wanted = one.get("r7")?.n;
    await within(5_000, "the change", () => two.get("r7")?.n === wanted);
  }
  isMeasuring = false;
  stalls.sort((a, b) => b - a);
  assert.ok(stalls[1]! < 50, `stalls of ${stalls.slice(0, 6).map((ms) => ms.toFixed(1))} ms`);
  context.diagnostic(`longest stalls ${stalls.slice(0, 3).map((ms) => ms.toFixed(1))} ms of CPU`);
});
