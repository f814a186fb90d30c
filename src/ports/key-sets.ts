/**
 * The public keys of one issuer of tokens, kept fresh behind the requests: fetched at once, again every ten
 * minutes, and once more when a token names a key that is not among them. What was loaded last stays in force
 * while the issuer cannot be reached; no request waits for the network but those before the very first load.
 */
import { createLocalJWKSet, type JSONWebKeySet, type LocalJWKSet } from "jose";

const FETCH_MS = 2_000;
const DOCUMENT_BYTES_MAX = 262_144;
const KEYS_MAX = 100;
const REFRESH_MS = 600_000;
/** After a failure, and between two refreshes that unknown keys ask for. */
const RETRY_MS = 30_000;
/** Between two attempts while nothing was ever loaded and requests wait. */
const FIRST_RETRY_MS = 1_000;
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

export interface KeySetOptions {
  readonly issuer: string;
  readonly jwksUrl: string | undefined;
  readonly refreshMs?: number;
  readonly retryMs?: number;
  readonly onProblem?: ((problem: string | undefined) => void) | undefined;
}

export interface KeySetStatus {
  readonly issuer: string;
  /** Public keys in force; 0: none was ever loaded, and no token can be checked. */
  readonly keys: number;
  /** ms since the epoch; absent where none was ever loaded. */
  readonly loadedMs?: number;
  /** Why the last attempt failed; what was loaded before stays in force. */
  readonly problem?: string;
}

/** Why a URL may not be fetched from: keys that come over an open network are anybody's. */
export function urlFault(text: string): string | undefined {
  if (!URL.canParse(text)) return `${JSON.stringify(text)} is not a URL`;
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") return "a URL with a password in it is not fetched";
  if (url.protocol === "https:") return undefined;
  if (url.protocol === "http:" && LOOPBACK.test(url.hostname)) return undefined;
  return `${url.origin} is not https (http is taken for loopback alone)`;
}

export class KeySet {
  readonly #options: KeySetOptions;
  readonly #refreshMs: number;
  readonly #retryMs: number;
  #current: LocalJWKSet | undefined;
  #text = "";
  #count = 0;
  #version = 0;
  #loadedMs = 0;
  #problem: string | undefined;
  /** On the clock of performance.now(), which never goes back. */
  #triedMs = Number.NEGATIVE_INFINITY;
  #askedMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: KeySetOptions) {
    this.#options = options;
    this.#refreshMs = options.refreshMs ?? REFRESH_MS;
    this.#retryMs = options.retryMs ?? RETRY_MS;
    void this.#refresh();
  }

  /** Undefined until a set was loaded once. An old one is refreshed behind the caller, also after `close`. */
  get current(): LocalJWKSet | undefined {
    const sinceMs = performance.now() - this.#triedMs;
    if (sinceMs >= (this.#problem === undefined ? this.#refreshMs : this.#retryMs)) void this.#refresh();
    return this.#current;
  }

  /** Another number once the keys have changed: what was verified with the old ones must be verified anew. */
  get version(): number {
    return this.#version;
  }

  get status(): KeySetStatus {
    return {
      issuer: this.#options.issuer,
      keys: this.#count,
      ...(this.#count > 0 && { loadedMs: this.#loadedMs }),
      ...(this.#problem !== undefined && { problem: this.#problem }),
    };
  }

  /** The set, waited for where none was ever loaded; undefined when it does not come in time. */
  async loaded(waitMs: number): Promise<LocalJWKSet | undefined> {
    if (this.#current !== undefined) return this.current;
    if (performance.now() - this.#triedMs >= FIRST_RETRY_MS) void this.#refresh();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, waitMs);
    });
    await Promise.race([this.#running, late]);
    clearTimeout(timer);
    return this.#current;
  }

  /** A token named a key that is not here. True while a refresh that may bring it is under way. */
  refreshForUnknown(): boolean {
    if (this.#running !== undefined) return true;
    const nowMs = performance.now();
    if (nowMs - this.#askedMs < this.#retryMs) return false;
    this.#askedMs = nowMs;
    void this.#refresh();
    return true;
  }

  /** Ends the refreshes by time. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #refresh(): Promise<void> {
    this.#running ??= this.#load()
      .then(
        () => this.#report(undefined),
        (error: unknown) => this.#report(wordsOf(error)),
      )
      .finally(() => {
        this.#running = undefined;
        this.#arm();
      });
    return this.#running;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    const waitMs = this.#problem === undefined ? this.#refreshMs : Math.min(this.#retryMs, this.#refreshMs);
    this.#timer = setTimeout(() => void this.#refresh(), waitMs).unref();
  }

  async #load(): Promise<void> {
    this.#triedMs = performance.now();
    const { issuer, jwksUrl } = this.#options;
    const url = jwksUrl ?? (await discover(issuer));
    const document = await fetchJson(url);
    const keys = (document as Partial<JSONWebKeySet> | null)?.keys;
    if (!Array.isArray(keys) || keys.length === 0) throw new Error(`${url}: holds no "keys"`);
    if (keys.length > KEYS_MAX) throw new Error(`${url}: holds more than ${KEYS_MAX} keys`);
    const text = JSON.stringify(keys);
    this.#loadedMs = Date.now();
    if (text === this.#text) return;
    this.#current = createLocalJWKSet({ keys });
    this.#text = text;
    this.#count = keys.length;
    this.#version += 1;
  }

  #report(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#options.onProblem?.(problem);
  }
}

/** OpenID Connect Discovery 1.0, section 4: the document must name the very issuer that it was asked of. */
async function discover(issuer: string): Promise<string> {
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const found = (await fetchJson(url)) as { readonly issuer?: unknown; readonly jwks_uri?: unknown } | null;
  if (found?.issuer !== issuer) {
    throw new Error(`${url}: names another issuer, ${JSON.stringify(found?.issuer)?.slice(0, 200)}`);
  }
  if (typeof found.jwks_uri !== "string") throw new Error(`${url}: has no jwks_uri`);
  return found.jwks_uri;
}

async function fetchJson(url: string): Promise<unknown> {
  const fault = urlFault(url);
  if (fault !== undefined) throw new Error(fault);
  const signal = AbortSignal.timeout(FETCH_MS);
  // A redirect could lead off https, or to whom the operator never named.
  const answer = await fetch(url, { redirect: "error", signal, headers: { accept: "application/json" } });
  if (answer.status !== 200) {
    await answer.body?.cancel();
    throw new Error(`${url}: answered ${answer.status}`);
  }
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of answer.body ?? []) {
    bytes += part.length;
    if (bytes > DOCUMENT_BYTES_MAX) throw new Error(`${url}: is longer than ${DOCUMENT_BYTES_MAX} bytes`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8")) as unknown;
  } catch {
    throw new Error(`${url}: is not JSON`);
  }
}

/** fetch says "fetch failed" and hides why in its cause. */
function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `no answer within ${FETCH_MS / 1000} s`;
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
