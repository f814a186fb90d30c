/** A rehearsal's report for people. */
import { ACTS } from "../layer/index.ts";
import type { Example, RehearsalReport } from "./report.ts";

export function reportTable(report: RehearsalReport): string {
  const { unknown, fidelity, cost, by, examples } = report;
  const lines = [
    `${report.requests} requests (${report.withContent} with content) from ${report.from || "-"} to ${report.to || "-"}`,
    `live ${report.live}, candidate ${report.candidate}`,
    "",
    `newly blocked   ${report.newlyBlocked}`,
    `newly freed     ${report.newlyFreed}   (${unknown.freedWithoutAnswer} of them without an answer that could be judged)`,
    `changed act     ${report.changedAct}`,
    `cannot be known ${unknown.requests}   ${counts(unknown.why)}`,
    `cost            ${cost.live} -> ${cost.candidate} µs a request in the seats (${cost.added > 0 ? "+" : ""}${cost.added})`,
    `fidelity        ${fidelity.alike} of ${fidelity.compared} are decided as they were recorded`,
    "",
    table(
      ["act", "live", "candidate"],
      ACTS.map((act) => [act, report.acts.live[act], report.acts.candidate[act]]),
    ),
  ];
  const seats = report.seats.map((seat) => [
    seat.seat,
    seat.newlyBlocked,
    seat.newlyFreed,
    seat.live.block + seat.live.throttle,
    seat.candidate.block + seat.candidate.throttle,
  ]);
  if (seats.length > 0)
    lines.push("", table(["seat", "newly blocked", "newly freed", "would block, live", "candidate"], seats));
  for (const [group, rows] of Object.entries(by)) {
    const shown = rows.filter(({ newlyBlocked, newlyFreed }) => newlyBlocked + newlyFreed > 0);
    if (shown.length === 0) continue;
    const cells = shown.map(({ key, requests, newlyBlocked, newlyFreed }) => [
      plain(key),
      requests,
      newlyBlocked,
      newlyFreed,
    ]);
    lines.push("", table([group, "requests", "newly blocked", "newly freed"], cells));
  }
  lines.push(...exampleLines("newly blocked", examples.newlyBlocked));
  lines.push(...exampleLines("newly freed", examples.newlyFreed));
  return lines.join("\n");
}

function exampleLines(title: string, examples: readonly Example[]): string[] {
  if (examples.length === 0) return [];
  const rows = examples.map(({ id, org, seats, reasons }) => [
    id,
    plain(org),
    seats.join(" "),
    reasons.join(" "),
  ]);
  return ["", table([`examples, ${title}`, "org", "seats", "reasons"], rows)];
}

function counts(why: Readonly<Record<string, number>>): string {
  const some = Object.entries(why).filter(([, count]) => count > 0);
  return some.length === 0 ? "" : `(${some.map(([name, count]) => `${name} ${count}`).join(", ")})`;
}

/** Names come from callers: nothing in them may move a terminal's cursor. */
function plain(name: string): string {
  return name.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, "?").slice(0, 60);
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const all = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i]!.length)));
  return all
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "),
    )
    .join("\n");
}
