/**
 * Addresses that a request asks the model API to fetch from. What is fetched is not seen here, and a name may lead
 * elsewhere when it is fetched; but a name or number that can only mean our own machines is refused.
 */
import { addressSpace } from "../../src/text/address-space.ts";
import { parseAddress } from "../../src/text/network.ts";

export type AddressFault = "media.malformed" | "media.host" | "media.private-address";

/** Names that never leave a network (RFC 6761, RFC 6762, RFC 8375, and what clouds and clusters use). */
const INSIDE = /(^|\.)(localhost|local|internal|intranet|lan|home\.arpa|localdomain|svc|cluster\.local)$/;

/** Undefined: it may be fetched. */
export function addressFault(
  text: string,
  rules: { readonly mayBeHost: (host: string) => boolean; readonly plainHttp: boolean },
): AddressFault | undefined {
  if (!URL.canParse(text)) return "media.malformed";
  // The parser of the web's own standard: 0x7f.1, 2130706433 and full-width digits all come out as 127.0.0.1.
  const { protocol, hostname, username, password } = new URL(text);
  const host = hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
  if (parseAddress(host) !== undefined) {
    if (addressSpace(host) !== "public") return "media.private-address";
  } else if (!host.includes(".") || INSIDE.test(host)) {
    return "media.private-address";
  }
  if (username !== "" || password !== "") return "media.host";
  if (protocol !== "https:" && !rules.plainHttp) return "media.host";
  return rules.mayBeHost(host) ? undefined : "media.host";
}

/** [] takes any. */
export function hostMatcher(hosts: readonly string[]): (host: string) => boolean {
  if (hosts.length === 0) return () => true;
  const exact = new Set(hosts.filter((host) => !host.startsWith("*.")));
  const below = hosts.filter((host) => host.startsWith("*.")).map((host) => host.slice(1));
  return (host) => exact.has(host) || below.some((ending) => host.endsWith(ending));
}
