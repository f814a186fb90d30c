/**
 * Whom the suite attacks when it starts them itself: a Sallyport of the working tree with the shipped policy,
 * or a peer with a rule that says the same.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { startPortkey, startSallyport } from "../../../load-tests/bench/variants.ts";
import type { Reply } from "./client.ts";
import { MARKERS, type Target } from "./suite.ts";

export interface OpenTarget extends Target {
  close(): Promise<void>;
}

/** No run makes as many requests in a minute. */
const OUT_OF_REACH = 100_000_000;

interface Seat {
  readonly use: string;
  readonly with?: { readonly limits?: readonly object[] };
}

/**
 * The shipped policy with its limits out of reach (the suite asks more than one caller may), and with one kind of
 * secret that ends the answer, so that endings are met as well as redactions.
 */
function attackedPolicy(shipped: string): string {
  const document = parseDocument(shipped);
  const { seats }: { seats: readonly Seat[] } = document.toJS();
  const changed = seats.map((seat) => {
    if (seat.use === "rate-limit")
      return {
        ...seat,
        with: {
          ...seat.with,
          limits: (seat.with?.limits ?? []).map((limit) => ({ ...limit, limit: OUT_OF_REACH })),
        },
      };
    if (seat.use === "output-secrets")
      return { ...seat, with: { ...seat.with, kinds: { "github-token": "block" } } };
    return seat;
  });
  document.set("seats", changed);
  return document.toString();
}

export async function openSallyportTarget(
  upstreamUrl: string,
  policyFrom: (shipped: string) => string = attackedPolicy,
): Promise<OpenTarget> {
  const dir = mkdtempSync(join(tmpdir(), "sallyport-attack-"));
  const upstreamPort = Number(new URL(upstreamUrl).port);
  try {
    const running = await startSallyport({ upstreamPort, dir }, policyFrom, {
      SALLYPORT_ANTHROPIC_URL: upstreamUrl,
    });
    return {
      name: "sallyport",
      base: `http://127.0.0.1:${running.port}`,
      headers: (dialect) => withVersion(dialect, running.headers),
      close: async () => {
        await running.process?.stop();
        rmSync(dir, { recursive: true, force: true });
      },
    };
  } catch (error) {
    rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

const PORTKEY_REFUSED = 446;
const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Portkey judges by regexes: one for the prompt and one for the two secrets, each of which denies. */
export async function openPortkeyTarget(upstreamUrl: string): Promise<OpenTarget> {
  const denies = (rule: string) => [{ "default.regexMatch": { rule, not: true }, deny: true }];
  const guard = {
    input_guardrails: denies(literal(MARKERS.prompt)),
    output_guardrails: denies("AKIA[A-Z0-9]{16}|ghp_[A-Za-z0-9]{36}"),
  };
  const running = await startPortkey({ upstreamPort: Number(new URL(upstreamUrl).port) }, guard);
  return {
    name: "portkey",
    base: `http://127.0.0.1:${running.port}`,
    headers: (dialect) =>
      withVersion(dialect, {
        ...running.headers,
        "x-portkey-provider": dialect,
      }),
    heard: withoutReport,
    close: async () => running.process?.stop(),
  };
}

/** Portkey's refusals quote what matched, for whoever wrote the rule; that is not held against it. */
function withoutReport(reply: Reply): Reply {
  if (reply.status !== PORTKEY_REFUSED) return reply;
  try {
    const body = JSON.parse(reply.body.toString("utf8"));
    return { ...reply, body: Buffer.from(JSON.stringify({ ...body, hook_results: undefined })) };
  } catch {
    return reply;
  }
}

export function withVersion(
  dialect: "openai" | "anthropic",
  headers: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  return dialect === "anthropic" ? { ...headers, "anthropic-version": "2023-06-01" } : headers;
}
