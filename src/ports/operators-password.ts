/**
 * Passwords of operators: which are taken, how they are stored, how one is checked. Stored is
 *
 *     $scrypt$ln=15,r=8,p=3$SALT$HASH        log2 of the cost, block size, parallelism; base64url
 *
 * over the password's HMAC with the pepper, so that a stolen file alone cannot be guessed at. scrypt takes 32 MiB
 * and a quarter of a second (OWASP's parameters of 2023), so it runs in libuv's threads, few at once, and whoever
 * finds the queue full is refused: logins cannot take the box's memory or the threads that read its files.
 */
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import type { Pepper } from "./pepper.ts";

export interface ScryptCost {
  /** log2 of N. */
  readonly ln: number;
  readonly r: number;
  readonly p: number;
}

const COST: ScryptCost = { ln: 15, r: 8, p: 3 };
const UNITS_MIN = 12;
const UNITS_MAX = 256;
const DISTINCT_MIN = 5;
const HASH_BYTES = 32;
const SALT_BYTES = 16;
const RUNNING_MAX = 2;
const WAITING_MAX = 16;
/** What a stored hash may ask for, whoever wrote it: 128 MiB. */
const MEMORY_MAX = 128 * 1024 * 1024 + 1_048_576;

/** Too many passwords are being checked at once. */
export class PasswordsBusy extends Error {
  constructor() {
    super("too many logins at once");
    this.name = "PasswordsBusy";
  }
}

/** What is wrong with it as the password of this account; undefined where nothing is. */
export function passwordFault(password: string, name: string): string | undefined {
  const text = password.normalize("NFKC");
  if (text.length < UNITS_MIN) return `must have at least ${UNITS_MIN} characters`;
  if (text.length > UNITS_MAX) return `must have at most ${UNITS_MAX} characters`;
  if (new Set(text).size < DISTINCT_MIN) return `must have at least ${DISTINCT_MIN} different characters`;
  const rest = text.toLowerCase().replaceAll(name.toLowerCase(), "");
  // The name as a part is no harm, as long as what is left would still be a password.
  if (rest.length < UNITS_MIN - 4) return "must be more than the account's name and a few characters";
  return undefined;
}

interface Stored {
  readonly cost: ScryptCost;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

export class Passwords {
  readonly #pepper: Pepper;
  readonly #cost: ScryptCost;
  /** Checked where there is no such account, so that the answer takes as long as for one that is there. */
  readonly #nobody: string;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(pepper: Pepper, cost: ScryptCost = COST) {
    this.#pepper = pepper;
    this.#cost = cost;
    this.#nobody = written(cost, randomBytes(SALT_BYTES), randomBytes(HASH_BYTES));
  }

  /** Throws PasswordsBusy. */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    return written(this.#cost, salt, await this.#derive(password, salt, this.#cost));
  }

  /** `stored` undefined: takes its time, and is false. Throws PasswordsBusy. */
  async verify(password: string, stored: string | undefined): Promise<boolean> {
    const { cost, salt, hash } = read(stored ?? this.#nobody) ?? read(this.#nobody)!;
    const derived = await this.#derive(password, salt, cost);
    return timingSafeEqual(derived, hash) && stored !== undefined;
  }

  /** It was stored with other parameters than are used now. */
  isDated(stored: string): boolean {
    const cost = read(stored)?.cost;
    return cost === undefined || costText(cost) !== costText(this.#cost);
  }

  async #derive(password: string, salt: Buffer, cost: ScryptCost): Promise<Buffer> {
    await this.#turn();
    try {
      // A password is bounded where it is set; one that is presented may be anything up to a body's length.
      const keyed = this.#pepper.digest(`operator's password\n${password.normalize("NFKC")}`);
      const { ln, r, p } = cost;
      return await new Promise((resolve, reject) => {
        scrypt(keyed, salt, HASH_BYTES, { N: 2 ** ln, r, p, maxmem: MEMORY_MAX }, (error, derived) =>
          error === null ? resolve(derived) : reject(error),
        );
      });
    } finally {
      const next = this.#waiting.shift();
      // The turn is handed on, or given back.
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  async #turn(): Promise<void> {
    if (this.#running < RUNNING_MAX) {
      this.#running += 1;
      return;
    }
    if (this.#waiting.length >= WAITING_MAX) throw new PasswordsBusy();
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

function written(cost: ScryptCost, salt: Buffer, hash: Buffer): string {
  return `$scrypt$${costText(cost)}$${salt.toString("base64url")}$${hash.toString("base64url")}`;
}

function costText({ ln, r, p }: ScryptCost): string {
  return `ln=${ln},r=${r},p=${p}`;
}

/** Undefined for what no version of this wrote, or what would ask for more than a login may take. */
function read(stored: string): Stored | undefined {
  const [, ln, r, p, salt, hash] =
    /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([\w-]{22})\$([\w-]{43})$/.exec(stored) ?? [];
  if (salt === undefined || hash === undefined) return undefined;
  const cost = { ln: Number(ln), r: Number(r), p: Number(p) };
  if (cost.ln < 1 || cost.r < 1 || cost.p < 1 || cost.p > 16) return undefined;
  if (128 * 2 ** cost.ln * cost.r > 128 * 1024 * 1024) return undefined;
  return { cost, salt: Buffer.from(salt, "base64url"), hash: Buffer.from(hash, "base64url") };
}
