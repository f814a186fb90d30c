/**
 * What is to be served: the folder's policy.yaml, or the override that stands in for it. Looked up anew for each
 * reading; what a change of the file ends is told here and removed by the store once the reading is known to be whole.
 */
import { join } from "node:path";
import { type PolicyHistory, sha256 } from "./history.ts";
import { type Override, overridePath, readOverride } from "./override.ts";
import { POLICY_FILE, type Reading } from "./policy-folder.ts";

export interface Wanted {
  readonly reading: Reading;
  /** Undefined: there is none that can be read; `problem` says why. */
  readonly text: Uint8Array | undefined;
  /** For problems. */
  readonly path: string;
  readonly problem: string | undefined;
  readonly isMissing: boolean;
  /** Hash of the folder's policy.yaml; "" where there is none. */
  readonly base: string;
  /** In force. */
  readonly override: Override | undefined;
  /** It was in force up to now: the file has changed. */
  readonly ended: Override | undefined;
  readonly artifact: (path: string) => Promise<Uint8Array>;
}

export async function lookFor(reading: Reading, dataDir: string, history: PolicyHistory): Promise<Wanted> {
  const path = join(reading.folder, POLICY_FILE);
  let text: Uint8Array | undefined;
  let problem: string | undefined;
  try {
    text = await reading.file(POLICY_FILE);
  } catch (error) {
    problem = wordsOf(error);
  }
  const isMissing = problem === "there is no such file";
  const file = { reading, base: text === undefined ? "" : sha256(text), isMissing, artifact: reading.file };
  const folder = { ...file, text, path, problem, override: undefined, ended: undefined };
  let override: Override | undefined;
  try {
    override = await readOverride(dataDir);
    if (override === undefined) return folder;
    // A file that cannot be read just now has not changed, and the folder may be about to come.
    if (text !== undefined && file.base !== override.base) return { ...folder, ended: override };
    const pins = await pinsOf(override, history);
    return {
      ...file,
      text: await history.blob(override.policy),
      path: join(overridePath(dataDir), POLICY_FILE),
      problem: undefined,
      isMissing: false,
      override,
      ended: undefined,
      artifact: async (name) => pins.get(name) ?? reading.file(name),
    };
  } catch (error) {
    return { ...folder, text: undefined, problem: wordsOf(error), isMissing: false };
  }
}

async function pinsOf({ pins }: Override, history: PolicyHistory): Promise<ReadonlyMap<string, Uint8Array>> {
  const all = new Map<string, Uint8Array>();
  for (const [path, hash] of Object.entries(pins)) all.set(path, await history.blob(hash));
  return all;
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
