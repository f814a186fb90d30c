/**
 * Lets a request in by its virtual API key, and tells the seats after it who is calling. Everything else
 * that is kept per key, project or organisation rests on this seat standing first.
 */
import { z } from "zod";
import { ALLOW, defineLayer, type Identity, type KeyLookup, type Verdict } from "../../src/layer/index.ts";

const config = z.strictObject({
  allowAnonymous: z
    .boolean()
    .default(false)
    .describe(
      'Lets requests without any key in, as organisation "anonymous". For trials; a wrong key is refused still.',
    ),
});

export const ANONYMOUS: Identity = { org: "anonymous", project: "anonymous", keyId: "anonymous" };

const REASONS = { revoked: "auth.revoked", expired: "auth.expired", unknown: "auth.unknown" } as const;

export type Admission =
  | { readonly identity: Identity; readonly verdict: Verdict }
  /** The caller could not be told: nothing may be booked on anyone. */
  | { readonly identity: undefined; readonly verdict: Verdict };

/** Who a credential stands for, and whether it opens the gate. A revoked or expired key still names its owner. */
export function admit(
  credential: string | undefined,
  find: (presented: string) => KeyLookup,
  allowAnonymous: boolean,
): Admission {
  if (credential === undefined || credential === "") {
    if (allowAnonymous) return { identity: ANONYMOUS, verdict: ALLOW };
    return { identity: undefined, verdict: refuse("auth.missing") };
  }
  const found = find(credential);
  switch (found.state) {
    case "active":
      return { identity: found.identity, verdict: ALLOW };
    case "revoked":
    case "expired":
      return { identity: found.identity, verdict: refuse(REASONS[found.state]) };
    case "unknown":
      return { identity: undefined, verdict: refuse(REASONS[found.state]) };
    default:
      return found satisfies never;
  }
}

function refuse(reason: string): Verdict {
  return { act: "block", findings: [{ reason, score: 1 }] };
}

export const auth = defineLayer({
  kind: "auth",
  summary: "Admits requests by virtual API key and names the caller.",
  config,
  phases: ["onRequest"],
  compile({ allowAnonymous }, { identities }) {
    const find = (presented: string) => identities.find(presented);
    return {
      open: (request) => ({
        onRequest(head) {
          const { identity, verdict } = admit(head.credential, find, allowAnonymous);
          if (identity !== undefined) request.identify(identity);
          return verdict;
        },
      }),
    };
  },
});
