/** What `if-match` says of a version, and the answer where it is another by now. */
import { fault } from "./faults.ts";
import type { Reply } from "./route.ts";

export function names(ifMatch: string, tag: string): boolean {
  const wanted = ifMatch.split(",").map((one) => one.trim());
  return wanted.includes("*") || wanted.includes(tag);
}

export function changedTo(tag: string): Reply {
  return fault("changed", `It is now ${tag}; read it again.`, { headers: { etag: tag } });
}
