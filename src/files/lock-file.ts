/**
 * A lock that lives as a file, for folders that two processes must not write at once. It appears whole
 * (linked into place, never seen empty) and names its holder, so that a lock left behind by kill -9 is
 * recognised and taken over. It holds between processes of one machine or container, not across hosts.
 */
import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";

export type LockAttempt =
  | { readonly held: true; release(): void }
  | { readonly held: false; readonly holderPid: number };

const OWN_START = startOf(process.pid);
/** A steal can lose against another one; more rounds than this mean that someone alive holds the lock. */
const ROUNDS_MAX = 5;

/** Tries once, without waiting. Throws where the folder cannot be written. */
export function tryLock(path: string): LockAttempt {
  const token = `${process.pid} ${OWN_START} ${randomBytes(9).toString("base64url")}\n`;
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  writeFileSync(temporary, token, { mode: 0o600, flag: "wx" });
  try {
    let present = "";
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (link(temporary, path)) {
        return { held: true, release: () => removeIf(path, token) };
      }
      present = readOr(path, "");
      if (present === "") continue; // released between the two calls
      if (isAlive(present)) break;
      stealFrom(path, present);
    }
    return { held: false, holderPid: Number.parseInt(present, 10) || 0 };
  } finally {
    unlinkSync(temporary);
  }
}

/** Moves a dead holder's lock away. Where someone else was faster, the lock that was moved is theirs: put it back. */
function stealFrom(path: string, dead: string): void {
  const aside = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (readOr(aside, dead) !== dead) link(aside, path);
  unlinkSync(aside);
}

function removeIf(path: string, token: string): void {
  if (readOr(path, "") === token) unlinkSync(path);
}

function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return otherwise;
  }
}

/** A process id is used again in time (in a container at once: it is always 1), so its start counts too. */
function isAlive(token: string): boolean {
  const [pid, start] = token.split(" ");
  const holder = Number(pid);
  if (!Number.isSafeInteger(holder) || holder <= 0) return false;
  try {
    process.kill(holder, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return startOf(holder) === start;
}

/** Boot and start time of a process, "-" where the system does not tell (then the id alone decides). */
function startOf(pid: number): string {
  const stat = readOr(`/proc/${pid}/stat`, "");
  if (stat === "") return "-";
  // The name in parentheses may hold anything; field 22 of proc_pid_stat(5) is the 20th after it.
  const ticks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return `${readOr("/proc/sys/kernel/random/boot_id", "").trim()}:${ticks}`;
}
