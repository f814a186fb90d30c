/**
 * Whoever can write the data folder, its public signing key and all, but not the place of the checkpoints, changes
 * the chain in some way; `verify` must tell each time. The seed is printed, and SALLYPORT_TEST_SEED runs it again.
 */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { seeded } from "../../test/support/eventually.ts";
import { Audit } from "./audit.ts";
import { openAuditKey, publicKeyPath, readPublicKeys } from "./audit-key.ts";
import { type ChainHead, GENESIS, lineAfter, readLine } from "./audit-record.ts";
import { verifyChain } from "./audit-verify.ts";
import { segmentName } from "./segments.ts";

const SEED = Number(process.env["SALLYPORT_TEST_SEED"] ?? Date.now() % 1_000_000);
const TAMPERINGS = 1_000;
const SEGMENT_BYTES = 4_000;

let base: string;
let lines: readonly string[];

before(async () => {
  base = mkdtempSync(join(tmpdir(), "sallyport-tampering-"));
  const dir = join(base, "audit");
  const audit = new Audit({
    ...{ dir, segmentBytes: SEGMENT_BYTES, totalBytesMax: 10_000_000 },
    ...{ checkpoints: join(base, "elsewhere"), checkpointRecords: 10, checkpointMs: 3_600_000 },
    key: openAuditKey(dir, {}),
  });
  for (let i = 0; i < 60; i++) {
    const act = { actor: i % 3 === 0 ? "mia" : "tom", action: "keys.revoke", target: `key_${i}` };
    const begun = await audit.begin(act);
    await audit.end(begun, { ...act, outcome: "done", status: 200, before: { i }, after: { i: i + 1 } });
    if (i % 5 === 4) await audit.checkpoint();
  }
  await audit.close();
  cpSync(publicKeyPath(dir), join(base, "own-copy.pem"));
  lines = linesIn(dir);
});
after(() => rmSync(base, { recursive: true, force: true }));

function linesIn(dir: string): string[] {
  const segments = readdirSync(dir).filter((name) => name.endsWith(".jsonl"));
  return segments.sort().flatMap((name) => readFileSync(join(dir, name), "latin1").trimEnd().split("\n"));
}

/** Lays lines out in segments as the writer does, so that no name gives anything away. */
function write(dir: string, wanted: readonly string[]): void {
  for (const name of readdirSync(dir)) if (name.endsWith(".jsonl")) rmSync(join(dir, name));
  let first = 1;
  let text = "";
  for (const [i, line] of wanted.entries()) {
    if (text !== "" && text.length + line.length + 1 > SEGMENT_BYTES) {
      writeFileSync(join(dir, segmentName(first)), text, "latin1");
      first = i + 1;
      text = "";
    }
    text += `${line}\n`;
  }
  if (text !== "") writeFileSync(join(dir, segmentName(first)), text, "latin1");
}

/** The chain computed anew from its records, as somebody who knows how would. */
function restamped(records: readonly string[], change: (fact: Record<string, unknown>, at: number) => void) {
  let head: ChainHead = GENESIS;
  return records.map((line, at) => {
    const fact = JSON.parse(line) as Parameters<typeof lineAfter>[1] & Record<string, unknown>;
    change(fact, at);
    const made = lineAfter(head, fact);
    head = made.head;
    return made.line.trimEnd();
  });
}

type Random = (below: number) => number;
interface Tampering {
  readonly lines: readonly string[];
  /** The first record that is not as it was. */
  readonly first: number;
  /** It is told to the record, not only somewhere up to the next checkpoint. */
  readonly isExact: boolean;
}

const WAYS: Readonly<Record<string, (random: Random) => Tampering>> = {
  "one bit": (random) => {
    const at = random(lines.length);
    const bytes = Buffer.from(lines[at]!, "latin1");
    const place = random(bytes.length);
    bytes[place]! ^= 1 << random(8);
    // A line feed makes two lines of one; the first of them is bad.
    return { lines: lines.with(at, bytes.toString("latin1")), first: at + 1, isExact: true };
  },
  "one field, its own hash made good": (random) => {
    const at = random(lines.length);
    const record = readLine(lines[at]!);
    assert.ok(typeof record !== "string");
    const prev = { seq: record.seq - 1, hash: record.prev };
    const { line } = lineAfter(prev, { ...record, actor: "eve" });
    // The last record has none behind it: its checkpoint tells.
    const first = at === lines.length - 1 ? at + 1 : at + 2;
    return { lines: lines.with(at, line.trimEnd()), first: Math.min(first, lines.length), isExact: false };
  },
  "records taken out": (random) => {
    const at = random(lines.length - 1);
    const count = 1 + random(Math.min(5, lines.length - 1 - at));
    return { lines: lines.toSpliced(at, count), first: at + 1, isExact: true };
  },
  "a record put in twice": (random) => {
    const at = random(lines.length - 1);
    return { lines: lines.toSpliced(at + 1, 0, lines[at]!), first: at + 2, isExact: true };
  },
  "two records swapped": (random) => {
    const at = random(lines.length - 1);
    const other = at + 1 + random(lines.length - 1 - at);
    return { lines: lines.with(at, lines[other]!).with(other, lines[at]!), first: at + 1, isExact: true };
  },
  "the tail cut off": (random) => {
    const kept = random(lines.length);
    return { lines: lines.slice(0, kept), first: kept + 1, isExact: kept > 0 };
  },
  "a record edited, all after it computed anew": (random) => {
    const at = random(lines.length);
    const made = restamped(lines, (fact, i) => {
      if (i === at) fact["target"] = `${fact["target"]}x`;
    });
    return { lines: made, first: at + 1, isExact: false };
  },
  "a record taken out, all after it computed anew": (random) => {
    const at = random(lines.length);
    return { lines: restamped(lines.toSpliced(at, 1), () => {}), first: at + 1, isExact: false };
  },
  "all times moved, the whole chain computed anew": () => {
    const made = restamped(lines, (fact) => {
      fact["at"] = new Date(Date.parse(String(fact["at"])) - 60_000).toISOString();
    });
    return { lines: made, first: 1, isExact: false };
  },
  "the end of the last line cut off": (random) => {
    const last = lines.at(-1)!;
    const cut = lines.with(-1, last.slice(0, random(last.length)));
    return { lines: cut, first: lines.length, isExact: true };
  },
};

test(`${TAMPERINGS} of ${TAMPERINGS} random tamperings are told with checkpoints elsewhere (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const dir = join(base, "tampered");
  cpSync(join(base, "audit"), dir, { recursive: true });
  const keys = readPublicKeys(join(base, "own-copy.pem"));
  const verify = () => verifyChain({ dir, checkpoints: { place: join(base, "elsewhere"), keys } });
  write(dir, lines);
  assert.equal((await verify()).problem, undefined, "untouched, it is whole");
  const chance = seeded(SEED);
  const random: Random = (below) => Math.floor(chance() * below);
  const names = Object.keys(WAYS);
  const found = new Map<string, number>();
  for (let i = 0; i < TAMPERINGS; i++) {
    const name = names[i % names.length]!;
    const made = WAYS[name]!(random);
    write(dir, made.lines);
    const { problem } = await verify();
    const where = `${name}, tampering ${i}, seed ${SEED}: record ${made.first}, told ${JSON.stringify(problem)}`;
    assert.ok(problem !== undefined, where);
    if (made.isExact) assert.equal(problem.seq, made.first, where);
    // Recomputed, the next checkpoint tells it: at most so many records on as lie between two of them.
    else assert.ok(problem.seq <= made.first + 12, where);
    found.set(name, (found.get(name) ?? 0) + 1);
  }
  assert.equal(
    [...found.values()].reduce((sum, one) => sum + one, 0),
    TAMPERINGS,
  );
});

test("a chain made anew with a key of the forger's own, in the place of the old one, is told", async () => {
  const dir = join(base, "forged");
  const key = openAuditKey(dir, {});
  const rest = {
    checkpointRecords: 10,
    checkpointMs: 3_600_000,
    segmentBytes: SEGMENT_BYTES,
    totalBytesMax: 1e7,
  };
  const forged = new Audit({ ...rest, dir, checkpoints: join(base, "forged-checkpoints"), key });
  await forged.begin({ actor: "eve", action: "keys.create", target: "" });
  await forged.close();
  const keys = readPublicKeys(join(base, "own-copy.pem"));
  const elsewhere = await verifyChain({ dir, checkpoints: { place: join(base, "elsewhere"), keys } });
  assert.match(elsewhere.problem?.message ?? "", /of another chain/);
  const own = await verifyChain({ dir, checkpoints: { place: join(base, "forged-checkpoints"), keys } });
  assert.match(own.problem?.message ?? "", /none of the public keys/);
});
