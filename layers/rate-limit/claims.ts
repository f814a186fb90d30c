/**
 * Turns limits and a caller into claims on counters: what is counted together, how much at once, how much is
 * kept back. Pure: the counters port does the counting.
 */
import { createHash } from "node:crypto";
import type { Claim, Identity, Operation, Standing } from "../../src/layer/index.ts";
import { addressEntity, networkOf } from "../../src/text/network.ts";
import { countsTokens, type Limit } from "./config.ts";
import type { Rate } from "./prices.ts";

/** Who asks, as far as is known. */
export interface Asker {
  readonly identity: Identity | undefined;
  readonly address: string;
  readonly standing: Standing;
  /** "" where none is named. */
  readonly endUser: string;
  /** "" where none is named. */
  readonly model: string;
  /** Names of the limits' counters that were found for the same caller before. */
  readonly named?: Named;
}

/** What a request reads and may write, in tokens. */
export interface Size {
  readonly input: number;
  /** Kept back for the answer. */
  readonly output: number;
  /** Of the model; undefined where no limit is of spend. */
  readonly rate: Rate | undefined;
}

/** What stands in a key as it is: no separators, no blanks, nothing long. Model names may have a "/". */
const PLAIN = /^[\w.:@+-]{1,96}$/;
const PLAIN_MODEL = /^[\w.:@+/-]{1,96}$/;

/** A part of a key; what is odd or long is known by its hash. */
function part(text: string, plain: RegExp = PLAIN): string {
  if (plain.test(text)) return text;
  return text === "" ? "-" : `#${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
}

/**
 * What one limit counts together for one caller, such as "key-tokens:key=key_1,model=gpt-5". The parts stand in
 * a fixed order, so that an edit of the policy that turns `per` around forgives nobody.
 */
export function keyOf({ name, per }: Limit, asker: Asker): string {
  const { identity } = asker;
  let key = "";
  let byAddress = per.address;
  if (identity === undefined) {
    byAddress ||= per.org || per.project || per.key;
  } else {
    if (per.org) key += `,org=${part(identity.org)}`;
    if (per.project) key += `,project=${part(identity.org)}/${part(identity.project)}`;
    if (per.key) key += `,key=${part(identity.keyId)}`;
  }
  if (byAddress) key += `,address=${addressEntity(asker.address)}`;
  if (per.network) key += `,network=${networkOf(asker.address)}`;
  if (per.end_user) key += `,end_user=${part(identity?.org ?? "")}/${part(asker.endUser)}`;
  if (per.model) key += `,model=${part(asker.model.toLowerCase(), PLAIN_MODEL)}`;
  return key === "" ? `${name}:all` : `${name}:${key.slice(1)}`;
}

/**
 * Claims of one group are taken in one step. A counter must always be of the same group: those that only one
 * organisation can reach are the organisation's, the others nobody's.
 */
export function groupOf({ per }: Limit, identity: Identity | undefined): string {
  return identity !== undefined && (per.org || per.project || per.key || per.end_user)
    ? part(identity.org)
    : "";
}

export interface Name {
  readonly key: string;
  readonly group: string;
}

/** By the limits' places; of those alone that are counted by organisation, project and key. */
export type Named = (Name | undefined)[];

/** Beyond it all are forgotten, and made anew when they come again. */
const CALLERS_MAX = 4_096;

interface Caller {
  readonly org: string;
  readonly project: string;
  readonly named: Named;
}

/**
 * Who came before finds the names of their counters ready: making them, and hashing them anew for every map that is
 * asked, was a third of the seat's cost.
 */
export class CallerNames {
  readonly #callers = new Map<string, Caller>();

  of(identity: Identity | undefined): Named {
    if (identity === undefined) return [];
    const { org, project, keyId } = identity;
    const known = this.#callers.get(keyId);
    if (known !== undefined && known.org === org && known.project === project) return known.named;
    if (this.#callers.size >= CALLERS_MAX) this.#callers.clear();
    const named: Named = [];
    this.#callers.set(keyId, { org, project, named });
    return named;
  }
}

function nameOf(limit: Limit, asker: Asker): Name {
  const { per, index } = limit;
  const { identity, named } = asker;
  const isByCaller = identity !== undefined && !per.address && !per.network && !per.end_user && !per.model;
  const known = isByCaller ? named?.[index] : undefined;
  if (known !== undefined) return known;
  const name = { key: keyOf(limit, asker), group: groupOf(limit, identity) };
  if (isByCaller && named !== undefined) named[index] = name;
  return name;
}

/** The limit as it is for this caller. */
export function scaledLimit({ amount, scale }: Limit, { tier, limitScale }: Standing): number {
  const factor = scale[tier] * limitScale;
  return factor === 1 ? amount : Math.max(1, Math.floor(amount * factor));
}

/** What a limit counts of a request that read and wrote so many tokens. */
export function usedOf({ unit }: Limit, input: number, output: number, rate: Rate | undefined): number {
  switch (unit) {
    case "requests":
      return 1;
    case "concurrency":
      return 0;
    case "input_tokens":
      return input;
    case "output_tokens":
      return output;
    case "tokens":
      return input + output;
    case "spend":
      return input * (rate?.input ?? 0) + output * (rate?.output ?? 0);
    default:
      return unit satisfies never;
  }
}

/** What one output token comes to. */
export function perOutput({ unit }: Limit, rate: Rate | undefined): number {
  if (unit === "output_tokens" || unit === "tokens") return 1;
  return unit === "spend" ? (rate?.output ?? 0) : 0;
}

export function claimOf(limit: Limit, asker: Asker, size: Size): Claim {
  const { unit, windowSec } = limit;
  const { key, group } = nameOf(limit, asker);
  return {
    key,
    group,
    limit: scaledLimit(limit, asker.standing),
    windowSec,
    cost: unit === "requests" ? 1 : 0,
    reserve:
      unit === "requests"
        ? 0
        : unit === "concurrency"
          ? 1
          : usedOf(limit, size.input, size.output, size.rate),
  };
}

const LEAST_READ: Size = { input: 1, output: 0, rate: { input: 1, output: 1 } };
const LEAST_WRITTEN: Size = { ...LEAST_READ, output: 1 };

/** The least that any such request takes: what may be refused before the body is read. */
export function leastClaimOf(limit: Limit, asker: Asker, operation: Operation): Claim {
  return claimOf(limit, asker, writes(operation) ? LEAST_WRITTEN : LEAST_READ);
}

/**
 * Output tokens to keep back: not more than a limit has room for beside the input, as a reserve that is larger
 * than the limit would refuse a request whose answer might be short. At least one, where anything is written.
 */
export function outputThatFits(
  output: number,
  limits: readonly Limit[],
  { input, rate, standing }: { input: number; rate: Rate | undefined; standing: Standing },
): number {
  let fits = output;
  for (const limit of limits) {
    const each = perOutput(limit, rate);
    if (each === 0) continue;
    const room = Math.floor((scaledLimit(limit, standing) - usedOf(limit, input, 0, rate)) / each);
    if (room < fits) fits = Math.max(Math.min(1, output), room);
  }
  return fits;
}

/** Whether a limit has anything to count of an operation; prompts that are only looked at cost nothing. */
export function concerns(unit: Limit["unit"], operation: Operation): boolean {
  switch (operation) {
    case "chat":
    case "completions":
    case "responses":
    case "messages":
      return true;
    case "embeddings":
      return unit !== "output_tokens";
    case "moderations":
    case "models":
    case "count_tokens":
    case "realtime":
    case "pass_through":
      return !countsTokens(unit);
    default:
      return operation satisfies never;
  }
}

export function writes(operation: Operation): boolean {
  return (
    operation === "chat" ||
    operation === "completions" ||
    operation === "responses" ||
    operation === "messages"
  );
}
