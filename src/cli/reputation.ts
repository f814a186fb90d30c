/** `sallyport reputation show KIND ID`: why an entity stands where it stands, from a running gateway's admin API. */
import { parseArgs } from "node:util";
import { ENTITY_KINDS } from "../layer/index.ts";
import { ADMIN_ENVIRONMENT, type AdminIo, PROCESS_IO, runAction, UsageError } from "./admin-client.ts";

const USAGE = `sallyport reputation show KIND ID [--json]

  KIND ID   ${ENTITY_KINDS.join(", ")}; such as org acme, end_user acme/user-17, address 192.0.2.7, network AS64500
  --json    print the answer as JSON

${ADMIN_ENVIRONMENT}`;

interface ReputationView {
  readonly entity: { readonly kind: string; readonly id: string };
  readonly points: number;
  readonly firstSeenAt?: string;
  readonly sanctions: readonly { readonly id: string; readonly act: string }[];
  readonly because: readonly {
    readonly reason: string;
    readonly points: number;
    readonly times: number;
    readonly at: string;
    readonly requestId?: string;
    readonly by?: string;
  }[];
  readonly standings: readonly {
    readonly seat: string;
    readonly mode: string;
    readonly tier: string;
    readonly risk: number;
  }[];
}

export async function runReputation(args: readonly string[], io: AdminIo = PROCESS_IO): Promise<number> {
  const [action = "", ...rest] = args;
  return runAction({ name: "sallyport reputation", usage: USAGE, io }, async (client) => {
    if (action === "--help" || action === "-h") return io.log(USAGE);
    if (action !== "show")
      throw new UsageError(action === "" ? "say show" : `there is no action ${JSON.stringify(action)}`);
    const { values, positionals } = parsed(rest);
    if (values.help === true) return io.log(USAGE);
    const [kind = "", id = ""] = positionals;
    if (positionals.length !== 2) throw new UsageError("say whose: KIND and ID, such as org acme");
    if (!ENTITY_KINDS.some((one) => one === kind))
      throw new UsageError(`KIND: must be one of ${ENTITY_KINDS.join(", ")}, not ${JSON.stringify(kind)}`);
    const found = await client.ask<ReputationView>(
      "GET",
      `/api/reputation/${kind}/${encodeURIComponent(id)}`,
    );
    io.log(values.json === true ? JSON.stringify(found, null, 2) : wordsOf(found));
  });
}

function wordsOf({ entity, points, firstSeenAt, sanctions, because, standings }: ReputationView): string {
  const lines = [
    `${entity.kind} ${entity.id}: ${rounded(points)} points${firstSeenAt === undefined ? "" : `, first seen ${firstSeenAt}`}`,
  ];
  for (const { seat, mode, tier, risk } of standings)
    lines.push(`  seat ${seat}${mode === "shadow" ? " (in shadow)" : ""}: ${tier}, risk ${rounded(risk)}`);
  for (const { id, act } of sanctions) lines.push(`  sanction ${act} ${id}`);
  for (const { reason, points: given, times, at, requestId, by } of because) {
    const from = by !== undefined ? `, by ${by}` : requestId !== undefined ? `, ${requestId}` : "";
    lines.push(`  ${rounded(given)} for ${reason}, ${times === 1 ? "once" : `${times} times`}, ${at}${from}`);
  }
  if (because.length === 0) lines.push("  nothing is known against it");
  return lines.join("\n");
}

function rounded(value: number): string {
  return String(Math.round(value * 1_000) / 1_000);
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: { json: { type: "boolean" }, help: { type: "boolean", short: "h" } },
      allowPositionals: true,
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
