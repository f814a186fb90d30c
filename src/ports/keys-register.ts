/**
 * Makes, rotates and revokes virtual keys in their table. Each step is one change of one row against the row as
 * it then is, so that two people at two replicas cannot undo each other's work unseen.
 */
import { randomInt } from "node:crypto";
import type { z } from "zod";
import { accountName, KEYS_MAX, type KeyRecord, type KeyScopes, keyName, keyScopes } from "./keys-record.ts";
import { tidyNetwork } from "./keys-scope.ts";
import type { Table } from "./table.ts";

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const OVERLAP_SEC_MAX = 2_592_000;
/** When the table is full, keys that stopped working so long ago make room. */
const FORGOTTEN_AFTER_MS = 30 * 86_400_000;
const BOOTSTRAP_ID = "key_bootstrap";

export interface NewKey {
  readonly org: string;
  readonly project: string;
  readonly name: string;
  /** RFC 3339. */
  readonly expiresAt?: string;
  readonly scopes?: KeyScopes;
  /** Works for nobody, and says so when somebody tries: to be left where only a thief looks. */
  readonly canary?: boolean;
}

export type KeyListing = Omit<KeyRecord, "hash">;

export interface MadeKey {
  readonly id: string;
  readonly key: string;
}

type Hash = (key: string) => string;

export class KeyRegister {
  readonly #table: Table<KeyRecord>;
  readonly #hash: Hash;

  constructor(table: Table<KeyRecord>, hash: Hash) {
    this.#table = table;
    this.#hash = hash;
  }

  list(): readonly KeyListing[] {
    return Array.from(this.#table.rows.values(), ({ hash: _, ...shown }) => shown);
  }

  async create(wanted: NewKey): Promise<MadeKey> {
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
    const scopes = wanted.scopes === undefined ? undefined : tidyScopes(wanted.scopes);
    return this.#insert({
      org: wanted.org,
      project: wanted.project,
      name: wanted.name,
      ...(expiresMs !== undefined && { expiresAt: new Date(expiresMs).toISOString() }),
      ...(scopes !== undefined && { scopes }),
      ...(wanted.canary === true && { canary: true }),
    });
  }

  /** False where there is no such key. */
  async revoke(id: string): Promise<boolean> {
    const row = await this.#table.change(id, (found) =>
      found === undefined || found.revokedAt !== undefined
        ? undefined
        : { ...found, revokedAt: new Date().toISOString() },
    );
    return row !== undefined;
  }

  /** First the new key, then the end of the old one: at no moment does neither work. */
  async rotate(id: string, { overlapSec }: { readonly overlapSec: number }): Promise<MadeKey> {
    if (!Number.isInteger(overlapSec) || overlapSec < 0 || overlapSec > OVERLAP_SEC_MAX) {
      throw new RangeError(`overlapSec: must be whole seconds from 0 to ${OVERLAP_SEC_MAX} (30 days)`);
    }
    const old = rotatable(id, this.#table.get(id));
    const { org, project, name, scopes } = old;
    const made = await this.#insert({
      org,
      project,
      name,
      ...lifetimeOf(old),
      ...(scopes !== undefined && { scopes }),
      rotatedFrom: id,
    });
    const untilMs = Date.now() + overlapSec * 1000;
    try {
      await this.#table.change(id, (row) => {
        const found = rotatable(id, row);
        const ownMs = found.expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(found.expiresAt);
        return { ...found, expiresAt: new Date(Math.min(untilMs, ownMs)).toISOString(), replacedBy: made.id };
      });
    } catch (error) {
      // Nobody was told the new key yet.
      await this.#table.change(made.id, () => null).catch(() => {});
      throw error;
    }
    return made;
  }

  async #insert(fields: Omit<KeyRecord, "id" | "hash" | "prefix" | "createdAt">): Promise<MadeKey> {
    if (this.#table.size >= KEYS_MAX) await this.#forgetOne();
    const key = `sp-${random62(32)}`;
    const record = recordOf(`key_${random62(16)}`, key, this.#hash, fields);
    await this.#table.change(record.id, () => record);
    return { id: record.id, key };
  }

  async #forgetOne(): Promise<void> {
    let oldest: KeyRecord | undefined;
    let oldestMs = Date.now() - FORGOTTEN_AFTER_MS;
    for (const record of this.#table.rows.values()) {
      const endedMs = endOf(record);
      if (endedMs > oldestMs) continue;
      oldest = record;
      oldestMs = endedMs;
    }
    if (oldest === undefined) {
      throw new RangeError(
        `keys: there are ${KEYS_MAX} already, the most there may be: revoke some; ` +
          "30 days after its end a key makes room for a new one",
      );
    }
    await this.#table.change(oldest.id, (row) =>
      row?.id === oldest.id && endOf(row) <= oldestMs ? null : undefined,
    );
  }
}

/** The key that a house is opened with: the given one, or one that is made. */
export function bootstrapRecord(
  given: string | undefined,
  hash: Hash,
): { readonly key: string; readonly record: KeyRecord } {
  const key = given ?? `sp-${random62(32)}`;
  const fields = { org: "default", project: "default", name: "bootstrap" };
  return { key, record: recordOf(BOOTSTRAP_ID, key, hash, fields) };
}

function recordOf(
  id: string,
  key: string,
  hash: Hash,
  fields: Omit<KeyRecord, "id" | "hash" | "prefix" | "createdAt">,
): KeyRecord {
  const createdAt = new Date().toISOString();
  return { id, hash: hash(key), prefix: `${key.slice(0, 6)}…`, createdAt, ...fields };
}

/** The row, where it can be rotated; throws a RangeError that says why not. */
function rotatable(id: string, row: KeyRecord | undefined): KeyRecord {
  const fault = faultOf(row);
  if (row === undefined || fault !== undefined) throw new RangeError(`id: ${id} ${fault}`);
  return row;
}

function faultOf(row: KeyRecord | undefined): string | undefined {
  if (row === undefined) return "is no key here";
  if (row.canary === true) return "is a canary, which nobody uses: make a new one instead";
  if (row.revokedAt !== undefined) return "was revoked: make a new key instead";
  if (row.expiresAt !== undefined && Date.parse(row.expiresAt) <= Date.now())
    return "has expired: make a new key instead";
  if (row.replacedBy !== undefined) return `was replaced already: rotate ${row.replacedBy}`;
  return undefined;
}

/** As long as the old key was given: a rotation neither makes a key last for ever nor shortens it. */
function lifetimeOf({ createdAt, expiresAt }: KeyRecord): { readonly expiresAt?: string } {
  if (expiresAt === undefined) return {};
  const ms = Date.parse(expiresAt) - Date.parse(createdAt);
  return { expiresAt: new Date(Date.now() + ms).toISOString() };
}

/** When the key stopped working, or will; Infinity where neither is known. */
function endOf({ expiresAt, revokedAt }: KeyRecord): number {
  const expired = expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt);
  return revokedAt === undefined ? expired : Math.min(expired, Date.parse(revokedAt));
}

/** Checked and in one spelling; undefined where nothing is restricted. */
function tidyScopes(wanted: KeyScopes): KeyScopes | undefined {
  check(keyScopes, wanted, "scopes");
  const { routes, models, networks } = wanted;
  if (routes === undefined && models === undefined && networks === undefined) return undefined;
  return {
    ...(routes !== undefined && { routes: [...new Set(routes)] }),
    ...(models !== undefined && { models: [...new Set(models)] }),
    ...(networks !== undefined && { networks: [...new Set(networks.map(tidyNetwork))] }),
  };
}

function check(shape: z.ZodType, value: unknown, field: string): void {
  const parsed = shape.safeParse(value);
  if (parsed.success) return;
  const [issue] = parsed.error.issues;
  throw new RangeError(`${[field, ...(issue?.path ?? [])].join(".")}: ${issue?.message}`);
}

function random62(length: number): string {
  let text = "";
  for (let i = 0; i < length; i++) text += BASE62[randomInt(62)];
  return text;
}
