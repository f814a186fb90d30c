/**
 * Checkpoints: where the audit chain stood, signed, one line each, in a place that whoever can write the data folder
 * cannot write. The chain alone tells edits; that it was computed anew as a whole, or cut at its end, only what lies
 * elsewhere can tell.
 *
 *   chain   1 - 2 - 3 - ... - 20 - ... - 31        (DATA/audit)
 *                              |          |
 *   elsewhere      {seq 20, its hash, sig} {seq 31, its hash, sig}
 */
import { type KeyObject, sign, verify } from "node:crypto";
import { mkdirSync, readdirSync, realpathSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { z } from "zod";
import type { AuditKey } from "./audit-key.ts";
import type { ChainHead } from "./audit-record.ts";
import { linesOf } from "./spool-reader.ts";

const checkpointSchema = z.strictObject({
  v: z.literal(1),
  chain: z.string(),
  seq: z.int().min(1),
  hash: z.string(),
  at: z.string(),
  key: z.string(),
  sig: z.string(),
});

export type Checkpoint = z.infer<typeof checkpointSchema>;

/** Keeps a signature from being taken for one over something else. */
const DOMAIN = "sallyport audit checkpoint\n";

export interface CheckpointLog {
  /** On disk when it resolves. */
  write(chain: string, head: ChainHead, at: string): Promise<void>;
}

/** `place` ends in `.jsonl`: that file. Else a folder, in which each chain has a file of its own. */
export function openCheckpoints(place: string, key: AuditKey): CheckpointLog {
  return {
    async write(chain, { seq, hash }, at) {
      const signed = JSON.stringify({ v: 1, chain, seq, hash, at, key: key.id });
      const sig = sign(null, Buffer.from(DOMAIN + signed), key.privateKey).toString("base64");
      const path = fileOf(place, chain);
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const file = await open(path, "a+", 0o600);
      try {
        // What a crash left of a line stays as it is: the place may take nothing but appends.
        const { size } = await file.stat();
        const last = Buffer.alloc(1);
        if (size > 0) await file.read(last, 0, 1, size - 1);
        const start = size > 0 && last[0] !== 10 ? "\n" : "";
        await file.writeFile(`${start}${signed.slice(0, -1)},"sig":"${sig}"}\n`);
        await file.datasync();
      } finally {
        await file.close();
      }
    },
  };
}

export interface ReadCheckpoints {
  /** Of this chain, with a good signature, by sequence number. */
  readonly good: ReadonlyMap<number, Checkpoint>;
  /** What is wrong with others of this chain: a bad signature, an unknown key, two that contradict each other. */
  readonly problems: readonly string[];
  /** Ids of other chains that have checkpoints here. */
  readonly otherChains: ReadonlySet<string>;
  /** Lines that are no checkpoint, such as one that a crash left. */
  readonly unreadable: number;
}

/** Reads a file, or every `.jsonl` file of a folder. Throws an Error where there is no such place. */
export async function readCheckpoints(
  place: string,
  chain: string | undefined,
  keys: ReadonlyMap<string, KeyObject>,
): Promise<ReadCheckpoints> {
  const good = new Map<number, Checkpoint>();
  const problems: string[] = [];
  const otherChains = new Set<string>();
  let unreadable = 0;
  for (const path of filesOf(place)) {
    let number = 0;
    for await (const { text } of linesOf(path, 0)) {
      number += 1;
      const read = parsed(text);
      if (read === undefined) {
        unreadable += 1;
        continue;
      }
      const { checkpoint, signed } = read;
      if (checkpoint.chain !== chain) {
        otherChains.add(checkpoint.chain);
        continue;
      }
      const before = good.get(checkpoint.seq);
      const problem = signatureProblem(checkpoint, signed, keys);
      if (problem !== undefined) problems.push(`${path}:${number}: ${problem}`);
      else if (before !== undefined && before.hash !== checkpoint.hash)
        problems.push(`${path}:${number}: record ${checkpoint.seq} had another hash at ${before.at}`);
      else good.set(checkpoint.seq, checkpoint);
    }
  }
  return { good, problems, otherChains, unreadable };
}

/** True where whoever can write the data folder can write the checkpoints too, as they lie in it. */
export function isInside(place: string, dataDir: string): boolean {
  const data = real(resolve(dataDir));
  const own = real(resolve(place));
  return own === data || own.startsWith(data + sep);
}

/** Through links, as far as there is something; the rest as it is written. */
function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return dirname(path) === path ? path : join(real(dirname(path)), basename(path));
  }
}

function fileOf(place: string, chain: string): string {
  return place.endsWith(".jsonl") ? place : join(place, `${chain}.jsonl`);
}

function filesOf(place: string): readonly string[] {
  const found = statSync(place, { throwIfNoEntry: false });
  if (found === undefined) throw new Error(`${place}: there is no such file or folder of checkpoints`);
  if (!found.isDirectory()) return [place];
  return readdirSync(place)
    .filter((name) => name.endsWith(".jsonl"))
    .map((name) => join(place, name));
}

function parsed(text: string): { readonly checkpoint: Checkpoint; readonly signed: string } | undefined {
  const at = text.lastIndexOf(',"sig":"');
  try {
    const { success, data } = checkpointSchema.safeParse(JSON.parse(text));
    return success ? { checkpoint: data, signed: `${text.slice(0, at)}}` } : undefined;
  } catch {
    return undefined;
  }
}

function signatureProblem(
  { key, sig }: Checkpoint,
  signed: string,
  keys: ReadonlyMap<string, KeyObject>,
): string | undefined {
  const publicKey = keys.get(key);
  if (publicKey === undefined) return `it is signed with the key ${key}, which is none of the public keys`;
  const isGood = verify(null, Buffer.from(DOMAIN + signed), publicKey, Buffer.from(sig, "base64"));
  return isGood ? undefined : "its signature is not valid";
}
