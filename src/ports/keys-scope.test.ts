import assert from "node:assert/strict";
import { BlockList, isIPv4 } from "node:net";
import { test } from "node:test";
import { seeded } from "../../test/support/eventually.ts";
import { compileScope, parseScopeNetwork, tidyNetwork } from "./keys-scope.ts";

const has = (networks: string[], address: string) => compileScope({ networks })?.networks?.has(address);

const HELD: readonly (readonly [string, string, boolean])[] = [
  ["192.0.2.0/24", "192.0.2.255", true],
  ["192.0.2.0/24", "192.0.3.0", false],
  ["192.0.2.0/24", "::ffff:192.0.2.9", true],
  ["192.0.2.77/24", "192.0.2.1", true],
  ["::ffff:192.0.2.0/120", "192.0.2.9", true],
  ["::ffff:192.0.2.0/120", "192.0.3.9", false],
  ["192.0.2.7", "192.0.2.7", true],
  ["192.0.2.7", "192.0.2.8", false],
  ["0.0.0.0/0", "203.0.113.9", true],
  ["0.0.0.0/0", "2001:db8::1", false],
  ["::/0", "2001:db8::1", true],
  ["::/0", "192.0.2.1", false],
  ["2001:db8::/32", "2001:db8:ffff::1", true],
  ["2001:db8::/32", "2001:db9::1", false],
  ["2001:db8::/33", "2001:db8:8000::1", false],
  ["fe80::/10", "fe80::1%eth0", true],
  ["2001:db8::1", "2001:db8:0:0::1", true],
  ["192.0.2.0/24", "", false],
  ["192.0.2.0/24", "not an address", false],
];

test("networks of a scope", () => {
  for (const [network, address, expected] of HELD) {
    assert.equal(has([network], address), expected, `${address} in ${network}`);
  }
  assert.equal(has(["192.0.2.0/24", "2001:db8::/32"], "2001:db8::1"), true, "any of them");
  assert.equal(compileScope(undefined), undefined);
  assert.equal(compileScope({ models: ["a"] })?.networks, undefined, "absent allows all");
});

test("what is no network is none; each has one spelling", () => {
  for (const text of [
    "",
    "192.0.2",
    "192.0.2.0/33",
    "192.0.2.0/-1",
    "192.0.2.0/",
    "::/129",
    "host",
    "fe80::1%eth0",
    "010.0.0.1",
  ]) {
    assert.equal(parseScopeNetwork(text), undefined, text);
  }
  assert.equal(tidyNetwork("192.0.2.77/24"), "192.0.2.0/24");
  assert.equal(tidyNetwork("192.0.2.77"), "192.0.2.77/32");
  assert.equal(tidyNetwork("2001:DB8:0::1/32"), "2001:db8::/32");
  assert.equal(tidyNetwork("::ffff:192.0.2.0/120"), "192.0.2.0/24");
});

test("the same answers as node's BlockList", () => {
  const seed = Date.now() % 1_000_000;
  const random = seeded(seed);
  const octets = () => Array.from({ length: 4 }, () => Math.floor(random() * 4)).join(".");
  const groups = () => Array.from({ length: 8 }, () => Math.floor(random() * 3).toString(16)).join(":");
  for (let i = 0; i < 2_000; i++) {
    const isV4 = random() < 0.5;
    const base = isV4 ? octets() : groups();
    const prefix = Math.floor(random() * (isV4 ? 33 : 129));
    const address = random() < 0.9 === isV4 ? octets() : groups();
    const list = new BlockList();
    list.addSubnet(base, prefix, isV4 ? "ipv4" : "ipv6");
    const expected = isIPv4(address) === isV4 && list.check(address, isIPv4(address) ? "ipv4" : "ipv6");
    assert.equal(
      has([`${base}/${prefix}`], address),
      expected,
      `seed ${seed}: ${address} in ${base}/${prefix}`,
    );
  }
});
