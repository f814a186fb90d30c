/**
 * What an address leads to, so that nobody is led to a machine of ours by a name or a number that they chose.
 * The table is IANA's special-purpose registries (RFC 6890 and its updates) and the addresses under which clouds
 * hand out credentials; IPv6 forms that carry an IPv4 address inside are refused whole, not unpacked.
 */
import { type Address, type Network, networkText, parseAddress, parseNetwork } from "./network.ts";

/**
 * - `loopback` this host · `private` a network of our own · `link_local` this link · `metadata` a cloud's own service
 * - `reserved` for no host, for documentation, a group, or a tunnel to an IPv4 address that is not looked at
 */
export type AddressSpace = "public" | "loopback" | "private" | "link_local" | "metadata" | "reserved";

const LISTED: Readonly<Record<Exclude<AddressSpace, "public">, readonly string[]>> = {
  // First, as some of them lie inside the others.
  metadata: [
    "169.254.169.254/32",
    "169.254.170.2/32",
    "169.254.170.23/32",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
  ],
  loopback: ["0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"],
  link_local: ["169.254.0.0/16", "fe80::/10"],
  private: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"],
  reserved: [
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "ff00::/8",
  ],
};

const SPACES = Object.entries(LISTED).flatMap(([space, networks]) =>
  networks.map((text) => ({ space: space as Exclude<AddressSpace, "public">, network: networkNamed(text) })),
);

/** What is no address at all is `reserved`: nothing leads there. */
export function addressSpace(text: string): AddressSpace {
  const address = parseAddress(text);
  if (address === undefined) return "reserved";
  return SPACES.find(({ network }) => isWithin(address, network))?.space ?? "public";
}

export function isWithin(address: Address, { address: base, prefix }: Network): boolean {
  return address.length === base.length && networkText(address, prefix) === networkText(base, prefix);
}

/** A CIDR, or one address. @throws {RangeError} */
export function networkNamed(text: string): Network {
  const network = parseNetwork(text) ?? parseNetwork(`${text}/${text.includes(":") ? 128 : 32}`);
  if (network === undefined)
    throw new RangeError(`"${text}" is no address and no network such as 10.0.0.0/24`);
  return network;
}
