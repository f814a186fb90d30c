/**
 * The log of the process: JSON lines from pino, through a list of fields that may be logged. A field that is
 * not on the list is left out and named, an error keeps its kind and its place in the code but not words
 * that could quote its input, and whatever looks like a credential is masked. So a prompt, an answer or a
 * key cannot reach the log by way of an object, however it gets into one.
 */
import { type DestinationStream, type Logger as PinoLogger, pino } from "pino";

/** pino's own methods, but no `child`: its bindings would pass the list by. */
export type Logger = Pick<PinoLogger, "trace" | "debug" | "info" | "warn" | "error">;
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "silent";

/**
 * Fields that hold names, codes, places and counts, or words about the operator's own files and disks
 * (`problem`). Never add one that can hold a caller's or a model's text: `detail` and `message` are such.
 */
const FIELDS: ReadonlySet<string> = new Set([
  ...["id", "traceId", "revision", "previous", "hash", "result", "servedFrom", "state", "event", "signal"],
  ...["route", "dialect", "operation", "cause", "code", "status", "act", "would", "seat", "seats", "kind"],
  ...["mode", "reason", "reasons", "org", "project", "keyId", "upstream", "url", "host", "port", "name"],
  ...["file", "line", "column", "path", "problem", "problems", "notKept", "err", "error", "stack"],
  ...["ms", "totalMs", "count", "bytes", "limit", "version", "what", "replicas", "address"],
  ...["actor", "via", "action", "target", "outcome"],
]);

const STRING_UNITS_MAX = 500;
const ITEMS_MAX = 20;
const DEPTH_MAX = 3;
const FRAMES_MAX = 12;
const MASK = "[masked]";

/** Shapes of credentials: our keys and the vendors', bearer and basic tokens, JWTs, passwords in URLs. */
const CREDENTIALS =
  /\b(?:sk|sp|pk|rk|ghp|gho|xox[abp])[-_][\w-]{8,}|\b(?:bearer|basic)\s+[\w.~+/=-]{6,}|\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}|(?<=\/\/)[^/@\s]*:[^/@\s]*(?=@)/gi;

export interface LoggerOptions {
  readonly level: LogLevel;
  /** Standard output unless given. */
  readonly destination?: DestinationStream;
}

export function openLogger({ level, destination }: LoggerOptions): Logger {
  const log = pino(
    {
      level,
      base: {},
      timestamp: pino.stdTimeFunctions.isoTime,
      // Errors are made safe below; pino's own serializer would write their message and every property.
      serializers: { err: (value: unknown) => value },
      formatters: {
        level: (label) => ({ level: label }),
        log: admitted,
      },
      hooks: {
        logMethod(args, method) {
          const [first, second] = args as unknown[];
          if (typeof first === "string") return method.call(this, masked(first));
          // What would be formatted into the message is left out: it could be anything.
          const fields = first instanceof Error ? { err: first } : first;
          return method.call(this, fields, typeof second === "string" ? masked(second) : undefined);
        },
      },
    },
    destination ?? pino.destination({ fd: 1, sync: true }),
  );
  return {
    trace: log.trace.bind(log),
    debug: log.debug.bind(log),
    info: log.info.bind(log),
    warn: log.warn.bind(log),
    error: log.error.bind(log),
  };
}

function admitted(fields: Record<string, unknown>): Record<string, unknown> {
  const left = Object.keys(fields).filter((name) => !FIELDS.has(name));
  const kept = listed(fields, 0);
  // Field names are the code's own words, but an object with caller's names may have been spread.
  if (left.length > 0)
    kept["leftOut"] = left.filter((name) => /^[a-zA-Z]{1,30}$/.test(name)).slice(0, ITEMS_MAX);
  return kept;
}

function listed(fields: object, depth: number): Record<string, unknown> {
  const kept: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (!FIELDS.has(name)) continue;
    // A thrown value that is no Error could be anything.
    const isError = name === "err" || name === "error";
    kept[name] = isError && !(value instanceof Error) ? typeof value : safe(value, depth);
  }
  return kept;
}

function safe(value: unknown, depth: number): unknown {
  if (typeof value === "string") return masked(value);
  if (typeof value === "number" || typeof value === "boolean" || value === null) return value;
  if (typeof value !== "object") return typeof value;
  if (depth >= DEPTH_MAX) return "[deeper]";
  if (value instanceof Error) return describeError(value, depth);
  if (Array.isArray(value)) return value.slice(0, ITEMS_MAX).map((item) => safe(item, depth + 1));
  return listed(value, depth + 1);
}

/**
 * JSON.parse, header checks and others quote their input in the message, so only the system's own messages
 * (they have an errno and name a call) are kept; the frames of the stack say where it was in any case.
 */
function describeError(error: Error, depth: number): Record<string, unknown> {
  const { code, errno, syscall } = error as NodeJS.ErrnoException;
  return {
    type: masked(error.name),
    ...(typeof code === "string" && { code: masked(code) }),
    ...(errno !== undefined && syscall !== undefined && { message: masked(error.message) }),
    stack: stackFrames(error.stack ?? ""),
    ...(error.cause instanceof Error && { cause: safe(error.cause, depth + 1) }),
  };
}

/** Places in the code, without the message that stands above them. */
export function stackFrames(stack: string): string[] {
  return stack
    .split("\n")
    .filter((line) => /^ {4}at .*:\d+:\d+\)?$/.test(line))
    .slice(0, FRAMES_MAX)
    .map((line) => masked(line.trim()));
}

/** Masked before it is cut, so that no credential is cut into a harmless shape. */
function masked(text: string): string {
  const kept = text.slice(0, 8 * STRING_UNITS_MAX).replace(CREDENTIALS, MASK);
  return kept.length > STRING_UNITS_MAX ? `${kept.slice(0, STRING_UNITS_MAX)}…` : kept;
}
