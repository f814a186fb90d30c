/**
 * Tokens (JWTs) that callers show in place of a key. A signature costs some 100 µs and a token is shown with
 * every request, so that one which was verified is known again by one hash until it expires, for five minutes at
 * most. A refused one is never remembered, but for those that were good once and have expired: they stay so.
 */
import { hash, randomBytes } from "node:crypto";
import { errors, type JWTPayload, type JWTVerifyGetKey, type JWTVerifyOptions, jwtVerify } from "jose";
import type { Await, Identity, Issuer, IssuerConfig, TokenCheck } from "../layer/index.ts";
import { KeySet, type KeySetStatus } from "./key-sets.ts";
import { accountName } from "./keys-record.ts";

const TOKEN_BYTES_MAX = 8_192;
/** Verified tokens of one issuer; beyond it the oldest is forgotten, and verified anew when it is shown again. */
const KNOWN_MAX = 10_000;
const KNOWN_MS_MAX = 300_000;
/** Signatures under way for one issuer; beyond it a token is answered "not now". */
const RUNNING_MAX = 256;
/** The first request of all waits this long for the keys. */
const FIRST_KEYS_MS = 1_000;
/** A token without a key id is tried against so many keys. */
const KEYS_TRIED_MAX = 4;
const CLAIM_UNITS_MAX = 256;
/** Settings that were asked for and are kept; beyond it the longest unasked are no longer refreshed by time. */
const ISSUERS_MAX = 64;

/** Asymmetric ones alone: with a symmetric one, whoever can check a token can make one. */
const ALGORITHMS: ReadonlySet<string> = new Set(
  "RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519".split(" "),
);

export interface IssuersOptions {
  /** Names a subject by a keyed hash, the same for every token of theirs. */
  readonly subjectId: (issuer: string, subject: string) => string;
  readonly sinceMs: (org: string) => number | undefined;
  readonly refreshMs?: number | undefined;
  readonly retryMs?: number | undefined;
  readonly onProblem?: ((issuer: string, problem: string | undefined) => void) | undefined;
}

export class Issuers {
  readonly #options: IssuersOptions;
  readonly #issuers = new Map<string, TokenIssuer>();

  constructor(options: IssuersOptions) {
    this.#options = options;
  }

  /** The same object for the same settings; its keys are fetched from now on. */
  issuer(config: IssuerConfig): Issuer {
    const { issuer, jwksUrl, audience, algorithms, claims, leewaySec } = config;
    const settings = [issuer, jwksUrl, audience, algorithms, leewaySec];
    const id = JSON.stringify([...settings, claims.org, claims.project, claims.endUser]);
    const known = this.#issuers.get(id) ?? this.#open(config);
    this.#issuers.delete(id);
    this.#issuers.set(id, known);
    if (this.#issuers.size > ISSUERS_MAX) {
      const [oldest, unused] = this.#issuers.entries().next().value!;
      this.#issuers.delete(oldest);
      if (!this.#usesKeysOf(unused)) unused.keySet.close();
    }
    return known;
  }

  /** One for each key set that is kept fresh. */
  status(): readonly KeySetStatus[] {
    return [...new Set([...this.#issuers.values()].map(({ keySet }) => keySet))].map(({ status }) => status);
  }

  close(): void {
    for (const { keySet } of this.#issuers.values()) keySet.close();
    this.#issuers.clear();
  }

  #open(config: IssuerConfig): TokenIssuer {
    const { issuer, jwksUrl } = config;
    for (const { config: other, keySet } of this.#issuers.values()) {
      if (other.issuer === issuer && other.jwksUrl === jwksUrl)
        return new TokenIssuer(config, keySet, this.#options);
    }
    const { refreshMs, retryMs, onProblem } = this.#options;
    const keySet = new KeySet({
      issuer,
      jwksUrl,
      ...(refreshMs !== undefined && { refreshMs }),
      ...(retryMs !== undefined && { retryMs }),
      onProblem: (problem) => onProblem?.(issuer, problem),
    });
    return new TokenIssuer(config, keySet, this.#options);
  }

  #usesKeysOf({ keySet }: TokenIssuer): boolean {
    return [...this.#issuers.values()].some((other) => other.keySet === keySet);
  }
}

interface Known {
  readonly check: TokenCheck;
  /** Version of the key set that it was verified with. */
  readonly version: number;
  readonly untilMs: number;
  readonly expiresMs: number;
}

const EXPIRED: TokenCheck = { state: "expired", why: "the token has expired" };
const BUSY: TokenCheck = { state: "no_keys", why: "too many tokens are being verified at once" };

class TokenIssuer implements Issuer {
  readonly config: IssuerConfig;
  readonly keySet: KeySet;
  readonly #options: IssuersOptions;
  readonly #verifyOptions: JWTVerifyOptions;
  readonly #salt = randomBytes(32).toString("base64url");
  readonly #known = new Map<string, Known>();
  readonly #running = new Map<string, Promise<TokenCheck>>();

  constructor(config: IssuerConfig, keySet: KeySet, options: IssuersOptions) {
    const wrong = config.algorithms.find((algorithm) => !ALGORITHMS.has(algorithm));
    if (wrong !== undefined || config.algorithms.length === 0) {
      throw new RangeError(`algorithms: ${wrong ?? "none"} is not among ${[...ALGORITHMS].join(", ")}`);
    }
    this.config = config;
    this.keySet = keySet;
    this.#options = options;
    this.#verifyOptions = {
      issuer: config.issuer,
      audience: config.audience,
      algorithms: [...config.algorithms],
      clockTolerance: config.leewaySec,
      requiredClaims: ["exp", "sub"],
    };
  }

  known(token: string): TokenCheck | undefined {
    return token.length > TOKEN_BYTES_MAX ? undefined : this.#recall(this.#print(token));
  }

  verify(token: string): Await<TokenCheck> {
    if (token.length > TOKEN_BYTES_MAX) return invalid(`the token is longer than ${TOKEN_BYTES_MAX} bytes`);
    const print = this.#print(token);
    const known = this.#recall(print) ?? this.#running.get(print);
    if (known !== undefined) return known;
    if (this.#running.size >= RUNNING_MAX) return BUSY;
    const running = this.#verify(token, print).finally(() => this.#running.delete(print));
    this.#running.set(print, running);
    return running;
  }

  #print(token: string): string {
    return hash("sha256", this.#salt + token, "base64url");
  }

  #recall(print: string): TokenCheck | undefined {
    const known = this.#known.get(print);
    if (known === undefined) return undefined;
    const nowMs = Date.now();
    if (nowMs >= known.expiresMs) return EXPIRED;
    // Asking for the keys keeps them fresh.
    if (nowMs < known.untilMs && this.keySet.current !== undefined && known.version === this.keySet.version) {
      return known.check;
    }
    this.#known.delete(print);
    return undefined;
  }

  async #verify(token: string, print: string): Promise<TokenCheck> {
    const keys = await this.keySet.loaded(FIRST_KEYS_MS);
    if (keys === undefined) return { state: "no_keys", why: "no keys of the issuer were loaded yet" };
    const { version } = this.keySet;
    let claims: JWTPayload;
    try {
      claims = await payloadOf(token, keys, this.#verifyOptions);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return this.#unknownKey();
      // jose looks at the time last: an expired token has a good signature, so this cannot be forged.
      if (error instanceof errors.JWTExpired) return this.#remember(print, EXPIRED, version, 0);
      return invalid(
        error instanceof errors.JOSEError ? error.message : "no key of the issuer fits the token",
      );
    }
    const read = this.#identity(claims);
    if (typeof read === "string") return invalid(read);
    const expiresMs = (claims.exp! + this.config.leewaySec) * 1000;
    return this.#remember(print, { state: "valid", identity: read }, version, expiresMs);
  }

  /** The issuer may have a new key: whoever comes while it is fetched may come again. */
  #unknownKey(): TokenCheck {
    if (!this.keySet.refreshForUnknown())
      return invalid("the token names a key that its issuer does not have");
    return { state: "no_keys", why: "the token names a new key; the issuer's keys are being fetched" };
  }

  #remember(print: string, check: TokenCheck, version: number, expiresMs: number): TokenCheck {
    if (this.#known.size >= KNOWN_MAX) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(print, { check, version, untilMs: Date.now() + KNOWN_MS_MAX, expiresMs });
    return check;
  }

  /** A string says what is wrong with the claims. */
  #identity(payload: JWTPayload): Identity | string {
    const { org: orgClaim, project: projectClaim, endUser: endUserClaim } = this.config.claims;
    const subject = payload.sub;
    if (typeof subject !== "string" || subject === "") return "sub: must be a string";
    const org = accountName.safeParse(payload[orgClaim]);
    if (!org.success) return `${orgClaim}: must name the organisation`;
    const project = projectClaim === undefined ? undefined : payload[projectClaim];
    const projectRead = accountName.safeParse(project ?? "default");
    if (!projectRead.success) return `${projectClaim}: must name the project`;
    const endUser = endUserClaim === undefined ? undefined : payload[endUserClaim];
    if (endUser !== undefined && (typeof endUser !== "string" || !isShort(endUser))) {
      return `${endUserClaim}: must be a string of 1 to ${CLAIM_UNITS_MAX} characters`;
    }
    const sinceMs = this.#options.sinceMs(org.data);
    return {
      org: org.data,
      project: projectRead.data,
      keyId: this.#options.subjectId(this.config.issuer, subject),
      proof: "token",
      ...(endUser !== undefined && { endUser }),
      ...(sinceMs !== undefined && { sinceMs }),
    };
  }
}

/** Throws one of jose's errors. A token without a key id is tried against the few keys that could be meant. */
async function payloadOf(
  token: string,
  keys: JWTVerifyGetKey,
  options: JWTVerifyOptions,
): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, keys, options)).payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    let tried = 0;
    let last: unknown = error;
    for await (const key of error) {
      if (tried++ >= KEYS_TRIED_MAX) break;
      try {
        return (await jwtVerify(token, key, options)).payload;
      } catch (failure) {
        if (!(failure instanceof errors.JWSSignatureVerificationFailed)) throw failure;
        last = failure;
      }
    }
    throw last;
  }
}

function isShort(text: string): boolean {
  return text.length > 0 && text.length <= CLAIM_UNITS_MAX;
}

function invalid(why: string): TokenCheck {
  return { state: "invalid", why };
}
