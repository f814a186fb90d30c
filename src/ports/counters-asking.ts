/**
 * Asking Redis for the claims of one request: all or none, in one script, or in a cluster in one for each group at the
 * same time. Whoever did not get an answer in time is told so and answered otherwise; what was taken for them all the
 * same is given back when the late answer comes.
 */
import type { Claim, Level } from "../layer/index.ts";
import type { Books, Place } from "./counters-books.ts";
import { TAKE } from "./counters-scripts.ts";
import { RETRY_GUESS_MS, slotsOf } from "./counters-window.ts";
import type { SharedRedis } from "./redis.ts";
import { loadScript, runScript } from "./redis-script.ts";

/** No caller waits longer; a take that Redis comes to much later takes nothing. */
const ANSWER_MS = 25;
const ARGS_OF_CLAIM = 5;
const REPLY_OF_CLAIM = 4;

export /** What Redis said to the claims of one script. */
interface Said {
  readonly refusedBy: number;
  readonly retryAfterMs: number;
  readonly levels: Level[];
  readonly slotEnds: number[];
  /** What is used alone, without what is reserved, refuses. */
  readonly isCertain: boolean;
}

export interface AskingOptions {
  readonly redis: SharedRedis;
  readonly books: Books;
  readonly leaseTtlMs: number;
}

export class Asking {
  readonly #redis: SharedRedis;
  readonly #books: Books;
  readonly #leaseTtlMs: number;

  constructor({ redis, books, leaseTtlMs }: AskingOptions) {
    this.#redis = redis;
    this.#books = books;
    this.#leaseTtlMs = leaseTtlMs;
    const load = () => void redis.run((client) => loadScript(client, TAKE)).catch(() => {});
    if (redis.isUp) load();
    redis.onState((isUp) => {
      if (isUp) load();
    });
  }

  /** undefined: nobody answered in time. What is granted is noted as held. */
  async reserve(places: readonly Place[], claims: readonly Claim[]): Promise<Said | undefined> {
    const parts = this.#redis.isCluster ? partsOf(places) : [places.map((_, i) => i)];
    if (parts.length === 1) return this.#send(places, claims);
    const answers = await Promise.all(
      parts.map((part) =>
        this.#send(
          part.map((i) => places[i]!),
          part.map((i) => claims[i]!),
        ),
      ),
    );
    const levels: Level[] = [];
    const slotEnds: number[] = [];
    let refused: { readonly said: Said; readonly index: number } | undefined;
    for (const [at, said] of answers.entries()) {
      if (said === undefined) continue;
      for (const [j, i] of parts[at]!.entries()) {
        levels[i] = said.levels[j]!;
        slotEnds[i] = said.slotEnds[j]!;
      }
      if (said.refusedBy >= 0) refused ??= { said, index: parts[at]![said.refusedBy]! };
    }
    const isComplete = !answers.includes(undefined);
    if (isComplete && refused === undefined)
      return { refusedBy: -1, retryAfterMs: 0, levels, slotEnds, isCertain: false };
    for (const [at, said] of answers.entries())
      if (said !== undefined && said.refusedBy < 0)
        this.#giveBack(
          parts[at]!.map((i) => places[i]!),
          parts[at]!.map((i) => claims[i]!),
          said,
        );
    if (!isComplete || refused === undefined) return undefined;
    const { retryAfterMs, isCertain } = refused.said;
    return { refusedBy: refused.index, retryAfterMs, levels, slotEnds, isCertain };
  }

  /** One script. What it took is held from here on; what it took too late is given back. */
  async #send(places: readonly Place[], claims: readonly Claim[]): Promise<Said | undefined> {
    const { clock } = this.#books;
    const keys = places.map(({ key }) => key);
    const args: (string | number)[] = new Array(3 + ARGS_OF_CLAIM * claims.length);
    args[0] = this.#redis.replica;
    args[1] = this.#leaseTtlMs;
    for (let i = 0; i < claims.length; i++) {
      const { limit, windowSec, cost, reserve } = claims[i]!;
      const at = 3 + i * ARGS_OF_CLAIM;
      args[at] = limit;
      args[at + 1] = windowSec * 1000;
      args[at + 2] = windowSec === 0 ? 0 : slotsOf(windowSec);
      args[at + 3] = cost;
      args[at + 4] = reserve;
      if (reserve > 0) this.#books.asks(places[i]!);
    }
    const heard = (reply: unknown, sentMs: number): Said | undefined => {
      const numbers = reply as readonly number[];
      if (numbers[0] === -2) {
        clock.reset(sentMs, numbers[1]!);
        return undefined;
      }
      clock.heard(sentMs, numbers[1]!);
      const said = saidOf(numbers, claims);
      if (said.refusedBy < 0)
        for (let i = 0; i < claims.length; i++)
          if (claims[i]!.reserve > 0) this.#books.hold(places[i]!, claims[i]!.reserve, true);
      return said;
    };
    // Whatever becomes of it, `asking` ends when nothing more can come.
    const over = () => {
      for (let i = 0; i < claims.length; i++) if (claims[i]!.reserve > 0) this.#books.heard(places[i]!);
    };
    const sentMs = performance.now();
    let raw: Promise<unknown> | undefined;
    try {
      const reply = await this.#redis.run((client) => {
        args[2] = clock.fence(ANSWER_MS);
        raw = runScript(client, TAKE, keys, args);
        return raw;
      });
      const said = heard(reply, sentMs);
      over();
      return said;
    } catch {
      if (raw === undefined) over();
      else
        raw.then(
          (reply) => {
            const said = heard(reply, sentMs);
            over();
            if (said !== undefined && said.refusedBy < 0) this.#giveBack(places, claims, said);
          },
          () => over(),
        );
      return undefined;
    }
  }

  #giveBack(places: readonly Place[], claims: readonly Claim[], { slotEnds }: Said): void {
    for (let i = 0; i < claims.length; i++) {
      const { cost, reserve } = claims[i]!;
      if (slotEnds[i]! > 0) this.#books.add(places[i]!, slotEnds[i]!, -cost);
      if (reserve > 0) this.#books.hold(places[i]!, -reserve);
    }
    this.#books.due(places);
  }
}

function saidOf(numbers: readonly number[], claims: readonly Claim[]): Said {
  const [refusedBy = -1, nowMs = 0, retryMs = 0] = numbers;
  const levels: Level[] = [];
  const slotEnds: number[] = [];
  for (let i = 0; i < claims.length; i++) {
    const at = 3 + i * REPLY_OF_CLAIM;
    const { limit, windowSec } = claims[i]!;
    const [used, reserved, newestMs] = [numbers[at]!, numbers[at + 1]!, numbers[at + 2]!];
    const isUsed = windowSec > 0 && used + reserved > 0;
    // What is reserved counts as if it were used now.
    const endMs = reserved > 0 ? Math.max(newestMs, nowMs) : newestMs;
    levels.push({
      remaining: Math.max(0, limit - used - reserved),
      resetMs: isUsed ? Math.max(0, endMs + windowSec * 1000 - nowMs) : 0,
    });
    slotEnds.push(numbers[at + 3]!);
  }
  if (refusedBy < 0) return { refusedBy, retryAfterMs: 0, levels, slotEnds, isCertain: false };
  const { limit, windowSec, cost, reserve } = claims[refusedBy]!;
  const used = numbers[3 + refusedBy * REPLY_OF_CLAIM]!;
  return { refusedBy, retryAfterMs: retryOf(), levels, slotEnds, isCertain: used + cost + reserve > limit };

  function retryOf(): number {
    if (windowSec > 0 && cost + reserve > limit) return windowSec * 1000;
    return retryMs > 0 ? retryMs : RETRY_GUESS_MS;
  }
}

/** Indexes of the places, those of one tag together. */
function partsOf(places: readonly Place[]): number[][] {
  const first = places[0]!.tag;
  if (places.every(({ tag }) => tag === first)) return [places.map((_, i) => i)];
  return [
    ...Map.groupBy(
      places.map((_, i) => i),
      (i) => places[i]!.tag,
    ).values(),
  ];
}
