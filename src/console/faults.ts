/**
 * The one table of what can go wrong with an admin call, answered as RFC 9457 problem details. `code` is for
 * programs and stable; `detail` names what was wrong and how to put it right; `errors` names each field.
 */
import { z } from "zod";
import { AccountConflict } from "../ports/operators-accounts.ts";
import { PasswordsBusy } from "../ports/operators-password.ts";
import type { Reply } from "./route.ts";

const FAULTS = {
  invalid: { status: 400, title: "The request cannot be read as it was sent." },
  unauthenticated: { status: 401, title: "The caller is not known." },
  forbidden: { status: 403, title: "This caller may not do this." },
  not_found: { status: 404, title: "There is no such thing." },
  method_not_allowed: { status: 405, title: "This path does not take this method." },
  conflict: { status: 409, title: "The state of the thing does not allow this." },
  changed: { status: 412, title: "It has changed since it was read." },
  too_large: { status: 413, title: "The body is too large." },
  unconditional: { status: 428, title: "This needs an if-match." },
  attempts: { status: 429, title: "Too many failed or simultaneous logins." },
  internal: { status: 500, title: "The admin API failed." },
  store_away: { status: 503, title: "The store behind this does not answer." },
  unrecorded: { status: 507, title: "The audit record of this cannot be written." },
} as const satisfies Readonly<Record<string, { readonly status: number; readonly title: string }>>;

export type FaultCode = keyof typeof FAULTS;

export interface FieldError {
  /** Such as "scopes.networks[0]"; "" for the whole body. */
  readonly path: string;
  readonly message: string;
}

interface FaultExtras {
  readonly errors?: readonly FieldError[];
  readonly headers?: Readonly<Record<string, string>>;
}

export const problemSchema = z
  .strictObject({
    type: z.string().describe("`urn:sallyport:admin:` and the code."),
    title: z.string().describe("What went wrong, the same words for the same code."),
    status: z.int().min(400).max(599).describe("The HTTP status."),
    code: z.enum(Object.keys(FAULTS) as [FaultCode, ...FaultCode[]]).describe("Stable, for programs."),
    detail: z.string().describe("What went wrong this time, and what to do."),
    errors: z
      .array(
        z.strictObject({
          path: z.string().describe('The field, such as "scopes.networks[0]"; "" for the whole.'),
          message: z.string().describe("What is wrong with it and what it takes."),
        }),
      )
      .optional()
      .describe("Each field that was wrong; absent where no field is at fault."),
  })
  .meta({ id: "Problem", description: "RFC 9457 problem details." });

export function fault(code: FaultCode, detail: string, { errors, headers }: FaultExtras = {}): Reply {
  const { status, title } = FAULTS[code];
  return {
    status,
    body: {
      type: `urn:sallyport:admin:${code}`,
      title,
      status,
      code,
      detail,
      ...(errors !== undefined && { errors }),
    },
    headers: { "content-type": "application/problem+json", ...headers },
  };
}

/** 400 that names each field, in one sentence too: not every client shows `errors`. */
export function invalid(errors: readonly FieldError[]): Reply {
  const words = errors.map(({ path, message }) => (path === "" ? message : `${path}: ${message}`));
  return fault("invalid", words.join("; "), { errors });
}

export function faultTitle(code: FaultCode): string {
  return FAULTS[code].title;
}

export function faultStatus(code: FaultCode): number {
  return FAULTS[code].status;
}

/**
 * What a store threw, where it is no bug: a RangeError "field: message" is the caller's. With `isStore` an error
 * in the store's own plain words (it is locked, full, away) is answered with them. Undefined for anything else.
 */
export function faultOf(error: unknown, isStore: boolean): Reply | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof RangeError) {
    const [, path, message] = /^([a-z][\w.[\]]*): (.+)$/is.exec(error.message) ?? [];
    return path === undefined || message === undefined ? undefined : invalid([{ path, message }]);
  }
  if (error instanceof AccountConflict) return fault("conflict", sentence(error.message));
  if (error instanceof PasswordsBusy) {
    return fault("attempts", "Too many logins at once. Try again in a second.", {
      headers: { "retry-after": "1" },
    });
  }
  const isAway = /^Redis(Away|Refused)$/.test(error.name) || (isStore && error.constructor === Error);
  if (!isAway) return undefined;
  return fault("store_away", `${error.message.replace(/\.$/, "")}. Look at it before you try again.`, {
    headers: { "retry-after": "2" },
  });
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
