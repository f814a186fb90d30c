import assert from "node:assert/strict";
import { test } from "node:test";
import { openConsole, READ_TOKEN, standInParts } from "./stand-ins.ts";

interface KeyView {
  readonly id: string;
  readonly state: string;
  readonly [field: string]: unknown;
}
interface KeyPage {
  readonly keys: readonly KeyView[];
  readonly next: string | null;
}
interface SanctionView {
  readonly id: string;
  readonly active: boolean;
  readonly [field: string]: unknown;
}

test("a key is made with scopes, shown, listed, rotated and revoked", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const scopes = { routes: ["openai.chat"], models: ["gpt-*"], networks: ["10.0.0.0/8"] };
  const made = await admin.ask<{ id: string; key: string }>("POST /api/keys", {
    body: { org: "acme", name: "CI", scopes, expiresAt: "2999-01-01T00:00:00Z" },
  });
  assert.equal(made.status, 201);
  assert.equal(made.headers.get("location"), `/api/keys/${made.body.id}`);
  const bait = await admin.ask<{ id: string }>("POST /api/keys", { body: { org: "bait", canary: true } });

  const shown = await admin.ask<KeyView>(`GET /api/keys/${made.body.id}`);
  assert.deepEqual(shown.body["scopes"], scopes);
  assert.equal(shown.body.state, "active");
  assert.ok(!JSON.stringify(shown.body).includes(made.body.key));
  assert.equal((await admin.ask<KeyView>(`GET /api/keys/${bait.body.id}`)).body["canary"], true);
  assert.equal((await admin.ask("GET /api/keys/key_none")).status, 404);

  const rotated = await admin.ask<{ id: string }>(`POST /api/keys/${made.body.id}/rotate`, {
    body: { overlapSec: 0 },
  });
  assert.equal(rotated.status, 201);
  assert.equal(admin.audits.at(-1)?.target, `${made.body.id} ${rotated.body.id}`);
  const old = (await admin.ask<KeyView>(`GET /api/keys/${made.body.id}`)).body;
  assert.equal(old["replacedBy"], rotated.body.id);
  assert.equal(old.state, "expired");

  assert.equal((await admin.ask(`DELETE /api/keys/${rotated.body.id}`)).status, 200);
  assert.equal((await admin.ask(`DELETE /api/keys/${rotated.body.id}`)).status, 200, "a second time too");
  assert.equal((await admin.ask("DELETE /api/keys/key_none")).status, 404);
  const refused = await admin.ask<{ detail: string }>(`POST /api/keys/${rotated.body.id}/rotate`);
  assert.equal(refused.status, 409);
  assert.match(refused.body.detail, /was revoked/);
  assert.equal((await admin.ask("POST /api/keys/key_none/rotate")).status, 404);

  const ids = async (query: string) =>
    (await admin.ask<KeyPage>(`GET /api/keys?${query}`)).body.keys.map(({ id }) => id);
  assert.deepEqual(await ids("state=revoked"), [rotated.body.id]);
  assert.deepEqual(await ids("state=expired&org=acme"), [made.body.id]);
  assert.deepEqual(await ids("org=bait"), [bait.body.id]);
  assert.deepEqual(await ids("org=nobody"), []);
});

test("pages: every key once, in order, also when some come and go between the pages", async (context) => {
  const parts = standInParts();
  const at = (i: number) => new Date(1_700_000_000_000 + i * 1_000).toISOString();
  let rows = Array.from({ length: 25 }, (_, i) => ({
    ...{ id: `key_${i}`, prefix: "sp-abc…", org: "acme", project: "default", name: "", createdAt: at(i) },
  }));
  const admin = await openConsole({
    ...parts,
    // In no order, as a table of Redis has none.
    identities: {
      ...parts.identities,
      list: () => [...rows].sort((a, b) => (a.prefix + b.id < b.prefix + a.id ? 1 : -1)),
    },
  });
  context.after(() => admin.close());
  const seen: string[] = [];
  let cursor: string | null = "";
  for (let page = 0; cursor !== null; page++) {
    assert.ok(page < 5);
    const query: string = cursor === "" ? "" : `&cursor=${cursor}`;
    const { body } = await admin.ask<KeyPage>(`GET /api/keys?limit=10${query}`, { token: READ_TOKEN });
    seen.push(...body.keys.map(({ id }) => id));
    cursor = body.next;
    // What was shown goes, among it the row that the cursor names; what comes is newer.
    if (page === 0) rows = [...rows.slice(10), { ...rows[0]!, id: "key_25", createdAt: at(25) }];
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 26 }, (_, i) => `key_${i}`),
  );
});

test("if-match: a change is refused where the thing is another by now", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const { id } = (await admin.ask<{ id: string }>("POST /api/keys", { body: { org: "acme" } })).body;
  const tag = (await admin.ask(`GET /api/keys/${id}`)).headers.get("etag") ?? "";
  assert.match(tag, /^"[\w-]+"$/);
  await admin.ask(`POST /api/keys/${id}/rotate`);
  const stale = await admin.ask<{ code: string }>(`DELETE /api/keys/${id}`, { headers: { "if-match": tag } });
  assert.equal(stale.status, 412);
  assert.equal(stale.body.code, "changed");
  const now = stale.headers.get("etag") ?? "";
  assert.equal(
    (await admin.ask(`DELETE /api/keys/${id}`, { headers: { "if-match": `"x", ${now}` } })).status,
    200,
  );
  const policy = (await admin.ask("GET /api/policy")).headers.get("etag") ?? "";
  const reload = (value: string) => admin.ask("POST /api/policy/reload", { headers: { "if-match": value } });
  assert.equal((await reload(policy)).status, 200);
  assert.equal((await reload("*")).status, 200);
  assert.equal((await reload('"ffffffffffff"')).status, 412);
  const none = await admin.ask("POST /api/keys", { body: { org: "acme" }, headers: { "if-match": tag } });
  assert.equal(none.status, 400, "never ignored");
});

test("limits: configured, live, reset", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const { body } = await admin.ask<{ limits: { seat: string; of: string }[] }>("GET /api/limits");
  assert.deepEqual(
    body.limits.map(({ seat, of }) => [seat, of]),
    [["limits", "requests"]],
  );
  type Live = { counters: { key: string; used: number }[]; truncated: boolean };
  const live = async (query: string) => (await admin.ask<Live>(`GET /api/limits/live?${query}`)).body;
  assert.equal((await live("")).counters.length, 3);
  assert.equal((await live("limit=2")).truncated, true);
  assert.equal((await live("seat=other")).counters.length, 0);
  assert.equal((await live("contains=key%3Dkey_1")).counters[0]?.used, 7);
  const reset = (key: string) => admin.ask("POST /api/limits/reset", { body: { seat: "limits", key } });
  assert.equal((await reset("key=key_1")).status, 200);
  assert.equal(admin.audits.at(-1)?.target, "limits key=key_1");
  assert.equal((await live("contains=key%3Dkey_1")).counters[0]?.used, 0);
  assert.equal((await reset("key=nobody")).status, 404);
});

test("reputation: a ruling, its explanation, the worst; an id with a slash", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  type Why = { points: number; because: { reason: string; by: string }[]; standings: { tier: string }[] };
  const path = `/api/reputation/end_user/${encodeURIComponent("acme/user 1")}`;
  const fresh = await admin.ask<Why>(`GET ${path}`);
  assert.deepEqual([fresh.status, fresh.body.points, fresh.body.standings[0]?.tier], [200, 0, "normal"]);
  const ruled = await admin.ask<Why>(`POST ${path}`, {
    body: { points: 4, reason: "resold access" },
    headers: { "x-sallyport-actor": "mia" },
  });
  assert.deepEqual([ruled.body.points, ruled.body.standings[0]?.tier], [4, "risky"]);
  assert.deepEqual([ruled.body.because[0]?.reason, ruled.body.because[0]?.by], ["resold access", "mia"]);
  assert.equal(admin.audits.at(-1)?.target, "end_user acme/user 1 4");
  const mapped = await admin.ask<{ entity: { id: string } }>(
    "GET /api/reputation/address/%3A%3Affff%3A192.0.2.1",
  );
  assert.equal(mapped.body.entity.id, "192.0.2.1", "one spelling");
  await admin.ask("POST /api/reputation/org/acme", { body: { points: 9, reason: "x" } });
  type Worst = { entities: { entity: { kind: string; id: string }; points: number }[] };
  const worst = async (query: string) =>
    (await admin.ask<Worst>(`GET /api/reputation?${query}`)).body.entities.map(({ entity }) => entity.id);
  assert.deepEqual(await worst(""), ["acme", "acme/user 1"]);
  assert.deepEqual(await worst("kind=end_user"), ["acme/user 1"]);
  assert.deepEqual(await worst("limit=1"), ["acme"]);
});

test("sanctions: imposed, listed, shown, lifted", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const impose = (body: object) =>
    admin.ask<SanctionView>("POST /api/sanctions", { body, headers: { "x-sallyport-actor": "mia" } });
  const entity = { kind: "org", id: "acme" };
  const ban = await impose({ entity, act: "ban", reason: "resold access" });
  assert.equal(ban.status, 201);
  assert.equal(ban.headers.get("location"), `/api/sanctions/${ban.body.id}`);
  assert.deepEqual(
    [ban.body.active, ban.body["by"], ban.body["source"], ban.body["expiresAt"]],
    [true, "mia", "admin", undefined],
  );
  const network = { kind: "network", id: "192.0.2.0/24" };
  const slow = await impose({
    entity: network,
    act: "throttle",
    reason: "flood",
    forSec: 60,
    limitScale: 0.5,
  });
  assert.equal(slow.body["limitScale"], 0.5);
  assert.ok(Math.abs(Date.parse(String(slow.body["expiresAt"])) - Date.now() - 60_000) < 5_000);
  const ids = async (query: string) =>
    (await admin.ask<{ sanctions: SanctionView[] }>(`GET /api/sanctions?${query}`)).body.sanctions.map(
      ({ id }) => id,
    );
  assert.deepEqual(
    await ids(""),
    [ban.body.id, slow.body.id].sort((a, b) => order(a, b)),
  );
  assert.deepEqual(await ids("kind=network&id=192.0.2.0%2F24"), [slow.body.id]);
  assert.equal((await admin.ask(`DELETE /api/sanctions/${ban.body.id}`)).status, 200);
  assert.equal((await admin.ask<SanctionView>(`GET /api/sanctions/${ban.body.id}`)).body.active, false);
  assert.deepEqual(await ids("active=true"), [slow.body.id]);
  assert.deepEqual(await ids("active=false"), [ban.body.id]);
  assert.equal((await admin.ask("DELETE /api/sanctions/sanc_none")).status, 404);
  assert.equal((await admin.ask("GET /api/sanctions/sanc_none")).status, 404);

  // Both may have been made in one millisecond: then the id decides.
  function order(a: string, b: string): number {
    const early = ban.body["createdAt"] === slow.body["createdAt"];
    return early ? (a < b ? -1 : 1) : a === ban.body.id ? -1 : 1;
  }
});

test("policy, status, upstreams, stores and the document answer as they say", async (context) => {
  const parts = standInParts();
  const admin = await openConsole({
    ...parts,
    redis: undefined,
    state: { draining: true },
    policy: {
      ...parts.policy,
      reload: async () => ({
        result: "refused",
        revision: "0123456789ab",
        problems: [
          { file: "policy.yaml", line: 1, column: 2, path: "seats[0]", message: "no", excerpt: "x" },
        ],
      }),
    },
  });
  context.after(() => admin.close());
  for (const path of ["/api/policy", "/api/status", "/api/upstreams", "/api/stores", "/healthz"]) {
    assert.equal((await admin.ask(`GET ${path}`)).status, 200, path);
  }
  assert.equal((await admin.ask("GET /readyz")).status, 503);
  assert.equal((await admin.ask("GET /api/stores")).body["redis"], null);
  assert.equal((await admin.ask("POST /api/policy/reload")).status, 422);
  assert.equal((await admin.ask("GET /api/openapi.json")).body["openapi"], "3.1.1");
});

test("exemplars: added, listed, shown, removed; never with their text", async (context) => {
  const weather = { isAway: false };
  const admin = await openConsole(standInParts(weather));
  context.after(() => admin.close());
  const text = "Words that nobody but their author should read.";
  const add = (body: object) => admin.ask<{ id: string }>("POST /api/exemplars", { body });
  const made = await add({ text, label: "bad", reason: "case 7", note: "from a report" });
  assert.equal(made.status, 201);
  const { id } = made.body;
  assert.equal(made.headers.get("location"), `/api/exemplars/${id}`);
  assert.equal(admin.audits.at(-1)?.target, `${id} bad`);
  assert.equal(
    (await add({ text: "A good one.", label: "good", reason: "an appeal", mode: "shadow" })).status,
    201,
  );
  const page = await admin.ask<{ exemplars: { id: string; mode: string }[]; next: string | null }>(
    "GET /api/exemplars?label=bad",
    { token: READ_TOKEN },
  );
  assert.deepEqual(
    page.body.exemplars.map((row) => [row.id, row.mode]),
    [[id, "enforce"]],
  );
  const shown = await admin.ask<Record<string, unknown>>(`GET /api/exemplars/${id}`);
  assert.equal(shown.body["reason"], "case 7");
  for (const { body } of [made, page, shown]) assert.ok(!JSON.stringify(body).includes("author"));
  assert.ok(!JSON.stringify(admin.audits).includes("author"));
  assert.equal((await add({ text: "", label: "bad", reason: "x" })).status, 400);
  assert.equal((await add({ text, label: "ugly", reason: "x" })).status, 400);
  assert.equal((await admin.ask("GET /api/exemplars/ex_none")).status, 400);
  weather.isAway = true;
  assert.equal((await add({ text, label: "bad", reason: "x" })).status, 503);
  weather.isAway = false;
  assert.equal((await admin.ask(`DELETE /api/exemplars/${id}`)).status, 200);
  assert.equal((await admin.ask(`DELETE /api/exemplars/${id}`)).status, 404);
});
