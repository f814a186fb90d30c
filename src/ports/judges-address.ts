/**
 * Where a judge's name may lead. The check is made on the addresses that a connection is about to be made to, at
 * each connect: a name that led somewhere harmless when the policy was read leads somewhere else later (DNS
 * rebinding), and a check of the URL alone would not see it. One bad address among several refuses them all.
 */
import { lookup as dnsLookup } from "node:dns/promises";
import { isIP, type LookupFunction } from "node:net";
import { buildConnector } from "undici";
import type { JudgeEndpoint } from "../layer/index.ts";
import { addressSpace, isWithin, networkNamed } from "../text/address-space.ts";
import { type Network, parseAddress } from "../text/network.ts";

/** Every address of a name. */
export type Resolve = (hostname: string) => Promise<readonly string[]>;

const ADDRESSES_MAX = 32;

export class AddressRefused extends Error {
  constructor(hostname: string, why: string) {
    super(`${hostname} ${why}`);
    this.name = "AddressRefused";
  }
}

export class AddressRules {
  readonly #networks: readonly Network[];
  readonly #allowPrivate: boolean;
  readonly #isPlain: boolean;

  /** @throws {RangeError} */
  constructor({ url, addresses, allowPrivate }: Pick<JudgeEndpoint, "url" | "addresses" | "allowPrivate">) {
    const { protocol, username, password } = new URL(url);
    if (protocol !== "https:" && protocol !== "http:") throw new RangeError("url: must be https or http");
    if (username !== "" || password !== "") throw new RangeError("url: must not hold a password");
    this.#networks = addresses.map(networkNamed);
    this.#allowPrivate = allowPrivate;
    this.#isPlain = protocol === "http:";
    if (this.#isPlain && this.#networks.length === 0 && !allowPrivate) {
      throw new RangeError("url: http is taken only to what `addresses` names or `allowPrivate` lets in");
    }
  }

  /** Undefined: it may be led to. */
  faultOf(text: string): string | undefined {
    const address = parseAddress(text);
    if (address === undefined) return `leads to "${text}", which is no address`;
    if (this.#networks.length > 0) {
      const isNamed = this.#networks.some((network) => isWithin(address, network));
      return isNamed ? undefined : `leads to ${text}, which \`addresses\` does not name`;
    }
    const space = addressSpace(text);
    switch (space) {
      case "public":
        return this.#isPlain ? `leads to ${text} over plain http` : undefined;
      case "loopback":
      case "private":
      case "link_local":
        return this.#allowPrivate ? undefined : `leads to ${text}, a ${space} address`;
      case "metadata":
      case "reserved":
        return `leads to ${text}, a ${space} address`;
      default:
        return space satisfies never;
    }
  }
}

export const resolveByDns: Resolve = async (hostname) =>
  (await dnsLookup(hostname, { all: true })).map(({ address }) => address);

/** Connects to nothing but addresses that the rules let through. */
export function guardedConnector(
  rules: AddressRules,
  resolve: Resolve,
  timeoutMs: number,
): buildConnector.connector {
  const lookup: LookupFunction = (hostname, { all }, done) => {
    resolve(hostname).then(
      (addresses) => {
        const fault =
          addresses.length === 0
            ? "leads nowhere"
            : addresses.map((address) => rules.faultOf(address)).find((one) => one !== undefined);
        if (fault !== undefined) return done(new AddressRefused(hostname, fault), "", 0);
        const found = addresses
          .slice(0, ADDRESSES_MAX)
          .map((address) => ({ address, family: isIP(address) }));
        if (all === true) done(null, found);
        else done(null, found[0]!.address, found[0]!.family);
      },
      (error: unknown) => done(error instanceof Error ? error : new Error(String(error)), "", 0),
    );
  };
  const connect = buildConnector({ timeout: timeoutMs, allowH2: false, lookup });
  return (options, done) => {
    // Node looks no name up where there is an address already.
    const host = options.hostname.replace(/^\[|\]$/g, "");
    const fault = isIP(host) === 0 ? undefined : rules.faultOf(host);
    if (fault !== undefined) done(new AddressRefused(host, fault), null);
    else connect(options, done);
  };
}
