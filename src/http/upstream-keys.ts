/**
 * Upstream keys of single organisations: from the environment, and from a file (a mounted secret) that is read
 * again when it changes. A file that can no longer be used leaves the last good keys in place; at start it is an
 * error, as requests would go out on the wrong account.
 */
import { readFile, stat } from "node:fs/promises";
import { parse } from "yaml";
import { z } from "zod";
import type { DialectName } from "../layer/index.ts";
import { type Credential, credentialFor } from "./upstream.ts";

export interface OrgKeysOptions {
  readonly dialect: DialectName;
  /** By organisation. */
  readonly keys: Readonly<Record<string, string>>;
  /** YAML or JSON, organisation: key; goes before `keys`. */
  readonly path?: string | undefined;
  /** How often the file is looked at. */
  readonly pollMs?: number;
  /** Undefined: in order again. */
  readonly onProblem?: (problem: string | undefined) => void;
}

const POLL_MS = 2_000;
const ORGS_MAX = 10_000;
const BYTES_MAX = 4_194_304;
const OTHERS = 0o007;

const keysFile = z
  .record(
    z
      .string()
      .regex(/^[\w.@:-]{1,64}$/, { error: "an organisation is 1 to 64 of letters, digits and . _ @ : -" }),
    z.string().regex(/^[\x21-\x7e]{1,1024}$/, {
      error: "a key is 1 to 1024 printable ASCII characters without spaces",
    }),
  )
  .refine((keys) => Object.keys(keys).length <= ORGS_MAX, { error: `at most ${ORGS_MAX} organisations` });

export class OrgKeys {
  readonly #options: OrgKeysOptions;
  #credentials: ReadonlyMap<string, Credential>;
  #seen = "";
  #problem: string | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @throws where the file cannot be used, with what is wrong and how to mend it. */
  static async open(options: OrgKeysOptions): Promise<OrgKeys> {
    const keys = new OrgKeys(options);
    const { path } = options;
    if (path === undefined) return keys;
    await keys.#read(path);
    const poll = () => {
      keys.#reread(path).finally(() => keys.#timer?.refresh());
    };
    keys.#timer = setTimeout(poll, options.pollMs ?? POLL_MS).unref();
    return keys;
  }

  private constructor(options: OrgKeysOptions) {
    this.#options = options;
    this.#credentials = this.#join({});
  }

  /** Undefined: this organisation has no key of its own. */
  of(org: string): Credential | undefined {
    return this.#credentials.get(org);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #reread(path: string): Promise<void> {
    let problem: string | undefined;
    try {
      await this.#read(path);
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    if (problem !== this.#problem) this.#options.onProblem?.(problem);
    this.#problem = problem;
  }

  async #read(path: string): Promise<void> {
    const { mode, mtimeMs, size, ino } = await stat(path).catch((error: NodeJS.ErrnoException) => {
      throw new Error(`${path}: cannot be read (${error.code})`);
    });
    const seen = `${mtimeMs} ${size} ${ino} ${mode}`;
    if (seen === this.#seen) return;
    if ((mode & OTHERS) !== 0)
      throw new Error(
        `${path}: holds keys, and every user of this machine may open it; chmod 640 mends that`,
      );
    if (size > BYTES_MAX) throw new Error(`${path}: larger than ${BYTES_MAX} bytes`);
    this.#credentials = this.#join(parseKeys(path, await readFile(path, "utf8")));
    this.#seen = seen;
  }

  #join(more: Readonly<Record<string, string>>): ReadonlyMap<string, Credential> {
    const { dialect, keys } = this.#options;
    const all = Object.entries({ ...keys, ...more });
    return new Map(all.map(([org, key]) => [org, credentialFor(dialect, key)]));
  }
}

/** Messages name the organisation, never a key. */
function parseKeys(path: string, text: string): Readonly<Record<string, string>> {
  let value: unknown;
  try {
    value = parse(text);
  } catch {
    throw new Error(`${path}: neither YAML nor JSON; expected one line "organisation: key" for each`);
  }
  const parsed = keysFile.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`${path}: ${issue?.path.join(".") || "the file"}: ${issue?.message}`);
}
