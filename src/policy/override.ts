/**
 * A policy that is served instead of the folder's, because the folder cannot be written (a ConfigMap) or does not hold
 * the artifacts that it needs (a rollback). One rule: it is in force until policy.yaml changes or it is withdrawn.
 * It remembers the hash of the policy.yaml that it stands in for; a file that cannot be read has not changed. Its text
 * and its artifacts lie with the history's blobs.
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { replaceFile } from "../files/replace-file.ts";
import { SOURCES } from "./history.ts";

const hash = z.string().regex(/^[0-9a-f]{64}$/);

const schema = z.strictObject({
  version: z.literal(1),
  at: z.string(),
  by: z.string(),
  reason: z.string(),
  source: z.enum(SOURCES),
  /** Hash of the policy.yaml that it stands in for; "" for a folder without one. */
  base: z.union([hash, z.literal("")]),
  /** Hash of its text. */
  policy: hash,
  /** Artifacts that are not taken from the folder, by path. */
  pins: z.record(z.string(), hash),
});

export type Override = Readonly<z.infer<typeof schema>>;

export function overridePath(dataDir: string): string {
  return join(dataDir, "policy", "override.json");
}

/** Undefined where there is none; throws an Error that names the file. */
export async function readOverride(dataDir: string): Promise<Override | undefined> {
  const path = overridePath(dataDir);
  try {
    return schema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    const why = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    throw new Error(`${path} cannot be used (remove it to serve the folder): ${why}`);
  }
}

export async function writeOverride(dataDir: string, override: Omit<Override, "version">): Promise<void> {
  const path = overridePath(dataDir);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await replaceFile(path, JSON.stringify({ version: 1, ...override }));
}

export async function removeOverride(dataDir: string): Promise<void> {
  await rm(overridePath(dataDir), { force: true });
}
