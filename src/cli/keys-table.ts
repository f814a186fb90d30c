/** The list of keys as people read it in a terminal. */
import type { KeyListing } from "../ports/identities.ts";

const HEAD = ["ID", "KEY", "ORG", "PROJECT", "NAME", "CREATED", "STATE", "SCOPES"];

export function keysTable(keys: readonly KeyListing[]): string {
  if (keys.length === 0) return "no keys yet: sallyport keys create --org ORG";
  const rows = keys.map((key) => [
    key.id,
    key.prefix,
    key.org,
    key.project,
    key.name,
    key.createdAt.slice(0, 10),
    stateOf(key),
    scopesOf(key),
  ]);
  const widths = HEAD.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column]!.length)));
  return [HEAD, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function stateOf({ expiresAt, revokedAt, canary, replacedBy }: KeyListing): string {
  const words = canary === true ? "canary, " : "";
  if (revokedAt !== undefined) return `${words}revoked ${revokedAt.slice(0, 10)}`;
  if (expiresAt === undefined) return `${words}active`;
  const isOver = Date.parse(expiresAt) <= Date.now();
  // A rotation's overlap is a matter of hours.
  if (replacedBy !== undefined) {
    return `${isOver ? "ended" : "active until"} ${expiresAt.slice(0, 16)}Z, replaced by ${replacedBy}`;
  }
  return `${words}${isOver ? "expired" : "active until"} ${expiresAt.slice(0, 10)}`;
}

function scopesOf({ scopes }: KeyListing): string {
  if (scopes === undefined) return "all";
  const { routes, models, networks } = scopes;
  return Object.entries({ routes, models, networks })
    .filter(([, entries]) => entries !== undefined)
    .map(([name, entries]) => `${name}=${entries?.join(",")}`)
    .join(" ");
}
