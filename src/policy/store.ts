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
import type { Change, ChangeResult, PolicySource, Validation } from "./change.ts";
import { type Bundle, type CompileResult, compilePolicy, disposeQuietly, type SeatPorts } from "./compile.ts";
import { type Origin, openHistory, type PolicyHistory, sha256 } from "./history.ts";
import { lastGoodPath, readLastGood, writeLastGood } from "./last-good.ts";
import { type Override, removeOverride, writeOverride } from "./override.ts";
import { writePolicyFile } from "./place.ts";
import { FolderWatch, openReading, POLICY_FILE, type Reading } from "./policy-folder.ts";
import { type FileProblem, formatProblems, wholeFileProblem } from "./problems.ts";
import type { Snapshot } from "./snapshot.ts";
import { lookFor, type Wanted } from "./wanted.ts";

/** The policy that ships with the package, for a folder that has none. */
const EMBEDDED_DIR = resolve(import.meta.dirname, "../../config");

/** Events are answered once none came for this long, ... */
const QUIET_MS = 50;
/** ... or when they have not stopped for this long. */
const QUIET_WAIT_MAX_MS = 1_000;
/** Tries to read a folder that is swapped while it is read. */
const TORN_TRIES_MAX = 5;

export type ServedFrom = "file" | "override" | "last-good" | "embedded";

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
  /** What stands in for policy.yaml until that changes. Absent: nothing. */
  readonly override?: OverrideStatus;
  /** Why the history is not whole, or the last change could not be kept in it. */
  readonly historyProblem?: string;
}

interface OverrideStatus extends Origin {
  readonly at: string;
  /** Artifacts that are not the folder's. */
  readonly pinned: readonly string[];
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
  readonly history: Pick<PolicyHistory, "entries" | "find" | "bundle">;
  /** The text that is wanted: the override's or policy.yaml's, good or bad. */
  source(): Promise<PolicySource>;
  /** Compiles a text as if it were the one that is wanted, and serves nothing. */
  validate(text: string): Promise<Validation>;
  /** Checks, places and serves a new text, as one step: of two that expect the same text the second is told so. */
  change(change: Change): Promise<ChangeResult>;
  /** Ends the override and serves the folder. */
  withdraw(origin: Origin): Promise<ReloadResult | undefined>;
  close(): Promise<void>;
}

interface PolicyOptions {
  readonly configDir: string;
  readonly dataDir: string;
  readonly kinds: readonly LayerKind[];
  readonly portsFor: (seatId: string) => SeatPorts;
  readonly pollMs: number;
  /** Called for every change, served or refused, the one at start included. */
  readonly onReload: (result: ReloadResult, origin?: Origin) => void;
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
  /** Its text. */
  readonly text: Uint8Array;
  readonly servedFrom: ServedFrom;
  readonly loadedAt: string;
  pins: number;
}

type Compiled = Extract<CompileResult, { ok: true }>;
type Unusable = {
  readonly ok: false;
  readonly problems: readonly FileProblem[];
  readonly isMissing: boolean;
};

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
  #history!: PolicyHistory;
  #historyProblem: string | undefined;
  #override: Override | undefined;
  /** Readings, changes and what else must not overlap, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

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
      this.#running = this.#inTurn(() => this.#reloadOnce()).finally(() => {
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
    const historyProblem = this.#historyProblem ?? this.#history.problem;
    return {
      revision: snapshot.revision,
      hash,
      loadedAt,
      servedFrom,
      lastResult: this.#lastResult,
      problems: this.#problems,
      seats: snapshot.seats.map(({ id, use, mode }) => ({ id, use, mode })),
      draining: this.#draining.size,
      ...(this.#override !== undefined && { override: overrideStatus(this.#override) }),
      ...(historyProblem !== undefined && { historyProblem }),
    };
  }

  get history(): PolicyHistory {
    return this.#history;
  }

  async source(): Promise<PolicySource> {
    return this.#sourceOf(await this.#look());
  }

  async validate(text: string): Promise<Validation> {
    return this.#inTurn(async () => {
      const wanted = await this.#look();
      const compiled = await this.#compile(Buffer.from(text), wanted.artifact, this.#policyPath);
      if (!compiled.ok) return { ok: false, problems: compiled.problems };
      const { seats, routes, revision } = compiled.snapshot;
      this.#discard(compiled.snapshot);
      return { ok: true, revision, seats: seats.length, seatsOff: compiled.seatsOff, routes: routes.size };
    });
  }

  change(change: Change): Promise<ChangeResult> {
    return this.#inTurn(() => this.#changeOnce(change));
  }

  async withdraw(origin: Origin): Promise<ReloadResult | undefined> {
    return this.#inTurn(async () => {
      if (this.#override === undefined) return undefined;
      const wanted = await this.#look();
      // Checked first: an override over a broken file stays in force.
      const folder = { ...wanted, override: undefined, artifact: wanted.reading.file };
      const text = await wanted.reading.file(POLICY_FILE).catch(() => undefined);
      const compiled = await this.#compileWanted({ ...folder, text, path: this.#policyPath });
      if (!compiled.ok) {
        const problems = compiled.problems;
        return { result: "refused", revision: this.#served.snapshot.revision, problems };
      }
      if (text !== undefined) await this.#history.announce(text, origin);
      await removeOverride(this.#options.dataDir);
      this.#override = undefined;
      this.#settle(wanted.reading);
      return this.#adopt(compiled, "file", []);
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#quietTimer);
    clearTimeout(this.#pollTimer);
    await this.#next?.catch(() => {});
    await this.#running?.catch(() => {});
    await this.#turn.catch(() => {});
    this.#watch.close();
    const layers = [...this.#layerUses.keys()];
    this.#layerUses.clear();
    this.#draining.clear();
    await Promise.all(layers.map(disposeQuietly));
  }

  async start(): Promise<void> {
    this.#history = await openHistory({
      dataDir: this.#options.dataDir,
      needed: () => (this.#override === undefined ? [] : blobsOf(this.#override)),
    });
    const compiled = await this.#compileFolder();
    await this.#history.sweep();
    if (compiled.ok) await this.#adopt(compiled, this.#folderOrOverride, []);
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
    const text = await embedded.file(POLICY_FILE);
    const compiled = await this.#compile(text, embedded.file, join(EMBEDDED_DIR, POLICY_FILE));
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
    if (compiled.ok) {
      // The file says what the override said: nothing new is served, only from elsewhere.
      return this.#adopt(compiled, this.#folderOrOverride, []);
    }
    const revision = this.#served.snapshot.revision;
    if (compiled.isMissing && this.#served.servedFrom === "embedded")
      return { result: "unchanged", revision };
    this.#problems = compiled.problems;
    this.#lastResult = "refused";
    const result: ReloadResult = { result: "refused", revision, problems: compiled.problems };
    this.#options.onReload(result);
    return result;
  }

  async #changeOnce({ make, expects, origin }: Change): Promise<ChangeResult> {
    const wanted = await this.#look();
    const source = this.#sourceOf(wanted);
    if (expects !== undefined && !expects(source.tag)) return { result: "changed", tag: source.tag };
    const { text: made, artifacts } = make(source.text);
    const text = Buffer.from(made);
    // Those of an override stay until it ends: a patch after a rollback must not bring the bad pack back.
    const artifact = async (path: string) => artifacts?.get(path) ?? wanted.artifact(path);
    const revision = this.#served.snapshot.revision;
    const compiled = await this.#compile(text, artifact, this.#policyPath);
    if (!compiled.ok) return { result: "refused", revision, problems: compiled.problems };
    if (compiled.bundle.hash === this.#served.hash && this.#isWanted(wanted, text)) {
      this.#discard(compiled.snapshot);
      return { result: "unchanged", revision, tag: source.tag };
    }
    let servedFrom: "file" | "override";
    try {
      await this.#history.announce(text, origin);
      servedFrom = await this.#place(compiled.bundle, wanted, origin);
    } catch (error) {
      this.#discard(compiled.snapshot);
      throw error;
    }
    this.#settle(wanted.reading);
    const { previous, notKept } = await this.#adopt(compiled, servedFrom, []);
    return {
      result: "applied",
      revision: compiled.snapshot.revision,
      previous,
      servedFrom,
      tag: tagOf(compiled.snapshot.revision),
      ...(notKept !== undefined && { notKept }),
    };
  }

  /** Whether this text is what is wanted already, so that placing it again would say nothing. */
  #isWanted({ text }: Wanted, candidate: Uint8Array): boolean {
    return text !== undefined && Buffer.compare(text, candidate) === 0;
  }

  /** The file where it can be, else an override; the file first, so that a kill in between ends the override by its rule. */
  async #place(bundle: Bundle, wanted: Wanted, origin: Origin): Promise<"file" | "override"> {
    const pins: Record<string, string> = {};
    const isFolders = async (path: string, bytes: Uint8Array) =>
      wanted.reading.file(path).then(
        (own) => Buffer.compare(own, bytes) === 0,
        () => false,
      );
    for (const [path, bytes] of bundle.artifacts) {
      if (await isFolders(path, bytes)) continue;
      pins[path] = (await this.#history.keep(bytes)).sha256;
    }
    const needsNoPins = Object.keys(pins).length === 0;
    if (needsNoPins && (await writePolicyFile(this.#configDir, bundle.policy))) {
      wanted.reading.wrote(POLICY_FILE, bundle.policy);
      await removeOverride(this.#options.dataDir);
      this.#override = undefined;
      return "file";
    }
    const policy = (await this.#history.keep(bundle.policy)).sha256;
    const override = { at: this.#now(), ...origin, base: wanted.base, policy, pins };
    await writeOverride(this.#options.dataDir, override);
    this.#override = { version: 1, ...override };
    return "override";
  }

  async #look(): Promise<Wanted> {
    for (let tries = 1; ; tries++) {
      const reading = await openReading(this.#options.configDir);
      const wanted = await lookFor(reading, this.#options.dataDir, this.#history);
      if (tries >= TORN_TRIES_MAX || !(await reading.isTorn())) return wanted;
    }
  }

  #sourceOf(wanted: Wanted): PolicySource {
    // Without a file, what is served is what there is to start from.
    const text = wanted.text ?? this.#served.text;
    const isServed = Buffer.compare(text, this.#served.text) === 0;
    return {
      text: new TextDecoder().decode(text),
      tag: isServed ? tagOf(this.#served.snapshot.revision) : `"text-${sha256(text).slice(0, 12)}"`,
      from: wanted.override !== undefined ? "override" : wanted.text !== undefined ? "file" : "served",
      isServed,
    };
  }

  get #policyPath(): string {
    return join(this.#options.configDir, POLICY_FILE);
  }

  get #folderOrOverride(): "file" | "override" {
    return this.#override === undefined ? "file" : "override";
  }

  #now(): string {
    return new Date((this.#options.clock ?? Date.now)()).toISOString();
  }

  #settle(reading: Reading): void {
    this.#reading = reading;
    this.#signature = "";
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async #compileFolder(): Promise<Compiled | Unusable> {
    for (let tries = 1; ; tries++) {
      const wanted = await this.#look();
      const compiled = await this.#compileWanted(wanted);
      if (tries < TORN_TRIES_MAX && (await wanted.reading.isTorn())) {
        if (compiled.ok) this.#discard(compiled.snapshot);
        continue;
      }
      this.#settle(wanted.reading);
      if (wanted.ended !== undefined) await removeOverride(this.#options.dataDir);
      this.#override = wanted.override;
      return compiled;
    }
  }

  async #compileWanted({ text, artifact, path, problem, isMissing }: Wanted): Promise<Compiled | Unusable> {
    if (text === undefined) {
      const words = `the policy cannot be read: ${problem}`;
      return { ok: false, problems: [wholeFileProblem(path, words)], isMissing };
    }
    const compiled = await this.#compile(text, artifact, path);
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
  ): Promise<Extract<ReloadResult, { result: "applied" }>> {
    const before: Served | undefined = this.#served;
    for (const { layer } of snapshot.seats) this.#layerUses.set(layer, (this.#layerUses.get(layer) ?? 0) + 1);
    const loadedAt = this.#now();
    this.#served = { snapshot, hash: bundle.hash, text: bundle.policy, servedFrom, loadedAt, pins: 0 };
    this.#problems = problems;
    this.#lastResult = problems.length > 0 ? "refused" : "applied";
    if (before !== undefined) {
      if (before.pins === 0) this.#retire(before);
      else this.#draining.set(before.snapshot, before);
    }
    const isNew = servedFrom === "file" || servedFrom === "override";
    const notKept = isNew ? await this.#keep(bundle, loadedAt) : undefined;
    const origin = this.#history.originOf(bundle.policy);
    this.#historyProblem = await this.#history.record(bundle, loadedAt).then(() => undefined, wordsOf);
    const result = {
      result: "applied" as const,
      revision: snapshot.revision,
      previous: before?.snapshot.revision,
      servedFrom,
      problems,
      ...(notKept !== undefined && { notKept }),
    };
    this.#options.onReload(result, origin);
    return result;
  }

  async #keep(bundle: Bundle, savedAt: string): Promise<string | undefined> {
    try {
      await writeLastGood(this.#options.dataDir, { savedAt, configDir: this.#configDir, bundle });
      return undefined;
    } catch (error) {
      return wordsOf(error);
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

function tagOf(revision: string): string {
  return `"${revision}"`;
}

function blobsOf({ policy, pins }: Override): readonly string[] {
  return [policy, ...Object.values(pins)];
}

function overrideStatus({ at, by, reason, source, pins }: Override): OverrideStatus {
  return { at, by, reason, source, pinned: Object.keys(pins) };
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
