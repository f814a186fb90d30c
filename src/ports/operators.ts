/**
 * The people and programs that may use the admin API: accounts, their sessions, named tokens, and the one-time
 * token with which the first account is made. All of it lies in tables that every replica holds whole, so that to
 * know a caller takes no wait, and an account that is disabled here is out everywhere within a second.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { join } from "node:path";
import { Accounts } from "./operators-accounts.ts";
import { Passwords, type ScryptCost } from "./operators-password.ts";
import {
  ACCOUNTS_MAX,
  type AccountRecord,
  accountRecord,
  SESSIONS_MAX,
  type SessionRecord,
  sessionRecord,
  TOKENS_MAX,
  type TokenRecord,
  tokenRecord,
} from "./operators-record.ts";
import { Sessions, type SessionTimes } from "./operators-sessions.ts";
import { OperatorTokens } from "./operators-tokens.ts";
import { openPepper, PEPPER_VARIABLE, type Pepper } from "./pepper.ts";
import type { SharedRedis } from "./redis.ts";
import { openTable, type Table } from "./table.ts";

const SETUP_MS = 3_600_000;
/** Logins in the same instant at several replicas may pass the bound by a few before the next one makes room. */
const SESSION_ROWS_MAX = SESSIONS_MAX + 200;

export interface OperatorsOptions {
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly redis?: SharedRedis | undefined;
  readonly times?: SessionTimes | undefined;
  /** Follows changes made by other processes. True unless said. */
  readonly watch?: boolean;
  /** ms since the epoch. */
  readonly now?: (() => number) | undefined;
  readonly cost?: ScryptCost | undefined;
  /** Told once when a store becomes unreadable, and with undefined when it can be read again. */
  readonly onProblem?: ((problem: string | undefined) => void) | undefined;
}

export interface OperatorTables {
  readonly accounts: Table<AccountRecord>;
  readonly sessions: Table<SessionRecord>;
  readonly tokens: Table<TokenRecord>;
}

export const SESSION_TIMES: SessionTimes = { idleMs: 1_800_000, absoluteMs: 43_200_000 };

export async function openOperators(options: OperatorsOptions): Promise<Operators> {
  const { dataDir, env, redis, watch, onProblem } = options;
  const pepper = openPepper(dataDir, env);
  const common = {
    redis,
    stamp: pepper.fingerprint(),
    stampProblem:
      "was written with another pepper, so that no password or token in it can match: " +
      `set ${PEPPER_VARIABLE} to the one that it was written with, the same for every gateway, ` +
      'or restore the file "pepper" in the data folder',
    ...(watch !== undefined && { watch }),
    ...(onProblem !== undefined && { onProblem }),
  };
  await using opening = new AsyncDisposableStack();
  const kept = <Row extends { readonly id: string }>(table: Table<Row>) => {
    opening.defer(() => table.close());
    return table;
  };
  const place = (name: string, rowsMax: number) => ({
    ...common,
    name,
    rowsMax,
    path: join(dataDir, `${name}.json`),
  });
  const tables: OperatorTables = {
    accounts: kept(await openTable({ ...place("accounts", ACCOUNTS_MAX), row: accountRecord })),
    sessions: kept(await openTable({ ...place("sessions", SESSION_ROWS_MAX), row: sessionRecord })),
    tokens: kept(await openTable({ ...place("admin-tokens", TOKENS_MAX), row: tokenRecord })),
  };
  const operators = new Operators(tables, pepper, options);
  opening.move();
  return operators;
}

export class Operators {
  readonly accounts: Accounts;
  readonly sessions: Sessions;
  readonly tokens: OperatorTokens;
  readonly #tables: OperatorTables;
  readonly #redis: SharedRedis | undefined;
  readonly #now: () => number;
  #setup: { readonly digest: Buffer; readonly untilMs: number } | undefined;

  constructor(
    tables: OperatorTables,
    pepper: Pepper,
    { redis, times = SESSION_TIMES, now = Date.now, cost }: Omit<OperatorsOptions, "dataDir" | "env"> = {},
  ) {
    this.#tables = tables;
    this.#redis = redis;
    this.#now = now;
    this.accounts = new Accounts(tables.accounts, new Passwords(pepper, cost));
    this.tokens = new OperatorTokens(tables.tokens, pepper, now);
    this.sessions = new Sessions({ table: tables.sessions, accounts: this.accounts, pepper, times, now });
  }

  /**
   * Makes the token with which the first account is made; the one of before ends. Undefined where there is an
   * account, or where Redis, which would know, is away. Only the answer holds it in clear.
   */
  issueSetup(): { readonly token: string; readonly expiresMs: number } | undefined {
    if (this.accounts.size > 0 || this.#redis?.isUp === false) return undefined;
    const token = `sp-setup-${randomBytes(24).toString("base64url")}`;
    this.#setup = { digest: digest(token), untilMs: this.#now() + SETUP_MS };
    return { token, expiresMs: this.#setup.untilMs };
  }

  isSetup(presented: string): boolean {
    const setup = this.#setup;
    if (setup === undefined || this.accounts.size > 0) return false;
    const nowMs = this.#now();
    // A clock that was set back gives it no second hour.
    if (nowMs >= setup.untilMs || nowMs < setup.untilMs - 2 * SETUP_MS) return false;
    return timingSafeEqual(digest(presented), setup.digest);
  }

  /**
   * The first admin account, for the one-time token, which is then used up; undefined where the token is not the
   * one. What is wrong with name or password (RangeError) leaves the token as it is.
   */
  async setUp(presented: string, account: { readonly name: string; readonly password: string }) {
    if (!this.isSetup(presented)) return undefined;
    const setup = this.#setup;
    // Of two calls with it at once, one finds it.
    this.#setup = undefined;
    try {
      return await this.accounts.create({ ...account, role: "admin" }, { by: "setup", first: true });
    } catch (error) {
      if (this.accounts.size === 0) this.#setup ??= setup;
      throw error;
    }
  }

  get problem(): string | undefined {
    const { accounts, sessions, tokens } = this.#tables;
    return accounts.problem ?? sessions.problem ?? tokens.problem;
  }

  async close(): Promise<void> {
    const { accounts, sessions, tokens } = this.#tables;
    await Promise.all([accounts.close(), sessions.close(), tokens.close()]);
  }
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
