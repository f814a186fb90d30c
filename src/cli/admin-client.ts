/**
 * The admin API as the command line speaks to it: one call, an answer or a sentence for a person. Commands that
 * need what a running gateway knows go through here rather than at its files.
 */
import { userInfo } from "node:os";
import { type FileProblem, formatProblems } from "../policy/problems.ts";

const URL_DEFAULT = "http://127.0.0.1:8081";
const DEADLINE_MS = 10_000;

export const ADMIN_ENVIRONMENT = `Environment: SALLYPORT_ADMIN_TOKEN, and SALLYPORT_ADMIN_URL (default: ${URL_DEFAULT}).`;

export interface AdminIo {
  readonly log: (text: string) => void;
  readonly error: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export const PROCESS_IO: AdminIo = { log: console.log, error: console.error, env: process.env };

/** What was asked for cannot be done as it was asked; exit code 2. */
export class UsageError extends Error {}

/** The gateway answered, and not with what was asked for; the message is for a person. */
export class AdminRefused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.name = "AdminRefused";
    this.status = status;
  }
}

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface AdminClient {
  /** `path` starts with "/api/". Throws AdminRefused, or an Error that says why nobody answered. */
  ask<Body>(method: Method, path: string, body?: unknown, ifMatch?: string): Promise<Body>;
  /** The etag of what a GET answers; throws as `ask` does. */
  tagOf(path: string): Promise<string>;
}

/** Runs one action and says what is wrong with it: 0 done, 1 refused, 2 wrongly asked. */
export async function runAction(
  { name, usage, io }: { readonly name: string; readonly usage: string; readonly io: AdminIo },
  action: (client: AdminClient) => Promise<void>,
): Promise<number> {
  try {
    await action(openAdminClient(io.env));
    return 0;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const isUsage = error instanceof UsageError;
    io.error(`${name}: ${text}${isUsage ? `\n\n${usage}` : ""}`);
    return isUsage ? 2 : 1;
  }
}

function openAdminClient(env: AdminIo["env"]): AdminClient {
  const call = async (method: Method, path: string, body?: unknown, ifMatch?: string) => {
    const base = env["SALLYPORT_ADMIN_URL"] || URL_DEFAULT;
    const token = env["SALLYPORT_ADMIN_TOKEN"];
    if (!token)
      throw new UsageError(
        "SALLYPORT_ADMIN_TOKEN is not set: `sallyport tokens create NAME --role ROLE` makes a token",
      );
    const url = URL.parse(path, base);
    if (url === null || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "")
      throw new UsageError("SALLYPORT_ADMIN_URL must be http://HOST:PORT or https://HOST:PORT, nothing more");
    const response = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        "x-sallyport-actor": actor(),
        ...(ifMatch !== undefined && { "if-match": ifMatch }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      // A redirect would carry the token to wherever it leads.
      redirect: "error",
      signal: AbortSignal.timeout(DEADLINE_MS),
    }).catch((error: unknown) => {
      throw new Error(`no gateway answers at ${url.origin}: ${reasonOf(error)}`);
    });
    const answer: unknown = await response.json().catch(() => undefined);
    if (response.ok && answer !== undefined) return { answer, tag: response.headers.get("etag") ?? "" };
    const { detail, problems } = (answer ?? {}) as { readonly detail?: unknown; readonly problems?: unknown };
    if (response.status === 422 && Array.isArray(problems))
      throw new AdminRefused(
        422,
        `it cannot be served\n${formatProblems(problems as readonly FileProblem[])}`,
      );
    throw new AdminRefused(
      response.status,
      typeof detail === "string"
        ? detail
        : `${url.origin} answered ${response.status}: is it the admin port of a gateway?`,
    );
  };
  return {
    ask: async <Body>(method: Method, path: string, body?: unknown, ifMatch?: string) =>
      (await call(method, path, body, ifMatch)).answer as Body,
    tagOf: async (path) => (await call("GET", path)).tag,
  };
}

/** Whoever sits at the terminal, where their name can be one. */
function actor(): string {
  try {
    const { username } = userInfo();
    if (/^[\w.@:+-]{1,64}$/.test(username)) return username;
  } catch {
    // A process without an entry in the list of users has no name.
  }
  return "cli";
}

/** fetch says "fetch failed" and keeps what happened below that. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return `not within ${DEADLINE_MS / 1_000} s`;
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return cause.message || String((cause as NodeJS.ErrnoException).code ?? error.message);
}
