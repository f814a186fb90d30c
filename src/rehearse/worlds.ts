/**
 * The world that replayed requests meet: ports in memory on a replayed clock. Callers are who the record says they
 * were, known for as long as their tier then tells; counters, reputation and refused texts build up as they would
 * have. Nobody outside is asked.
 */
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IDLE_PORTS, type Identity, type KeyLookup, type Sanction, type Tier } from "../layer/index.ts";
import type { Decision } from "../ledger/decision.ts";
import type { SeatPorts } from "../policy/compile.ts";
import { MemoryCounters } from "../ports/counters-memory.ts";
import { openEncoder } from "../ports/encoder.ts";
import { openExemplars } from "../ports/exemplars.ts";
import { RecentTextStore } from "../ports/recent-texts.ts";
import { openReputation } from "../ports/reputation.ts";

const DAY_MS = 86_400_000;
/** An organisation of this tier had been known for so long, by the defaults of `reputation`. */
const AGE_MS: Readonly<Record<Tier, number>> = {
  trusted: 3_650 * DAY_MS,
  normal: 30 * DAY_MS,
  new: 0,
  risky: 30 * DAY_MS,
  suspended: 30 * DAY_MS,
};
/** Not the traffic's doing: a replay is in no hurry. */
const ENCODER_MS = 60_000;

export interface World {
  portsFor(seat: string): SeatPorts;
  /** From here on the ports speak of this request. */
  turnTo(decision: Decision, nowMs: number): void;
  /** What the caller presented, as far as the record tells. */
  credentialOf(decision: Decision): string | undefined;
  /** Texts that the encoder was not asked about since the last look. */
  takeSkipped(): number;
  close(): Promise<void>;
}

export async function openWorld(
  dataDir: string,
  options: { readonly encoderTextsMax: number },
): Promise<World> {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-replay-"));
  let nowMs = 0;
  let current: Decision | undefined;
  let encoderLeft = options.encoderTextsMax;
  let skipped = 0;
  const now = () => nowMs;
  const pool = openEncoder({ workers: 1, queueMax: 64, timeoutMs: ENCODER_MS });
  const encoder: SeatPorts["encoder"] = {
    async encode(text, signal) {
      if (encoderLeft <= 0) {
        skipped += 1;
        return { kind: "skipped", cause: "full" };
      }
      encoderLeft -= 1;
      return pool.encode(text, signal);
    },
  };
  // A copy: a replay writes nothing into a gateway's own folder.
  if (existsSync(join(dataDir, "exemplars.json")))
    copyFileSync(join(dataDir, "exemplars.json"), join(dir, "exemplars.json"));
  const exemplars = await openExemplars({ dataDir: dir, redis: undefined, encoder });
  const counters = new MemoryCounters({ now });
  const reputation = await openReputation({
    dataDir: dir,
    now,
    sanctions: { inForce: () => (current === undefined ? [] : sanctionsOn(current)) },
    geo: {
      look: () => ({ country: current?.country ?? "", asn: current?.asn ?? "" }),
      revision: 0,
      problem: undefined,
      close: () => undefined,
    },
  });
  const recent = new RecentTextStore({ now });
  const identities: SeatPorts["identities"] = {
    ...IDLE_PORTS.identities,
    find: () => (current === undefined ? { state: "unknown" } : lookupOf(current, nowMs)),
    ownKeyId: () => current?.keyId ?? "own_",
  };
  return {
    portsFor: (seat) => ({
      ...IDLE_PORTS,
      counters: counters.forSeat(seat),
      identities,
      reputation,
      encoder,
      exemplars,
      recent: recent.forSeat(seat),
    }),
    turnTo(decision, atMs) {
      current = decision;
      // A clock that was set back while it was recorded must not turn the counters' clock.
      nowMs = Math.max(nowMs, atMs);
    },
    credentialOf: (decision) =>
      reasonsOf(decision).has("auth.missing") || decision.proof === "none"
        ? undefined
        : "sk-replayed-0123456789abcdef",
    takeSkipped() {
      const count = skipped;
      skipped = 0;
      return count;
    },
    async close() {
      await exemplars.close();
      await reputation.close();
      await counters.close();
      await pool.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function reasonsOf({ seats }: Decision): ReadonlySet<string> {
  return new Set(seats.flatMap(({ findings }) => findings.map(({ reason }) => reason)));
}

/** Who it was, and what was wrong with their key. */
function lookupOf(decision: Decision, nowMs: number): KeyLookup {
  const { org, project, keyId, endUser, proof, tier } = decision;
  // A body's end user is told by the body again; a token's is in the token.
  const identity: Identity = {
    org,
    project,
    keyId,
    ...(proof === "token" && endUser !== "" && { endUser }),
    ...(proof !== "" && { proof }),
    sinceMs: nowMs - AGE_MS[tier],
  };
  const reasons = reasonsOf(decision);
  if (reasons.has("auth.revoked")) return { state: "revoked", identity };
  if (reasons.has("auth.expired")) return { state: "expired", identity };
  if (proof === "" || proof === "own_key" || org === "") return { state: "unknown" };
  if (reasons.has("auth.scope.route")) return { state: "active", identity, scope: { routes: new Set() } };
  if (reasons.has("auth.scope.model")) return { state: "active", identity, scope: { models: [] } };
  if (reasons.has("auth.scope.network"))
    return { state: "active", identity, scope: { networks: { has: () => false } } };
  return { state: "active", identity, canary: reasons.has("auth.canary") };
}

/** As the record shows them; a throttle's scale is not in it. */
function sanctionsOn(decision: Decision): readonly Sanction[] {
  return (["ban", "suspend", "step-up", "notice"] as const)
    .filter((act) => reasonsOf(decision).has(`sanction.${act}`))
    .map((act) => ({
      id: "replayed",
      entity: { kind: "org", id: decision.org },
      act,
      reason: "as it was recorded",
      limitScale: 1,
    }));
}
