/**
 * From the text of a policy to a snapshot that can be served, or to everything that is wrong with it. Every
 * seat is checked on its own, so one broken seat hides nothing of the others. Reading files is the caller's:
 * what is here sees bytes, which lets `sallyport check`, the store and the last good bundle share it.
 */
import { createHash } from "node:crypto";
import { type ArtifactRef, ConfigProblem, type Layer, type LayerKind, type Ports } from "../layer/index.ts";
import {
  POLICY_BYTES_MAX,
  policySchema,
  SEATS_MAX,
  type SeatEntry,
  scannedRouteUnder,
  seatSchema,
} from "./policy-file.ts";
import { type FileProblem, tidyProblems, wholeFileProblem } from "./problems.ts";
import { checkShape, suggestion } from "./schema-issues.ts";
import type { Seat, Snapshot } from "./snapshot.ts";
import { compileWhen } from "./when.ts";
import { readYaml, type YamlSource } from "./yaml-source.ts";

export const ARTIFACT_BYTES_MAX = 16_777_216;
const ARTIFACTS_MAX = 500;
/** All artifacts of one policy together. */
const ARTIFACTS_BYTES_MAX = 67_108_864;

/** Ports of a seat but for what the compiler itself provides. */
export type SeatPorts = Omit<Ports, "seat" | "artifacts">;

export interface CompileOptions {
  readonly file: { readonly path: string; readonly content: Uint8Array | string };
  /** Content of an artifact by its path relative to the policy's folder; throws an Error that says why not. */
  readonly artifact: (path: string) => Promise<Uint8Array>;
  readonly kinds: readonly LayerKind[];
  readonly portsFor: (seatId: string) => SeatPorts;
  /** A layer that was compiled for this seat from the same kind, configuration and artifacts. */
  readonly reuse?: (seatId: string, fingerprint: string) => Layer | undefined;
}

/** Everything that a snapshot was made of, so that it can be made again. */
export interface Bundle {
  /** Hex SHA-256 over policy and artifacts; the revision is its start. */
  readonly hash: string;
  readonly policy: Uint8Array;
  readonly artifacts: ReadonlyMap<string, Uint8Array>;
}

export type CompileResult =
  | {
      readonly ok: true;
      readonly snapshot: Snapshot;
      readonly bundle: Bundle;
      /** Seats whose mode is `off`: checked, but not in the snapshot. */
      readonly seatsOff: number;
    }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };

export async function compilePolicy(options: CompileOptions): Promise<CompileResult> {
  const { path, content } = options.file;
  const source = readYaml(path, content, POLICY_BYTES_MAX);
  if (source.value === undefined) return { ok: false, problems: tidyProblems(source.problems) };
  return new Compilation(options, source).run();
}

/** An artifact as a layer gets it; `text` is undefined where it is none. */
interface Loaded {
  readonly bytes: Uint8Array;
  readonly text: string | undefined;
  readonly sha256: string;
}

class Compilation {
  readonly #options: CompileOptions;
  readonly #source: YamlSource;
  readonly #problems: FileProblem[];
  readonly #artifacts = new Map<string, Uint8Array>();
  readonly #fresh: Layer[] = [];
  #artifactBytes = 0;
  #seatsOff = 0;

  constructor(options: CompileOptions, source: YamlSource) {
    this.#options = options;
    this.#source = source;
    this.#problems = [...source.problems];
  }

  async run(): Promise<CompileResult> {
    const source = this.#source;
    const checked = checkShape(policySchema, source.value, source);
    if ("problems" in checked) this.#problems.push(...checked.problems);
    const entries = listOf(source.value, "seats").slice(0, SEATS_MAX);
    this.#checkPassThrough(listOf(source.value, "passThrough"));
    this.#checkIds(entries);
    const seats: Seat[] = [];
    for (const [i, entry] of entries.entries()) {
      const seat = await this.#seat(entry, i);
      if (seat !== undefined) seats.push(seat);
    }
    if (this.#problems.length > 0 || "problems" in checked) {
      for (const layer of this.#fresh) await disposeQuietly(layer);
      return { ok: false, problems: tidyProblems(this.#problems) };
    }
    const { routes, passThrough, unknownFields, unknownEvents, answerBlocked, holdFull, redaction, guard } =
      checked.value;
    const bundle = bundleOf(this.#options.file.content, this.#artifacts);
    const snapshot: Snapshot = {
      revision: bundle.hash.slice(0, 12),
      seats,
      routes: new Set(routes),
      passThrough,
      unknownFields,
      unknownEvents,
      answerBlocked,
      holdFull,
      redaction,
      guard,
    };
    return { ok: true, snapshot, bundle, seatsOff: this.#seatsOff };
  }

  #report(path: readonly PropertyKey[], message: string): void {
    this.#problems.push(this.#source.problem(path, message));
  }

  #checkIds(entries: readonly unknown[]): void {
    const first = new Map<string, number>();
    for (const [i, entry] of entries.entries()) {
      const id = memberOf(entry, "id");
      if (typeof id !== "string") continue;
      const other = first.get(id);
      if (other === undefined) first.set(id, i);
      else
        this.#report(["seats", i, "id"], `the id "${id}" is already that of seats[${other}]; ids are unique`);
    }
  }

  /** A pass-through must not lead round the seats, and each path has one meaning. */
  #checkPassThrough(entries: readonly unknown[]): void {
    const seen = new Set<string>();
    for (const [i, entry] of entries.entries()) {
      const path = memberOf(entry, "path");
      if (typeof path !== "string") continue;
      const at = ["passThrough", i, "path"];
      const route = scannedRouteUnder(path);
      if (route !== undefined)
        this.#report(at, `"${path}" would let ${route} pass unscanned; name a narrower path`);
      if (seen.has(path)) this.#report(at, `"${path}" is listed twice`);
      seen.add(path);
    }
  }

  async #seat(raw: unknown, index: number): Promise<Seat | undefined> {
    const at = ["seats", index];
    // Its problems are already there, from the whole file's check.
    const parsed = seatSchema.safeParse(raw);
    const name = memberOf(raw, "use");
    if (typeof name !== "string") return undefined;
    const kind = this.#options.kinds.find((one) => one.kind === name);
    if (kind === undefined) {
      const known = this.#options.kinds.map((one) => one.kind);
      if (name !== "") this.#report([...at, "use"], `there is no layer "${name}"${suggestion(name, known)}`);
      return undefined;
    }
    const given = memberOf(raw, "with") ?? {};
    if (typeof given !== "object" || Array.isArray(given)) return undefined;
    const config = checkShape(kind.config, given, this.#source, [...at, "with"]);
    if ("problems" in config) {
      this.#problems.push(...config.problems);
      this.#when(memberOf(raw, "when"), kind.phases, at);
      return undefined;
    }
    const phases = kind.phasesOf?.(config.value) ?? kind.phases;
    const when = this.#when(memberOf(raw, "when"), phases, at);
    if (!parsed.success) return undefined;
    // Switching a seat off must help even when its artifacts are what is broken, so they are not looked at.
    if (parsed.data.mode === "off") {
      this.#seatsOff += 1;
      return undefined;
    }
    return this.#compileSeat(
      parsed.data,
      { ...parsed.data, mode: parsed.data.mode },
      kind,
      config.value,
      { when, phases },
      at,
    );
  }

  #when(expression: unknown, phases: Seat["phases"], at: readonly PropertyKey[]): Seat["when"] {
    if (typeof expression !== "string") return undefined;
    const compiled = compileWhen(expression, { beforeBody: phases.includes("onRequest") });
    if (compiled.ok) return compiled.when;
    for (const { message, index } of compiled.faults) {
      const inside = { content: expression, index };
      this.#problems.push(this.#source.problem([...at, "when"], message, "value", inside));
    }
    return undefined;
  }

  async #compileSeat(
    entry: SeatEntry,
    { mode }: Pick<Seat, "mode">,
    kind: LayerKind,
    config: unknown,
    { when, phases }: Pick<Seat, "when" | "phases">,
    at: readonly PropertyKey[],
  ): Promise<Seat | undefined> {
    const withPath = [...at, "with"];
    let refs: readonly ArtifactRef[];
    try {
      refs = kind.needs?.(config) ?? [];
    } catch (error) {
      this.#problems.push(...this.#explain(error, withPath, kind));
      return undefined;
    }
    const contents = new Map<string, Loaded>();
    const hashes: string[] = [];
    for (const ref of refs) {
      const loaded = await this.#load(ref);
      if ("message" in loaded) {
        const hint = ref.hint === undefined ? "" : `; ${ref.hint}`;
        this.#report(placeOf(entry.with, ref.path, withPath), `${loaded.message}${hint}`);
        continue;
      }
      contents.set(ref.path, loaded);
      hashes.push(`${ref.path}=${loaded.sha256}`);
    }
    if (contents.size < new Set(refs.map(({ path }) => path)).size) return undefined;
    const fingerprint = sha256([kind.kind, canonical(entry.with), ...hashes.sort()].join("\0")).slice(0, 32);
    const loadedFor = (ref: ArtifactRef): Loaded => {
      const loaded = contents.get(ref.path);
      if (loaded === undefined) throw new Error(`the artifact ${ref.path} is not named by the layer's needs`);
      return loaded;
    };
    const artifacts = {
      text(ref: ArtifactRef): string {
        const { text } = loadedFor(ref);
        if (text === undefined) throw new Error(`the artifact ${ref.path} is named as binary`);
        return text;
      },
      bytes: (ref: ArtifactRef): Uint8Array => loadedFor(ref).bytes,
    };
    try {
      const layer =
        this.#options.reuse?.(entry.id, fingerprint) ??
        this.#keep(kind.compile(config, { ...this.#options.portsFor(entry.id), seat: entry.id, artifacts }));
      return {
        id: entry.id,
        use: entry.use,
        mode,
        rollout: entry.rollout,
        sample: entry.sample,
        onError: entry.onError,
        timeoutMs: entry.timeoutMs,
        when,
        whenText: entry.when,
        layer,
        config,
        phases,
        holdMax: kind.holdMax?.(config) ?? 0,
        portions: kind.portions?.(config),
        fingerprint,
      };
    } catch (error) {
      this.#problems.push(...this.#explain(error, withPath, kind));
      return undefined;
    }
  }

  #keep(layer: Layer): Layer {
    this.#fresh.push(layer);
    return layer;
  }

  async #load(ref: ArtifactRef): Promise<Loaded | { message: string }> {
    const named = `the artifact "${ref.path}"`;
    if (!isInside(ref.path))
      return { message: `${named} must lie in the policy's folder: a relative path without ".."` };
    let bytes = this.#artifacts.get(ref.path);
    if (bytes === undefined) {
      if (this.#artifacts.size >= ARTIFACTS_MAX)
        return { message: `a policy takes at most ${ARTIFACTS_MAX} artifacts` };
      try {
        bytes = await this.#options.artifact(ref.path);
      } catch (error) {
        return { message: `${named} cannot be read: ${error instanceof Error ? error.message : error}` };
      }
      this.#artifactBytes += bytes.length;
      if (bytes.length > ARTIFACT_BYTES_MAX) {
        return { message: `${named} has ${bytes.length} bytes; at most ${ARTIFACT_BYTES_MAX} are read` };
      }
      if (this.#artifactBytes > ARTIFACTS_BYTES_MAX) {
        return {
          message: `with ${named} the artifacts have more than ${ARTIFACTS_BYTES_MAX} bytes together`,
        };
      }
      this.#artifacts.set(ref.path, bytes);
    }
    const hash = sha256(bytes);
    if (ref.sha256 !== undefined && ref.sha256.toLowerCase() !== hash) {
      return { message: `${named} has the SHA-256 ${hash}, not the one that is asked for` };
    }
    if (ref.isBinary === true) return { bytes, text: undefined, sha256: hash };
    try {
      return { bytes, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), sha256: hash };
    } catch {
      return { message: `${named} is not valid UTF-8` };
    }
  }

  /** What a layer threw: one ConfigProblem, several in an AggregateError, or a bug, which is a problem too. */
  #explain(error: unknown, withPath: readonly PropertyKey[], kind: LayerKind): readonly FileProblem[] {
    if (error instanceof AggregateError && error.errors.length > 0) {
      return error.errors.flatMap((one: unknown) => this.#explain(one, withPath, kind));
    }
    if (!(error instanceof ConfigProblem)) {
      const why = error instanceof Error ? error.message : String(error);
      return [this.#source.problem(withPath, `the layer "${kind.kind}" failed to compile: ${why}`)];
    }
    if (error.artifact === undefined) {
      return [this.#source.problem([...withPath, ...error.path], error.message)];
    }
    return [this.#inArtifact(error.artifact, error.message)];
  }

  /** A layer that knows the line says so as "path:line:column: message"; otherwise the file's first line is shown. */
  #inArtifact(artifact: string, message: string): FileProblem {
    const file = siblingOf(this.#options.file.path, artifact);
    const spot = message.startsWith(`${artifact}:`) ? message.slice(artifact.length) : "";
    const [, line = "1", column = "1", words = message] = /^:(\d+):(\d+): (.+)$/s.exec(spot) ?? [];
    const bytes = this.#artifacts.get(artifact) ?? new Uint8Array();
    const text = bytes.includes(0) ? undefined : new TextDecoder().decode(bytes);
    const excerpt = text?.split("\n", Number(line)).at(Number(line) - 1);
    return {
      ...wholeFileProblem(file, words),
      line: Number(line),
      column: Number(column),
      ...(excerpt !== undefined && { excerpt }),
    };
  }
}

/** The hash that names a policy: its bytes and those of its artifacts, sorted by path. */
function bundleOf(content: Uint8Array | string, artifacts: ReadonlyMap<string, Uint8Array>): Bundle {
  const policy = typeof content === "string" ? Buffer.from(content) : content;
  return { hash: hashBundle(policy, artifacts), policy, artifacts };
}

export function hashBundle(policy: Uint8Array, artifacts: ReadonlyMap<string, Uint8Array>): string {
  const hash = createHash("sha256").update(`policy\0${policy.length}\0`).update(policy);
  for (const path of [...artifacts.keys()].sort()) {
    const bytes = artifacts.get(path)!;
    hash.update(`${path}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest("hex");
}

export async function disposeQuietly(layer: Layer): Promise<void> {
  try {
    await layer.dispose?.();
  } catch {
    // A layer that cannot clean up after itself must not keep a policy from being replaced.
  }
}

/** The string in `with` that names the artifact; `with` itself when no string does. */
function placeOf(value: unknown, artifact: string, path: readonly PropertyKey[]): readonly PropertyKey[] {
  const search = (below: unknown, at: readonly PropertyKey[]): readonly PropertyKey[] | undefined => {
    if (below === artifact) return at;
    if (typeof below !== "object" || below === null) return undefined;
    for (const [name, one] of Object.entries(below)) {
      const found = search(one, [...at, Array.isArray(below) ? Number(name) : name]);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return search(value, path) ?? path;
}

function isInside(path: string): boolean {
  const parts = path.split("/");
  return (
    path !== "" && !/[\\\0]/.test(path) && !parts.some((part) => part === "" || part === "." || part === "..")
  );
}

function siblingOf(file: string, path: string): string {
  const slash = file.lastIndexOf("/");
  return slash < 0 ? path : `${file.slice(0, slash + 1)}${path}`;
}

/** JSON with sorted names: equal for equal settings, however they are written down. */
function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_, below: unknown) => {
      if (typeof below === "number" && !Number.isFinite(below)) return `number ${below}`;
      if (typeof below !== "object" || below === null || Array.isArray(below)) return below;
      return Object.fromEntries(Object.entries(below).sort(([a], [b]) => (a < b ? -1 : 1)));
    }) ?? ""
  );
}

function sha256(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Readonly<Record<string, unknown>>)[name];
}

function listOf(value: unknown, name: string): readonly unknown[] {
  const list = memberOf(value, name);
  return Array.isArray(list) ? list : [];
}
