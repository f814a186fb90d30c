import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import {
  type RedisServer,
  startRedis,
  startRedisCluster,
  startRedisWithReplica,
} from "../../test/support/redis.ts";
import { openRedis, RedisAway, RedisRefused, type RedisSettings } from "./redis.ts";
import { connectionOf } from "./redis-connection.ts";
import { defineScript, runScript } from "./redis-script.ts";

const settingsOf = (url: string | undefined, more: Partial<RedisSettings> = {}): RedisSettings => ({
  url,
  nodes: [],
  prefix: "test",
  timeoutMs: 20,
  ...more,
});

const open = async (server: Pick<RedisServer, "url">, more: Partial<RedisSettings> = {}) => {
  const redis = await openRedis(settingsOf(server.url, more));
  after(() => redis.close());
  return redis;
};

/** Time of the promise's end, and how it ended. */
async function timed(work: Promise<unknown>): Promise<{ ms: number; error: unknown }> {
  const startedMs = performance.now();
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { ms: performance.now() - startedMs, error };
}

test("commands run, a command's own error does not make Redis away, replicas are counted and leave", async () => {
  const server = await startRedis();
  after(() => server.stop());
  const one = await open(server);
  assert.equal(one.isUp, true);
  assert.equal(await one.run((client) => client.set("a", "1")), "OK");
  await assert.rejects(
    one.run((client) => client.call("NO.SUCH.COMMAND", "secret-argument")),
    (error) => error instanceof RedisRefused && !("command" in error),
  );
  assert.equal(one.isUp, true);
  const two = await open(server);
  await eventually(() => assert.deepEqual([one.liveReplicas, two.liveReplicas], [2, 2]));
  assert.notEqual(one.replica, two.replica);
  await two.close();
  await eventually(() => assert.equal(one.liveReplicas, 1), 6000);
});

/** Holds this process up again and again, a moment's look at its sockets apart. */
function stalls(ms: number, forMs: number): Promise<void> {
  const untilMs = performance.now() + forMs;
  return new Promise((resolve) => {
    const stall = () => {
      const endMs = performance.now() + ms;
      while (performance.now() < endMs);
      if (performance.now() < untilMs) setTimeout(stall, 1);
      else resolve();
    };
    stall();
  });
}

test("a gateway that is held up: its callers are answered in time, and Redis is away only if nothing is heard", async () => {
  const server = await startRedis();
  after(() => server.stop());
  const redis = await open(server);
  const busy = stalls(60, 600);
  for (let i = 0; i < 4; i++)
    assert.equal((await timed(redis.run((client) => client.set("a", "1")))).error, undefined);
  assert.equal(redis.isUp, true, "what has come is read before the verdict");
  await busy;
  await redis.run((client) => client.set("a", "1"));
  const unanswered = () => redis.run(() => new Promise(() => {}));
  const again = stalls(60, 1_200);
  const first = await timed(unanswered());
  assert.ok(first.error instanceof RedisAway);
  assert.ok(first.ms < 20 + 150 + 2 * 60, `${first.ms} ms`);
  assert.equal(redis.isUp, true, "one command says nothing of Redis");
  while (redis.isUp) await assert.rejects(unanswered(), RedisAway);
  await again;
  await eventually(() => assert.equal(redis.isUp, true));
});

test("frozen: one deadline, then refused at once; back within 2 s of the thaw, also after its connection was replaced", async () => {
  const server = await startRedis();
  after(() => server.stop());
  const redis = await open(server);
  const other = await open(server);
  await eventually(() => assert.equal(redis.liveReplicas, 2));
  const states: boolean[] = [];
  redis.onState((isUp) => states.push(isUp));
  for (const frozenMs of [300, 5200]) {
    const before = redis.client;
    server.freeze();
    const first = await timed(redis.run((client) => client.get("a")));
    assert.ok(first.error instanceof RedisAway);
    // Two processes share two cores with other tests: the deadline itself is measured in counters-redis.test.ts.
    assert.ok(first.ms < 200, `${first.ms} ms`);
    assert.equal(redis.isUp, false);
    const second = await timed(redis.run((client) => client.get("a")));
    assert.ok(second.error instanceof RedisAway && second.ms < 5, `${second.ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, frozenMs));
    assert.equal(redis.isUp, false);
    assert.equal(redis.client !== before, frozenMs > 2000);
    server.thaw();
    await eventually(() => assert.equal(redis.isUp, true), 2000);
    assert.equal(await redis.run((client) => client.set("a", "1")), "OK");
    await eventually(() => assert.equal(other.isUp, true), 2000);
    // The other's heartbeat went stale meanwhile; it is not forgotten for that.
    assert.equal(redis.liveReplicas, 2);
  }
  assert.deepEqual(states, [false, true, false, true]);
});

test("killed and restarted, scripts flushed: it comes back by itself, and scripts with it", async () => {
  const server = await startRedis();
  after(() => server.stop());
  const redis = await open(server);
  const script = defineScript("return ARGV[1]");
  const run = () => redis.run((client) => runScript(client, script, ["k"], ["x"]));
  assert.equal(await run(), "x");
  await server.command("SCRIPT", "FLUSH");
  assert.deepEqual(await Promise.all([run(), run(), run()]), ["x", "x", "x"]);
  await server.kill();
  await eventually(() => assert.equal(redis.isUp, false), 1000);
  assert.match(redis.problem ?? "", /closed|ECONN/);
  await server.restart();
  await eventually(() => assert.equal(redis.isUp, true), 2000);
  assert.equal(await run(), "x");
});

test("nothing listens: open within its second, then up once something does", async () => {
  const server = await startRedis();
  after(() => server.stop());
  await server.kill();
  const opened = await timed(openRedis(settingsOf(server.url)).then((redis) => after(() => redis.close())));
  assert.ok(opened.error === undefined && opened.ms < 1500, `${opened.ms} ms`);
  const redis = await open(server);
  assert.equal(redis.isUp, false);
  await assert.rejects(
    redis.run((client) => client.get("a")),
    RedisAway,
  );
  await server.restart();
  await eventually(() => assert.equal(redis.isUp, true), 2000);
});

test("a demoted master answers READONLY: the connection goes to the new one, and up means that it writes", async () => {
  const pair = await startRedisWithReplica();
  after(() => pair.stop());
  const redis = await open(pair);
  assert.equal(await redis.run((client) => client.set("a", "1")), "OK");
  for (const how of ["demote", "kill"] as const) {
    await pair.promote(how);
    await eventually(async () => {
      assert.equal(await redis.run((client) => client.set("a", how)), "OK");
    }, 2000);
    assert.equal(await pair.servers[pair.master]?.command("GET", "a"), how);
  }
});

test("a password is sent, from settings or URL, and is in no message", async () => {
  const server = await startRedis({ args: ["--requirepass", "wine-dark-sea"] });
  after(() => server.stop());
  assert.equal((await open(server, { password: "wine-dark-sea" })).isUp, true);
  const inUrl = server.url.replace("//", "//:wine-dark-sea@");
  assert.equal((await open({ url: inUrl })).isUp, true);
  const wrong = await open(server, { password: "rosy-fingered" });
  assert.equal(wrong.isUp, false);
  assert.match(wrong.problem ?? "", /WRONGPASS/);
  const error = await timed(wrong.run((client) => client.get("a")));
  assert.doesNotMatch(String(error.error) + JSON.stringify(error.error), /rosy/);
});

test("settings that cannot be meant are refused by name", () => {
  for (const [settings, message] of [
    [settingsOf(undefined), /stores\.redis: give url/],
    [settingsOf("http://127.0.0.1:1"), /stores\.redis\.url must be like/],
    [settingsOf("redis://127.0.0.1:1/x"), /stores\.redis\.url: the path/],
    [settingsOf(undefined, { nodes: ["127.0.0.1"] }), /stores\.redis\.nodes: "127\.0\.0\.1" must be/],
  ] as const)
    assert.throws(() => connectionOf(settings), message);
  const tls = connectionOf(settingsOf("rediss://u:p%40@[::1]:7/3")).plain(0);
  assert.deepEqual(
    [tls.host, tls.port, tls.db, tls.username, tls.password, tls.tls],
    ["::1", 7, 3, "u", "p@", {}],
  );
  assert.deepEqual(connectionOf(settingsOf(undefined, { nodes: ["rediss://a:1"] })).plain(0).tls, {});
});

test("subscriptions outlive a restart and a freeze, and say when messages may be missing", async () => {
  const server = await startRedis();
  after(() => server.stop());
  const redis = await open(server);
  const heard: string[] = [];
  const states: boolean[] = [];
  await redis.subscribe("news", (message) => heard.push(message));
  await redis.subscribe("more", (message) => heard.push(message));
  await redis.run((client) => client.publish("news", "1"));
  await redis.run((client) => client.publish("more", "2"));
  await eventually(() => assert.deepEqual(heard, ["1", "2"]));
  redis.onState((isUp) => states.push(isUp));
  await server.restart();
  await eventually(async () => {
    await redis.run((client) => client.publish("news", "3"));
    assert.equal(heard.at(-1), "3");
  });
  // Once where the subscription was back before the rest, else twice.
  assert.ok(states.includes(true));
  server.freeze();
  await eventually(() => assert.equal(redis.isUp, false));
  await new Promise((resolve) => setTimeout(resolve, 3000));
  server.thaw();
  await eventually(async () => {
    await redis.run((client) => client.publish("more", "4"));
    assert.equal(heard.at(-1), "4");
  });
});

test("a server that takes connections and says nothing is not up, and is left again and again", async () => {
  let connections = 0;
  const mute = createServer((socket) => {
    connections += 1;
    socket.on("error", () => {});
  });
  const port = await new Promise<number>((resolve) => {
    mute.listen(0, "127.0.0.1", () => resolve((mute.address() as { port: number }).port));
  });
  after(() => mute.close());
  const redis = await openRedis(settingsOf(`redis://127.0.0.1:${port}`), { silentMs: 300, probeMs: 50 });
  assert.equal(redis.isUp, false);
  await eventually(() => assert.ok(connections > 2));
  await redis.close();
});

test("a cluster: keys anywhere, one frozen master is away as a whole, a moved slot and a failover are followed", async () => {
  const cluster = await startRedisCluster(3, { replicas: true });
  after(() => cluster.stop());
  const redis = await openRedis(settingsOf(undefined, { nodes: cluster.addresses.slice(0, 2) }));
  after(() => redis.close());
  assert.equal(redis.isUp, true);
  assert.equal(redis.isCluster, true);
  const write = async () => {
    for (let i = 0; i < 12; i++) assert.equal(await redis.run((client) => client.set(`k${i}`, "1")), "OK");
  };
  await eventually(write);
  const heard: string[] = [];
  await redis.subscribe("news", (message) => heard.push(message));
  await redis.run((client) => client.publish("news", "1"));
  await eventually(() => assert.deepEqual(heard, ["1"]));

  const slot = await cluster.slotOf("k1");
  await cluster.moveSlot(slot, ((await cluster.ownerOf(slot)) + 1) % 3);
  await write();
  assert.equal(redis.isUp, true);

  cluster.nodes[1]?.freeze();
  await eventually(async () => {
    await write().catch(() => {});
    assert.equal(redis.isUp, false);
  });
  await new Promise((resolve) => setTimeout(resolve, 700));
  assert.equal(redis.isUp, false, "two masters of three answer");
  cluster.nodes[1]?.thaw();
  await eventually(() => assert.equal(redis.isUp, true), 2000);
  await write();

  await cluster.failover(0, "orderly");
  await eventually(write, 2000);
  await cluster.failover(1, "kill");
  await eventually(write, 5000);
});
