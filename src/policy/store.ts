/**
 * Holds the policy that is served and replaces it when the folder changes. A change is read whole, compiled
 * whole and swapped in as one reference; anything less leaves the present one where it is. Requests pin the
 * snapshot they began with, and layers that no snapshot uses any more are disposed when the last of those
 * requests has ended.
 *
 *   event --50 ms quiet--+
 *   poll ----------------+--> one reload at a time --> unchanged | applied (swap, keep as last good) | refused
 *   reload() ------------+        (bursts collapse: at most one more waits)
 */
import { join, resolve } from "node:path";
import type { Layer, LayerKind } from "../layer/index.ts";
import { type Bundle, type CompileResult, compilePolicy, disposeQuietly, type SeatPorts } from "./compile.ts";
import { lastGoodPath, readLastGood, writeLastGood } from "./last-good.ts";
import { FolderWatch, openReading, POLICY_FILE, type Reading } from "./policy-folder.ts";
import { type FileProblem, formatProblems, wholeFileProblem } from "./problems.ts";
import type { Snapshot } from "./snapshot.ts";

/** The policy that ships with the package, for a folder that has none. */
const EMBEDDED_DIR = resolve(import.meta.dirname, "../../config");

/** Events are answered once none came for this long, ... */
const QUIET_MS = 50;
/** ... or when they have not stopped for this long. */
const QUIET_WAIT_MAX_MS = 1_000;
/** Tries to read a folder that is swapped while it is read. */
const TORN_TRIES_MAX = 5;

type ServedFrom = "file" | "last-good" | "embedded";

export type ReloadResult =
  | {
      readonly result: "applied";
      readonly revision: string;
      readonly previous: string | undefined;
      readonly servedFrom: ServedFrom;
      /** Not empty when an older policy is served because the present one is bad. */
      readonly problems: readonly FileProblem[];
      /** Set when the policy could not be kept for the next start. */
      readonly notKept?: string;
    }
  | { readonly result: "unchanged"; readonly revision: string }
  | { readonly result: "refused"; readonly revision: string; readonly problems: readonly FileProblem[] };

interface PolicyStatus {
  /** What is served. */
  readonly revision: string;
  readonly hash: string;
  /** RFC 3339. */
  readonly loadedAt: string;
  readonly servedFrom: ServedFrom;
  /** Of the last reading that found a change. */
  readonly lastResult: "applied" | "refused";
  /** What is wrong with the folder as it is now; empty when it is what is served. */
  readonly problems: readonly FileProblem[];
  readonly seats: readonly { readonly id: string; readonly use: string; readonly mode: string }[];
  /** Snapshots that are served no more but still pinned by requests. */
  readonly draining: number;
}

export interface PolicyStore {
  /** The snapshot for a request that begins now. */
  current(): Snapshot;
  /** The same, and keeps its layers until `unpin`. */
  pin(): Snapshot;
  unpin(snapshot: Snapshot): void;
  /** Looks at the folder now. */
  reload(): Promise<ReloadResult>;
  status(): PolicyStatus;
  close(): Promise<void>;
}

interface PolicyOptions {
  readonly configDir: string;
  readonly dataDir: string;
  readonly kinds: readonly LayerKind[];
  readonly portsFor: (seatId: string) => SeatPorts;
  readonly pollMs: number;
  /** Called for every change, served or refused, the one at start included. */
  readonly onReload: (result: ReloadResult) => void;
  /** Milliseconds since the epoch. */
  readonly clock?: () => number;
}

/** No policy could be served at start; the message lists every problem. */
export class PolicyUnusable extends Error {
  readonly problems: readonly FileProblem[];
  constructor(problems: readonly FileProblem[]) {
    super(`the policy cannot be served, and there is no last good one\n${formatProblems(problems)}`);
    this.name = "PolicyUnusable";
    this.problems = problems;
  }
}

/** Throws PolicyUnusable when neither the folder's policy nor a last good one can be served. */
export async function openPolicy(options: PolicyOptions): Promise<PolicyStore> {
  const store = new Store(options);
  await store.start();
  return store;
}

/** A snapshot with what the store knows of it. */
interface Served {
  readonly snapshot: Snapshot;
  readonly hash: string;
  readonly servedFrom: ServedFrom;
  readonly loadedAt: string;
  pins: number;
}

type Compiled = Extract<CompileResult, { ok: true }>;

class Store implements PolicyStore {
  readonly #options: PolicyOptions;
  /** Absolute: what the last good bundle remembers. */
  readonly #configDir: string;
  readonly #watch: FolderWatch;
  #served!: Served;
  readonly #draining = new Map<Snapshot, Served>();
  /** How many snapshots use a layer: it is carried over while its seat does not change. */
  readonly #layerUses = new Map<Layer, number>();
  #reading: Reading | undefined;
  #signature = "";
  #problems: readonly FileProblem[] = [];
  #lastResult: "applied" | "refused" = "applied";
  #running: Promise<ReloadResult> | undefined;
  #next: Promise<ReloadResult> | undefined;
  #quietTimer: NodeJS.Timeout | undefined;
  #firstEventAt = 0;
  #pollTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: PolicyOptions) {
    this.#options = options;
    this.#configDir = resolve(options.configDir);
    this.#watch = new FolderWatch(() => this.#onEvent());
  }

  current(): Snapshot {
    return this.#served.snapshot;
  }

  pin(): Snapshot {
    this.#served.pins += 1;
    return this.#served.snapshot;
  }

  unpin(snapshot: Snapshot): void {
    const served = this.#served.snapshot === snapshot ? this.#served : this.#draining.get(snapshot);
    if (served === undefined || served.pins === 0)
      throw new Error("a snapshot was unpinned more often than pinned");
    served.pins -= 1;
    if (served.pins === 0 && served !== this.#served) this.#retire(served);
  }

  reload(): Promise<ReloadResult> {
    if (this.#running === undefined) {
      this.#running = this.#reloadOnce().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    // What is read now may be older than this call, so one more reading follows, shared by all who wait.
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.reload();
      });
    return this.#next;
  }

  status(): PolicyStatus {
    const { snapshot, hash, loadedAt, servedFrom } = this.#served;
    return {
      revision: snapshot.revision,
      hash,
      loadedAt,
      servedFrom,
      lastResult: this.#lastResult,
      problems: this.#problems,
      seats: snapshot.seats.map(({ id, use, mode }) => ({ id, use, mode })),
      draining: this.#draining.size,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#quietTimer);
    clearTimeout(this.#pollTimer);
    await this.#next?.catch(() => {});
    await this.#running?.catch(() => {});
    this.#watch.close();
    const layers = [...this.#layerUses.keys()];
    this.#layerUses.clear();
    this.#draining.clear();
    await Promise.all(layers.map(disposeQuietly));
  }

  async start(): Promise<void> {
    const compiled = await this.#compileFolder();
    if (compiled.ok) await this.#adopt(compiled, "file", []);
    else await this.#startWithout(compiled.problems, compiled.isMissing);
    await this.#watch.follow(this.#configDir, this.#reading?.paths ?? []);
    this.#schedulePoll();
  }

  /** The folder's policy is bad or missing: the last good one, or for a folder that never had one the shipped one. */
  async #startWithout(problems: readonly FileProblem[], isMissing: boolean): Promise<void> {
    const all = [...problems];
    try {
      const last = await readLastGood(this.#options.dataDir);
      if (last !== undefined && (!isMissing || last.configDir === this.#configDir)) {
        const compiled = await this.#compileBundle(last.bundle);
        if (compiled.ok) {
          await this.#adopt(compiled, "last-good", problems);
          return;
        }
        all.push(...compiled.problems);
      }
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      all.push(
        wholeFileProblem(lastGoodPath(this.#options.dataDir), `the last good policy cannot be used: ${why}`),
      );
    }
    if (!isMissing) throw new PolicyUnusable(all);
    const embedded = await openReading(EMBEDDED_DIR);
    const compiled = await this.#compileReading(embedded);
    if (!compiled.ok) throw new PolicyUnusable(compiled.problems);
    await this.#adopt(compiled, "embedded", []);
  }

  async #reloadOnce(): Promise<ReloadResult> {
    if (this.#reading !== undefined && (await this.#reading.isCurrent())) {
      return { result: "unchanged", revision: this.#served.snapshot.revision };
    }
    const compiled = await this.#compileFolder();
    await this.#watch.follow(this.#configDir, this.#reading?.paths ?? []);
    if (this.#isClosed) return { result: "unchanged", revision: this.#served.snapshot.revision };
    if (compiled.ok) return this.#adopt(compiled, "file", []);
    const revision = this.#served.snapshot.revision;
    if (compiled.isMissing && this.#served.servedFrom === "embedded")
      return { result: "unchanged", revision };
    this.#problems = compiled.problems;
    this.#lastResult = "refused";
    const result: ReloadResult = { result: "refused", revision, problems: compiled.problems };
    this.#options.onReload(result);
    return result;
  }

  async #compileFolder(): Promise<
    Compiled | { ok: false; problems: readonly FileProblem[]; isMissing: boolean }
  > {
    for (let tries = 1; ; tries++) {
      const reading = await openReading(this.#options.configDir);
      const compiled = await this.#compileReading(reading);
      if (tries < TORN_TRIES_MAX && (await reading.isTorn())) {
        if (compiled.ok) this.#discard(compiled.snapshot);
        continue;
      }
      this.#reading = reading;
      this.#signature = "";
      return compiled;
    }
  }

  async #compileReading(
    reading: Reading,
  ): Promise<Compiled | { ok: false; problems: readonly FileProblem[]; isMissing: boolean }> {
    let content: Uint8Array;
    try {
      content = await reading.file(POLICY_FILE);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const problem = wholeFileProblem(
        join(reading.folder, POLICY_FILE),
        `the policy cannot be read: ${why}`,
      );
      return { ok: false, problems: [problem], isMissing: why === "there is no such file" };
    }
    const compiled = await this.#compile(content, reading.file, join(reading.folder, POLICY_FILE));
    return compiled.ok ? compiled : { ...compiled, isMissing: false };
  }

  #compileBundle({ policy, artifacts }: Bundle): Promise<CompileResult> {
    const artifact = async (path: string): Promise<Uint8Array> => {
      const bytes = artifacts.get(path);
      if (bytes === undefined) throw new Error("it is not in the last good bundle");
      return bytes;
    };
    return this.#compile(policy, artifact, join(lastGoodPath(this.#options.dataDir), POLICY_FILE));
  }

  #compile(
    content: Uint8Array,
    artifact: (path: string) => Promise<Uint8Array>,
    path: string,
  ): Promise<CompileResult> {
    return compilePolicy({
      file: { path, content },
      artifact,
      kinds: this.#options.kinds,
      portsFor: this.#options.portsFor,
      reuse: (id, fingerprint) =>
        this.#served?.snapshot.seats.find((seat) => seat.id === id && seat.fingerprint === fingerprint)
          ?.layer,
    });
  }

  /** The swap: one reference, after which nothing can fail. */
  async #adopt(
    { snapshot, bundle }: Compiled,
    servedFrom: ServedFrom,
    problems: readonly FileProblem[],
  ): Promise<ReloadResult> {
    const before: Served | undefined = this.#served;
    for (const { layer } of snapshot.seats) this.#layerUses.set(layer, (this.#layerUses.get(layer) ?? 0) + 1);
    const loadedAt = new Date((this.#options.clock ?? Date.now)()).toISOString();
    this.#served = { snapshot, hash: bundle.hash, servedFrom, loadedAt, pins: 0 };
    this.#problems = problems;
    this.#lastResult = problems.length > 0 ? "refused" : "applied";
    if (before !== undefined) {
      if (before.pins === 0) this.#retire(before);
      else this.#draining.set(before.snapshot, before);
    }
    const notKept = servedFrom === "file" ? await this.#keep(bundle, loadedAt) : undefined;
    const result: ReloadResult = {
      result: "applied",
      revision: snapshot.revision,
      previous: before?.snapshot.revision,
      servedFrom,
      problems,
      ...(notKept !== undefined && { notKept }),
    };
    this.#options.onReload(result);
    return result;
  }

  async #keep(bundle: Bundle, savedAt: string): Promise<string | undefined> {
    try {
      await writeLastGood(this.#options.dataDir, { savedAt, configDir: this.#configDir, bundle });
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  #retire(served: Served): void {
    this.#draining.delete(served.snapshot);
    for (const { layer } of served.snapshot.seats) {
      const uses = (this.#layerUses.get(layer) ?? 0) - 1;
      if (uses > 0) {
        this.#layerUses.set(layer, uses);
      } else if (this.#layerUses.delete(layer)) {
        void disposeQuietly(layer);
      }
    }
  }

  /** A snapshot that was compiled and is not going to be served. */
  #discard(snapshot: Snapshot): void {
    for (const { layer } of snapshot.seats) if (!this.#layerUses.has(layer)) void disposeQuietly(layer);
  }

  #onEvent(): void {
    if (this.#isClosed) return;
    const now = performance.now();
    if (this.#quietTimer === undefined) this.#firstEventAt = now;
    else clearTimeout(this.#quietTimer);
    const left = Math.max(0, this.#firstEventAt + QUIET_WAIT_MAX_MS - now);
    this.#quietTimer = setTimeout(
      () => {
        this.#quietTimer = undefined;
        this.reload().catch(() => {}); // only `onReload` can throw, and its owner has no say in what is served
      },
      Math.min(QUIET_MS, left),
    ).unref();
  }

  #schedulePoll(): void {
    if (this.#isClosed) return;
    this.#pollTimer = setTimeout(async () => {
      await this.#poll().catch(() => {});
      this.#schedulePoll();
    }, this.#options.pollMs).unref();
  }

  /** Reads only when the file system says that something changed, or when it has not said anything twice. */
  async #poll(): Promise<void> {
    const signature = (await this.#reading?.signature()) ?? "";
    if (signature === this.#signature && signature !== "") return;
    await this.reload();
    this.#signature = signature;
    await this.#watch.follow(this.#configDir, this.#reading?.paths ?? []);
  }
}
