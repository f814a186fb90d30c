/** The layer's settings, each with its default and what it means. */
import { z } from "zod";
import type { IssuerConfig } from "../../src/layer/index.ts";

/** Asymmetric ones alone: with a symmetric one, whoever can check a token can make one. */
const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
] as const;
const ISSUERS_MAX = 8;
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Keys that come over an open network are anybody's. */
function isSafeUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password } = new URL(text);
  if (username !== "" || password !== "") return false;
  return protocol === "https:" || (protocol === "http:" && LOOPBACK.test(hostname));
}

const URL_FAULT = "must be an https URL without a password (http is taken for loopback alone)";

const claimName = z.string().min(1).max(200);

const issuer = z
  .strictObject({
    issuer: z.string().min(1).max(512).describe("What the token's `iss` must be, to the letter."),
    audience: z
      .string()
      .min(1)
      .max(512)
      .describe("What must be among the token's `aud`: this gateway's name."),
    jwksUrl: z
      .string()
      .max(2048)
      .refine(isSafeUrl, { error: URL_FAULT })
      .optional()
      .describe("Where the issuer's public keys are. Absent: found by OpenID Connect discovery."),
    algorithms: z
      .array(z.enum(ALGORITHMS))
      .min(1)
      .default(["RS256", "ES256"])
      .describe("Signature algorithms that are taken; never none, never a symmetric one."),
    claims: z
      .strictObject({
        org: claimName.describe("Claim that names the organisation; a token without it is refused."),
        project: claimName.optional().describe('Claim that names the project; without it: "default".'),
        endUser: claimName
          .optional()
          .describe("Claim that names the partner's own user. Absent: the request's own fields tell it."),
      })
      .describe("Names of the claims that say who the caller is."),
    leewaySec: z.int().min(0).max(300).default(30).describe("How far the issuer's clock may be off."),
  })
  .refine(({ issuer: name, jwksUrl }) => jwksUrl !== undefined || isSafeUrl(name), {
    path: ["issuer"],
    error: `${URL_FAULT} for discovery; give jwksUrl where it is none`,
  });

export const config = z
  .strictObject({
    allowAnonymous: z
      .boolean()
      .default(false)
      .describe(
        'Lets requests without any key in, as organisation "anonymous". For trials; a wrong key is refused still.',
      ),
    ownKeys: z
      .boolean()
      .default(false)
      .describe(
        "Lets callers in with their own key for the upstream, which then goes there in place of ours. Each is known, limited and sanctioned by a hash of that key.",
      ),
    issuers: z
      .array(issuer)
      .max(ISSUERS_MAX)
      .refine((all) => new Set(all.map(({ issuer: name }) => name)).size === all.length, {
        error: "names an issuer twice",
      })
      .default([])
      .describe("Issuers of tokens (JWTs) that callers may show in place of a key."),
    failures: z
      .strictObject({
        limit: z.int().min(1).max(1_000_000).default(30).describe("Failed attempts per window."),
        windowSec: z.int().min(1).max(86_400).default(60).describe("Seconds of the window, which slides."),
      })
      .prefault({})
      .describe(
        "How many unknown keys and bad tokens one network (an IPv4 address, an IPv6 /64) may try. Beyond it they are refused unseen; known keys and verified tokens still pass.",
      ),
  })
  .readonly();

/** What was left out is absent, not undefined. */
export function issuerConfig({ jwksUrl, claims, ...rest }: z.infer<typeof issuer>): IssuerConfig {
  const { org, project, endUser } = claims;
  return {
    ...rest,
    ...(jwksUrl !== undefined && { jwksUrl }),
    claims: { org, ...(project !== undefined && { project }), ...(endUser !== undefined && { endUser }) },
  };
}
