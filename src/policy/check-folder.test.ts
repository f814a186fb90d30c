import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FAKE_KINDS } from "../../test/support/fake-layers.ts";
import { checkFolder } from "./check-folder.ts";
import { formatProblems } from "./problems.ts";

test("a folder is checked whole: policy, artifacts and gateway.yaml", async () => {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-check-"));
  try {
    const missing = await checkFolder(join(dir, "nowhere"), FAKE_KINDS, {});
    assert.ok(!missing.ok);
    assert.match(
      formatProblems(missing.problems),
      /nowhere\/policy\.yaml: the policy cannot be read: there is no such file/,
    );

    mkdirSync(join(dir, "packs"));
    writeFileSync(join(dir, "packs/a.txt"), "fine\n");
    const policy =
      "version: 1\nroutes: [openai.chat]\nseats:\n  - { id: one, use: probe, with: { packs: [packs/a.txt] } }\n";
    writeFileSync(join(dir, "policy.yaml"), `${policy}  - { id: two, use: probe, mode: "off" }\n`);
    const good = await checkFolder(dir, FAKE_KINDS, {});
    assert.ok(good.ok);
    assert.deepEqual({ ...good, revision: "" }, { ok: true, revision: "", seats: 1, seatsOff: 1, routes: 1 });

    writeFileSync(join(dir, "packs/a.txt"), "fine\n  broken\n");
    writeFileSync(join(dir, "gateway.yaml"), "limits: { nothing: 1 }\n");
    const bad = await checkFolder(dir, FAKE_KINDS, {});
    assert.ok(!bad.ok);
    assert.deepEqual(
      bad.problems.map(({ file, line, column }) => [file, line, column]),
      [
        [join(dir, "gateway.yaml"), 1, 11],
        [join(dir, "packs/a.txt"), 2, 3],
      ],
    );
    rmSync(join(dir, "packs"), { recursive: true });
    const lost = await checkFolder(dir, FAKE_KINDS, {});
    assert.ok(!lost.ok);
    assert.match(
      formatProblems(lost.problems),
      /policy\.yaml:4:44: seats\[0\]\.with\.packs\[0\]: the artifact "packs\/a\.txt" cannot be read: there is no such file/,
    );
  } finally {
    rmSync(dir, { recursive: true });
  }
});
