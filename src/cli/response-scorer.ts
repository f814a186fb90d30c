/**
 * The output classifier without a gateway: each line is one exchange, judged as a whole answer by the seat of the
 * policy (or by a seat with its defaults, where the policy has none), and the model's own figure beside its verdict.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { outputClassifier } from "../../layers/output-classifier/layer.ts";
import { openai } from "../dialect/openai/index.ts";
import {
  type ArtifactRef,
  ConfigProblem,
  findingsOf,
  IDLE_PORTS,
  NO_STANDING,
  type RequestContext,
} from "../layer/index.ts";
import { PortionReader } from "../pipeline/portions.ts";
import { POLICY_FILE } from "../policy/policy-folder.ts";
import { openEncoder } from "../ports/encoder.ts";
import { ResponseModel } from "../text/model/response-model.ts";
import { scoreExchange } from "../text/model/response-scoring.ts";
import type { JsonObject } from "../wire/json-text.ts";

export type ResponseLineScore =
  | {
      readonly id: unknown;
      readonly scores: { readonly harmful: number };
      /** How likely the answer does harm, 0..1. */
      readonly score: number;
      /** What the seat would do, whatever its mode. */
      readonly act: string;
      /** The stage that had the last word on the score. */
      readonly stage: 1 | 2;
      readonly reasons: readonly string[];
    }
  | { readonly id: unknown; readonly error: string };

const ENCODER = { workers: 1, queueMax: 64, timeoutMs: 60_000 };

export async function openResponseScorer(configDir: string) {
  const config = await seatConfig(configDir);
  const refs = outputClassifier.needs?.(config) ?? [];
  const contents = new Map<string, Uint8Array>();
  for (const ref of refs) contents.set(ref.path, await readArtifact(configDir, ref));
  const bytesOf = (ref: ArtifactRef) => contents.get(ref.path) ?? new Uint8Array();
  const encoder = openEncoder(ENCODER);
  const encode = async (texts: readonly string[]): Promise<Float32Array[]> => {
    const results = await Promise.all(texts.map((text) => encoder.encode(text)));
    return results.map((result) => {
      if (result.kind !== "embedding") throw new Error(`the encoder did not answer: ${result.cause}`);
      return result.embedding;
    });
  };
  const layer = outputClassifier.compile(config, {
    ...IDLE_PORTS,
    seat: "output-classifier",
    encoder,
    artifacts: { bytes: bytesOf, text: (ref) => new TextDecoder().decode(bytesOf(ref)) },
  });
  const model = new ResponseModel(bytesOf(refs[0]!));

  const score = async (id: unknown, prompt: string, text: string): Promise<ResponseLineScore> => {
    const { score: harmful, stage } = await scoreExchange(model, { prompt, text }, encode);
    const watch = layer.open(requestOf());
    await watch.onPrompt?.(
      openai.readPrompt({
        operation: "chat",
        body: { model: "", messages: [{ role: "user", content: prompt }] },
        parameters: [],
      }),
    );
    const channel = { channel: "answer:0", kind: "answer", choice: 0, start: 0 } as const;
    const reader = new PortionReader(outputClassifier.portions!(config)!);
    const held = await reader.tell({ ...channel, text, final: true }, (portion) => watch.onChunk!(portion));
    const findings = findingsOf(held);
    return {
      id,
      scores: { harmful },
      score: harmful,
      act: held.act,
      stage,
      reasons: [...new Set(findings.map(({ reason }) => reason))],
    };
  };

  return {
    async scoreLine(line: string): Promise<ResponseLineScore> {
      let id: unknown;
      try {
        const row = JSON.parse(line) as JsonObject;
        id = row["id"] ?? null;
        const { prompt = "", text } = row;
        if (typeof text !== "string" || typeof prompt !== "string") {
          throw new Error('a line needs "text" (a string), and its "prompt" must be one');
        }
        return await score(id, prompt, text);
      } catch (error) {
        return { id: id ?? null, error: error instanceof Error ? error.message : String(error) };
      }
    },
    close: () => encoder.close(),
  };
}

function requestOf(): RequestContext {
  return {
    id: "req_score",
    dialect: "openai",
    operation: "chat",
    route: "openai.chat",
    address: "127.0.0.1",
    identity: undefined,
    standing: NO_STANDING,
    signal: new AbortController().signal,
    soFar: () => ({ act: "allow", findings: [] }),
    identify: () => {},
    stand: () => {},
  };
}

/** The settings of the policy's seat; the defaults where there is none. */
async function seatConfig(configDir: string) {
  const path = join(configDir, POLICY_FILE);
  const content = await readFile(path, "utf8").catch((error: unknown) => {
    throw new Error(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  });
  const { seats = [] } = (parse(content) ?? {}) as {
    readonly seats?: readonly { readonly use?: string; readonly with?: unknown }[];
  };
  const seat = seats.find(({ use }) => use === outputClassifier.kind);
  const parsed = outputClassifier.config.safeParse(seat?.with ?? {});
  if (!parsed.success) throw new Error(`${path}: ${parsed.error.issues[0]?.message}`);
  return parsed.data;
}

async function readArtifact(configDir: string, { path, hint }: ArtifactRef): Promise<Uint8Array> {
  return readFile(join(configDir, path)).catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConfigProblem(`${why}${hint === undefined ? "" : ` (${hint})`}`, ["model"], path);
  });
}
