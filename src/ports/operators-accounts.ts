/**
 * Accounts of operators in their table: a name, a password's hash, a role. Each step is one change of one row
 * against the row as it then is. Whatever ends the sessions of an account (another password, another role, being
 * disabled) does so by a new `epoch` in its row, which every replica sees within a second; no list of sessions has
 * to be gone through for it.
 */
import { randomBytes } from "node:crypto";
import { type Passwords, passwordFault } from "./operators-password.ts";
import { type AccountRecord, operatorName, type Role, role } from "./operators-record.ts";
import type { Table } from "./table.ts";

export type AccountListing = Omit<AccountRecord, "password" | "epoch">;

export interface NewAccount {
  readonly name: string;
  readonly password: string;
  readonly role: Role;
}

/** The account is there, but not so that this can be done to it. */
export class AccountConflict extends Error {
  constructor(message: string) {
    super(message);
    this.name = "AccountConflict";
  }
}

export class Accounts {
  readonly #table: Table<AccountRecord>;
  readonly #passwords: Passwords;

  constructor(table: Table<AccountRecord>, passwords: Passwords) {
    this.#table = table;
    this.#passwords = passwords;
  }

  get size(): number {
    return this.#table.size;
  }

  list(): readonly AccountListing[] {
    return Array.from(this.#table.values(), listingOf);
  }

  get(name: string): AccountListing | undefined {
    const row = this.#table.get(name.toLowerCase());
    return row === undefined ? undefined : listingOf(row);
  }

  /** What a session of it has to carry; undefined where it may have none. */
  epochOf(name: string): string | undefined {
    const row = this.#table.get(name);
    return row === undefined || row.disabled ? undefined : row.epoch;
  }

  /**
   * RangeError "field: why" for what cannot be, AccountConflict where the name is taken. With `first`, also where
   * there is an account by now.
   */
  async create(
    { name, password, role: wanted }: NewAccount,
    { by, first = false }: { readonly by: string; readonly first?: boolean },
  ): Promise<AccountListing> {
    const id = name.toLowerCase();
    checkName(id);
    checkRole(wanted);
    checkPassword(password, id);
    const row: AccountRecord = {
      id,
      password: await this.#passwords.hash(password),
      role: wanted,
      disabled: false,
      epoch: newEpoch(),
      createdAt: new Date().toISOString(),
      createdBy: by,
    };
    await this.#table.change(id, (found) => {
      if (first && this.#table.size > 0) throw new AccountConflict("there is an account already: log in");
      if (found !== undefined) throw new AccountConflict(`there is an account ${id} already`);
      return row;
    });
    return listingOf(row);
  }

  /** The account, where name and password are right and it is not disabled. Always takes one scrypt's time. */
  async login(name: string, password: string): Promise<AccountListing | undefined> {
    const row = this.#table.get(name.toLowerCase());
    const isRight = await this.#passwords.verify(password, row?.password);
    if (row === undefined || !isRight || row.disabled) return undefined;
    const password_ = this.#passwords.isDated(row.password)
      ? await this.#passwords.hash(password)
      : undefined;
    const now = await this.#table.change(row.id, (found) => {
      // Disabled, or given another password, while this one was looked at.
      if (found === undefined || found.epoch !== row.epoch) return undefined;
      const renewed = password_ === undefined ? {} : { password: password_ };
      return { ...found, ...renewed, lastLoginAt: new Date().toISOString() };
    });
    return now === undefined || now.epoch !== row.epoch ? undefined : listingOf(now);
  }

  /** Whether it is the password of this account, which may be disabled. */
  verify(name: string, password: string): Promise<boolean> {
    return this.#passwords.verify(password, this.#table.get(name.toLowerCase())?.password);
  }

  /** Ends its sessions. Undefined where there is no such account; RangeError "password: why". */
  async setPassword(name: string, password: string): Promise<AccountListing | undefined> {
    const id = name.toLowerCase();
    checkPassword(password, id);
    const hash = await this.#passwords.hash(password);
    return this.#change(id, (row) => ({ ...row, password: hash, epoch: newEpoch() }));
  }

  /** Ends its sessions where it changes something. Undefined where there is no such account. */
  async change(
    name: string,
    wanted: { readonly role?: Role | undefined; readonly disabled?: boolean | undefined },
  ): Promise<AccountListing | undefined> {
    if (wanted.role !== undefined) checkRole(wanted.role);
    return this.#change(name.toLowerCase(), (row) => {
      const next = { ...row, role: wanted.role ?? row.role, disabled: wanted.disabled ?? row.disabled };
      if (next.role === row.role && next.disabled === row.disabled) return undefined;
      if (isAdmin(row) && !isAdmin(next)) this.#checkOtherAdmin(row.id);
      return { ...next, epoch: newEpoch() };
    });
  }

  async #change(
    id: string,
    change: (row: AccountRecord) => AccountRecord | undefined,
  ): Promise<AccountListing | undefined> {
    const row = await this.#table.change(id, (found) => (found === undefined ? undefined : change(found)));
    return row === undefined ? undefined : listingOf(row);
  }

  #checkOtherAdmin(id: string): void {
    for (const row of this.#table.values()) if (row.id !== id && isAdmin(row)) return;
    throw new AccountConflict(`${id} is the last account that may manage accounts: make another admin first`);
  }
}

function isAdmin({ role: has, disabled }: AccountRecord): boolean {
  return has === "admin" && !disabled;
}

function listingOf({ password: _, epoch: _epoch, ...shown }: AccountRecord): AccountListing {
  return shown;
}

function newEpoch(): string {
  return randomBytes(12).toString("base64url");
}

function checkName(name: string): void {
  const parsed = operatorName.safeParse(name);
  if (!parsed.success) throw new RangeError(`name: ${parsed.error.issues[0]?.message}`);
}

function checkRole(wanted: string): void {
  if (!role.safeParse(wanted).success)
    throw new RangeError(`role: must be one of ${role.options.join(", ")}`);
}

function checkPassword(password: string, name: string): void {
  const wrong = passwordFault(password, name);
  if (wrong !== undefined) throw new RangeError(`password: ${wrong}`);
}
