/**
 * Replaces a file in one step: a reader sees the old content or the new, and after a power cut one of the
 * two is there. The new content is written beside the file, forced to disk and renamed over it. What goes wrong is
 * told in the file's own name: the one beside it is new with each try.
 */
import { randomBytes } from "node:crypto";
import { open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";

export async function replaceFile(
  path: string,
  content: string | Uint8Array | AsyncIterable<string>,
  mode = 0o600,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    if (error instanceof Error) error.message = error.message.replaceAll(temporary, path);
    throw error;
  }
  const folder = await open(dirname(path), "r");
  await folder.sync().finally(() => folder.close());
}
