/**
 * The folder that a policy lives in, seen as files that change under us: read whole, compared by hash, and
 * watched. A Kubernetes ConfigMap is swapped by one rename of its `..data` link, so a reading counts only
 * when that link was the same before and after it.
 *
 *   policy.yaml -> ..data/policy.yaml      ..data -> ..2026_01_01   (renamed over to ..2026_01_02)
 */
import { createHash } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { readFile, readlink, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ARTIFACT_BYTES_MAX } from "./compile.ts";

export const POLICY_FILE = "policy.yaml";

/** A file larger than any that is accepted is not even read. */
const READ_BYTES_MAX = ARTIFACT_BYTES_MAX;
/** Folders watched at once; what lies beyond is found by the poll. */
const WATCHED_MAX = 64;

/** One consistent look at the folder: every file that was read, by its hash or the reason why it could not be. */
export class Reading {
  readonly folder: string;
  readonly #generation: string;
  readonly #seen = new Map<string, string>();

  constructor(folder: string, generation: string) {
    this.folder = folder;
    this.#generation = generation;
  }

  /** Throws an Error in words for a person. */
  readonly file = async (path: string): Promise<Uint8Array> => {
    try {
      const bytes = await readBounded(join(this.folder, path));
      this.#seen.set(path, createHash("sha256").update(bytes).digest("hex"));
      return bytes;
    } catch (error) {
      const why = reasonOf(error);
      this.#seen.set(path, why);
      throw new Error(why);
    }
  };

  /** What was written to the folder by ourselves has been seen. */
  wrote(path: string, bytes: Uint8Array): void {
    this.#seen.set(path, createHash("sha256").update(bytes).digest("hex"));
  }

  /** Whether the folder was swapped while it was read. */
  async isTorn(): Promise<boolean> {
    return (await generationOf(this.folder)) !== this.#generation;
  }

  /** Whether every file still is what it was. */
  async isCurrent(): Promise<boolean> {
    const now = new Reading(this.folder, "");
    for (const path of this.#seen.keys()) await now.file(path).catch(() => {});
    return [...this.#seen].every(([path, hash]) => now.#seen.get(path) === hash);
  }

  /** Cheap sign of change for the poll: what the file system says of the files, without reading them. */
  async signature(): Promise<string> {
    const parts = [await generationOf(this.folder)];
    for (const path of this.#seen.keys()) {
      try {
        const { ino, size, mtimeNs, ctimeNs } = await stat(join(this.folder, path), { bigint: true });
        parts.push(`${path} ${ino} ${size} ${mtimeNs} ${ctimeNs}`);
      } catch (error) {
        parts.push(`${path} ${reasonOf(error)}`);
      }
    }
    return parts.join("\n");
  }

  get paths(): Iterable<string> {
    return this.#seen.keys();
  }
}

export async function openReading(folder: string): Promise<Reading> {
  return new Reading(folder, await generationOf(folder));
}

async function generationOf(folder: string): Promise<string> {
  return readlink(join(folder, "..data")).catch(() => "");
}

async function readBounded(path: string): Promise<Uint8Array> {
  const found = await stat(path);
  if (!found.isFile()) throw new Error("it is not a file");
  const { size } = found;
  if (size > READ_BYTES_MAX) throw new Error(`it has ${size} bytes; at most ${READ_BYTES_MAX} are read`);
  return readFile(path);
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return "there is no such file";
    case "EACCES":
    case "EPERM":
      return "it may not be read by this user";
    default:
      return code === "" && error instanceof Error ? error.message : `the system says ${code}`;
  }
}

/**
 * Watches folders rather than files: a rename over a file, or over `..data`, leaves a watch on the file
 * looking at what is gone. A folder that cannot be watched is left to the poll.
 */
export class FolderWatch {
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #onEvent: () => void;
  #isClosed = false;

  constructor(onEvent: () => void) {
    this.#onEvent = onEvent;
  }

  /** Watches the folders in which `paths` lie, links followed, and no others. */
  async follow(folder: string, paths: Iterable<string>): Promise<void> {
    const wanted = new Map<string, string>();
    const add = async (path: string): Promise<void> => {
      try {
        const real = await realpath(path);
        // The inode tells a folder that was made anew from the one that is gone.
        wanted.set(`${(await stat(real)).ino} ${real}`, real);
      } catch {
        // Not there (yet): the poll will see it come.
      }
    };
    await add(folder);
    for (const path of paths) {
      await add(dirname(join(folder, path)));
      const real = await realpath(join(folder, path)).catch(() => undefined);
      if (real !== undefined) await add(dirname(real));
    }
    if (this.#isClosed) return;
    for (const [key, watcher] of this.#watchers) {
      if (wanted.has(key)) continue;
      this.#watchers.delete(key);
      watcher.close();
    }
    for (const [key, path] of wanted) {
      if (this.#watchers.has(key) || this.#watchers.size >= WATCHED_MAX) continue;
      try {
        const watcher = watch(path, { persistent: false }, this.#onEvent);
        watcher.on("error", () => {
          this.#watchers.delete(key);
          watcher.close();
        });
        this.#watchers.set(key, watcher);
      } catch {
        // No watch left in the system: the poll stands in.
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }
}
