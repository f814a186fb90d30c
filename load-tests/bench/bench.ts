/**
 * One bench from start to end: every process up, every variant proved to pass the answer on unchanged and
 * warmed, then rounds in which each workload visits all variants in turn, so that whatever the machine does
 * meanwhile falls on all of them alike.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { drive, type Load, verify } from "./load.ts";
import { accepts, cpuNanos, freePort, type Started, start } from "./processes.ts";
import { type Figures, makeReport, type Report } from "./report.ts";
import { rotated } from "./statistics.ts";
import type { Run, Suite, Workload } from "./suites.ts";
import { NotInstalled, type Running, VARIANTS } from "./variants.ts";

/** Long enough for what a gateway puts off until after the answer (its log, its counters) to be counted. */
const SETTLE_MS = 50;
/**
 * Runs before the first round, of 36,000 requests where 16 connections ask. A gateway with layers is compiled to the
 * end after some 30,000: after 9,000 the first gate of four limits still cost twice what it costs in the long run.
 */
const WARM_UP_RUNS = 8;

export interface BenchOptions {
  readonly suites: readonly Suite[];
  /** Names of VARIANTS. */
  readonly variants: readonly string[];
  readonly rounds: number;
  /** Multiplies every workload's number of requests. */
  readonly scale: number;
  note(line: string): void;
  /** Ends the bench: its processes are stopped, and with them whatever waits for an answer. */
  readonly signal: AbortSignal;
}

export async function runBench(options: BenchOptions): Promise<Report> {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-bench-"));
  const processes: Started[] = [];
  const stopAll = () => Promise.all(processes.map((started) => started.stop()));
  options.signal.addEventListener("abort", stopAll);
  try {
    const upstreamPort = await freePort();
    processes.push(await startUpstream(upstreamPort));
    const skipped: { name: string; note: string }[] = [];
    const running = new Map<string, Running>();
    for (const name of options.variants) {
      options.signal.throwIfAborted();
      options.note(`starting ${name}`);
      try {
        const variant = await VARIANTS[name]!({ upstreamPort, dir: join(dir, name) });
        if (variant.process !== undefined) processes.push(variant.process);
        if (variant.store !== undefined) processes.push(variant.store.process);
        running.set(name, variant);
      } catch (error) {
        if (!(error instanceof NotInstalled)) throw error;
        options.note(`left out: ${error.message}`);
        skipped.push({ name, note: error.message });
      }
    }
    const rounds = await measureAll(options, running);
    const basis = { machine: machine(), node: process.version, rounds: options.rounds, skipped };
    return makeReport(
      basis,
      rounds,
      options.suites.flatMap((suite) => suite.bars),
    );
  } finally {
    options.signal.removeEventListener("abort", stopAll);
    await stopAll();
    rmSync(dir, { recursive: true, force: true });
  }
}

function startUpstream(port: number): Promise<Started> {
  const script = fileURLToPath(new URL("./upstream.ts", import.meta.url));
  return start({ command: process.execPath, args: [script, String(port)], ready: () => accepts(port) });
}

/** Figures of each variant, one entry per round. */
async function measureAll(
  options: BenchOptions,
  running: ReadonlyMap<string, Running>,
): Promise<ReadonlyMap<string, readonly Figures[]>> {
  const jobs = jobsOf(options.suites, running);
  for (const { workload, names } of jobs) {
    for (const name of names) {
      options.note(`warming ${name}: ${workload.name}`);
      const variant = running.get(name)!;
      await attempt(options, name, variant, async () => {
        await verify(variant, workload.load.events);
        await drive(variant, scaled(workload.load, options.scale * WARM_UP_RUNS));
      });
    }
  }
  const figures = new Map([...running.keys()].map((name) => [name, [] as Figures[]]));
  for (let round = 0; round < options.rounds; round++) {
    const gathered = new Map<string, Figures>();
    for (const { workload, names } of jobs) {
      for (const name of rotated(names, round)) {
        const variant = running.get(name)!;
        const found = await attempt(options, name, variant, () => measure(variant, workload, options.scale));
        gathered.set(name, { ...gathered.get(name), ...found });
      }
      options.note(`round ${round + 1} of ${options.rounds}: ${workload.name} done`);
    }
    for (const [name, variant] of running) {
      const { store } = variant;
      if (store === undefined) continue;
      gathered.set(name, { ...gathered.get(name), ...(await attempt(options, name, variant, store.probe)) });
    }
    for (const [name, found] of gathered) figures.get(name)!.push(found);
  }
  return figures;
}

interface Job {
  readonly workload: Workload;
  readonly names: readonly string[];
}

/** Each workload once, with the variants of all suites that have it: a figure is measured in one place. */
function jobsOf(suites: readonly Suite[], running: ReadonlyMap<string, Running>): readonly Job[] {
  const wanted = new Map<Workload, Set<string>>();
  for (const { workloads, variants } of suites) {
    for (const workload of workloads) {
      const names = wanted.get(workload) ?? new Set();
      for (const name of variants) if (running.has(name)) names.add(name);
      wanted.set(workload, names);
    }
  }
  return [...wanted].map(([workload, names]) => ({ workload, names: [...names] }));
}

async function measure(variant: Running, workload: Workload, scale: number): Promise<Figures> {
  const load = scaled(workload.load, scale);
  const before = cpuOf(variant);
  const result = await drive(variant, load);
  await sleep(SETTLE_MS);
  const after = cpuOf(variant);
  const run: Run = {
    ...result,
    load,
    cpuMicros: after.own - before.own,
    storeCpuMicros: variant.store === undefined ? undefined : after.store - before.store,
  };
  return workload.figures(run);
}

/** CPU time so far, in microseconds. */
function cpuOf({ process, store }: Running): { readonly own: number; readonly store: number } {
  const micros = (pid: number | undefined) => (pid === undefined ? 0 : Number(cpuNanos(pid)) / 1000);
  return { own: micros(process?.pid), store: micros(store?.process.pid) };
}

/** Says whose fault a failure was, and what that one printed. */
async function attempt<T>(
  options: BenchOptions,
  name: string,
  variant: Running,
  work: () => Promise<T>,
): Promise<T> {
  options.signal.throwIfAborted();
  try {
    return await work();
  } catch (error) {
    options.signal.throwIfAborted();
    const said = variant.process?.output().trim() ?? "";
    throw new Error(
      `${name}: ${error instanceof Error ? error.message : error}${said && `\n${name} said:\n${said}`}`,
    );
  }
}

function scaled(load: Load, scale: number): Load {
  return { ...load, requests: Math.max(load.connections, Math.round(load.requests * scale)) };
}

function machine(): Report["machine"] {
  const cores = cpus();
  return {
    cpu: cores[0]?.model.trim() ?? "unknown",
    cores: cores.length,
    memoryGiB: Number((totalmem() / 2 ** 30).toFixed(1)),
    kernel: release(),
    loadAverage1Min: Number(loadavg()[0]!.toFixed(2)),
  };
}
