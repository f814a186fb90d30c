/**
 * What the admin listener answers. Each route is one row: method, path, who may call it, what it does.
 * Later wings add rows here; nothing is reachable that is not listed.
 */
import { z } from "zod";
import type { Spool } from "../ledger/spool.ts";
import type { PolicyStore } from "../policy/store.ts";
import type { IdentityStore } from "../ports/identities.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type AdminRoute, type Answer, fault } from "./admin.ts";

export interface AdminParts {
  readonly policy: PolicyStore;
  readonly identities: IdentityStore;
  readonly spool: Spool;
  readonly metrics: Metrics;
  readonly metricsAccess: "open" | "token";
  readonly state: { draining: boolean };
  /** Upstream addresses by dialect, without credentials. */
  readonly upstreams: Readonly<Record<string, string>>;
}

const newKey = z.strictObject({
  org: z.string().min(1).max(128).describe("Organisation that the key belongs to."),
  project: z.string().min(1).max(128).default("default").describe("Project within the organisation."),
  name: z.string().max(128).default("").describe("Words for people: what the key is for."),
  expiresAt: z.iso.datetime({ offset: true }).optional().describe("When it stops working, RFC 3339."),
});

export function adminRoutes(parts: AdminParts): readonly AdminRoute[] {
  const { policy, identities, spool, metrics, state } = parts;
  return [
    { method: "GET", path: "/healthz", access: "open", handle: () => ok({ status: "ok" }) },
    {
      method: "GET",
      path: "/readyz",
      access: "open",
      handle: () => {
        if (state.draining) return { status: 503, body: { status: "draining" } };
        if (!spool.accepting) return { status: 503, body: { status: "spool refuses records" } };
        return ok({ status: "ready", revision: policy.current().revision });
      },
    },
    {
      method: "GET",
      path: "/metrics",
      access: parts.metricsAccess,
      handle: async () => ({
        status: 200,
        body: await metrics.expose(),
        headers: { "content-type": metrics.contentType },
      }),
    },
    {
      method: "GET",
      path: "/api/status",
      access: "token",
      handle: () =>
        ok({
          policy: policy.status(),
          spool: spool.stats(),
          upstreams: parts.upstreams,
          draining: state.draining,
        }),
    },
    {
      method: "GET",
      path: "/api/policy",
      access: "token",
      handle: () => {
        const { revision, seats, routes } = policy.current();
        const listed = seats.map(({ id, use, mode, rollout, sample, onError, timeoutMs, holdMax }) => ({
          id,
          use,
          mode,
          rollout,
          sample,
          onError,
          timeoutMs,
          holdMax,
        }));
        return ok({ ...policy.status(), revision, seats: listed, routes: [...routes] });
      },
    },
    {
      method: "POST",
      path: "/api/policy/reload",
      access: "token",
      handle: async () => {
        const result = await policy.reload();
        return { status: result.result === "refused" ? 422 : 200, body: result };
      },
    },
    { method: "GET", path: "/api/keys", access: "token", handle: () => ok({ keys: identities.list() }) },
    {
      method: "POST",
      path: "/api/keys",
      access: "token",
      handle: async ({ body }) => {
        const parsed = newKey.safeParse(body ?? {});
        if (!parsed.success) return fault(400, "bad_body", z.prettifyError(parsed.error));
        const { expiresAt, ...rest } = parsed.data;
        const made = await identities.create(expiresAt === undefined ? rest : { ...rest, expiresAt });
        return { status: 201, body: { ...made, note: "The key is shown this once." } };
      },
    },
    {
      method: "DELETE",
      path: "/api/keys/:id",
      access: "token",
      handle: async ({ params }) => {
        const revoked = await identities.revoke(params["id"]!);
        return revoked
          ? ok({ id: params["id"], revoked: true })
          : fault(404, "not_found", "There is no key with this id.");
      },
    },
  ];
}

function ok(body: unknown): Answer {
  return { status: 200, body };
}
