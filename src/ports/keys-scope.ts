/** What a key may be used for, from the words in its record to what a request is held against: compiled once a key. */
import type { KeyScope } from "../layer/index.ts";
import { type Network, networkText, parseAddress, parseNetwork } from "../text/network.ts";
import type { KeyScopes } from "./keys-record.ts";

/** Undefined where nothing is restricted. */
export function compileScope(scopes: KeyScopes | undefined): KeyScope | undefined {
  if (scopes === undefined) return undefined;
  const { routes, models, networks } = scopes;
  return {
    ...(routes !== undefined && { routes: new Set(routes) }),
    ...(models !== undefined && { models }),
    ...(networks !== undefined && { networks: compileNetworks(networks) }),
  };
}

/** A CIDR, or an address as the network of itself alone; IPv4 mapped into IPv6 is the IPv4 network. */
export function parseScopeNetwork(text: string): Network | undefined {
  if (text.includes("/")) return parseNetwork(text);
  const address = parseAddress(text);
  return address === undefined || text.includes("%") ? undefined : { address, prefix: address.length * 16 };
}

/** The one spelling of a network that `parseScopeNetwork` reads; another text comes back as it is. */
export function tidyNetwork(text: string): string {
  const network = parseScopeNetwork(text);
  return network === undefined ? text : networkText(network.address, network.prefix);
}

function compileNetworks(texts: readonly string[]): { has(address: string): boolean } {
  const networks = texts.map(parseScopeNetwork).filter((network) => network !== undefined);
  return {
    has(address) {
      const groups = parseAddress(address);
      return groups !== undefined && networks.some((network) => holds(network, groups));
    },
  };
}

function holds({ address, prefix }: Network, groups: readonly number[]): boolean {
  if (address.length !== groups.length) return false;
  for (let i = 0; i * 16 < prefix; i++) {
    const bits = Math.min(16, prefix - i * 16);
    if (((groups[i]! ^ address[i]!) & (0xffff << (16 - bits)) & 0xffff) !== 0) return false;
  }
  return true;
}
