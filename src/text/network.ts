/**
 * Internet addresses as text, in one spelling each, so that what is counted, remembered and sanctioned under
 * an address is found again however the address was written. An IPv4 address that comes mapped into IPv6
 * (`::ffff:192.0.2.1`) is the IPv4 address. One IPv6 subscriber holds a whole /64 and could otherwise take a
 * fresh address for every request, so that the /64 stands for them.
 */

/** Of the most significant bits first: two groups of 16 bits are an IPv4 address, eight an IPv6 one. */
export type Address = readonly number[];

export interface Network {
  readonly address: Address;
  /** How many bits count. */
  readonly prefix: number;
}

/** The longest IPv6 address with an IPv4 ending has 45 characters; a zone may follow. */
const ADDRESS_UNITS_MAX = 64;
const ZERO = 48;
const DOT = 46;
const IPV6_GROUPS = 8;
const MAPPED_GROUPS = 6;

/** An IPv4 address, or the /64 of an IPv6 one. What is no address comes back as it is, cut at 64 characters. */
export function addressEntity(address: string): string {
  const parsed = parseAddress(address);
  if (parsed === undefined) return address.slice(0, ADDRESS_UNITS_MAX);
  return parsed.length === 2 ? dotted(parsed) : networkText(parsed, 64);
}

/** The network that an address most likely shares an owner with: its /24, of an IPv6 one its /48. "" where it is no address. */
export function networkOf(address: string): string {
  const parsed = parseAddress(address);
  return parsed === undefined ? "" : networkText(parsed, parsed.length === 2 ? 24 : 48);
}

/** Undefined where it is no address. A zone (`%eth0`) is left out; numbers with leading zeros are not read as IPv4. */
export function parseAddress(text: string): Address | undefined {
  if (text.length > ADDRESS_UNITS_MAX) return undefined;
  if (!text.includes(":")) return parseDotted(text);
  const zone = text.indexOf("%");
  const groups = parseGroups(zone < 0 ? text : text.slice(0, zone));
  if (groups === undefined || !isMapped(groups)) return groups;
  return groups.slice(MAPPED_GROUPS);
}

/** A CIDR such as `192.0.2.0/24`, with bits behind the prefix cleared. Undefined where it is none. */
export function parseNetwork(text: string): Network | undefined {
  const slash = text.indexOf("/");
  const digits = text.slice(slash + 1);
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(digits)) return undefined;
  const address = parseAddress(text.slice(0, slash));
  if (address === undefined) return undefined;
  const isIpv4Text = !text.includes(":");
  // Mapped: the 96 bits in front of the IPv4 address are part of what was written, not of what is kept.
  const prefix = address.length === 2 && !isIpv4Text ? Number(digits) - 96 : Number(digits);
  if (prefix < 0 || prefix > address.length * 16) return undefined;
  return { address: masked(address, prefix), prefix };
}

/** The one spelling of the network that the first `prefix` bits of an address make: RFC 5952, and `/prefix`. */
export function networkText(address: Address, prefix: number): string {
  const front = masked(address, prefix);
  return `${front.length === 2 ? dotted(front) : colons(front)}/${prefix}`;
}

function masked(address: Address, prefix: number): Address {
  return address.map((group, i) => {
    const kept = prefix - i * 16;
    return kept >= 16 ? group : kept <= 0 ? 0 : group & (0xffff << (16 - kept)) & 0xffff;
  });
}

function isMapped(groups: Address): boolean {
  for (let i = 0; i < 5; i++) if (groups[i] !== 0) return false;
  return groups[5] === 0xffff;
}

function parseDotted(text: string): [number, number] | undefined {
  let value = 0;
  let octet = -1;
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (octet < 0 || ++dots > 3) return undefined;
      value = value * 256 + octet;
      octet = -1;
      continue;
    }
    const digit = code - ZERO;
    // A leading zero: some read it as octal.
    if (digit < 0 || digit > 9 || octet === 0) return undefined;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return undefined;
  }
  if (dots !== 3 || octet < 0) return undefined;
  value = value * 256 + octet;
  return [Math.floor(value / 0x10000), value % 0x10000];
}

function parseGroups(text: string): number[] | undefined {
  const gap = text.indexOf("::");
  if (gap < 0) {
    const groups = groupsOf(text);
    return groups?.length === IPV6_GROUPS ? groups : undefined;
  }
  const front = gap === 0 ? [] : groupsOf(text.slice(0, gap));
  const tail = gap + 2 === text.length ? [] : groupsOf(text.slice(gap + 2));
  // An IPv4 address ends the whole; in front of the gap it would be in the middle.
  if (front === undefined || tail === undefined || text.lastIndexOf(".", gap) >= 0) return undefined;
  const zeros = IPV6_GROUPS - front.length - tail.length;
  if (zeros < 1) return undefined;
  return [...front, ...new Array<number>(zeros).fill(0), ...tail];
}

/** Groups between single colons; the last may be an IPv4 address. */
function groupsOf(text: string): number[] | undefined {
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && part.includes(".")) {
      const ending = parseDotted(part);
      if (ending === undefined) return undefined;
      groups.push(...ending);
    } else {
      if (!/^[\da-f]{1,4}$/i.test(part)) return undefined;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

function dotted(address: Address): string {
  const [high = 0, low = 0] = address;
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) as "::". */
function colons(groups: Address): string {
  let start = -1;
  let length = 1;
  for (let i = 0; i < groups.length; i++) {
    let end = i;
    while (groups[end] === 0) end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
    if (end > i) i = end - 1;
  }
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}
