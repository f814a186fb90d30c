/**
 * The shape of policy.yaml: which routes are served and which seats judge them. Objects are strict, so a
 * misspelt field is a problem and not a silence; what a layer takes under `with` is the layer's own schema
 * and is checked in compile.ts.
 */
import { z } from "zod";
import { guardSchema } from "./guard/settings.ts";

/** Every route id with its paths on the wire; "*" takes one segment. The same table as src/http/routes.ts. */
export const ROUTE_PATHS = {
  "openai.chat": ["/v1/chat/completions"],
  "openai.completions": ["/v1/completions"],
  "openai.responses": ["/v1/responses"],
  "openai.embeddings": ["/v1/embeddings"],
  "openai.moderations": ["/v1/moderations"],
  "openai.models": ["/v1/models", "/v1/models/*"],
  "openai.realtime": ["/v1/realtime"],
  "anthropic.messages": ["/v1/messages"],
  "anthropic.count_tokens": ["/v1/messages/count_tokens"],
  "anthropic.models": ["/v1/models", "/v1/models/*"],
} as const satisfies Record<string, readonly string[]>;

type RouteId = keyof typeof ROUTE_PATHS;
export const ROUTE_IDS = Object.keys(ROUTE_PATHS) as readonly RouteId[];

export const SEATS_MAX = 200;
export const POLICY_BYTES_MAX = 1_048_576;
const PASS_THROUGH_MAX = 200;

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const;

const passThrough = z.strictObject({
  path: z
    .string()
    .max(256)
    .regex(/^(\/[A-Za-z0-9_~:-][A-Za-z0-9._~:-]*)+(\/\*)?$/, {
      error:
        'a path such as "/v1/files", or a prefix that ends in "/*"; no empty, dotted or escaped segments',
    })
    .describe("Exact path, or a prefix that ends in `/*`. It may not cover a route that is scanned."),
  methods: z
    .array(z.enum(METHODS))
    .min(1)
    .default(["GET", "POST"])
    .describe("HTTP methods that are let through; the others get 405."),
  upstream: z.enum(["openai", "anthropic"]).describe("Which model API it goes to."),
});

export const seatSchema = z.strictObject({
  id: z
    .string()
    .max(64)
    .regex(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/, {
      error:
        'lower-case words joined by "-", such as "prompt-rules"; it names the seat\'s metrics and counters',
    })
    .describe("Unique name of the seat. Its state (counters) hangs on it, so renaming a seat forgives."),
  use: z.string().min(1).max(128).describe("Kind of layer: the name of its folder under layers/."),
  mode: z
    .enum(["off", "shadow", "enforce"])
    .default("enforce")
    .describe("off: not run. shadow: judged and recorded, never applied. enforce: judged and applied."),
  rollout: z
    .number()
    .min(0)
    .max(100)
    .default(100)
    .describe(
      "Per cent of accounts for which `enforce` applies; the others run in shadow. Sticky by account.",
    ),
  sample: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe("Share of requests that the seat looks at, from 0 to 1."),
  onError: z
    .enum(["allow", "block"])
    .default("block")
    .describe("What happens when the layer throws or does not finish in time."),
  timeoutMs: z
    .int()
    .min(1)
    .max(60_000)
    .default(250)
    .describe("Time that one phase of the layer may take, in milliseconds."),
  when: z
    .string()
    .max(4096)
    .optional()
    .describe(
      "CEL expression over route, dialect, operation, address, org, project, key, proof, tier, risk, stepUp, country, asn, model, stream and endUser; the seat runs where it is true. Absent: always.",
    ),
  with: z
    .record(z.string(), z.unknown())
    .default({})
    .describe("The layer's own settings; its README lists them."),
});

export type SeatEntry = z.infer<typeof seatSchema>;

export const policySchema = z.strictObject({
  version: z.literal(1).describe("Version of this format."),
  routes: z
    .array(z.enum(ROUTE_IDS as [RouteId, ...RouteId[]]))
    .describe("Routes that are served; every other one answers 404."),
  passThrough: z
    .array(passThrough)
    .max(PASS_THROUGH_MAX)
    .default([])
    .describe(
      "Further paths that are proxied byte for byte after the request's head was judged; nothing in them is scanned.",
    ),
  unknownFields: z
    .enum(["scan", "refuse"])
    .default("scan")
    .describe(
      "A request field that the gateway does not model. scan: judged as text and forwarded. refuse: 400.",
    ),
  unknownEvents: z
    .enum(["scan", "cut"])
    .default("scan")
    .describe(
      "A streamed event that the gateway does not model. scan: judged as text. cut: the answer ends there.",
    ),
  answerBlocked: z
    .enum(["end", "fail"])
    .default("end")
    .describe(
      "An answer that a layer blocks. end: it ends as the vendor's own content filter ends one, which SDKs read as an answer. fail: with an error, which SDKs throw. Both say why and which reference to quote.",
    ),
  holdFull: z
    .enum(["fail", "end"])
    .default("fail")
    .describe(
      "A streamed answer of which more would be held back than may be (limits.holdBytesMax, holdTotalBytesMax). fail: it ends with an error. end: it ends as at a token limit, with what was judged. What is held is never released.",
    ),
  redaction: z
    .string()
    .max(200)
    .regex(/^[^\u0000-\u001f\u007f]*$/, { error: "one line of plain text" })
    .default("[redacted:{kind}]")
    .describe("What redacted text becomes; {kind} is the last part of the reason."),
  guard: guardSchema.prefault({}),
  seats: z
    .array(seatSchema)
    .max(SEATS_MAX)
    .describe("The layers that judge, in order: what costs little and stops much comes first."),
});

/** The route that a pass-through path would take from under the seats' eyes. */
export function scannedRouteUnder(path: string): RouteId | undefined {
  return ROUTE_IDS.find((id) => ROUTE_PATHS[id].some((route) => overlap(route, path)));
}

function overlap(route: string, path: string): boolean {
  const base = route.replace(/\*$/, "");
  if (path.endsWith("/*")) return base.startsWith(path.slice(0, -1));
  if (base === route) return path === route;
  const segment = path.startsWith(base) ? path.slice(base.length) : "";
  return segment !== "" && !segment.includes("/");
}
