/**
 * Named bearer tokens of the admin API, for the command line and for CI: each with a role, kept as a keyed hash
 * like virtual keys are, revoked on every replica within a second.
 */
import { randomBytes } from "node:crypto";
import { type Role, role, TOKENS_MAX, type TokenRecord, tokenName } from "./operators-record.ts";
import type { Pepper } from "./pepper.ts";
import type { RowChange, Table } from "./table.ts";

const PREFIX = "sp-admin-";
const SECRET_BYTES = 24;
const PRESENTED_UNITS_MAX = 128;
/** When the table is full, tokens that ended so long ago make room. */
const FORGOTTEN_AFTER_MS = 30 * 86_400_000;

export type TokenListing = Omit<TokenRecord, "hash">;

export interface NewToken {
  readonly name: string;
  readonly role: Role;
  /** RFC 3339. */
  readonly expiresAt?: string | undefined;
}

export class OperatorTokens {
  readonly #table: Table<TokenRecord>;
  readonly #pepper: Pepper;
  readonly #now: () => number;
  readonly #byHash = new Map<string, TokenRecord>();

  constructor(table: Table<TokenRecord>, pepper: Pepper, now: () => number) {
    this.#table = table;
    this.#pepper = pepper;
    this.#now = now;
    for (const row of table.values()) this.#byHash.set(row.hash, row);
    table.onChange((changes) => this.#follow(changes));
  }

  /** The token, where it works now. */
  find(presented: string): TokenListing | undefined {
    if (presented.length > PRESENTED_UNITS_MAX || !presented.startsWith(PREFIX)) return undefined;
    const row = this.#byHash.get(this.#hash(presented));
    return row === undefined || endOf(row) <= this.#now() ? undefined : listingOf(row);
  }

  list(): readonly TokenListing[] {
    return Array.from(this.#table.values(), listingOf);
  }

  get(id: string): TokenListing | undefined {
    const row = this.#table.get(id);
    return row === undefined ? undefined : listingOf(row);
  }

  /** The token in clear is in this answer and nowhere else. RangeError "field: why" for what cannot be. */
  async create(
    wanted: NewToken,
    { by }: { readonly by: string },
  ): Promise<{ readonly id: string; readonly token: string }> {
    const expiresAt = this.#checked(wanted);
    if (this.#table.size >= TOKENS_MAX) await this.#forgetEnded();
    const token = PREFIX + randomBytes(SECRET_BYTES).toString("base64url");
    const row: TokenRecord = {
      id: `tok_${randomBytes(8).toString("hex")}`,
      hash: this.#hash(token),
      prefix: `${token.slice(0, PREFIX.length + 3)}…`,
      name: wanted.name,
      role: wanted.role,
      createdAt: new Date(this.#now()).toISOString(),
      createdBy: by,
      ...(expiresAt !== undefined && { expiresAt }),
    };
    await this.#table.change(row.id, () => row);
    return { id: row.id, token };
  }

  /** False where there is no such token. A second time changes nothing. */
  async revoke(id: string): Promise<boolean> {
    const row = await this.#table.change(id, (found) =>
      found === undefined || found.revokedAt !== undefined
        ? undefined
        : { ...found, revokedAt: new Date(this.#now()).toISOString() },
    );
    return row !== undefined;
  }

  /** `expiresAt` in its one spelling. */
  #checked(wanted: NewToken): string | undefined {
    const name = tokenName.safeParse(wanted.name);
    if (!name.success) throw new RangeError(`name: ${name.error.issues[0]?.message}`);
    if (!role.safeParse(wanted.role).success)
      throw new RangeError(`role: must be one of ${role.options.join(", ")}`);
    const nowMs = this.#now();
    for (const row of this.#table.values()) {
      // Records name a token's user by its name.
      if (row.name === wanted.name && endOf(row) > nowMs)
        throw new RangeError(`name: there is a token ${wanted.name} already: revoke it (${row.id}) first`);
    }
    if (wanted.expiresAt === undefined) return undefined;
    const expiresMs = Date.parse(wanted.expiresAt);
    if (Number.isNaN(expiresMs))
      throw new RangeError("expiresAt: must be a date or time such as 2027-01-01 or 2027-01-01T12:00:00Z");
    if (expiresMs <= nowMs) throw new RangeError("expiresAt: must lie in the future");
    return new Date(expiresMs).toISOString();
  }

  async #forgetEnded(): Promise<void> {
    const latestMs = this.#now() - FORGOTTEN_AFTER_MS;
    const ended = Array.from(this.#table.values()).filter((row) => endOf(row) <= latestMs);
    if (ended.length === 0) {
      throw new RangeError(
        `tokens: there are ${TOKENS_MAX} already, the most there may be: revoke some; ` +
          "30 days after its end a token makes room for a new one",
      );
    }
    await Promise.all(ended.map(({ id }) => this.#table.change(id, () => null)));
  }

  #follow(changes: readonly RowChange<TokenRecord>[]): void {
    for (const { before } of changes) if (before !== undefined) this.#byHash.delete(before.hash);
    for (const { after } of changes) if (after !== undefined) this.#byHash.set(after.hash, after);
  }

  #hash(token: string): string {
    return this.#pepper.digest(`operator's token\n${token}`).toString("base64url");
  }
}

function listingOf({ hash: _, ...shown }: TokenRecord): TokenListing {
  return shown;
}

/** When it stopped working, or will; Infinity where neither is known. */
function endOf({ expiresAt, revokedAt }: TokenListing): number {
  const expired = expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt);
  return revokedAt === undefined ? expired : Math.min(expired, Date.parse(revokedAt));
}
