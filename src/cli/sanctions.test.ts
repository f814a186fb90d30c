/** The commands that speak to a running gateway, over a socket to a real admin listener. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { openConsole, TOKEN } from "../console/stand-ins.ts";
import { runReputation } from "./reputation.ts";
import { runSanctions } from "./sanctions.ts";

function terminal(env: Readonly<Record<string, string>>) {
  const out: string[] = [];
  const err: string[] = [];
  const io = {
    log: (text: string) => void out.push(text),
    error: (text: string) => void err.push(text),
    env,
  };
  return {
    out,
    err,
    sanctions: (...args: string[]) => runSanctions(args, io),
    reputation: (...args: string[]) => runReputation(args, io),
  };
}

test("impose, list, lift: on the record with a name", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const { out, err, sanctions } = terminal({ SALLYPORT_ADMIN_URL: admin.url, SALLYPORT_ADMIN_TOKEN: TOKEN });
  assert.equal(await sanctions("list"), 0);
  assert.equal(out.pop(), "no sanctions in force");
  assert.equal(
    await sanctions(
      "impose",
      "network",
      "192.0.2.0/24",
      "--act",
      "throttle",
      "--reason",
      "a flood",
      "--for",
      "6h",
      "--scale",
      "0.2",
    ),
    0,
    err.at(-1),
  );
  const [id = ""] = /^sanc_\w+/.exec(out.pop() ?? "") ?? [];
  assert.equal(await sanctions("impose", "org", "acme", "--act", "ban", "--reason", "resold"), 0);
  out.length = 0;
  assert.equal(await sanctions("list", "--kind", "network"), 0);
  assert.match(
    out.pop() ?? "",
    new RegExp(`^${id}  throttle  network 192\\.0\\.2\\.0/24  until 2.*: a flood$`),
  );
  assert.equal(await sanctions("list", "--json"), 0);
  const listed = JSON.parse(out.pop() ?? "") as { act: string; limitScale?: number; by: string }[];
  assert.deepEqual(listed.map(({ act, limitScale }) => [act, limitScale]).sort(), [
    ["ban", undefined],
    ["throttle", 0.2],
  ]);
  assert.equal(await sanctions("lift", id), 0);
  assert.equal(out.pop(), `lifted ${id}`);
  assert.equal(await sanctions("list", "--all"), 0);
  assert.match(out.pop() ?? "", /lifted 2.* by [\w.@:+-]+ {2}by /);
  assert.equal(await sanctions("lift", "sanc_none"), 1);
  assert.match(err.at(-1) ?? "", /^sallyport sanctions lift: There is no sanction/);
  assert.equal(await sanctions("impose", "org", "acme", "--act", "suspend", "--reason", "x"), 1);
  assert.match(err.at(-1) ?? "", /expiresAt: a suspend needs an end/, "the store's own words");
  assert.ok(admin.audits.every(({ actor }) => actor === listed[0]?.by));
});

test("reputation show: an id with a slash; one that nobody knows", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  const { out, err, reputation } = terminal({ SALLYPORT_ADMIN_URL: admin.url, SALLYPORT_ADMIN_TOKEN: TOKEN });
  assert.equal(await reputation("show", "end_user", "acme/mia"), 0, err[0]);
  assert.match(
    out.pop() ?? "",
    /^end_user acme\/mia: 0 points\n.*seat reputation: normal, risk 0\n.*nothing/,
  );
  await admin.ask("POST /api/reputation/end_user/acme%2Fmia", { body: { points: 4, reason: "resold" } });
  assert.equal(await reputation("show", "end_user", "acme/mia"), 0);
  assert.match(
    out.pop() ?? "",
    /: 4 points[\s\S]*risky, risk 0\.982[\s\S]*4 for resold, once, 2.*, by admin$/,
  );
  assert.equal(await reputation("show", "end_user", "acme/mia", "--json"), 0);
  assert.equal(JSON.parse(out.pop() ?? "").points, 4);
});

const WRONG: readonly (readonly [string, RegExp])[] = [
  ["sanctions", /say list, impose or lift/],
  ["sanctions undo", /there is no action "undo"/],
  ["sanctions list all", /unexpected argument "all"/],
  ["sanctions list --kind planet", /--kind: must be one of org/],
  ["sanctions impose org", /KIND and ID/],
  ["sanctions impose planet mars --act ban --reason x", /KIND: must be one of org/],
  ["sanctions impose org acme --reason x", /--act ACT is missing/],
  ["sanctions impose org acme --act ban", /--reason TEXT is missing/],
  ["sanctions impose org acme --act baan --reason x", /--act: must be one of notice/],
  ["sanctions impose org acme --act throttle --reason x --for soon", /--for: must be a time/],
  ["sanctions impose org acme --act throttle --reason x --until soon", /--until: must be a date/],
  ["sanctions lift", /id of one sanction/],
  ["sanctions lift a --colour", /--colour/],
  ["reputation", /say show/],
  ["reputation show org", /KIND and ID/],
  ["reputation show planet mars", /KIND: must be one of org/],
];

test("wrong usage is exit code 2, names the flag, shows the usage and asks nobody", async () => {
  for (const [line, expected] of WRONG) {
    const { out, err, ...run } = terminal({
      SALLYPORT_ADMIN_TOKEN: "x",
      SALLYPORT_ADMIN_URL: "http://127.0.0.1:1",
    });
    const [command, ...args] = line.split(" ");
    assert.equal(await (command === "sanctions" ? run.sanctions : run.reputation)(...args), 2, line);
    assert.match(err[0] ?? "", expected, line);
    assert.match(err[0] ?? "", /SALLYPORT_ADMIN_URL \(default/, line);
    assert.equal(out.length, 0, line);
  }
  const help = terminal({});
  assert.equal(await help.sanctions("--help"), 0);
  assert.equal(await help.sanctions("impose", "--help"), 0);
  assert.equal(await help.reputation("show", "--help"), 0);
  assert.equal(help.out.length, 3);
});

test("no token, a wrong one, nobody there, somebody else there, a redirect: each says so", async (context) => {
  const admin = await openConsole();
  context.after(() => admin.close());
  let followed = 0;
  const other = createServer((request, response) => {
    if (request.url === "/stolen") followed += 1;
    response
      .writeHead(request.url?.startsWith("/api/sanctions") ? 302 : 200, { location: "/stolen" })
      .end("hi");
  });
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  context.after(() => other.close());
  const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
  for (const [env, code, words] of [
    [{ SALLYPORT_ADMIN_URL: admin.url }, 2, /SALLYPORT_ADMIN_TOKEN is not set/],
    [{ SALLYPORT_ADMIN_URL: "ftp://x", SALLYPORT_ADMIN_TOKEN: TOKEN }, 2, /SALLYPORT_ADMIN_URL must be/],
    [{ SALLYPORT_ADMIN_URL: admin.url, SALLYPORT_ADMIN_TOKEN: "wrong-token" }, 1, /Send a token/],
    [{ SALLYPORT_ADMIN_URL: "http://127.0.0.1:1", SALLYPORT_ADMIN_TOKEN: TOKEN }, 1, /no gateway answers at/],
    [{ SALLYPORT_ADMIN_URL: url, SALLYPORT_ADMIN_TOKEN: TOKEN }, 1, /no gateway answers at .*redirect/],
  ] as const) {
    const { err, sanctions } = terminal(env);
    assert.equal(await sanctions("list"), code, String(words));
    assert.match(err[0] ?? "", words);
    assert.ok(!err[0]?.includes(TOKEN) && !err[0]?.includes("wrong-token"));
  }
  assert.equal(followed, 0, "the token went nowhere else");
  const stranger = terminal({ SALLYPORT_ADMIN_URL: url, SALLYPORT_ADMIN_TOKEN: TOKEN });
  assert.equal(await stranger.reputation("show", "org", "acme"), 1);
  assert.match(stranger.err[0] ?? "", /answered 200: is it the admin port/);
});
