/**
 * The processes of the bench: started on loopback ports, awaited until they accept, measured by the
 * operating system's own count of their CPU time, and ended by their process id whatever happens.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 20;
const STOP_TIMEOUT_MS = 5_000;
const OUTPUT_CHARS_MAX = 4_000;
/** A tick of utime and stime in /proc: 1/100 s on every Linux that Node runs on. */
const TICK_NANOS = 10_000_000n;

const running = new Set<ChildProcess>();
/** SIGTERM rather than SIGKILL: nginx's and the gateway's own children are ended by their parents. */
process.on("exit", () => {
  for (const child of running) child.kill("SIGTERM");
});

export interface Started {
  readonly pid: number;
  /** The last of what it printed, for the report of a failure. */
  output(): string;
  stop(): Promise<void>;
}

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Called again and again until it answers true or READY_TIMEOUT_MS have passed. */
  ready(): Promise<boolean>;
}

/** Starts a process and waits until it is ready; throws with its output when it ends or is too late. */
export async function start(command: Command): Promise<Started> {
  const child = spawn(command.command, command.args, {
    cwd: command.cwd,
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], NODE_ENV: "production", ...command.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  let output = "";
  const keep = (bytes: Buffer) => {
    output = (output + bytes.toString()).slice(-OUTPUT_CHARS_MAX);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  child.on("error", (error) => keep(Buffer.from(`${error.message}\n`)));
  const ended = once(child, "close").finally(() => running.delete(child));
  ended.catch(() => {});
  const started: Started = {
    pid: child.pid ?? 0,
    output: () => output,
    stop: async () => {
      if (!running.has(child)) return;
      child.kill("SIGTERM");
      const killer = setTimeout(() => killTree(child.pid), STOP_TIMEOUT_MS);
      await ended.catch(() => {});
      clearTimeout(killer);
    },
  };
  const line = [command.command, ...command.args].join(" ");
  for (const deadline = Date.now() + READY_TIMEOUT_MS; !(await command.ready()); await sleep(READY_POLL_MS)) {
    if (running.has(child) && Date.now() < deadline) continue;
    const why = running.has(child) ? `was not ready within ${READY_TIMEOUT_MS} ms` : "ended at its start";
    await started.stop();
    throw new Error(`${line} ${why}; it said:\n${output}`);
  }
  if (!running.has(child)) throw new Error(`${line} ended at its start; it said:\n${output}`);
  return started;
}

function killTree(pid: number | undefined): void {
  for (const member of pid === undefined ? [] : processTree(pid)) {
    try {
      process.kill(member, "SIGKILL");
    } catch {
      // ended meanwhile
    }
  }
}

/** Runs a command to its end; throws with its output when it fails. */
export async function run(command: string, args: readonly string[], cwd?: string): Promise<void> {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let output = "";
  const keep = (bytes: Buffer) => {
    output = (output + bytes.toString()).slice(-OUTPUT_CHARS_MAX);
  };
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  try {
    const [code] = await once(child, "close");
    if (code !== 0) throw new Error(`${[command, ...args].join(" ")} ended with ${code}: ${output.trim()}`);
  } finally {
    running.delete(child);
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port on loopback was free");
  return address.port;
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const settle = (accepted: boolean) => {
      socket.destroy();
      resolve(accepted);
    };
    socket.once("connect", () => settle(true)).once("error", () => settle(false));
  });
}

/** CPU time, user and system, of a process with its threads and all its descendants, in nanoseconds. */
export function cpuNanos(pid: number): bigint {
  return processTree(pid).reduce((sum, member) => sum + (schedulerNanos(member) ?? tickNanos(member)), 0n);
}

/** A process and all its descendants. */
function processTree(pid: number): readonly number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const parent = Number(statFields(Number(entry))?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const tree = [pid];
  // The list grows while it is walked, until no one has children left.
  for (const member of tree) tree.push(...(children.get(member) ?? []));
  return tree;
}

/** Exact to the scheduler's nanosecond; undefined where the kernel keeps no such count. */
export function schedulerNanos(pid: number): bigint | undefined {
  try {
    let sum = 0n;
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const [onCpu = ""] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ");
      sum += BigInt(onCpu);
    }
    return sum > 0n ? sum : undefined;
  } catch {
    return undefined;
  }
}

/** The coarse count that every Linux keeps: 10 ms a tick. */
export function tickNanos(pid: number): bigint {
  const fields = statFields(pid);
  return fields === undefined ? 0n : (BigInt(fields[11] ?? 0) + BigInt(fields[12] ?? 0)) * TICK_NANOS;
}

/** /proc/PID/stat after the name in brackets, which may hold blanks: [0] state, [1] parent, [11] utime, [12] stime. */
function statFields(pid: number): readonly string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined; // ended meanwhile
  }
}
