/**
 * reputation.json: what a process remembers, so that a restart forgives nobody; with Redis, also what stands in while
 * Redis is away at the start. It is written in slices, one entity a line, so that no request waits for a large
 * table, and replaced in one step, so that no reader sees half of one.
 */
import { readFileSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { z } from "zod";
import { replaceFile } from "../files/replace-file.ts";
import { ENTITY_KINDS } from "../layer/index.ts";
import {
  type EntityTables,
  type Known,
  NETWORKS_MAX,
  POINTS_MAX,
  POINTS_MIN,
  REASONS_MAX,
} from "./reputation-memory.ts";

/** Of each kind, the most recently touched; the others are forgotten by a restart (not by Redis). */
const ROWS_MAX = 50_000;
/** Entities that are looked at before requests are let through again. */
const SLICE = 100;
const FILE_BYTES_MAX = 256 * 1024 * 1024;

/** No epoch of a shared row, whose names have a dot. */
const OWN_EPOCH = "file";

const ms = z.number().min(0);
const row = z.strictObject({
  kind: z.enum(ENTITY_KINDS),
  id: z.string().min(1).max(1_024),
  points: z.number().min(0).max(POINTS_MAX),
  at: ms,
  halfLifeMs: z.number().min(1),
  first: ms.optional(),
  networks: z
    .array(z.tuple([z.string(), ms]))
    .max(NETWORKS_MAX)
    .optional(),
  epoch: z.string().optional(),
  because: z
    .array(
      z.strictObject({
        reason: z.string(),
        points: z.number(),
        at: ms,
        requestId: z.string(),
        times: z.number(),
        by: z.string().optional(),
      }),
    )
    .max(REASONS_MAX)
    .optional(),
});
const file = z.strictObject({ version: z.literal(1), entities: z.array(row) });
type Row = z.infer<typeof row>;

export function writeReputation(path: string, tables: EntityTables, nowMs: number): Promise<void> {
  return replaceFile(path, lines(tables, nowMs));
}

async function* lines(tables: EntityTables, nowMs: number): AsyncGenerator<string> {
  let text = '{"version":1,"entities":[';
  let isFirst = true;
  for (const kind of ENTITY_KINDS) {
    let seen = 0;
    // Noted in one go, as the order changes with every touch.
    for (const known of tables[kind].latest(ROWS_MAX)) {
      if (++seen % SLICE === 0) {
        yield text;
        text = "";
        await nextTurn();
      }
      const json = rowOf(known, nowMs);
      if (json === undefined) continue;
      text += `${isFirst ? "\n" : ",\n"}${JSON.stringify(json)}`;
      isFirst = false;
    }
  }
  yield `${text}\n]}\n`;
}

/** Undefined where there is nothing to remember. */
function rowOf(known: Known, nowMs: number): Row | undefined {
  const { kind, id, points, atMs, halfLifeMs, firstMs, networks, epoch, because } = known;
  const hasPoints = known.at(nowMs, halfLifeMs) >= POINTS_MIN;
  if (!hasPoints && firstMs === 0) return undefined;
  return {
    kind,
    id,
    points: hasPoints ? points : 0,
    at: hasPoints ? atMs : nowMs,
    halfLifeMs,
    ...(firstMs !== 0 && { first: firstMs }),
    ...(networks !== undefined && { networks: [...networks] }),
    ...(epoch !== "" && { epoch }),
    ...(hasPoints && because.length > 0 && { because: because.map((one) => ({ ...one })) }),
  };
}

/** Fills the tables; no file is an empty one. Throws an error that names the file and the fix. */
export function readReputation(path: string, tables: EntityTables): void {
  const bytes = bytesOf(path);
  if (bytes === undefined) return;
  const fix = "restore it from a backup, or move it away to begin with nothing known of anybody";
  if (bytes.length > FILE_BYTES_MAX)
    throw new Error(`${path} has ${bytes.length} bytes; at most ${FILE_BYTES_MAX} are read: ${fix}`);
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString("utf8"));
  } catch {
    throw new Error(`${path} is not valid JSON: ${fix}`);
  }
  const parsed = file.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`${path}: ${issue?.path.join(".") || "the file"}: ${issue?.message}: ${fix}`);
  }
  // The most recently touched come first in the file, and are to be so in the tables.
  for (const one of parsed.data.entities.reverse()) restore(one, tables);
}

function restore(one: Row, tables: EntityTables): void {
  const table = tables[one.kind];
  const known = table.get(one.id) ?? table.admit(one.id, true);
  known.set(one.points, one.at, one.halfLifeMs);
  known.because = (one.because ?? []).map(({ by, ...rest }) => ({
    ...rest,
    ...(by !== undefined && { by }),
  }));
  for (const [network, firstMs] of one.networks ?? []) known.noteNetwork(network, firstMs);
  if (one.first !== undefined) known.noteFirst(one.first);
  // Points that no shared store has told of are told to the one that there is now.
  known.epoch = one.epoch ?? (one.points > 0 ? OWN_EPOCH : "");
}

function bytesOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
