/**
 * Real Redis for tests: one server, a master with a replica behind one address that moves, or a cluster. Each
 * has a folder of its own, writes nothing to disk that outlives it, listens on loopback alone and dies with the
 * test's process, also when that is killed. Where redis-server is missing it is installed, once.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { Redis } from "ioredis";
import { tryLock } from "../../src/files/lock-file.ts";

const INSTALL = "apt-get install -y --no-install-recommends redis-server";
const START_MS_MAX = 10_000;
/** Below the ports that the kernel hands out, so that port + 10000 (a cluster's bus) is free of those too. */
const PORTS = { min: 12_000, max: 22_000 };

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  /** Of the process that runs now. */
  readonly pid: number;
  /** Sends one command over a connection of its own; "CLUSTER INFO" as `command("CLUSTER", "INFO")`. */
  command(...words: readonly (string | number)[]): Promise<unknown>;
  /** SIGKILL: connections break, nothing is said. */
  kill(): Promise<void>;
  /** SIGTERM, then removes its folder. */
  stop(): Promise<void>;
  /** SIGSTOP: connections stay, nothing is answered. */
  freeze(): void;
  thaw(): void;
  /** Kills what still runs and starts an empty server on the same port. */
  restart(): Promise<void>;
}

export interface RedisOptions {
  readonly port?: number;
  /** Such as ["--maxmemory", "10mb"]. */
  readonly args?: readonly string[];
}

interface Running {
  child: ChildProcess;
  readonly folder: string;
}
const running = new Set<Running>();
let isWatchingExit = false;

export async function startRedis({ port, args = [] }: RedisOptions = {}): Promise<RedisServer> {
  const binary = findBinary("redis-server") ?? (await install());
  const folder = mkdtempSync(join(tmpdir(), "sallyport-redis-"));
  for (let attempt = 0; ; attempt++) {
    const tried = port ?? (await freePort());
    try {
      const child = await launch(binary, tried, folder, args);
      return serverOf(binary, tried, { child, folder }, args);
    } catch (error) {
      // Another test took the port between the look and the start.
      if (port !== undefined || attempt >= 5) throw error;
    }
  }
}

export interface RedisPair {
  /** Where the master is, whichever of the two that is: a plain TCP relay. */
  readonly url: string;
  readonly servers: readonly [RedisServer, RedisServer];
  /** Index of the master. */
  readonly master: number;
  /**
   * Makes the replica the master. `how` "kill" kills the old master; "demote" makes it the replica of the new one
   * and leaves its connections open, so that writes on them are answered -READONLY.
   */
  promote(how: "kill" | "demote"): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedisWithReplica(): Promise<RedisPair> {
  const first = await startRedis();
  const second = await startRedis({ args: ["--replicaof", "127.0.0.1", String(first.port)] });
  const servers = [first, second] as const;
  await until("the replica's link", async () => /master_link_status:up/.test(await infoOf(second)));
  let master = 0;
  const sockets = new Set<Socket>();
  const relay = createServer((client) => {
    const server = connect(servers[master === 0 ? 0 : 1].port, "127.0.0.1");
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  const port = await listen(relay);
  return {
    url: `redis://127.0.0.1:${port}`,
    servers,
    get master() {
      return master;
    },
    async promote(how) {
      const old = servers[master === 0 ? 0 : 1];
      const next = servers[master === 0 ? 1 : 0];
      if (how === "kill") await old.kill();
      await next.command("REPLICAOF", "NO", "ONE");
      master = master === 0 ? 1 : 0;
      if (how === "demote") await old.command("REPLICAOF", "127.0.0.1", next.port);
    },
    async stop() {
      relay.close();
      for (const socket of sockets) socket.destroy();
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
}

export interface RedisCluster {
  /** Masters first, in order of their slots; then one replica of each, where asked for. */
  readonly nodes: readonly RedisServer[];
  /** "host:port" of every node, as gateway.yaml takes it. */
  readonly addresses: readonly string[];
  slotOf(key: string): Promise<number>;
  /** Index of the node that owns a slot now. */
  ownerOf(slot: number): Promise<number>;
  /** Opens the move of a slot, so that its keys are asked for on both sides (ASK, TRYAGAIN); moves no key. */
  beginMove(slot: number, to: number): Promise<void>;
  /** Moves all keys and the slot itself; begins the move where that is still to be done. */
  moveSlot(slot: number, to: number): Promise<void>;
  /** Makes the replica of this master the master, in an orderly way, or after the master was killed. */
  failover(master: number, how: "orderly" | "kill"): Promise<void>;
  stop(): Promise<void>;
}

export async function startRedisCluster(
  masters = 3,
  { replicas = false }: { readonly replicas?: boolean } = {},
): Promise<RedisCluster> {
  const count = replicas ? masters * 2 : masters;
  const args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"];
  const nodes: RedisServer[] = [];
  for (let i = 0; i < count; i++) nodes.push(await startRedis({ args }));
  const ids = await Promise.all(nodes.map(async (node) => String(await node.command("CLUSTER", "MYID"))));
  const firstOf = (i: number) => Math.floor((i * 16_384) / masters);
  for (let i = 0; i < masters; i++) {
    const slots = Array.from({ length: firstOf(i + 1) - firstOf(i) }, (_, at) => firstOf(i) + at);
    await nodes[i]!.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1);
    await nodes[i]!.command("CLUSTER", "ADDSLOTS", ...slots);
  }
  for (const node of nodes.slice(1)) await nodes[0]!.command("CLUSTER", "MEET", "127.0.0.1", node.port);
  await until("the cluster's nodes to know each other", async () => {
    const seen = await Promise.all(nodes.map(async (node) => String(await node.command("CLUSTER", "NODES"))));
    return seen.every((text) => ids.every((id) => text.includes(id)) && !text.includes("handshake"));
  });
  for (let i = masters; i < count; i++) await nodes[i]!.command("CLUSTER", "REPLICATE", ids[i - masters]!);
  await until("the cluster to be ok", async () => {
    const states = await Promise.all(
      nodes.map(async (node) => String(await node.command("CLUSTER", "INFO"))),
    );
    return states.every((text) => text.includes("cluster_state:ok"));
  });
  for (const replica of nodes.slice(masters))
    await until("a replica's link", async () => /master_link_status:up/.test(await infoOf(replica)));

  const ownerOf = async (slot: number): Promise<number> => {
    for (const node of nodes) {
      const rows = (await node.command("CLUSTER", "SLOTS").catch(() => [])) as [
        number,
        number,
        [string, number],
      ][];
      const row = rows.find(([from, to]) => from <= slot && slot <= to);
      if (row !== undefined) return nodes.findIndex(({ port }) => port === row[2][1]);
    }
    throw new Error(`no node knows who owns slot ${slot}`);
  };
  const beginMove = async (slot: number, to: number) => {
    const from = await ownerOf(slot);
    await nodes[to]!.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from]!);
    await nodes[from]!.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to]!);
  };
  return {
    nodes,
    addresses: nodes.map(({ port }) => `127.0.0.1:${port}`),
    slotOf: async (key) => Number(await nodes[0]!.command("CLUSTER", "KEYSLOT", key)),
    ownerOf,
    beginMove,
    async moveSlot(slot, to) {
      const from = await ownerOf(slot);
      await beginMove(slot, to);
      for (;;) {
        const keys = (await nodes[from]!.command("CLUSTER", "GETKEYSINSLOT", slot, 100)) as string[];
        if (keys.length === 0) break;
        await nodes[from]!.command("MIGRATE", "127.0.0.1", nodes[to]!.port, "", 0, 5000, "KEYS", ...keys);
      }
      for (const node of [nodes[to]!, nodes[from]!])
        await node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[to]!);
    },
    async failover(master, how) {
      const replica = nodes[master + masters];
      if (replica === undefined) throw new Error("start the cluster with { replicas: true }");
      if (how === "kill") await nodes[master]!.kill();
      await replica.command("CLUSTER", "FAILOVER", ...(how === "kill" ? ["TAKEOVER"] : []));
      await until("the replica to be master", async () => /role:master/.test(await infoOf(replica)));
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

function serverOf(binary: string, port: number, held: Running, args: readonly string[]): RedisServer {
  running.add(held);
  watchExit();
  const kill = async () => {
    await ended(held.child, "SIGKILL");
  };
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return held.child.pid!;
    },
    async command(...words) {
      const client = new Redis({ host: "127.0.0.1", port, lazyConnect: true, retryStrategy: () => null });
      client.on("error", () => {});
      try {
        await client.connect();
        const [name, ...rest] = words;
        return await client.call(String(name), ...rest);
      } finally {
        client.disconnect();
      }
    },
    kill,
    async stop() {
      held.child.kill("SIGCONT");
      await ended(held.child, "SIGTERM");
      running.delete(held);
      rmSync(held.folder, { recursive: true, force: true });
    },
    freeze: () => void held.child.kill("SIGSTOP"),
    thaw: () => void held.child.kill("SIGCONT"),
    async restart() {
      await kill();
      held.child = await launch(binary, port, held.folder, args);
    },
  };
}

/** Resolves once the server answers; rejects with what it printed where it ends before. */
async function launch(
  binary: string,
  port: number,
  folder: string,
  args: readonly string[],
): Promise<ChildProcess> {
  const words = [
    "--bind",
    "127.0.0.1",
    "--port",
    String(port),
    "--dir",
    folder,
    "--save",
    "",
    "--appendonly",
    "no",
    // A replica is at hand at once, not after 5 s.
    "--repl-diskless-sync-delay",
    "0",
  ];
  const setpriv = findBinary("setpriv");
  // setpriv becomes redis-server; the kernel ends that when this process is gone, however it went.
  const [file, before] =
    setpriv === undefined ? [binary, []] : [setpriv, ["--pdeathsig", "KILL", "--", binary]];
  const child = spawn(file, [...before, ...words, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  for (const stream of [child.stdout!, child.stderr!])
    stream.on("data", (bytes) => {
      printed = (printed + bytes).slice(-4000);
    });
  child.on("error", (error) => {
    printed += error.message;
  });
  const untilMs = performance.now() + START_MS_MAX;
  while (!/Ready to accept connections/.test(printed)) {
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > untilMs) {
      child.kill("SIGKILL");
      throw new Error(`redis-server did not start on port ${port}: ${printed}`);
    }
    await pause(5);
  }
  // The pipes must not keep the test's process alive.
  child.unref();
  for (const stream of [child.stdout, child.stderr]) (stream as Socket | null)?.unref();
  return child;
}

async function ended(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.ref();
  child.kill(signal);
  const force = setTimeout(() => child.kill("SIGKILL"), 2000);
  await gone;
  clearTimeout(force);
}

function watchExit(): void {
  if (isWatchingExit) return;
  isWatchingExit = true;
  const clean = () => {
    for (const { child, folder } of running) {
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    }
    running.clear();
  };
  process.on("exit", clean);
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.once(signal, () => {
      clean();
      process.kill(process.pid, signal);
    });
}

function findBinary(name: string): string | undefined {
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
  ];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Two test files may come here at once: one installs, the other waits for it. */
async function install(): Promise<string> {
  const failed = (why: string) =>
    new Error(`redis-server is not installed and could not be: ${why}. Run: sudo ${INSTALL}`);
  const lockPath = join(tmpdir(), "sallyport-redis-install.lock");
  for (let waits = 0; waits < 600; waits++) {
    const lock = tryLock(lockPath);
    if (!lock.held) {
      await pause(200);
      continue;
    }
    try {
      const present = findBinary("redis-server");
      if (present !== undefined) return present;
      const sudo = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
      const run = (words: readonly string[]) => {
        const [file, ...rest] = [...sudo, ...words];
        const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
        execFileSync(file!, rest, { stdio: "pipe", timeout: 180_000, env });
      };
      try {
        try {
          run(INSTALL.split(" "));
        } catch {
          run(["apt-get", "update"]);
          run(INSTALL.split(" "));
        }
      } catch (error) {
        throw failed(error instanceof Error ? error.message : String(error));
      }
      const installed = findBinary("redis-server");
      if (installed === undefined) throw failed("the package holds no redis-server");
      return installed;
    } finally {
      lock.release();
    }
  }
  throw failed("another process held the installation's lock for two minutes");
}

/** In a random place of the range, so that test files that run at once seldom meet. */
async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const port = PORTS.min + Math.floor(Math.random() * (PORTS.max - PORTS.min));
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port;
  }
  throw new Error(`found no free port between ${PORTS.min} and ${PORTS.max}`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    await listen(server, port);
    return true;
  } catch {
    return false;
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

function listen(server: Server, port = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}

async function infoOf(server: RedisServer): Promise<string> {
  return String(await server.command("INFO", "replication"));
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + START_MS_MAX;
  while (!(await check())) {
    if (performance.now() > untilMs) throw new Error(`waited ${START_MS_MAX} ms for ${what}`);
    await pause(20);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
