/**
 * Lets a request in by its virtual key, its token or the caller's own upstream key, and tells the seats after it
 * who is calling. Everything else that is kept per key, project or organisation rests on this seat standing first.
 *
 *   credential -> token of a listed issuer? -> verified before? -> identity
 *       |                    attempts left? -> verify -------------^   '-> scope: network, route, then model
 *       '-> key in the table? ------------------------------------ ^
 *           own keys taken? attempts left? ----------------------- ^      everything else: a failed attempt
 */
import {
  ALLOW,
  type Await,
  defineLayer,
  type Identities,
  type Identity,
  type Issuer,
  type KeyScope,
  type Prompt,
  type RequestContext,
  type RequestHead,
  type ResponseHead,
  type TokenCheck,
  type Verdict,
  type Watch,
} from "../../src/layer/index.ts";
import { Attempts } from "./attempts.ts";
import { config, issuerConfig } from "./config.ts";
import { issuerNamed, mayBeOwnKey } from "./credential.ts";
import { modelsAllow, outsideScope } from "./scope.ts";

export const ANONYMOUS: Identity = {
  org: "anonymous",
  project: "anonymous",
  keyId: "anonymous",
  proof: "none",
};

/** What all watches of one snapshot share. */
interface Gate {
  readonly allowAnonymous: boolean;
  readonly ownKeys: boolean;
  readonly identities: Identities;
  readonly issuers: ReadonlyMap<string, Issuer>;
  readonly attempts: Attempts;
}

class AuthWatch implements Watch {
  readonly #gate: Gate;
  readonly #request: RequestContext;
  #models: readonly string[] | undefined;
  #ownKey: string | undefined;

  constructor(gate: Gate, request: RequestContext) {
    this.#gate = gate;
    this.#request = request;
  }

  onRequest({ credential }: RequestHead): Await<Verdict> {
    const { allowAnonymous, identities, issuers } = this.#gate;
    if (credential === undefined || credential === "") {
      if (!allowAnonymous) return refuse("auth.missing");
      this.#request.identify(ANONYMOUS);
      return ALLOW;
    }
    const issuer = issuers.size === 0 ? undefined : issuers.get(issuerNamed(credential) ?? "");
    if (issuer !== undefined) return this.#byToken(issuer, credential);
    const found = identities.find(credential);
    switch (found.state) {
      case "active":
        this.#request.identify(found.identity);
        if (found.canary === true) return this.#failed("auth.canary");
        return this.#within(found.scope);
      case "revoked":
      case "expired":
        // Whose it was is known, so the refusal is booked on them; it needs no work, so it is no attempt.
        this.#request.identify(found.identity);
        return refuse(found.state === "revoked" ? "auth.revoked" : "auth.expired");
      case "unknown":
        return this.#gate.ownKeys && mayBeOwnKey(credential)
          ? this.#byOwnKey(credential)
          : this.#failed("auth.unknown");
      default:
        return found satisfies never;
    }
  }

  onPrompt(prompt: Prompt): Verdict {
    if (this.#models === undefined || modelsAllow(this.#models, prompt)) return ALLOW;
    return refuse("auth.scope.model");
  }

  onResponseHead({ status }: ResponseHead): Await<Verdict> {
    if (this.#ownKey === undefined || (status !== 401 && status !== 403)) return ALLOW;
    return this.#gate.attempts.upstreamRefused(this.#request.address, this.#ownKey).then(() => ALLOW);
  }

  #byToken(issuer: Issuer, token: string): Await<Verdict> {
    const known = issuer.known(token);
    if (known !== undefined) return this.#checked(known);
    const over = this.#gate.attempts.refusal(this.#request.address);
    if (over !== undefined) return over;
    const check = issuer.verify(token);
    return check instanceof Promise ? check.then((late) => this.#checked(late)) : this.#checked(check);
  }

  #checked(check: TokenCheck): Await<Verdict> {
    switch (check.state) {
      case "valid":
        this.#request.identify(check.identity);
        return this.#within(check.scope);
      case "expired":
        // Its signature was good: no guess.
        return refuse("auth.expired");
      case "invalid":
        return this.#failed("auth.token");
      case "no_keys":
        // Nobody can tell now: that is our failure, and never a way in, whatever the seat's `onError` says.
        return refuse("auth.unchecked");
      default:
        return check satisfies never;
    }
  }

  #byOwnKey(credential: string): Verdict {
    const keyId = this.#gate.identities.ownKeyId(credential);
    const over = this.#gate.attempts.refusal(this.#request.address, keyId);
    if (over !== undefined) return over;
    this.#ownKey = keyId;
    // An organisation of its own: limits and sanctions fall on it alone.
    this.#request.identify({ org: keyId, project: "default", keyId, proof: "own_key" });
    return ALLOW;
  }

  #within(scope: KeyScope | undefined): Verdict {
    if (scope === undefined) return ALLOW;
    const reason = outsideScope(scope, this.#request);
    if (reason !== undefined) return refuse(reason);
    this.#models = scope.models;
    return ALLOW;
  }

  #failed(reason: string): Await<Verdict> {
    return this.#gate.attempts.failed(this.#request.address, refuse(reason));
  }
}

function refuse(reason: string): Verdict {
  return { act: "block", findings: [{ reason, score: 1 }] };
}

export const auth = defineLayer({
  kind: "auth",
  summary: "Admits requests by virtual key, token or the caller's own key, and names the caller.",
  config,
  phases: ["onRequest", "onPrompt", "onResponseHead"],
  // The upstream's refusals tell something of a caller's own key alone.
  phasesOf: ({ ownKeys }) =>
    ownKeys ? ["onRequest", "onPrompt", "onResponseHead"] : ["onRequest", "onPrompt"],
  compile({ allowAnonymous, ownKeys, issuers, failures }, { identities, counters }) {
    const gate: Gate = {
      allowAnonymous,
      ownKeys,
      identities,
      issuers: new Map(issuers.map((one) => [one.issuer, identities.issuer(issuerConfig(one))])),
      attempts: new Attempts(counters, failures),
    };
    return { open: (request) => new AuthWatch(gate, request) };
  },
});
