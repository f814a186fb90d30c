import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { eventually } from "../../test/support/house.ts";
import { mmdb } from "../../test/support/mmdb.ts";
import { asnOf, countryOf, openGeo } from "./geo.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-geo-"));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, content: Buffer): string {
  const path = join(folder, name);
  // As databases are replaced in life: written beside, then renamed over.
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
  return path;
}

const COUNTRIES = {
  "192.0.2.0/24": { country: { iso_code: "DE" } },
  "192.0.2.128/25": { country: { iso_code: "FR" } },
  "2001:db8::/32": { country: { iso_code: "SE" }, registered_country: { iso_code: "NO" } },
};
const SYSTEMS = {
  "192.0.2.0/24": { autonomous_system_number: 64500, autonomous_system_organization: "Example" },
  "2001:db8:1::/48": { asn: "AS4200000000" },
};

for (const recordSize of [24, 28, 32] as const) {
  test(`country and operator of IPv4 and IPv6, records of ${recordSize} bits`, async () => {
    const geo = await openGeo({
      country: file(`country${recordSize}.mmdb`, mmdb(COUNTRIES, { recordSize })),
      asn: file(`asn${recordSize}.mmdb`, mmdb(SYSTEMS, { recordSize })),
    });
    assert.deepEqual(geo.look("192.0.2.7"), { country: "DE", asn: "AS64500" });
    assert.deepEqual(geo.look("192.0.2.200"), { country: "FR", asn: "AS64500" }, "the longer prefix wins");
    assert.deepEqual(
      geo.look("::ffff:192.0.2.7"),
      { country: "DE", asn: "AS64500" },
      "IPv4 mapped into IPv6",
    );
    assert.deepEqual(geo.look("2001:db8:1::5"), { country: "SE", asn: "AS4200000000" });
    assert.deepEqual(geo.look("2001:db8:2::5%eth0"), { country: "SE", asn: "" });
    for (const unknown of ["198.51.100.1", "2001:db9::1", "", "not an address", "192.0.2.300"]) {
      assert.deepEqual(geo.look(unknown), { country: "", asn: "" }, unknown);
    }
    assert.equal(geo.problem, undefined);
    geo.close();
  });
}

test("an IPv6 address finds nobody in a database of IPv4", async () => {
  const path = file("four.mmdb", mmdb({ "32.0.0.0/3": { country: { iso_code: "US" } } }, { ipVersion: 4 }));
  const geo = await openGeo({ country: path });
  assert.equal(geo.look("32.1.13.184").country, "US");
  assert.equal(geo.look("2001:db8::1").country, "", "0x2001 starts with the bits of 32.1");
  geo.close();
});

test("the layouts of several vendors", () => {
  const countries: readonly [unknown, string][] = [
    [{ country: { iso_code: "de" } }, "DE"],
    [{ country_code: "DE", country: "Germany" }, "DE"],
    [{ country: "DE" }, "DE"],
    [{ country: "Germany" }, ""],
    [{ registered_country: { iso_code: "CH" } }, "CH"],
    [{ country: { names: { en: "?" } }, registered_country: { iso_code: "CH" } }, "CH"],
    [null, ""],
    ["DE", ""],
  ];
  for (const [row, expected] of countries) assert.equal(countryOf(row), expected, JSON.stringify(row));
  const systems: readonly [unknown, string][] = [
    [{ autonomous_system_number: 64500 }, "AS64500"],
    [{ asn: "AS64500" }, "AS64500"],
    [{ asn: "64500" }, "AS64500"],
    [{ asn: 64500 }, "AS64500"],
    [{ asn: "AS" }, ""],
    [{ asn: "0" }, ""],
    [{ asn: 4_294_967_296 }, ""],
    [{}, ""],
  ];
  for (const [row, expected] of systems) assert.equal(asnOf(row), expected, JSON.stringify(row));
});

test("a replaced file is read again; a bad one leaves the last good one", async () => {
  const problems: (string | undefined)[] = [];
  const path = file("hot.mmdb", mmdb({ "192.0.2.0/24": { country: { iso_code: "DE" } } }));
  const geo = await openGeo({ country: path, pollMs: 10, onProblem: (problem) => problems.push(problem) });
  assert.equal(geo.look("192.0.2.1").country, "DE");
  const revision = geo.revision;

  const next = mmdb({ "192.0.2.0/24": { country: { iso_code: "IT" } } });
  file("hot.mmdb", next.subarray(0, 40));
  await eventually(() => assert.match(geo.problem ?? "", /hot\.mmdb cannot be read .*last good one is kept/));
  assert.equal(geo.look("192.0.2.1").country, "DE");
  assert.equal(geo.revision, revision);

  file("hot.mmdb", next);
  await eventually(() => assert.equal(geo.look("192.0.2.1").country, "IT"));
  assert.ok(geo.revision > revision);
  assert.equal(geo.problem, undefined);
  assert.equal(problems.length, 2);
  assert.equal(problems[1], undefined);
  geo.close();
});

test("a file that is not there yet is a problem, and is read once it comes", async () => {
  const path = join(folder, "later.mmdb");
  const geo = await openGeo({ asn: path, pollMs: 10 });
  assert.match(geo.problem ?? "", /asn database .*later\.mmdb cannot be read .*ENOENT/);
  assert.deepEqual(geo.look("192.0.2.1"), { country: "", asn: "" });
  file("later.mmdb", mmdb(SYSTEMS));
  await eventually(() => assert.equal(geo.look("192.0.2.1").asn, "AS64500"));
  geo.close();
});

test("a packed file is told from a damaged one", async () => {
  const geo = await openGeo({ country: file("packed.mmdb", Buffer.from([0x1f, 0x8b, 8, 0])) });
  assert.match(geo.problem ?? "", /gzip: unpack it/);
  geo.close();
});

test("rows that are damaged are a problem, never a throw in a request", async () => {
  const bytes = mmdb({ "198.51.100.0/24": { country: { iso_code: "DE" } } });
  const rows = bytes.indexOf("country") - 2;
  bytes[rows] = 0xff; // a map that goes on past the end of the file
  bytes[rows + 1] = 0xff;
  const geo = await openGeo({ country: file("damaged.mmdb", bytes) });
  assert.equal(geo.look("198.51.100.1").country, "");
  assert.match(geo.problem ?? "", /damaged/);
  geo.close();
});

test("answers are kept within a bound, and without a database nothing is looked at", async () => {
  const geo = await openGeo({ country: file("many.mmdb", mmdb(COUNTRIES)), answersMax: 10 });
  for (let i = 0; i < 256; i++) assert.equal(geo.look(`192.0.2.${i}`).country, i < 128 ? "DE" : "FR");
  const first = geo.look("192.0.2.255");
  assert.equal(geo.look("192.0.2.255"), first, "the same object: it was not read again");
  geo.close();
  const none = await openGeo({});
  assert.deepEqual(none.look("192.0.2.1"), { country: "", asn: "" });
});
