/**
 * Puts a policy where it will be found by the next start: into policy.yaml where the folder can be written and holds
 * all that the policy needs, else as an override in the data folder. Either is one rename: a kill leaves the old or
 * the new.
 */
import { readlink, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "../files/replace-file.ts";
import { POLICY_FILE } from "./policy-folder.ts";

/** What the system says of a folder that is not ours to write; EBUSY and EXDEV are those of a file mounted by itself. */
const READ_ONLY: ReadonlySet<string> = new Set(["EROFS", "EACCES", "EPERM", "EBUSY", "EXDEV"]);

/** False where the folder is read-only. Rejects where it should have worked. */
export async function writePolicyFile(folder: string, text: Uint8Array): Promise<boolean> {
  // A ConfigMap: whatever is written there is swapped away, or not writable at all.
  const isConfigMap = await readlink(join(folder, "..data")).then(
    () => true,
    () => false,
  );
  if (isConfigMap) return false;
  // Where the file is a link, the file that it leads to is replaced and the link stays.
  const path = join(folder, POLICY_FILE);
  const target = await realpath(path).catch(() => path);
  const mode = await stat(target).then(
    (found) => found.mode & 0o777,
    () => 0o644,
  );
  try {
    await replaceFile(target, text, mode);
    return true;
  } catch (error) {
    if (READ_ONLY.has((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}
