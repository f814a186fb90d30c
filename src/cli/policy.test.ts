/** `sallyport policy` against a running gateway. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FAKE_KINDS } from "../../test/support/fake-layers.ts";
import { ADMIN_TOKEN, openHouse, policyWith } from "../../test/support/house.ts";
import type { LayerKind } from "../layer/index.ts";
import { runPolicy } from "./policy.ts";

const POLICY = policyWith("  - { id: one, use: probe, with: { words: [first] } } # kept\n");

test("status, show, put, patch, diff, history, rollback, kill, revive", async (context) => {
  const house = await openHouse({ policy: POLICY, layers: FAKE_KINDS as LayerKind[] });
  context.after(() => house.close());
  const out: string[] = [];
  const err: string[] = [];
  const io = {
    log: (text: string) => void out.push(text),
    error: (text: string) => void err.push(text),
    env: { SALLYPORT_ADMIN_URL: house.adminUrl, SALLYPORT_ADMIN_TOKEN: ADMIN_TOKEN },
  };
  const said = async (code: number, ...args: string[]) => {
    out.length = 0;
    err.length = 0;
    assert.equal(await runPolicy(args, io), code, `${args.join(" ")}: ${err.join("\n")}`);
    return [...out, ...err].join("\n");
  };
  const first = house.sallyport.policy.current().revision;
  assert.match(await said(0, "status"), new RegExp(`^${first} from file since .*\n {2}one: enforce`));
  assert.equal(`${await said(0, "show")}\n`, POLICY);
  const file = join(house.dataDir, "next.yaml");
  writeFileSync(file, POLICY.replace("first", "bad-word"));
  assert.match(
    await said(1, "check", file),
    /seats\[0\]\.with\.words\[0\]: the word "bad-word" is not allowed\n.*\n.*\^/,
  );
  assert.match(await said(1, "put", file, "--reason", "r"), /bad-word/);
  writeFileSync(file, POLICY.replace("first", "second"));
  assert.match(await said(0, "check", file), /^ok: revision \w{12}, 1 seats/);
  assert.match(await said(0, "put", file, "--reason", "better"), /^\w{12} is served$/);
  assert.match(
    await said(0, "patch", "one", "--mode", "shadow", "--set", "/limit=4", "--reason", "r"),
    /is served$/,
  );
  assert.match(readFileSync(join(house.configDir, "policy.yaml"), "utf8"), /mode: shadow.*# kept/);
  assert.match(await said(0, "diff", first), /^-.*first.*\n\+.*mode: shadow.*second/m);
  assert.match(
    await said(0, "history"),
    /^\w{12} .* api {2}\S+: r\n\w{12} .* api {2}\S+: better\n\w{12} .* file$/,
  );
  assert.match(await said(0, "rollback", first, "--reason", "back"), new RegExp(`^${first} is served$`));
  assert.match(
    await said(0, "kill", "seat", "one", "--reason", "storm", "--for", "1h"),
    /switched off: seat one/,
  );
  assert.match(await said(0, "status"), /switched off: seat one by \S+: storm; until 20/);
  assert.match(await said(0, "revive", "seat", "one"), /revived/);
  assert.match(await said(1, "withdraw"), /There is no override/);
  assert.match(await said(2, "kill", "seat", "one"), /--reason TEXT is missing/);
  assert.match(
    await said(2, "patch", "one", "--rollout", "x", "--reason", "r"),
    /--rollout: must be a number/,
  );
  assert.match(await said(2, "rollback", "--reason", "r"), /give REVISION/);
  assert.match(await said(2, "undo"), /there is no action "undo"/);
});
