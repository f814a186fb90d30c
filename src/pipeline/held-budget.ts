/**
 * What all streams together keep in memory: text that seats hold back, the beginning of an event whose end has not
 * come, and what a slow client has not taken. Each stream says after every piece what it keeps now; the one that
 * would take the sum past the bound is refused, and ends as the policy says.
 */
export class HeldBudget {
  readonly #bytesMax: number;
  #bytes = 0;
  /** Most bytes at once since the start. */
  bytesPeak = 0;

  constructor(options: { readonly bytesMax: number }) {
    this.#bytesMax = options.bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  open(): HeldAccount {
    let own = 0;
    return {
      keep: (bytes) => {
        const sum = this.#bytes + bytes - own;
        // Giving back is always right, also while others hold too much.
        if (bytes > own && sum > this.#bytesMax) return false;
        this.#bytes = sum;
        own = bytes;
        if (sum > this.bytesPeak) this.bytesPeak = sum;
        return true;
      },
    };
  }
}

/** One stream's part. */
export interface HeldAccount {
  /** Keeps `bytes` from now on, in place of what it kept before; false, and nothing changes, where there is no room. */
  keep(bytes: number): boolean;
}
