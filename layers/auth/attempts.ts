/**
 * Failed attempts, counted per network: what guesses costs work (a keyed hash, a signature, a call upstream), and
 * this bounds it. Keys in the table and tokens that were verified never come here, so that a client with a wrong
 * key locks out nobody who has shown a right one.
 */
import type { Await, Claim, Counters, Taken, Verdict } from "../../src/layer/index.ts";
import { addressEntity } from "../../src/text/network.ts";

export interface FailuresConfig {
  readonly limit: number;
  readonly windowSec: number;
}

export class Attempts {
  readonly #counters: Counters;
  readonly #failures: FailuresConfig;

  constructor(counters: Counters, failures: FailuresConfig) {
    this.#counters = counters;
    this.#failures = failures;
  }

  /** Set where the network has no attempt left: to be answered before any work. `ownKey`: nor has that key. */
  refusal(address: string, ownKey?: string): Verdict | undefined {
    const claims = [this.#ofNetwork(address)];
    if (ownKey !== undefined) claims.push(this.#ofOwnKey(ownKey));
    const known = this.#counters.known(claims);
    return known === undefined || known.admitted ? undefined : over(known);
  }

  /** Counts one and answers it: `refused`, or that there were too many. */
  failed(address: string, refused: Verdict): Await<Verdict> {
    const taken = this.#counters.take([this.#ofNetwork(address)], "share");
    return taken instanceof Promise ? taken.then((late) => answer(late, refused)) : answer(taken, refused);
  }

  /**
   * The upstream refused a caller's own key. One key that fails again and again is one attempt of its network in
   * a window and many of its own: trying many keys is what guessing looks like, trying one is a mistake.
   */
  async upstreamRefused(address: string, ownKey: string): Promise<void> {
    settle(await this.#counters.take([this.#ofOwnKey(ownKey)], "share"));
    const { windowSec } = this.#failures;
    const first: Claim = { key: `first=${ownKey}`, group: "", limit: 1, windowSec, cost: 1, reserve: 0 };
    settle(await this.#counters.take([first, this.#ofNetwork(address)], "share"));
  }

  #ofNetwork(address: string): Claim {
    return { key: `network=${addressEntity(address)}`, group: "", ...this.#failures, cost: 1, reserve: 0 };
  }

  #ofOwnKey(ownKey: string): Claim {
    return { key: `key=${ownKey}`, group: "", ...this.#failures, cost: 1, reserve: 0 };
  }
}

function answer(taken: Taken, refused: Verdict): Verdict {
  settle(taken);
  return taken.admitted ? refused : over(taken, refused);
}

/** An attempt is used up at once: nothing is held. */
function settle(taken: Taken): void {
  taken.lease?.settle(taken.levels.map(() => 1));
}

/** A canary says so here too: the words of the answer are the same for every throttle. */
function over({ retryAfterMs }: Taken, refused?: Verdict): Verdict {
  const findings = [{ reason: "auth.attempts", score: 1 }];
  const isCanary = refused?.act === "block" && refused.findings[0]?.reason === "auth.canary";
  return {
    act: "throttle",
    findings: isCanary ? [...refused.findings, ...findings] : findings,
    retryAfterMs,
  };
}
