/**
 * Every policy that was served, kept with its artifacts so that it can be served again. Each text and each artifact
 * lies once, under its hash; an index says what was served when, by whom and why. Blobs are written before the index
 * names them and removed after it no longer does, so that a crash leaves at worst a blob that nobody names.
 *
 *   DATA/policy/history/index.json     entries, oldest first, and the origin of a text that is about to be placed
 *   DATA/policy/history/blobs/SHA256   policy texts and artifacts
 *
 * Bounded in entries and in bytes: the oldest go first, but never the two newest, so that there is always something
 * to return to.
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { replaceFile } from "../files/replace-file.ts";
import { type Bundle, hashBundle } from "./compile.ts";

const ENTRIES_MAX = 200;
const BYTES_MAX = 268_435_456;
/** Entries that no bound removes. */
const ENTRIES_MIN = 2;
/** 200 entries with 500 artifacts each. */
const INDEX_BYTES_MAX = 33_554_432;

/** Where a served policy came from. */
export const SOURCES = ["file", "api", "rollback", "schedule", "guard"] as const;

const originShape = {
  by: z.string(),
  reason: z.string(),
  source: z.enum(SOURCES),
};
const blob = z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/), bytes: z.int().min(0) });
type Blob = z.infer<typeof blob>;

const entrySchema = z.strictObject({
  revision: z.string(),
  hash: z.string(),
  at: z.string(),
  ...originShape,
  policy: blob,
  artifacts: z.record(z.string(), blob),
});
const indexSchema = z.strictObject({
  version: z.literal(1),
  entries: z.array(entrySchema),
  /** Who placed the text with this hash: known before it is served, so that a kill in between loses nobody's name. */
  intent: z.strictObject({ ...originShape, text: z.string() }).optional(),
});

/** Who wanted a policy, and why. */
export interface Origin {
  readonly by: string;
  readonly reason: string;
  readonly source: (typeof SOURCES)[number];
}

export type HistoryEntry = Readonly<z.infer<typeof entrySchema>>;

interface HistoryOptions {
  readonly dataDir: string;
  /** Hashes of blobs that something else than an entry needs. */
  readonly needed: () => Iterable<string>;
  readonly entriesMax?: number;
  readonly bytesMax?: number;
}

export async function openHistory(options: HistoryOptions): Promise<PolicyHistory> {
  const history = new PolicyHistory(options);
  await history.load();
  return history;
}

export class PolicyHistory {
  readonly #options: HistoryOptions;
  readonly #folder: string;
  #entries: readonly HistoryEntry[] = [];
  #intent: (Origin & { readonly text: string }) | undefined;
  #problem: string | undefined;

  constructor(options: HistoryOptions) {
    this.#options = options;
    this.#folder = join(options.dataDir, "policy", "history");
  }

  /** Oldest first. */
  get entries(): readonly HistoryEntry[] {
    return this.#entries;
  }

  /** Why the history is not whole. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** The latest time that this revision was served. */
  find(revision: string): HistoryEntry | undefined {
    return this.#entries.findLast((entry) => entry.revision === revision || entry.hash === revision);
  }

  async load(): Promise<void> {
    let text: string;
    try {
      if ((await stat(this.#indexPath)).size > INDEX_BYTES_MAX) throw new Error("it is too large");
      text = await readFile(this.#indexPath, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") this.#problem = wordsOf(error);
      return;
    }
    try {
      const { entries, intent } = indexSchema.parse(JSON.parse(text));
      this.#entries = entries;
      this.#intent = intent;
    } catch (error) {
      // Set aside, not overwritten: the blobs that it names may still be wanted by a person.
      await rename(this.#indexPath, `${this.#indexPath}.damaged`).catch(() => {});
      this.#problem = `${this.#indexPath} could not be read and is now index.json.damaged: ${wordsOf(error)}`;
    }
  }

  /** Remembers who is about to place this text. Rejects where that cannot be written; then nothing should be placed. */
  async announce(text: Uint8Array, origin: Origin): Promise<void> {
    const { by, reason, source } = origin;
    const intent = { by, reason, source, text: sha256(text) };
    await this.#write(this.#entries, intent);
    this.#intent = intent;
  }

  /** Who announced this text; undefined where nobody did, as with a file that was saved. */
  originOf(text: Uint8Array): Origin | undefined {
    return this.#intent?.text === sha256(text) ? this.#intent : undefined;
  }

  /** Notes that a bundle is served; again and again the same is one entry. Rejects where it cannot be written. */
  async record(bundle: Bundle, at: string): Promise<void> {
    if (this.#entries.at(-1)?.hash === bundle.hash) return;
    const policy = await this.keep(bundle.policy);
    const artifacts: Record<string, Blob> = {};
    for (const [path, bytes] of bundle.artifacts) artifacts[path] = await this.keep(bytes);
    const { by, reason, source } = this.originOf(bundle.policy) ?? {
      by: "",
      reason: "",
      source: "file" as const,
    };
    const revision = bundle.hash.slice(0, 12);
    const entry = { revision, hash: bundle.hash, at, by, reason, source, policy, artifacts };
    const { entriesMax = ENTRIES_MAX, bytesMax = BYTES_MAX } = this.#options;
    const kept = bounded([...this.#entries, entry], { entriesMax, bytesMax });
    await this.#write(kept, undefined);
    this.#entries = kept;
    this.#intent = undefined;
    this.#problem = undefined;
    await this.sweep();
  }

  /** What was served, checked against its hash; throws an Error that says what is missing. */
  async bundle(entry: HistoryEntry): Promise<Bundle> {
    const policy = await this.blob(entry.policy.sha256);
    const artifacts = new Map<string, Uint8Array>();
    for (const [path, { sha256: hash }] of Object.entries(entry.artifacts))
      artifacts.set(path, await this.blob(hash));
    if (hashBundle(policy, artifacts) !== entry.hash)
      throw new Error(`the revision ${entry.revision} is damaged`);
    return { hash: entry.hash, policy, artifacts };
  }

  async keep(bytes: Uint8Array): Promise<Blob> {
    const hash = sha256(bytes);
    const path = join(this.#folder, "blobs", hash);
    const isThere = await stat(path).then(
      ({ size }) => size === bytes.length,
      () => false,
    );
    if (!isThere) {
      await mkdir(join(this.#folder, "blobs"), { recursive: true, mode: 0o700 });
      await replaceFile(path, bytes);
    }
    return { sha256: hash, bytes: bytes.length };
  }

  async blob(hash: string): Promise<Uint8Array> {
    const bytes = await readFile(join(this.#folder, "blobs", hash)).catch((error: unknown) => {
      throw new Error(`its content ${hash.slice(0, 12)} cannot be read: ${wordsOf(error)}`);
    });
    if (sha256(bytes) !== hash) throw new Error(`its content ${hash.slice(0, 12)} is damaged`);
    return bytes;
  }

  /** Removes what nobody names any more; what fails is tried with the next. */
  async sweep(): Promise<void> {
    const needed = new Set(this.#options.needed());
    for (const entry of this.#entries) for (const { sha256: hash } of blobsOf(entry)) needed.add(hash);
    const blobs = join(this.#folder, "blobs");
    for (const name of await readdir(blobs).catch(() => []))
      if (!needed.has(name)) await rm(join(blobs, name), { force: true }).catch(() => {});
  }

  get #indexPath(): string {
    return join(this.#folder, "index.json");
  }

  async #write(
    entries: readonly HistoryEntry[],
    intent: (Origin & { readonly text: string }) | undefined,
  ): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const index = { version: 1, entries, ...(intent !== undefined && { intent }) };
    await replaceFile(this.#indexPath, JSON.stringify(index));
  }
}

/** The newest entries that fit; a blob counts once, however many entries name it. */
function bounded(
  entries: readonly HistoryEntry[],
  { entriesMax, bytesMax }: { readonly entriesMax: number; readonly bytesMax: number },
): readonly HistoryEntry[] {
  const seen = new Set<string>();
  let bytes = 0;
  let from = entries.length;
  while (from > 0 && entries.length - from < entriesMax) {
    for (const one of blobsOf(entries[from - 1]!)) {
      if (!seen.has(one.sha256)) bytes += one.bytes;
      seen.add(one.sha256);
    }
    if (bytes > bytesMax && entries.length - from >= ENTRIES_MIN) break;
    from -= 1;
  }
  return entries.slice(from);
}

function blobsOf(entry: HistoryEntry): readonly Blob[] {
  return [entry.policy, ...Object.values(entry.artifacts)];
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
