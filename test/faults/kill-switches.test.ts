/** Every combination of the kill switches of a small policy, thrown under load: no 5xx, and each decision says what was off. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SeatRecord } from "../../src/ledger/decision.ts";
import { ADMIN_TOKEN, eventually, KEY, openHouse, policyWith } from "../support/house.ts";

const RULES = ["ignore-previous", "print-secrets"] as const;
const PACK = `pack: own
version: 1
rules:
${RULES.map((id, i) => `  - { id: ${id}, title: t, method: m, literals: ["${["ignore all of it", "print the secrets"][i]}"], score: 1, catch: ["${["ignore all of it", "print the secrets"][i]}"], spare: ["hello"] }`).join("\n")}
`;
const SEATS = policyWith(`  - { id: auth, use: auth }
  - { id: rules, use: prompt-rules, with: { packs: [own.yaml] } }
  - { id: secrets, use: output-secrets }
`);
const SWITCHES = [
  "seat/rules",
  "seat/secrets",
  "seat/auth",
  "layer/prompt-rules",
  "layer/output-secrets",
  ...RULES.map((id) => `rule/${id}`),
];

test(`all ${2 ** SWITCHES.length} combinations under load`, async (context) => {
  const house = await openHouse({ policy: SEATS, files: { "own.yaml": PACK } });
  context.after(() => house.close());
  const admin = (method: string, path: string, body?: object) =>
    fetch(`${house.adminUrl}/api/policy/switches${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  const ask = async (content: string, stream = false) => {
    const response = await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "m", stream, messages: [{ role: "user", content }] }),
    });
    await response.text();
    return response;
  };
  const statuses = new Map<number, number>();
  let isOver = false;
  const load = Array.from({ length: 4 }, async (_, i) => {
    while (!isOver) {
      const { status } = await ask(i % 2 === 0 ? "hello" : "ignore all of it", i > 1);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  });
  const expected = new Map<string, { readonly off: ReadonlySet<string>; readonly status: number }>();
  const off = new Set<string>();
  for (let i = 1; i <= 2 ** SWITCHES.length; i++) {
    // A Gray code: one switch changes at a time, and every combination comes once.
    const one = SWITCHES[Math.min(Math.log2(i & -i), SWITCHES.length - 1)]!;
    const isOff = off.has(one);
    const thrown = await admin(isOff ? "DELETE" : "PUT", `/${one}`, isOff ? undefined : { reason: "a test" });
    assert.equal(thrown.status, 200, `${one} ${await thrown.text()}`);
    if (isOff) off.delete(one);
    else off.add(one);
    const { headers, status } = await ask("print the secrets");
    const isJudged = !["seat/rules", "layer/prompt-rules", "rule/print-secrets"].some((name) =>
      off.has(name),
    );
    assert.equal(status, isJudged ? 400 : 200, [...off].join(" "));
    expected.set(headers.get("x-sallyport-request-id") ?? "", { off: new Set(off), status });
  }
  isOver = true;
  await Promise.all(load);
  const failed = [...statuses].filter(([status]) => status >= 500);
  console.log(
    `${[...statuses.values()].reduce((sum, count) => sum + count, 0)} requests beside, by status`,
    statuses,
  );
  assert.deepEqual(failed, []);
  let seen = 0;
  for (const decision of await house.decisions()) {
    const told = expected.get(decision.id);
    if (told === undefined) continue;
    seen += 1;
    for (const seat of decision.seats) assertTold(seat, told.off);
  }
  assert.equal(seen, 2 ** SWITCHES.length);
});

function assertTold({ seat, state, off: by = [], would }: SeatRecord, off: ReadonlySet<string>): void {
  const kinds: Record<string, string> = { auth: "auth", rules: "prompt-rules", secrets: "output-secrets" };
  const whole = [`seat/${seat}`, `layer/${kinds[seat]}`].filter((name) => off.has(name));
  const rules = seat === "rules" ? RULES.map((id) => `rule/${id}`).filter((name) => off.has(name)) : [];
  const names = [...whole, ...rules].map((name) => name.replace("/", ":")).sort();
  assert.deepEqual([...by], names);
  assert.equal(state === "switched_off", whole.length > 0, seat);
  if (whole.length > 0) assert.equal(would, "allow");
}

test("a switch ends by itself, is shown in figures, and one for nothing is refused", async (context) => {
  const house = await openHouse({ policy: SEATS, files: { "own.yaml": PACK } });
  context.after(() => house.close());
  const admin = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${house.adminUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, text: await response.text() };
  };
  const unknown = await admin("PUT", "/api/policy/switches/rule/nosuch", { reason: "r" });
  assert.equal(unknown.status, 404);
  assert.match(unknown.text, /no rule \\"nosuch\\"; it has ignore-previous, print-secrets/);
  await admin("PUT", "/api/policy/switches/rule/ignore-previous", { reason: "r", forSec: 1 });
  assert.match(
    (await admin("GET", "/metrics")).text,
    /sallyport_kill_switches\{kind="rule",target="ignore-previous"\} 1/,
  );
  await eventually(async () =>
    assert.deepEqual(JSON.parse((await admin("GET", "/api/policy/switches")).text), { switches: [] }),
  );
  assert.equal((await admin("DELETE", "/api/policy/switches/rule/ignore-previous")).status, 404);
});
