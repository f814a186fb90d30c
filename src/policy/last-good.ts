/**
 * The last policy that could be served, kept in the data folder with all its artifacts: a gateway that
 * restarts on a bad policy comes up with this one. It is written whole to a temporary file and renamed, and
 * names its own hash, so that what is read back is what was written or is not used at all.
 */
import { mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type Bundle, hashBundle } from "./compile.ts";

/** Base64 of the largest policy with all its artifacts, and room for names. */
const LAST_GOOD_BYTES_MAX = 134_217_728;

const lastGoodSchema = z.strictObject({
  version: z.literal(1),
  savedAt: z.string(),
  /** Where the policy came from. */
  configDir: z.string(),
  hash: z.string(),
  policy: z.string(),
  artifacts: z.record(z.string(), z.string()),
});

interface LastGood {
  readonly savedAt: string;
  readonly configDir: string;
  readonly bundle: Bundle;
}

export function lastGoodPath(dataDir: string): string {
  return join(dataDir, "policy", "last-good.json");
}

export async function writeLastGood(
  dataDir: string,
  { savedAt, configDir, bundle }: LastGood,
): Promise<void> {
  const path = lastGoodPath(dataDir);
  const artifacts = [...bundle.artifacts].map(([name, bytes]) => [
    name,
    Buffer.from(bytes).toString("base64"),
  ]);
  const record: z.infer<typeof lastGoodSchema> = {
    version: 1,
    savedAt,
    configDir,
    hash: bundle.hash,
    policy: Buffer.from(bundle.policy).toString("base64"),
    artifacts: Object.fromEntries(artifacts),
  };
  await mkdir(join(dataDir, "policy"), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(JSON.stringify(record));
    await file.sync();
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

/** Undefined when there is none; throws an Error that says why when there is one that cannot be used. */
export async function readLastGood(dataDir: string): Promise<LastGood | undefined> {
  const path = lastGoodPath(dataDir);
  let text: string;
  try {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      if (size > LAST_GOOD_BYTES_MAX)
        throw new Error(`it has ${size} bytes, more than ${LAST_GOOD_BYTES_MAX}`);
      text = await file.readFile("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
  const record = lastGoodSchema.parse(JSON.parse(text));
  const policy = Buffer.from(record.policy, "base64");
  const artifacts = new Map(
    Object.entries(record.artifacts).map(([name, bytes]) => [name, Buffer.from(bytes, "base64")]),
  );
  if (hashBundle(policy, artifacts) !== record.hash) throw new Error("its content does not match its hash");
  return {
    savedAt: record.savedAt,
    configDir: record.configDir,
    bundle: { hash: record.hash, policy, artifacts },
  };
}
