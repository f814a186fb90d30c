import assert from "node:assert/strict";
import { BlockList, isIP, SocketAddress } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { addressEntity, networkOf, networkText, parseAddress, parseNetwork } from "./network.ts";

test("an address has one name, however it is written", () => {
  for (const [address, entity, network] of [
    ["192.0.2.1", "192.0.2.1", "192.0.2.0/24"],
    ["::ffff:192.0.2.1", "192.0.2.1", "192.0.2.0/24"],
    ["::FFFF:192.0.2.1", "192.0.2.1", "192.0.2.0/24"],
    ["::ffff:c000:201", "192.0.2.1", "192.0.2.0/24"],
    ["0:0:0:0:0:ffff:c000:0201", "192.0.2.1", "192.0.2.0/24"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"],
    ["2001:0DB8:0001:0002::", "2001:db8:1:2::/64", "2001:db8:1::/48"],
    ["2001:db8::1", "2001:db8::/64", "2001:db8::/48"],
    ["fe80::1%eth0", "fe80::/64", "fe80::/48"],
    ["::1", "::/64", "::/48"],
    ["::", "::/64", "::/48"],
    ["64:ff9b::192.0.2.1", "64:ff9b::/64", "64:ff9b::/48"],
    ["0:0:1::", "0:0:1::/64", "0:0:1::/48"],
  ] as const) {
    assert.equal(addressEntity(address), entity, address);
    assert.equal(networkOf(address), network, address);
  }
});

test("what is no address keeps its own name, bounded, and is in no network", () => {
  for (const text of [
    ...["", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.", ".1.2.3.4", "1..2.3"],
    ...[":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8", "12345::", "g::"],
    ...["1.2.3.4::", "::1.2.3.4:5", "::1.2.3", "1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4:80", "[::1]", " 1.2.3.4"],
  ]) {
    assert.equal(parseAddress(text), undefined, text);
    assert.equal(addressEntity(text), text);
    assert.equal(networkOf(text), "");
  }
  assert.equal(addressEntity("x".repeat(1_000_000)).length, 64);
});

test("a network has one spelling", () => {
  for (const [text, spelling] of [
    ["192.0.2.77/24", "192.0.2.0/24"],
    ["192.0.2.77/32", "192.0.2.77/32"],
    ["192.0.2.77/0", "0.0.0.0/0"],
    ["10.255.0.0/9", "10.128.0.0/9"],
    ["::ffff:192.0.2.77/120", "192.0.2.0/24"],
    ["2001:DB8:0:0:1::/65", "2001:db8::/65"],
    ["2001:db8::ffff/127", "2001:db8::fffe/127"],
    ["1:0:0:2:0:0:0:3/128", "1:0:0:2::3/128"],
    ["1:0:0:2:3:0:0:4/128", "1::2:3:0:0:4/128"],
    ["1:0:2:3:4:5:6:7/128", "1:0:2:3:4:5:6:7/128"],
    ["::/0", "::/0"],
  ] as const) {
    const network = parseNetwork(text);
    assert.ok(network !== undefined, text);
    assert.equal(networkText(network.address, network.prefix), spelling);
  }
  for (const text of [
    ...["192.0.2.1", "192.0.2.1/", "192.0.2.1/33", "192.0.2.1/-1", "192.0.2.1/024", "192.0.2.1/8.", "/8", ""],
    ...["::/129", "::ffff:1.2.3.4/95", "AS64500", "1.2.3.4/8/8", "fe80::1/1e1"],
  ]) {
    assert.equal(parseNetwork(text), undefined, text);
  }
});

const ipv4 = fc.ipV4();
const ipv6 = fc.ipV6().filter((text) => isIP(text) === 6);
const isMapped = (text: string) => parseAddress(text)?.length === 2;

test("addresses are read as node:net reads them", () => {
  const address = fc.oneof(ipv4, ipv6, fc.stringMatching(/^[0-9a-f:.]{0,24}$/));
  fc.assert(
    fc.property(address, (text) => {
      const parsed = parseAddress(text);
      assert.equal(parsed !== undefined, isIP(text) !== 0, text);
      if (parsed?.length === 8) {
        const spelled = networkText(parsed, 128).slice(0, -4);
        const viaNode = new SocketAddress({ address: text, family: "ipv6" }).address;
        assert.deepEqual(parseAddress(viaNode), parsed);
        assert.deepEqual(parseAddress(spelled), parsed);
        // inet_ntop writes ::a.b.c.d with dots, which RFC 5952 leaves open.
        if (!viaNode.includes(".")) assert.equal(spelled, viaNode);
      }
    }),
    { numRuns: 3_000 },
  );
});

test("an address is in a network where node:net's BlockList says so", () => {
  const flipped = (text: string, bit: number) => {
    const groups = [...(parseAddress(text) ?? [])];
    const at = Math.floor(bit / 16) % groups.length;
    groups[at] = (groups[at] ?? 0) ^ (1 << (15 - (bit % 16)));
    return networkText(groups, groups.length * 16).split("/")[0] ?? "";
  };
  const check = (family: "ipv4" | "ipv6", bits: number) =>
    fc.property(
      ...([
        family === "ipv4" ? ipv4 : ipv6.filter((text) => !isMapped(text)),
        fc.nat(bits),
        fc.option(fc.nat(bits - 1), { nil: undefined }),
      ] as const),
      (base, prefix, bit) => {
        const address = bit === undefined ? base : flipped(base, bit);
        fc.pre(!isMapped(address) || family === "ipv4");
        const list = new BlockList();
        list.addSubnet(base, prefix, family);
        const network = parseNetwork(`${base}/${prefix}`);
        const parsed = parseAddress(address);
        assert.ok(network !== undefined && parsed !== undefined);
        const isIn = networkText(parsed, prefix) === networkText(network.address, network.prefix);
        assert.equal(isIn, list.check(address, family), `${address} in ${base}/${prefix}`);
      },
    );
  fc.assert(check("ipv4", 32), { numRuns: 2_000 });
  fc.assert(check("ipv6", 128), { numRuns: 2_000 });
});
