/**
 * Everything that the admin listener answers, noun by noun. Nothing is reachable that is not listed here, and
 * what is listed is in the OpenAPI document and in docs/admin-api.md.
 */
import { accountsRoutes } from "./accounts-routes.ts";
import { apiRoutes } from "./api-routes.ts";
import { auditRoutes } from "./audit-routes.ts";
import { exemplarsRoutes } from "./exemplars-routes.ts";
import { guardRoutes } from "./guard-routes.ts";
import { healthRoutes } from "./health-routes.ts";
import { keysRoutes } from "./keys-routes.ts";
import { limitsRoutes } from "./limits-routes.ts";
import { openapiDocument } from "./openapi.ts";
import type { AdminParts } from "./parts.ts";
import { policyChangeRoutes } from "./policy-change-routes.ts";
import { policyHistoryRoutes } from "./policy-history-routes.ts";
import { policyRoutes } from "./policy-routes.ts";
import { reputationRoutes } from "./reputation-routes.ts";
import { EVERYBODY } from "./roles.ts";
import type { AdminRoute, RouteRow } from "./route.ts";
import { sanctionsRoutes } from "./sanctions-routes.ts";
import { sessionRoutes } from "./session-routes.ts";
import { storesRoutes } from "./stores-routes.ts";
import { switchesRoutes } from "./switches-routes.ts";
import { tokensRoutes } from "./tokens-routes.ts";
import { upstreamsRoutes } from "./upstreams-routes.ts";

export type { AdminParts } from "./parts.ts";

export const ADMIN_ROWS: readonly RouteRow[] = [
  ...healthRoutes,
  ...sessionRoutes,
  ...accountsRoutes,
  ...tokensRoutes,
  ...policyRoutes,
  ...policyChangeRoutes,
  ...policyHistoryRoutes,
  ...switchesRoutes,
  ...guardRoutes,
  ...keysRoutes,
  ...limitsRoutes,
  ...reputationRoutes,
  ...sanctionsRoutes,
  ...exemplarsRoutes,
  ...upstreamsRoutes,
  ...storesRoutes,
  ...auditRoutes,
  ...apiRoutes(() => openapiDocument(ADMIN_ROWS)),
];

/** The rows, bound to what they work on. */
export function adminRoutes(parts: AdminParts): readonly AdminRoute[] {
  return ADMIN_ROWS.map((row) => {
    const { access, etag, handle, ...rest } = row;
    return {
      ...rest,
      access: access === "metrics" ? (parts.metricsAccess === "open" ? "open" : EVERYBODY) : access,
      etag: etag === undefined ? undefined : (call) => etag(call, parts),
      handle: (call) => handle(call, parts),
    };
  });
}
