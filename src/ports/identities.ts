/**
 * Who a presented key belongs to. Every key is in memory by its keyed hash, so that a look-up is one HMAC
 * and one Map access, and its timing tells nothing about any stored key. Changes made by another process
 * (`sallyport keys`) are seen through a watch on the folder with a poll behind it; a file that cannot be
 * read leaves the last good keys in place.
 */
import { hash, randomBytes, randomInt, timingSafeEqual } from "node:crypto";
import { type FSWatcher, mkdirSync, statSync, watch } from "node:fs";
import { basename, join } from "node:path";
import type { Identities, Identity, KeyLookup } from "../layer/index.ts";
import { accountName, changeKeysFile, type KeyRecord, keyName, readKeysFile } from "./keys-file.ts";
import { openPepper, type Pepper } from "./pepper.ts";

const BOOTSTRAP_VARIABLE = "SALLYPORT_BOOTSTRAP_KEY";
const BOOTSTRAP_ID = "key_bootstrap";
/** A longer credential is not hashed at all. */
const PRESENTED_UNITS_MAX = 512;
const BOOTSTRAP_SHAPE = /^[\x21-\x7e]{16,512}$/;
const POLL_MS = 500;
const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

export interface IdentitiesOptions {
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A key that must work; by default the one in SALLYPORT_BOOTSTRAP_KEY. */
  readonly bootstrapKey?: string | undefined;
  /** Makes the bootstrap key, where none is given and the folder holds no key at all. True unless said. */
  readonly bootstrap?: boolean;
  /** Follows changes made by other processes. True unless said. */
  readonly watch?: boolean;
  /** Told once when keys.json becomes unreadable, and with undefined when it can be read again. */
  readonly onProblem?: (problem: string | undefined) => void;
}

export interface NewKey {
  readonly org: string;
  readonly project: string;
  readonly name: string;
  /** RFC 3339. */
  readonly expiresAt?: string;
}

export type KeyListing = Omit<KeyRecord, "hash">;

export interface IdentityStore extends Identities {
  /** The bootstrap key in clear, where it was given or has just been made; only then is it known. */
  readonly bootstrap: { readonly key: string; readonly isNew: boolean } | undefined;
  /** The key in clear is in this answer and nowhere else. */
  create(key: NewKey): Promise<{ readonly id: string; readonly key: string }>;
  list(): readonly KeyListing[];
  /** False where there is no such key. A second time changes nothing. */
  revoke(id: string): Promise<boolean>;
  close(): Promise<void>;
}

export async function openIdentities(options: IdentitiesOptions): Promise<IdentityStore> {
  const { dataDir, env } = options;
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const store = new FileIdentities(dataDir, openPepper(dataDir, env), options.onProblem);
  store.load();
  if (options.bootstrap !== false) {
    await store.ensureBootstrap(options.bootstrapKey ?? (env[BOOTSTRAP_VARIABLE] || undefined));
  }
  if (options.watch !== false) store.follow();
  return store;
}

interface Entry {
  readonly digest: Buffer;
  readonly record: KeyRecord;
  readonly active: KeyLookup;
  readonly expiresMs: number;
}

const UNKNOWN: KeyLookup = { state: "unknown" };

class FileIdentities implements IdentityStore {
  readonly #path: string;
  readonly #pepper: Pepper;
  readonly #pepperPrint: string;
  readonly #onProblem: ((problem: string | undefined) => void) | undefined;
  #byHash: ReadonlyMap<string, Entry> = new Map();
  /** Keys found since the file was last read: never more than the file holds. */
  readonly #found = new Map<string, Entry>();
  readonly #salt = randomBytes(32).toString("base64url");
  #version = "";
  #problem: string | undefined;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  bootstrap: IdentityStore["bootstrap"];

  constructor(dataDir: string, pepper: Pepper, onProblem: IdentitiesOptions["onProblem"]) {
    this.#path = join(dataDir, "keys.json");
    this.#pepper = pepper;
    this.#pepperPrint = pepper.fingerprint();
    this.#onProblem = onProblem;
  }

  find(presented: string): KeyLookup {
    if (presented.length === 0 || presented.length > PRESENTED_UNITS_MAX) return UNKNOWN;
    const entry = this.#entryOf(presented);
    if (entry === undefined) return UNKNOWN;
    if (entry.active.state === "active" && Date.now() >= entry.expiresMs) {
      return { state: "expired", identity: entry.active.identity };
    }
    return entry.active;
  }

  /** A key that was found once is known again by one plain hash under this process's salt; its state is not kept. */
  #entryOf(presented: string): Entry | undefined {
    const print = hash("sha256", this.#salt + presented, "base64url");
    const known = this.#found.get(print);
    if (known !== undefined) return known;
    const digest = this.#pepper.digest(presented);
    const entry = this.#byHash.get(digest.toString("base64url"));
    if (entry === undefined || !timingSafeEqual(entry.digest, digest)) return undefined;
    this.#found.set(print, entry);
    return entry;
  }

  list(): readonly KeyListing[] {
    return [...this.#byHash.values()].map(({ record: { hash: _, ...shown } }) => shown);
  }

  async create(wanted: NewKey): Promise<{ id: string; key: string }> {
    check(accountName, wanted.org, "org");
    check(accountName, wanted.project, "project");
    check(keyName, wanted.name, "name");
    const expiresMs = wanted.expiresAt === undefined ? undefined : Date.parse(wanted.expiresAt);
    if (Number.isNaN(expiresMs)) {
      throw new RangeError("expiresAt: must be a date or time such as 2027-01-01 or 2027-01-01T12:00:00Z");
    }
    if (expiresMs !== undefined && expiresMs <= Date.now()) {
      throw new RangeError("expiresAt: must lie in the future");
    }
    const key = `sp-${random62(32)}`;
    const record: KeyRecord = {
      id: `key_${random62(16)}`,
      hash: this.#hash(key),
      prefix: `${key.slice(0, 6)}…`,
      org: wanted.org,
      project: wanted.project,
      name: wanted.name,
      createdAt: new Date().toISOString(),
      ...(expiresMs !== undefined && { expiresAt: new Date(expiresMs).toISOString() }),
    };
    await this.#change((keys) => [...keys, record]);
    return { id: record.id, key };
  }

  async revoke(id: string): Promise<boolean> {
    let isKnown = false;
    await this.#change((keys) => {
      const found = keys.find((key) => key.id === id);
      isKnown = found !== undefined;
      if (found === undefined || found.revokedAt !== undefined) return undefined;
      const revoked = { ...found, revokedAt: new Date().toISOString() };
      return keys.map((key) => (key === found ? revoked : key));
    });
    return isKnown;
  }

  async close(): Promise<void> {
    this.#watcher?.close();
    clearInterval(this.#poll);
  }

  /** Throws where the file cannot be used. */
  load(): void {
    // First the version: a change during the read is then seen by the next poll.
    const version = versionOf(this.#path);
    const file = readKeysFile(this.#path, this.#pepperPrint);
    this.#found.clear();
    this.#byHash = new Map(file?.keys.map((record) => [record.hash, entryOf(record)]));
    this.#version = version;
  }

  follow(): void {
    const reload = () => this.#reloadIfChanged();
    // The folder, not the file: a rename over the file would leave a watch on the old one.
    this.#watcher = watch(join(this.#path, ".."), { persistent: false }, (_event, name) => {
      if (name === null || name === basename(this.#path)) reload();
    });
    this.#watcher.on("error", () => this.#watcher?.close()); // the poll goes on
    this.#poll = setInterval(reload, POLL_MS).unref();
  }

  /**
   * The given key is always that of `key_bootstrap`: another value replaces it and the old one stops
   * working; the same value stays as it is, revoked too.
   */
  async ensureBootstrap(given: string | undefined): Promise<void> {
    if (given === undefined && this.#byHash.size > 0) return;
    if (given !== undefined && !BOOTSTRAP_SHAPE.test(given)) {
      throw new RangeError(
        `${BOOTSTRAP_VARIABLE}: a key has 16 to ${PRESENTED_UNITS_MAX} visible ASCII characters`,
      );
    }
    const key = given ?? `sp-${random62(32)}`;
    const record: KeyRecord = {
      id: BOOTSTRAP_ID,
      hash: this.#hash(key),
      prefix: `${key.slice(0, 6)}…`,
      org: "default",
      project: "default",
      name: "bootstrap",
      createdAt: new Date().toISOString(),
    };
    let isNew = false;
    await this.#change((keys) => {
      if (keys.some(({ hash }) => hash === record.hash)) return undefined;
      isNew = true;
      return [...keys.filter(({ id }) => id !== BOOTSTRAP_ID), record];
    });
    this.bootstrap = { key, isNew };
  }

  async #change(change: Parameters<typeof changeKeysFile>[2]): Promise<void> {
    await changeKeysFile(this.#path, this.#pepperPrint, change);
    this.load();
  }

  #hash(key: string): string {
    return this.#pepper.digest(key).toString("base64url");
  }

  #reloadIfChanged(): void {
    if (versionOf(this.#path) === this.#version) return;
    try {
      if (versionOf(this.#path) === "")
        throw new Error(`${this.#path} is gone: its keys work until a restart`);
      this.load();
      this.#report(undefined);
    } catch (error) {
      this.#report(error instanceof Error ? error.message : String(error));
    }
  }

  #report(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#onProblem?.(problem);
  }
}

function entryOf(record: KeyRecord): Entry {
  const identity: Identity = { org: record.org, project: record.project, keyId: record.id };
  return {
    digest: Buffer.from(record.hash, "base64url"),
    record,
    active: { state: record.revokedAt === undefined ? "active" : "revoked", identity },
    expiresMs: record.expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(record.expiresAt),
  };
}

/** Changes with every replacement and every edit in place; "" where there is no file. */
function versionOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? "" : `${stat.ino}:${stat.mtimeNs}:${stat.size}`;
}

function random62(length: number): string {
  let text = "";
  for (let i = 0; i < length; i++) text += BASE62[randomInt(62)];
  return text;
}

function check(shape: typeof accountName, value: string, field: string): void {
  const parsed = shape.safeParse(value);
  if (!parsed.success) throw new RangeError(`${field}: ${parsed.error.issues[0]?.message}`);
}
