/**
 * Who a presented credential belongs to. Every key is in memory by its keyed hash, so that a look-up is one HMAC
 * and one Map access, and its timing tells nothing about any stored key; one that was found before is known again
 * by one plain hash. The keys live in a table: a file of this box, or Redis, where every replica sees a change
 * within a second. A store that cannot be read leaves the last good keys in place.
 */
import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { join } from "node:path";
import type { Identities, Identity, Issuer, IssuerConfig, KeyLookup } from "../layer/index.ts";
import { Issuers } from "./issuers.ts";
import type { KeySetStatus } from "./key-sets.ts";
import { KEYS_MAX, type KeyRecord, keyRecord, legacyKeys } from "./keys-record.ts";
import { bootstrapRecord, type KeyListing, KeyRegister, type NewKey } from "./keys-register.ts";
import { compileScope } from "./keys-scope.ts";
import { openPepper, PEPPER_VARIABLE, type Pepper } from "./pepper.ts";
import type { SharedRedis } from "./redis.ts";
import { openTable, type RowChange, type Table } from "./table.ts";

export type { KeyListing, NewKey } from "./keys-register.ts";

const BOOTSTRAP_VARIABLE = "SALLYPORT_BOOTSTRAP_KEY";
/** A longer credential is not hashed at all. */
const PRESENTED_UNITS_MAX = 512;
const BOOTSTRAP_SHAPE = /^[\x21-\x7e]{16,512}$/;
const BOOTSTRAP_RETRY_MS = 2_000;
/** Callers' own keys that were seen; beyond it all are forgotten, and hashed anew when they come again. */
const OWN_KEYS_MAX = 10_000;
/** 132 bits of the keyed hash: enough to name a caller by. */
const NAME_UNITS = 22;

export interface IdentitiesOptions {
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A key that must work; by default the one in SALLYPORT_BOOTSTRAP_KEY. */
  readonly bootstrapKey?: string | undefined;
  /** Makes the bootstrap key, where none is given and the store holds no key at all. True unless said. */
  readonly bootstrap?: boolean;
  /** Follows changes made by other processes. True unless said. */
  readonly watch?: boolean;
  /** Where the keys live; without it they are in keys.json in the data folder. */
  readonly redis?: SharedRedis | undefined;
  /** Told once when the store becomes unreadable, and with undefined when it can be read again. */
  readonly onProblem?: (problem: string | undefined) => void;
  /** The same for the public keys of an issuer of tokens. */
  readonly onIssuerProblem?: (issuer: string, problem: string | undefined) => void;
}

export interface IdentityStore extends Identities {
  /** The bootstrap key in clear, where it was given or has just been made; only then is it known. */
  readonly bootstrap: { readonly key: string; readonly isNew: boolean } | undefined;
  /** The key in clear is in this answer and nowhere else. RangeError, with the field's name, for what cannot be. */
  create(key: NewKey): Promise<{ readonly id: string; readonly key: string }>;
  list(): readonly KeyListing[];
  /** False where there is no such key. A second time changes nothing. */
  revoke(id: string): Promise<boolean>;
  /** A new key in the place of an old one, which stops working after the overlap. RangeError as `create`. */
  rotate(
    id: string,
    options: { readonly overlapSec: number },
  ): Promise<{ readonly id: string; readonly key: string }>;
  /** The key sets of the issuers that were asked for. */
  issuerStatus(): readonly KeySetStatus[];
  close(): Promise<void>;
}

export async function openIdentities(options: IdentitiesOptions): Promise<IdentityStore> {
  const { dataDir, env, redis } = options;
  const pepper = openPepper(dataDir, env);
  const table = await openTable<KeyRecord>({
    name: "keys",
    row: keyRecord,
    rowsMax: KEYS_MAX,
    path: join(dataDir, "keys.json"),
    redis,
    stamp: pepper.fingerprint(),
    stampProblem:
      "was written with another pepper, so that no key in it can match: " +
      `set ${PEPPER_VARIABLE} to the one that it was written with, the same for every gateway, ` +
      'or restore the file "pepper" in the data folder',
    legacy: legacyKeys,
    ...(options.watch !== undefined && { watch: options.watch }),
    ...(options.onProblem !== undefined && { onProblem: options.onProblem }),
  });
  const store = new TableIdentities(table, pepper, options);
  try {
    if (options.bootstrap !== false) {
      await store.ensureBootstrap(options.bootstrapKey ?? (env[BOOTSTRAP_VARIABLE] || undefined));
    }
  } catch (error) {
    await store.close();
    throw error;
  }
  return store;
}

/** A key that was shown and found, with everything that its next use needs. */
interface Found {
  readonly lookup: KeyLookup;
  readonly expired: KeyLookup;
  readonly expiresMs: number;
}

const UNKNOWN: KeyLookup = { state: "unknown" };

class TableIdentities implements IdentityStore {
  readonly #table: Table<KeyRecord>;
  readonly #pepper: Pepper;
  readonly #redis: SharedRedis | undefined;
  readonly #register: KeyRegister;
  readonly #issuers: Issuers;
  readonly #salt = randomBytes(32).toString("base64url");
  readonly #byHash = new Map<string, KeyRecord>();
  /** When each organisation's oldest key was made, ms since the epoch. */
  readonly #since = new Map<string, number>();
  /** Keys found since the last change: never more than the table holds. */
  readonly #found = new Map<string, Found>();
  /** Names of credentials that are no key of ours, by the same plain hash. */
  readonly #own = new Map<string, string>();
  #bootstrapRetry: NodeJS.Timeout | undefined;
  bootstrap: IdentityStore["bootstrap"];

  constructor(table: Table<KeyRecord>, pepper: Pepper, { redis, onIssuerProblem }: IdentitiesOptions) {
    this.#table = table;
    this.#pepper = pepper;
    this.#redis = redis;
    this.#register = new KeyRegister(table, (key) => this.#hash(key));
    this.#issuers = new Issuers({
      subjectId: (issuer, subject) => `jwt_${this.#name(`token\n${issuer}\n${subject}`)}`,
      sinceMs: (org) => this.#since.get(org),
      onProblem: onIssuerProblem,
    });
    for (const record of table.rows.values()) this.#add(record);
    table.onChange((changes) => this.#follow(changes));
  }

  find(presented: string): KeyLookup {
    if (presented.length === 0 || presented.length > PRESENTED_UNITS_MAX) return UNKNOWN;
    const print = this.#print(presented);
    const found = this.#found.get(print) ?? (this.#own.has(print) ? undefined : this.#find(presented, print));
    if (found === undefined) return UNKNOWN;
    return Date.now() < found.expiresMs ? found.lookup : found.expired;
  }

  ownKeyId(presented: string): string {
    const print = this.#print(presented);
    const known = this.#own.get(print);
    if (known !== undefined) return known;
    const id = `own_${this.#name(`own\n${presented}`)}`;
    // Only what is known to be no key of ours may be passed over by `find`.
    if (this.find(presented) !== UNKNOWN || this.#byHash.has(this.#hash(presented))) return id;
    if (this.#own.size >= OWN_KEYS_MAX) this.#own.clear();
    this.#own.set(print, id);
    return id;
  }

  issuer(config: IssuerConfig): Issuer {
    return this.#issuers.issuer(config);
  }

  issuerStatus(): readonly KeySetStatus[] {
    return this.#issuers.status();
  }

  create(wanted: NewKey): Promise<{ id: string; key: string }> {
    return this.#register.create(wanted);
  }

  list(): readonly KeyListing[] {
    return this.#register.list();
  }

  revoke(id: string): Promise<boolean> {
    return this.#register.revoke(id);
  }

  rotate(id: string, options: { readonly overlapSec: number }): Promise<{ id: string; key: string }> {
    return this.#register.rotate(id, options);
  }

  async close(): Promise<void> {
    clearInterval(this.#bootstrapRetry);
    this.#issuers.close();
    await this.#table.close();
  }

  /**
   * The given key is always that of `key_bootstrap`: another value replaces it and the old one stops
   * working; the same value stays as it is, revoked too.
   */
  async ensureBootstrap(given: string | undefined): Promise<void> {
    // While Redis is away nobody can tell whether it holds keys, so that none is made.
    if (given === undefined && (this.#table.size > 0 || this.#redis?.isUp === false)) return;
    if (given !== undefined && !BOOTSTRAP_SHAPE.test(given)) {
      throw new RangeError(
        `${BOOTSTRAP_VARIABLE}: a key has 16 to ${PRESENTED_UNITS_MAX} visible ASCII characters`,
      );
    }
    const { key, record } = bootstrapRecord(given, (text) => this.#hash(text));
    const place = async () => {
      let isNew = false;
      const known = this.#byHash.get(record.hash);
      if (known !== undefined && known !== record) return isNew;
      await this.#table.change(record.id, (row) => {
        if (row !== undefined && (given === undefined || row.hash === record.hash)) return undefined;
        isNew = true;
        return record;
      });
      return isNew;
    };
    try {
      const isNew = await place();
      if (given !== undefined || isNew) this.bootstrap = { key, isNew };
    } catch (error) {
      if (this.#redis === undefined || this.#redis.isUp) throw error;
      // The gateway starts without Redis; a key that was given is placed as soon as it answers.
      if (given === undefined) return;
      this.bootstrap = { key, isNew: false };
      // Nothing is known here of any key, not even from a copy: until Redis says more, what the operator gave holds.
      if (this.#table.size === 0) this.#add(record);
      this.#bootstrapRetry = setInterval(() => {
        if (this.#redis?.isUp !== true) return;
        place().then(
          () => clearInterval(this.#bootstrapRetry),
          () => {},
        );
      }, BOOTSTRAP_RETRY_MS).unref();
    }
  }

  #find(presented: string, print: string): Found | undefined {
    const digest = this.#pepper.digest(presented);
    const record = this.#byHash.get(digest.toString("base64url"));
    if (record === undefined || !timingSafeEqual(Buffer.from(record.hash, "base64url"), digest))
      return undefined;
    const found = this.#foundOf(record);
    // A canary is to be answered like an unknown key, in the same time: it never takes the short way.
    if (record.canary !== true) this.#found.set(print, found);
    return found;
  }

  #foundOf(record: KeyRecord): Found {
    const { org, project, id: keyId, canary } = record;
    const sinceMs = this.#since.get(org);
    const identity: Identity = { org, project, keyId, ...(sinceMs !== undefined && { sinceMs }) };
    const expiresMs =
      record.expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(record.expiresAt);
    const isRevoked = record.revokedAt !== undefined;
    // One that was laid aside gives nothing away either.
    if (canary === true) {
      const lookup: KeyLookup = isRevoked ? UNKNOWN : { state: "active", identity, canary };
      return { lookup, expired: UNKNOWN, expiresMs };
    }
    const scope = compileScope(record.scopes);
    const active: KeyLookup = { state: "active", identity, ...(scope !== undefined && { scope }) };
    const revoked: KeyLookup = { state: "revoked", identity };
    return isRevoked
      ? { lookup: revoked, expired: revoked, expiresMs }
      : { lookup: active, expired: { state: "expired", identity }, expiresMs };
  }

  #follow(changes: readonly RowChange<KeyRecord>[]): void {
    const younger = new Set<string>();
    for (const { before, after } of changes) {
      if (before === undefined) continue;
      this.#byHash.delete(before.hash);
      if (before.createdAt !== after?.createdAt) younger.add(before.org);
    }
    for (const { after } of changes) if (after !== undefined) this.#add(after);
    this.#lookForOldest(younger);
    this.#found.clear();
    this.#own.clear();
  }

  #add(record: KeyRecord): void {
    this.#byHash.set(record.hash, record);
    const ms = Date.parse(record.createdAt);
    if (ms < (this.#since.get(record.org) ?? Number.POSITIVE_INFINITY)) this.#since.set(record.org, ms);
  }

  /** A key was taken out, so that these organisations may have become younger: one pass over all keys, and rare. */
  #lookForOldest(orgs: ReadonlySet<string>): void {
    if (orgs.size === 0) return;
    for (const org of orgs) this.#since.delete(org);
    for (const record of this.#byHash.values()) if (orgs.has(record.org)) this.#add(record);
  }

  /** Salted anew in every process, and kept in memory alone. */
  #print(presented: string): string {
    return hash("sha256", this.#salt + presented, "base64url");
  }

  #hash(key: string): string {
    return this.#pepper.digest(key).toString("base64url");
  }

  #name(text: string): string {
    return this.#hash(text).slice(0, NAME_UNITS);
  }
}
