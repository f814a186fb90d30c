/**
 * One sanction as it is stored: on whom, what, why, by whom and until when. An entity's id has one spelling,
 * so that the sanction is found under whatever spelling the caller comes; and what would end a service by a
 * slip (everybody's network, no end to a suspension) is refused here.
 */
import { z } from "zod";
import {
  ENTITY_KINDS,
  type Entity,
  type EntityKind,
  SANCTION_ACTS,
  type SanctionAct,
} from "../layer/index.ts";
import { addressEntity, networkText, parseAddress, parseNetwork } from "../text/network.ts";

const DAY_MS = 86_400_000;
/** Everything but a ban ends by itself, and may be imposed again: nobody stays throttled because someone forgot. */
const EXPIRY_MS_MAX = 90 * DAY_MS;
const YEAR_10000_MS = Date.UTC(10_000, 0);
const LIMIT_SCALE_DEFAULT = 0.5;
const LIMIT_SCALE_MIN = 0.001;
/** A wider network than an operator's largest is a slip of the pen. */
const PREFIX_MIN = { ipv4: 8, ipv6: 16 };

const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u;
const ORG = /^[\w.@:-]{1,64}$/;
const KEY = /^[\w.@:-]{1,128}$/;
const USER_UNITS_MAX = 512;

const words = (max: number) =>
  z
    .string()
    .min(1, { error: "must not be empty" })
    .max(max, { error: `must be at most ${max} characters` })
    .regex(PRINTABLE, { error: "must be printable characters on one line" });
const instant = z.iso.datetime({ offset: true, error: "must be a time such as 2027-01-01T12:00:00Z" });

/** Why an id is none of its kind, or the id in its one spelling. */
export function entityId(
  kind: EntityKind,
  id: string,
): { readonly id: string } | { readonly problem: string } {
  switch (kind) {
    case "org":
      return ORG.test(id) ? { id } : { problem: "must be 1 to 64 of letters, digits and . _ @ : -" };
    case "key":
      return KEY.test(id) ? { id } : { problem: 'must be a key\'s id such as "key_1a2b3c"' };
    case "end_user": {
      const slash = id.indexOf("/");
      const user = id.slice(slash + 1);
      const isUser = user !== "" && user.length <= USER_UNITS_MAX && PRINTABLE.test(user);
      if (slash > 0 && ORG.test(id.slice(0, slash)) && isUser) return { id };
      return { problem: 'must be the organisation and its user such as "acme/user-17"' };
    }
    case "address": {
      if (parseAddress(id) !== undefined) return { id: addressEntity(id) };
      const network = parseNetwork(id);
      if (network?.address.length === 8 && network.prefix === 64)
        return { id: networkText(network.address, 64) };
      return { problem: "must be an IPv4 address, an IPv6 one, or its /64; for more, sanction the network" };
    }
    case "network": {
      const network = parseNetwork(id);
      if (network === undefined) {
        return { problem: "must be a CIDR such as 192.0.2.0/24 or 2001:db8::/32" };
      }
      const min = network.address.length === 2 ? PREFIX_MIN.ipv4 : PREFIX_MIN.ipv6;
      if (network.prefix < min) return { problem: `must have a prefix of at least /${min}` };
      return { id: networkText(network.address, network.prefix) };
    }
    default:
      return kind satisfies never;
  }
}

const entity = z
  .strictObject({ kind: z.enum(ENTITY_KINDS), id: z.string() })
  .superRefine(({ kind, id }, context) => {
    const checked = entityId(kind, id);
    const problem = "problem" in checked ? checked.problem : checked.id !== id && `is written ${checked.id}`;
    if (problem) context.addIssue({ code: "custom", path: ["id"], message: problem });
  });

export const sanctionRow = z.strictObject({
  id: z.string().regex(/^sanc_\w{1,40}$/, { error: 'must look like "sanc_1a2b3c"' }),
  entity,
  act: z.enum(SANCTION_ACTS),
  reason: words(500),
  /** Who imposed it: a person, or a part of Sallyport. */
  by: words(100),
  createdAt: instant,
  expiresAt: instant.optional(),
  limitScale: z.number().min(LIMIT_SCALE_MIN).lt(1).optional(),
  liftedAt: instant.optional(),
  liftedBy: words(100).optional(),
  /** What caused it, such as a case's id. */
  source: words(200).optional(),
});
export type SanctionRow = Readonly<z.infer<typeof sanctionRow>>;

export interface NewSanction {
  readonly entity: Entity;
  readonly act: SanctionAct;
  /** Words for people. */
  readonly reason: string;
  readonly by: string;
  /** RFC 3339; or give `forSec`. Only a ban may be without both. */
  readonly expiresAt?: string | undefined;
  readonly forSec?: number | undefined;
  /** For `throttle`: what limits are multiplied by, 0.5 unless said. */
  readonly limitScale?: number | undefined;
  readonly source?: string | undefined;
}

/** Throws a RangeError that names the field and the fix. */
export function newRow(wanted: NewSanction, id: string, nowMs: number): SanctionRow {
  const { kind } = wanted.entity;
  if (!ENTITY_KINDS.includes(kind)) refuse("entity.kind", `must be one of ${ENTITY_KINDS.join(", ")}`);
  if (!SANCTION_ACTS.includes(wanted.act)) refuse("act", `must be one of ${SANCTION_ACTS.join(", ")}`);
  const checked = entityId(kind, wanted.entity.id);
  if ("problem" in checked) refuse("entity.id", checked.problem);
  const expiresMs = expiryOf(wanted, nowMs);
  const limitScale = limitScaleOf(wanted);
  const { act, reason, by, source } = wanted;
  const parsed = sanctionRow.safeParse({
    id,
    entity: { kind, id: checked.id },
    act,
    reason,
    by,
    createdAt: new Date(nowMs).toISOString(),
    ...(expiresMs !== undefined && { expiresAt: new Date(expiresMs).toISOString() }),
    ...(limitScale !== undefined && { limitScale }),
    ...(source !== undefined && { source }),
  });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return refuse(issue?.path.join(".") || "the sanction", issue?.message ?? "is not valid");
}

/** A lifted one is over whatever the clock of who lifted it said. */
export function isOver({ expiresAt, liftedAt }: SanctionRow, nowMs: number): boolean {
  return liftedAt !== undefined || (expiresAt !== undefined && Date.parse(expiresAt) <= nowMs);
}

/** When it ended, of one that is over. */
export function endMsOf({ expiresAt, liftedAt }: SanctionRow): number {
  const endsMs = expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt);
  return liftedAt === undefined ? endsMs : Math.min(endsMs, Date.parse(liftedAt));
}

function expiryOf({ act, expiresAt, forSec }: NewSanction, nowMs: number): number | undefined {
  if (expiresAt !== undefined && forSec !== undefined) refuse("forSec", "give it or expiresAt, not both");
  const field = forSec !== undefined ? "forSec" : "expiresAt";
  if (expiresAt === undefined && forSec === undefined) {
    return act === "ban" ? undefined : refuse(field, `a ${act} needs an end: give expiresAt or forSec`);
  }
  const expiresMs = forSec !== undefined ? nowMs + forSec * 1_000 : Date.parse(expiresAt ?? "");
  if (!Number.isFinite(expiresMs)) {
    refuse(
      field,
      forSec !== undefined ? "must be a number of seconds" : "must be a time such as 2027-01-01T12:00:00Z",
    );
  }
  if (expiresMs <= nowMs) refuse(field, "must lie in the future");
  if (expiresMs > nowMs + EXPIRY_MS_MAX && act !== "ban") {
    refuse(field, `a ${act} ends after at most ${EXPIRY_MS_MAX / DAY_MS} days; it can be imposed again`);
  }
  if (expiresMs > YEAR_10000_MS) refuse(field, "is too far away: leave it out for a ban without an end");
  return expiresMs;
}

function limitScaleOf({ act, limitScale }: NewSanction): number | undefined {
  if (act !== "throttle") {
    if (limitScale !== undefined) refuse("limitScale", `is for a throttle; a ${act} has none`);
    return undefined;
  }
  const scale = limitScale ?? LIMIT_SCALE_DEFAULT;
  if (scale >= LIMIT_SCALE_MIN && scale < 1) return scale;
  return refuse("limitScale", `must be at least ${LIMIT_SCALE_MIN} and below 1`);
}

function refuse(field: string, problem: string): never {
  throw new RangeError(`${field}: ${problem}`);
}
